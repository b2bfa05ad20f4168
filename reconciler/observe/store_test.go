package observe

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// seen is a ConfigMap as the server would send it.
func seen(name, uid string, rv int, value string, edits ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: object("apiVersion", "v1", "kind", "ConfigMap",
		"metadata", object("name", name, "namespace", "o11y", "uid", uid, "resourceVersion", fmt.Sprint(rv),
			"labels", object(StackLabel, "grafana"),
			"managedFields", list(object("manager", "plumbline", "operation", "Apply", "fieldsV1", object("f:data", object("f:key", object()))))),
		"data", object("key", value))}
	for _, edit := range edits {
		edit(obj)
	}
	return obj
}

func deleting(obj *unstructured.Unstructured) {
	_ = unstructured.SetNestedField(obj.Object, "2026-05-02T10:00:00Z", "metadata", "deletionTimestamp")
}

func ofStack(name string) func(*unstructured.Unstructured) {
	return func(obj *unstructured.Unstructured) { obj.SetLabels(map[string]string{StackLabel: name}) }
}

func owned(obj *unstructured.Unstructured) {
	_ = unstructured.SetNestedSlice(obj.Object, list(object("kind", "Service", "name", "x", "controller", true)), "metadata", "ownerReferences")
	_ = unstructured.SetNestedSlice(obj.Object, list(), "metadata", "managedFields")
}

