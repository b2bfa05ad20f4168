package apply

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestAuthor(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	entry := func(manager, operation, subresource string, at time.Time, fields string) metav1.ManagedFieldsEntry {
		stamp := metav1.NewTime(at)
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationType(operation), Subresource: subresource,
			APIVersion: "apps/v1", Time: &stamp, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields)}
	}
	state := func(spec string, entries ...metav1.ManagedFieldsEntry) *unstructured.Unstructured {
		u := object(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: `+spec+`}`)
		u.SetManagedFields(entries)
		return u
	}
	replicas, args, image := `{"f:spec":{"f:replicas":{}}}`, `{"f:spec":{"f:args":{}}}`, `{"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{"f:image":{}}}}}`
	after := func(spec, fields string) *unstructured.Unstructured {
		return state(spec, entry(Manager, "Apply", "", noon, fields))
	}
	for _, test := range []struct {
		name          string
		before, after *unstructured.Unstructured
		want          Author
	}{
		{"who took it", state(`{replicas: 5}`, entry("hpa", "Update", "scale", noon, replicas)), after(`{replicas: 2}`, replicas),
			Author{"hpa", "Update", "scale", noon}},
		{"who has the same value", state(`{replicas: 2}`, entry("thief", "Apply", "", noon, replicas)), after(`{replicas: 2}`, replicas),
			Author{"thief", "Apply", "", noon}},
		{"the last of those who have it, whatever our clock says", state(`{replicas: 5}`,
			entry("newer", "Update", "", noon.Add(time.Hour), replicas), entry("older", "Update", "", noon.Add(-time.Hour), replicas)), after(`{replicas: 2}`, replicas),
			Author{"newer", "Update", "", noon.Add(time.Hour)}},
		{"who came later and has something else", state(`{replicas: 5, paused: true}`,
			entry("hpa", "Update", "", noon, replicas), entry("other", "Update", "", noon.Add(time.Hour), `{"f:spec":{"f:paused":{}}}`)), after(`{replicas: 2, paused: true}`, replicas),
			Author{"hpa", "Update", "", noon}},
		{"a removed field", state(`{}`, entry("other", "Update", "", noon, args)), after(`{replicas: 2}`, replicas), Author{}},
		{"a list that is one value", state(`{args: [a, b]}`, entry("editor", "Update", "", noon, args)), after(`{args: [a]}`, args),
			Author{"editor", "Update", "", noon}},
		{"an item by its key", state(`{containers: [{name: x, image: x}, {name: app, image: b}]}`, entry("editor", "Update", "", noon, image)),
			after(`{containers: [{name: x, image: x}, {name: app, image: a}]}`, image), Author{"editor", "Update", "", noon}},
		{"another item", state(`{containers: [{name: side, image: s}]}`, entry("injector", "Update", "", noon, `{"f:spec":{"f:containers":{"k:{\"name\":\"side\"}":{".":{},"f:image":{}}}}}`)),
			after(`{containers: [{name: app, image: a}, {name: side, image: s}]}`, image), Author{}},
		{"who has all that is above", state(`{labels: {a: x}}`, entry("owner", "Update", "", noon, `{"f:spec":{"f:labels":{}}}`)),
			after(`{labels: {a: y}}`, `{"f:spec":{"f:labels":{"f:a":{}}}}`), Author{"owner", "Update", "", noon}},
		{"who has what is below", state(`{labels: {a: x}}`, entry("owner", "Update", "", noon, `{"f:spec":{"f:labels":{"f:a":{}}}}`)),
			after(`{labels: {b: y}}`, `{"f:spec":{"f:labels":{}}}`), Author{"owner", "Update", "", noon}},
		{"managedFields that nobody can read", state(`{replicas: 5}`, entry("hpa", "Update", "", noon, `{"f:spec":7}`)), after(`{replicas: 2}`, replicas), Author{}},
		{"none at all", state(`{replicas: 5}`), state(`{replicas: 2}`), Author{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, authorOf(test.before, test.after)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
