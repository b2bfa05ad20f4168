package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// duplicateID explains kustomize's "already registered id", which names no file.
// An id reads kind.version.group/name.namespace.
func (c *check) duplicateID(id string) error {
	left, right, _ := strings.Cut(id, "/")
	kind, _, _ := strings.Cut(left, ".")
	name := right
	if i := strings.LastIndexByte(right, '.'); i >= 0 {
		name = right[:i]
	}
	exact, similar := c.spelled(kind, name)
	switch {
	case len(exact) == 0: // a prefix, a suffix or a hash was added
		exact = similar
	case len(exact) == 1 && c.uses[exact[0].file] == 1:
		exact = append(exact, similar...)
	}
	places := make([]string, 0, len(exact))
	for _, d := range exact {
		places = append(places, d.place())
	}
	slices.Sort(places)
	switch len(places) {
	case 0:
		return inputErrorf(c.entryFile, 0, "%s %s is made twice: remove or rename one", kind, name)
	case 1:
		return inputErrorf("", 0, "%s %s is made twice: by %s, which is used twice, or by a generator as well", kind, name, places[0])
	}
	return inputErrorf("", 0, "%s %s is made twice: %s: remove or rename one", kind, name, strings.Join(places, " and "))
}

// spelled finds the documents that can be an object: by that very name, or a part of it.
func (c *check) spelled(kind, name string) (exact, similar []document) {
	for _, docs := range c.documents {
		for _, d := range docs {
			switch {
			case d.kind != kind:
			case d.name == name:
				exact = append(exact, d)
			case strings.Contains(name, d.name):
				similar = append(similar, d)
			}
		}
	}
	return exact, similar
}

// duplicates finds objects that the cluster would take for one: whatever their version, and
// with the namespace that they default to. objects are sorted.
func (c *check) duplicates(objects []Object) error {
	var problems []error
	for i := 1; i < len(objects); i++ {
		a, b := objects[i-1], objects[i]
		if identity(a) != identity(b) {
			continue
		}
		problems = append(problems, inputErrorf("", 0, "%s is made twice: by %s and by %s: remove or rename one",
			label(a), c.whereIs(a), c.whereIs(b)))
	}
	return errors.Join(problems...)
}

type id struct{ group, kind, namespace, name string }

func identity(o Object) id {
	gvk := o.GroupVersionKind()
	return id{gvk.Group, gvk.Kind, o.GetNamespace(), o.GetName()}
}

// label names an object for people: Deployment o11y/web.
func label(o Object) string {
	if ns := o.GetNamespace(); ns != "" {
		return fmt.Sprintf("%s %s/%s", o.GetKind(), ns, o.GetName())
	}
	return fmt.Sprintf("%s %s", o.GetKind(), o.GetName())
}

// whereIs gives the file of an object, and the line where only one document can be it.
func (c *check) whereIs(o Object) string {
	if d, ok := c.documentOf(o); ok {
		return d.place()
	}
	return o.Origin
}

// documentOf finds the document that an object was written as, by its name before prefixes.
func (c *check) documentOf(o Object) (document, bool) {
	var same, similar []document
	for _, d := range c.documents[o.Origin] {
		if d.kind != o.GetKind() || d.apiVersion != o.GetAPIVersion() {
			continue
		}
		if d.name == o.GetName() {
			same = append(same, d)
		}
		if strings.Contains(o.GetName(), d.name) || strings.Contains(d.name, "${") {
			similar = append(similar, d)
		}
	}
	switch {
	case len(same) == 1:
		return same[0], true
	case len(same) == 0 && len(similar) == 1:
		return similar[0], true
	}
	return document{}, false
}
