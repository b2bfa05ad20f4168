package observe

import (
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// A finder finds the items of a list that a path element names: by its key fields, its value or its index. Items
// are indexed at the first question, by the sort of key it asks for (a list has one): a list may be long.
type finder struct {
	list  []any
	names *value.FieldList // the key fields of the index; none if it is by value
	first map[string]int   // the first item with a signature
	next  []int            // for each item the next one with the same signature, or -1
	buf   hasher
}

// all calls f for each item that the key names, and returns how many there are.
func (l *finder) all(key string, f func(i int, item any)) (n int) {
	if len(l.list) == 0 {
		return 0
	}
	element, err := fieldpath.DeserializePathElement(key)
	if err != nil {
		return 0
	}
	if at := element.Index; at != nil {
		if *at < 0 || *at >= len(l.list) {
			return 0
		}
		f(*at, l.list[*at])
		return 1
	}
	if l.first == nil {
		l.index(element.Key)
	}
	i, ok := l.first[string(l.wanted(element))]
	for ok && i >= 0 {
		n++
		f(i, l.list[i])
		i = l.next[i]
	}
	return n
}

func (l *finder) index(names *value.FieldList) {
	l.names = names
	l.first, l.next = make(map[string]int, len(l.list)), make([]int, len(l.list))
	for i := len(l.list) - 1; i >= 0; i-- {
		signature := string(l.signature(l.list[i]))
		l.next[i] = -1
		if same, ok := l.first[signature]; ok {
			l.next[i] = same
		}
		l.first[signature] = i
	}
}

// signature writes the key fields of an item, or all of it.
func (l *finder) signature(item any) []byte {
	l.buf.reset("")
	if l.names == nil {
		l.buf.value(item, nil)
		return l.buf.out
	}
	object, _ := item.(map[string]any)
	for _, field := range *l.names {
		l.buf.text('k', field.Name)
		if v, ok := object[field.Name]; ok {
			l.buf.value(v, nil)
		}
	}
	return l.buf.out
}

// wanted writes the signature of the items that a path element names.
func (l *finder) wanted(element fieldpath.PathElement) []byte {
	l.buf.reset("")
	switch {
	case element.Key != nil:
		for _, field := range *element.Key {
			l.buf.text('k', field.Name)
			l.buf.value(field.Value.Unstructured(), nil)
		}
	case element.Value != nil:
		l.buf.value((*element.Value).Unstructured(), nil)
	}
	return l.buf.out
}
