package apply

import (
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// Author is who changed an object last, as its managedFields tell. Who removes a
// field, or the object, leaves no trace there.
type Author struct {
	Manager, Operation, Subresource string
	At                              time.Time // by the API server's clock, to the second
}

// authorOf finds who has the fields that an apply would put back: of those who
// own one of them, the one who wrote last.
func authorOf(before, answer *unstructured.Unstructured) Author {
	mine := owned(answer)
	if mine == nil {
		return Author{}
	}
	return authorOfFields(before, mine, owned(before), answer.Object)
}

func authorOfFields(before *unstructured.Unstructured, mine, had *fieldpath.Set, want map[string]any) Author {
	moved := movedFields(mine, had, before.Object, want)
	var author Author
	for _, entry := range before.GetManagedFields() {
		if ours(entry) || entry.FieldsV1 == nil {
			continue
		}
		theirs := &fieldpath.Set{}
		if theirs.FromJSON(entry.FieldsV1.GetRawReader()) != nil || !overlap(theirs, moved) {
			continue
		}
		if at := entry.Time; author.Manager == "" || (at != nil && at.After(author.At)) {
			author = Author{Manager: entry.Manager, Operation: string(entry.Operation), Subresource: entry.Subresource}
			if at != nil {
				author.At = at.UTC()
			}
		}
	}
	return author
}

func ours(entry metav1.ManagedFieldsEntry) bool { return appliedBy(entry, Manager) }

func appliedBy(entry metav1.ManagedFieldsEntry, manager string) bool {
	return entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == ""
}

// owned is what we own by Apply; nil: nothing.
func owned(u *unstructured.Unstructured) *fieldpath.Set { return ownedBy(u, ours) }

// ownedBy is what some managers own; nil: nothing.
func ownedBy(u *unstructured.Unstructured, who func(metav1.ManagedFieldsEntry) bool) *fieldpath.Set {
	var all *fieldpath.Set
	for _, entry := range u.GetManagedFields() {
		if !who(entry) || entry.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if set.FromJSON(entry.FieldsV1.GetRawReader()) != nil {
			continue
		}
		if all == nil {
			all = set
		} else {
			all = all.Union(set)
		}
	}
	return all
}

// movedFields lists what we are to own, and don't, or with other values.
func movedFields(mine, before *fieldpath.Set, have, want map[string]any) []fieldpath.Path {
	var moved []fieldpath.Path
	mine.Leaves().Iterate(func(p fieldpath.Path) {
		if before == nil || !before.Has(p) || !reflect.DeepEqual(valueAt(have, p), valueAt(want, p)) {
			moved = append(moved, p.Copy())
		}
	})
	return moved
}

// overlap is true where a set has one of the paths, something above it as a whole,
// or something below it.
func overlap(set *fieldpath.Set, paths []fieldpath.Path) bool {
	for _, p := range paths {
		at, above := set, false
		for i, element := range p {
			member := at.Has(fieldpath.Path{element})
			at = at.WithPrefix(element)
			if member && (at.Empty() || i == len(p)-1) {
				above = true
				break
			}
		}
		if above || !at.Empty() {
			return true
		}
	}
	return false
}

// valueAt is what an object has at a path; nil: nothing.
func valueAt(at any, path fieldpath.Path) any {
	for _, element := range path {
		switch v := at.(type) {
		case map[string]any:
			if element.FieldName == nil {
				return nil
			}
			at = v[*element.FieldName]
		case []any:
			at = itemAt(v, element)
		default:
			return nil
		}
	}
	return at
}

func itemAt(list []any, element fieldpath.PathElement) any {
	if i := element.Index; i != nil && *i >= 0 && *i < len(list) {
		return list[*i]
	}
	for _, item := range list {
		if element.Value != nil && value.Equals(value.NewValueInterface(item), *element.Value) {
			return item
		}
		if m, ok := item.(map[string]any); ok && element.Key != nil && hasKeys(m, *element.Key) {
			return item
		}
	}
	return nil
}

func hasKeys(item map[string]any, keys value.FieldList) bool {
	for _, key := range keys {
		have, ok := item[key.Name]
		if ok && !value.Equals(value.NewValueInterface(have), key.Value) {
			return false // a key that isn't there has its default
		}
	}
	return true
}
