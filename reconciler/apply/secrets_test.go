package apply

import (
	"errors"
	"strings"
	"testing"
)

func TestErrorsShowNoSecret(t *testing.T) {
	for _, test := range []struct{ name, object, said string }{
		{"a policy quotes base64", `{apiVersion: v1, kind: Secret, data: {pw: aHVudGVyMi12YXA=}}`, "denied: too weak: aHVudGVyMi12YXA="},
		{"a policy quotes the plain value", `{apiVersion: v1, kind: Secret, data: {pw: aHVudGVyMi12YXA=}}`, "denied: too weak: hunter2-vap"},
		{"stringData encoded by the server", `{apiVersion: v1, kind: Secret, stringData: {pw: hunter2-vap}}`, "x aHVudGVyMi12YXA= x"},
		{"the schema quotes a number", `{apiVersion: v1, kind: Secret, stringData: {pin: 27}}`, ".pin: expected string, got &value.valueUnstructured{Value:27}"},
		{"data is no map", `{apiVersion: v1, kind: Secret, data: hunter2-vap}`, "expected map, got &{hunter2-vap}"},
		{"a list", `{apiVersion: v1, kind: Secret, data: {a: [hunter2-vap]}}`, "bad: [hunter2-vap]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := object(t, test.object)
			body, err := u.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			text := classify(prepared{ID: IDOf(u), body: body}, errors.New(test.said)).Error()
			for _, canary := range []string{"hunter2", "aHVudGVy", "27"} {
				if strings.Contains(text, canary) {
					t.Errorf("shows %s: %s", canary, text)
				}
			}
		})
	}
	p := prepared{ID: ID{Kind: "ConfigMap"}, body: []byte(`{"data":{"a":"plain-text"}}`)}
	if text := classify(p, errors.New("bad: plain-text, got 7")).Error(); !strings.Contains(text, "plain-text, got 7") {
		t.Errorf("masks what is no secret: %s", text)
	}
}

func TestOurOwnKindsAreForbidden(t *testing.T) {
	for text, bad := range map[string]bool{
		"{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: b.blog}}":                                               true,
		"{apiVersion: plumbline.dev/v1alpha1, kind: Source, metadata: {name: b}}":                                                   true,
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: plumbline.dev, names: {kind: Stack}}}": true,
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: example.org, names: {kind: Widget}}}":  false,
		"{apiVersion: v1, kind: ConfigMap}": false,
	} {
		if err := forbidden(Object{Unstructured: object(t, text)}, nil); (err != nil) != bad {
			t.Errorf("%s: %v", text, err)
		}
	}
}
