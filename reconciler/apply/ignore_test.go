package apply

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

func TestIgnore(t *testing.T) {
	const web = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, annotations: {a/b: x, c: y}}, spec: {replicas: 2, containers: [{name: app, image: a}, {name: side, image: s}]}}`
	for _, test := range []struct {
		name, rule, want string
	}{
		{"a field", `{Kind: Deployment, Fields: [/spec/replicas]}`, `{spec: {containers: [{name: app, image: a}, {name: side, image: s}]}}`},
		{"of its group", `{Kind: Deployment.apps, Fields: [/spec/containers]}`, `{spec: {replicas: 2}}`},
		{"of another group", `{Kind: Deployment.example.org, Fields: [/spec/replicas]}`, ``},
		{"of another name", `{Kind: Deployment, Name: other, Fields: [/spec/replicas]}`, ``},
		{"of each item", `{Kind: Deployment, Fields: [/spec/containers/*/image]}`, `{spec: {replicas: 2, containers: [{name: app}, {name: side}]}}`},
		{"of an item by its name", `{Kind: Deployment, Fields: ["/spec/containers/[name=side]/image"]}`, `{spec: {replicas: 2, containers: [{name: app, image: a}, {name: side}]}}`},
		{"of an item by its place", `{Kind: Deployment, Fields: [/spec/containers/0/image]}`, `{spec: {replicas: 2, containers: [{name: app}, {name: side, image: s}]}}`},
		{"with a slash in its name", `{Kind: Deployment, Fields: [/metadata/annotations/a~1b]}`, `{metadata: {name: web, annotations: {c: y}}}`},
		{"that is not there", `{Kind: Deployment, Fields: [/spec/strategy/type]}`, ``},
		{"all of a map", `{Kind: Deployment, Fields: [/spec/*]}`, `{spec: {}}`},
		{"that is Plumbline's", `{Kind: Deployment, Fields: [/metadata/annotations, /metadata/annotations/*]}`, ``},
	} {
		t.Run(test.name, func(t *testing.T) {
			var rule Ignore
			if err := yaml.Unmarshal([]byte(test.rule), &rule); err != nil {
				t.Fatal(err)
			}
			got, want := object(t, web), object(t, web)
			for _, p := range ignoredOf([]Ignore{rule}, got) {
				p.remove(got.Object)
			}
			var changed map[string]any
			if err := yaml.Unmarshal([]byte(test.want), &changed); err != nil {
				t.Fatal(err)
			}
			for key, value := range changed {
				want.Object[key] = value
			}
			if diff := cmp.Diff(text(want.Object), text(got.Object)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckPointer(t *testing.T) {
	for field, want := range map[string]string{
		"/spec/replicas":                        "",
		"/metadata/annotations/a~1b":            "",
		"/metadata/labels/team":                 "",
		"spec.replicas":                         "is no JSON pointer: write it as in /spec/replicas",
		"":                                      "is no JSON pointer",
		"/":                                     "is no JSON pointer",
		"/spec//replicas":                       "has an empty part",
		"/kind":                                 "is not a field that can be left to others",
		"/status/replicas":                      "is not a field that can be left to others",
		"/metadata/name":                        "names the object",
		"/metadata":                             "names the object",
		"/metadata/labels":                      "by its labels and annotations an object is known as ours",
		"/metadata/labels/*":                    "by its labels and annotations an object is known as ours",
		"/metadata/labels/plumbline.dev~1stack": "by its labels and annotations an object is known as ours",
		"/metadata/labels/applyset.kubernetes.io~1part-of": "by its labels and annotations an object is known as ours",
		"/metadata/annotations":                            "by its labels and annotations an object is known as ours",
		"/metadata/annotations/*":                          "by its labels and annotations an object is known as ours",
		"/metadata/annotations/*/x":                        "by its labels and annotations an object is known as ours",
		"/metadata/annotations/plumbline.dev~1prune":       "by its labels and annotations an object is known as ours",
		"/metadata/*/x":                                    "names the object",
		"/" + strings.Repeat("x", 600):                     "is no JSON pointer",
	} {
		err := CheckPointer(field)
		if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", field, err, want)
		}
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("/spec/containers/[name=app]/image")
	f.Add("/spec/~1/*/0")
	f.Fuzz(func(t *testing.T, field string) {
		u := object(t, `{apiVersion: v1, kind: A, metadata: {name: a}, spec: {containers: [{name: app, image: a}, 1, [2]], "/": {x: [1]}}}`)
		if CheckPointer(field) != nil {
			return
		}
		for _, p := range ignoredOf([]Ignore{{Kind: "A", Fields: []string{field}}}, u) {
			p.remove(u.Object)
		}
		if u.GetName() != "a" || u.GetKind() != "A" {
			t.Errorf("%q takes the object's name away", field)
		}
	})
}
