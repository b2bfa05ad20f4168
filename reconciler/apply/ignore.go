package apply

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Ignore names fields that are left to whoever else writes them: they are taken
// out of what is applied.
type Ignore struct {
	Kind   string   // as in Deployment.apps; without a group: of any
	Name   string   // of the object; empty: all of the kind
	Fields []string // JSON pointers (RFC 6901); "*" is every item, "[name=app]" those with this field
}

// pointer is a parsed field of an Ignore rule.
type pointer []string

// String is the pointer as it is written.
func (p pointer) String() string {
	var b strings.Builder
	for _, part := range p {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(part))
	}
	return b.String()
}

// CheckPointer says what is wrong with a field of an Ignore rule.
func CheckPointer(field string) error {
	p, err := parsePointer(field)
	if err != nil {
		return err
	}
	switch {
	case p[0] == "*" || p[0] == "apiVersion" || p[0] == "kind" || p[0] == "status":
		return fmt.Errorf("%s is not a field that can be left to others", field)
	case p[0] == "metadata" && (len(p) == 1 || !slices.Contains([]string{"annotations", "labels", "finalizers", "ownerReferences"}, p[1])):
		return fmt.Errorf("%s names the object: of metadata, only annotations, labels, finalizers and ownerReferences can be left to others", field)
	case p[0] == "metadata" && (p[1] == "labels" || p[1] == "annotations") && (len(p) < 3 || p[2] == "*" || isOurs(p[2])):
		return fmt.Errorf("%s: by its labels and annotations an object is known as ours: name those that are meant, none of Plumbline's", field)
	}
	return nil
}

// isOurs is true for a label or an annotation that Plumbline writes or reads.
func isOurs(key string) bool { return strings.HasPrefix(key, "plumbline.dev/") || key == PartOfLabel }

func parsePointer(field string) (pointer, error) {
	rest, ok := strings.CutPrefix(field, "/")
	if !ok || rest == "" || len(field) > 512 {
		return nil, fmt.Errorf("%.80q is no JSON pointer: write it as in /spec/replicas", field)
	}
	var p pointer
	for part := range strings.SplitSeq(rest, "/") {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		if part == "" {
			return nil, fmt.Errorf("%.80q has an empty part", field)
		}
		p = append(p, part)
	}
	return p, nil
}

// ignoredOf lists the pointers of the rules that are about an object, and that it has.
func ignoredOf(rules []Ignore, u *unstructured.Unstructured) []pointer {
	var out []pointer
	for _, rule := range rules {
		gk := u.GroupVersionKind().GroupKind()
		if (rule.Kind != gk.String() && rule.Kind != gk.Kind) || (rule.Name != "" && rule.Name != u.GetName()) {
			continue
		}
		for _, field := range rule.Fields {
			if p, err := parsePointer(field); err == nil && CheckPointer(field) == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

// each calls f with every place that the pointer names, and the last part of it.
func (p pointer) each(at any, f func(parent any, key string)) {
	if len(p) == 1 {
		f(at, p[0])
		return
	}
	for _, child := range children(at, p[0]) {
		p[1:].each(child, f)
	}
}

// children are the values below that a part of a pointer names.
func children(at any, part string) []any {
	var out []any
	switch v := at.(type) {
	case map[string]any:
		if child, ok := v[part]; ok {
			return []any{child}
		}
		if part == "*" {
			for _, child := range v {
				out = append(out, child)
			}
		}
	case []any:
		for i, child := range v {
			if itemMatches(part, i, child) {
				out = append(out, child)
			}
		}
	}
	return out
}

func itemMatches(part string, i int, item any) bool {
	if part == "*" || part == strconv.Itoa(i) {
		return true
	}
	inner, ok := strings.CutPrefix(part, "[")
	if !ok {
		return false
	}
	key, want, ok := strings.Cut(strings.TrimSuffix(inner, "]"), "=")
	m, _ := item.(map[string]any)
	return ok && fmt.Sprint(m[key]) == want
}

// remove takes the field out of an object. Of a list only the items' fields can go,
// not an item: those of others are left alone anyway.
func (p pointer) remove(object map[string]any) {
	p.each(object, func(parent any, key string) {
		m, ok := parent.(map[string]any)
		switch {
		case ok && key == "*":
			clear(m)
		case ok:
			delete(m, key)
		}
	})
}