// A history is what the watch and we ourselves tell a store, and what is left and told of it.
func TestStore(t *testing.T) {
	type history struct {
		*Observer
		*watching
	}
	id := func(name string) ID { return ID{Kind: "ConfigMap", Namespace: "o11y", Name: name} }
	add := func(obj *unstructured.Unstructured) func(history) error {
		return func(h history) error { return h.watching.Add(h.Observer.itemOf(obj)) }
	}
	gone := func(obj *unstructured.Unstructured) func(history) error {
		return func(h history) error { return h.watching.Delete(h.Observer.itemOf(obj)) }
	}
	replace := func(rv int, objs ...*unstructured.Unstructured) func(history) error {
		return func(h history) error {
			var items []any
			for _, obj := range objs {
				items = append(items, h.Observer.itemOf(obj))
			}
			return h.watching.Replace(items, fmt.Sprint(rv))
		}
	}
	saw := func(obj *unstructured.Unstructured) func(history) error {
		return func(h history) error { h.Saw(obj); return nil }
	}
	sawGone := func(name string) func(history) error {
		return func(h history) error { entry, _ := h.Get(id(name)); h.SawGone(id(name), entry.UID); return nil }
	}
	tests := []struct {
		name  string
		steps []func(history) error
		told  []string
		left  []string
	}{
		{"an unchanged object is silent", []func(history) error{add(seen("a", "1", 5, "x")), add(seen("a", "1", 6, "x"))}, []string{"+a"}, []string{"a@6"}},
		{"an older event", []func(history) error{add(seen("a", "1", 10, "x")), add(seen("a", "1", 9, "y"))}, []string{"+a"}, []string{"a@10"}},
		{"our write comes before its event", []func(history) error{add(seen("a", "1", 5, "x")), saw(seen("a", "1", 7, "z")), add(seen("a", "1", 6, "y")), add(seen("a", "1", 7, "z"))}, []string{"+a"}, []string{"a@7"}},
		{"our write comes after its event", []func(history) error{add(seen("a", "1", 7, "z")), saw(seen("a", "1", 6, "y"))}, []string{"+a"}, []string{"a@7"}},
		{"a change after our write", []func(history) error{saw(seen("a", "1", 7, "z")), add(seen("a", "1", 8, "drift"))}, []string{"~a"}, []string{"a@8"}},
		{"a deletion before our write", []func(history) error{add(seen("a", "1", 5, "x")), saw(seen("a", "2", 8, "x")), gone(seen("a", "1", 7, "x")), add(seen("a", "2", 8, "x"))}, []string{"+a"}, []string{"a@8"}},
		{"our deletion", []func(history) error{add(seen("a", "1", 5, "x")), sawGone("a"), add(seen("a", "1", 6, "y")), gone(seen("a", "1", 7, "y"))}, []string{"+a"}, []string{}},
		{"our deletion, then anew", []func(history) error{add(seen("a", "1", 5, "x")), sawGone("a"), gone(seen("a", "1", 7, "x")), add(seen("a", "2", 8, "x"))}, []string{"+a", "+a"}, []string{"a@8"}},
		{"our deletion, then ours anew", []func(history) error{add(seen("a", "1", 5, "x")), sawGone("a"), saw(seen("a", "2", 8, "x")), gone(seen("a", "1", 7, "x")), add(seen("a", "2", 8, "x"))}, []string{"+a"}, []string{"a@8"}},
		{"our deletion is held by a finalizer", []func(history) error{add(seen("a", "1", 5, "x")), sawGone("a"), add(seen("a", "1", 6, "x", deleting))}, []string{"+a", "+a"}, []string{"a@6"}},
		{"a deletion that we did not see the birth of", []func(history) error{gone(seen("a", "1", 7, "x")), sawGone("a")}, nil, []string{}},
		{"a listing", []func(history) error{replace(9, seen("b", "1", 5, "x"), seen("a", "2", 6, "x"))}, []string{"+a", "+b"}, []string{"a@6", "b@5"}},
		{"a listing after a gap", []func(history) error{
			replace(9, seen("a", "1", 5, "x"), seen("b", "2", 6, "x"), seen("c", "3", 7, "x")),
			replace(19, seen("c", "3", 15, "x"), seen("b", "2", 16, "y"), seen("d", "4", 17, "y")),
		}, []string{"+a", "+b", "+c", "-a", "~b", "+d"}, []string{"b@16", "c@15", "d@17"}},
		{"a listing older than our writes", []func(history) error{
			replace(9, seen("a", "1", 5, "x"), seen("c", "3", 7, "x")),
			saw(seen("a", "1", 12, "y")), saw(seen("b", "2", 13, "y")), sawGone("c"),
			replace(10, seen("a", "1", 5, "x"), seen("c", "3", 7, "x")),
		}, []string{"+a", "+c"}, []string{"a@12", "b@13"}},
		{"a listing newer than our deletion", []func(history) error{add(seen("a", "1", 5, "x")), sawGone("a"), replace(10), add(seen("a", "1", 11, "x"))}, []string{"+a", "+a"}, []string{"a@11"}},
		{"a move to another stack", []func(history) error{add(seen("a", "1", 5, "x")), add(seen("a", "1", 6, "x", ofStack("loki")))}, []string{"+a", "~a"}, []string{}},
		{"what a controller made", []func(history) error{add(seen("a", "1", 5, "x", owned)), replace(6, seen("a", "1", 5, "x", owned)), saw(seen("a", "1", 6, "x", owned))}, nil, []string{}},
		{"ours, though a controller owns it", []func(history) error{add(seen("a", "1", 5, "x", owned, func(obj *unstructured.Unstructured) { obj.SetManagedFields(seen("a", "", 0, "").GetManagedFields()) }))}, []string{"+a"}, []string{"a@5"}},
		{"ours, then a controller's", []func(history) error{add(seen("a", "1", 5, "x")), add(seen("a", "1", 6, "x", owned))}, []string{"+a", "-a"}, []string{}},
		{"versions that are no numbers", []func(history) error{
			add(seen("a", "1", 5, "x", func(obj *unstructured.Unstructured) { obj.SetResourceVersion("z") })),
			add(seen("a", "1", 5, "y", func(obj *unstructured.Unstructured) { obj.SetResourceVersion("b") })),
		}, []string{"+a", "~a"}, []string{"a@b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var told []string
			o := New(t.Context(), Options{Manager: "plumbline", Changed: func(c Change) { told = append(told, sign(c)+c.Entry.Name) }})
			w := newWatching(o, configMaps)
			o.kinds[configMap] = w
			for _, step := range tt.steps {
				if err := step(history{o, w}); err != nil {
					t.Fatal(err)
				}
			}
			left := []string{}
			for _, e := range o.OfStack("grafana") {
				left = append(left, e.Name+"@"+e.ResourceVersion)
			}
			if diff := cmp.Diff(tt.told, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.left, left); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			indexed := 0
			for _, records := range o.stacks {
				indexed += len(records)
			}
			if indexed != len(w.live) {
				t.Errorf("%d records by stack, %d by name", indexed, len(w.live))
			}
		})
	}
}
