package apply

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// canaryMasks knows one value, and one short one under its key.
type canaryMasks struct{}

func (canaryMasks) Text(s string) string { return strings.ReplaceAll(s, "canary-value", "[REDACTED]") }
func (canaryMasks) Leaf(key string, v any) bool {
	return strings.Contains(fmt.Sprint(v), "canary-value") || (key == "pin" && fmt.Sprint(v) == "42")
}

func TestSealedFieldsAreShownAsHashes(t *testing.T) {
	for _, test := range []struct {
		name, have, want string
		hidden           []string // must not be seen
		seen             []string // must
	}{
		{"a value changes", `{data: {a: old-one, b: x}}`, `{data: {a: canary-value, b: z}}`, []string{"old-one", "canary"}, []string{`b: "x" → "z"`, `data.a: "secret:`}},
		{"it goes away", `{data: {a: canary-value}}`, `{data: {}}`, []string{"canary"}, []string{"→ (none)"}},
		{"its whole map goes away", `{spec: {data: {a: canary-value}}}`, `{spec: {}}`, []string{"canary"}, []string{"secret:"}},
		{"in a list of named items", `{env: [{name: A, value: old-one}]}`, `{env: [{name: B, value: new}, {name: A, value: canary-value}]}`, []string{"old-one", "canary"}, []string{"secret:"}},
		{"a short one, by its key", `{data: {pin: 41}}`, `{data: {pin: 42}}`, []string{"41", "42"}, []string{`data.pin: "secret:`}},
		{"the cluster remembers what nobody knows any more", `{metadata: {annotations: {plumbline.dev/sealed: data.a}}, data: {a: old-one}}`,
			`{metadata: {}, data: {a: new-one}}`, []string{"old-one", "new-one"}, []string{`data.a: "secret:`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := ""
			for _, c := range newHasher(nil).diff(object(t, test.have), object(t, test.want), canaryMasks{}) {
				text += strings.TrimPrefix(c.String(), "metadata.annotations") + "\n"
			}
			for _, hidden := range test.hidden {
				if strings.Contains(text, hidden) {
					t.Errorf("shows %s:\n%s", hidden, text)
				}
			}
			for _, seen := range test.seen {
				if !strings.Contains(text, seen) {
					t.Errorf("does not show %s:\n%s", seen, text)
				}
			}
		})
	}
}

func TestObjectsRememberWhatWasSealed(t *testing.T) {
	for _, test := range []struct{ name, object, want string }{
		{"a field", `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {a: canary-value, b: x}}`, "data.a"},
		{"in a list", `{kind: Deployment, spec: {env: [{name: A, value: x canary-value y}]}}`, "spec.env.value"},
		{"an awkward key", `{kind: ConfigMap, data: {"a.b": canary-value}}`, `data["a.b"]`},
		{"a key with a comma", `{kind: ConfigMap, data: {"a,b": canary-value}}`, `data`},
		{"nothing", `{kind: ConfigMap, data: {a: b}}`, ""},
		{"a Secret, all of which is", `{apiVersion: v1, kind: Secret, data: {a: canary-value}}`, ""},
		{"a name is public", `{kind: ConfigMap, metadata: {name: canary-value}}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := object(t, test.object)
			noteSealed(u, canaryMasks{})
			if got := u.GetAnnotations()[SealedAnnotation]; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestErrorsShowNothingSealed(t *testing.T) {
	for _, test := range []struct{ name, said string }{
		{"a value", "denied: canary-value is weak"},
		{"a short one, quoted by the server", `data.pin: Invalid value: "42": too short`},
		{"a short one, unquoted", `data.pin: Invalid value: 42: too short`},
		{"a short one, as a word", "denied: pin '42' is weak"},
		{"a structure", `data: Invalid value: {"pin":"42"}: too short`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := newHasher(nil).prepare(Object{Unstructured: object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {pin: "42", b: canary-value}}`)},
				Resource{Namespaced: true}, "s", canaryMasks{})
			if err != nil {
				t.Fatal(err)
			}
			text := classify(p, errors.New(test.said)).Error()
			if strings.Contains(text, "42") || strings.Contains(text, "canary") {
				t.Errorf("shows it: %s", text)
			}
		})
	}
}

// A secret that is cut in the middle is no longer known as one.
func TestMaskingComesBeforeShortening(t *testing.T) {
	long := strings.Repeat("x", 300) + "canary-value" + strings.Repeat("y", 300)
	text := classify(prepared{masks: canaryMasks{}}, mistypedStatus("failed to create typed patch object (a; b): ."+long+": field not declared in schema")).Error()
	if strings.Contains(text, "canary") || strings.Contains(text, "value") {
		t.Errorf("shows half of it: %s", text)
	}
}
