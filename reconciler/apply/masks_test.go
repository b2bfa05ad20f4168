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
			for _, c := range newHasher([]byte("not made up: 42 may be in a hash")).diff("s", object(t, test.have), object(t, test.want), canaryMasks{}) {
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
		{"a quoted key with a comma", `{kind: ConfigMap, data: {"a.b,c.d": canary-value}}`, `data`},
		{"below a key with a comma", `{kind: X, spec: {"a.b": {"c,d": {e: canary-value}}}}`, `spec["a.b"]`},
		{"a key with a comma at the top", `{kind: X, "a,b": canary-value}`, ""},
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
				Resource{Namespaced: true}, Request{Stack: "s", Masks: canaryMasks{}})
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

// What is pushed must not hide what others are to see of it.
func TestNotesFromGitAreDropped(t *testing.T) {
	const pushed = `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {plumbline.dev/sealed: "data.a,spec"}}, data: {a: %s}}`
	have, want := Object{Unstructured: object(t, fmt.Sprintf(pushed, "old"))}, Object{Unstructured: object(t, fmt.Sprintf(pushed, "new"))}
	for _, masks := range []Masks{nil, canaryMasks{}} {
		p, err := newHasher(nil).prepare(want, Resource{Namespaced: true}, Request{Stack: "s", Masks: masks})
		if err != nil || strings.Contains(string(p.body), SealedAnnotation) {
			t.Errorf("%v: it is applied: %s", err, p.body)
		}
		if got := fmt.Sprint(Compare("s", []Object{have}, []Object{want}, masks).Changes[0].Fields); got != `[data.a: "old" → "new"]` {
			t.Errorf("compared: %s", got)
		}
		if got := fmt.Sprint(Shown("s", want.Unstructured, masks, nil).Object); got != "map[apiVersion:v1 data:map[a:new] kind:ConfigMap metadata:map[name:a]]" {
			t.Errorf("shown: %s", got)
		}
	}
	if want.GetAnnotations()[SealedAnnotation] == "" {
		t.Error("the rendered object was changed")
	}
}

func TestNotesOfWhatIsPublicAreIgnored(t *testing.T) {
	for _, path := range []string{"", ",", "apiVersion", "kind", "metadata", "metadata.name", "metadata.namespace", ",metadata,,kind,"} {
		u := object(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}, data: {a: x}}`)
		u.SetAnnotations(map[string]string{SealedAnnotation: path})
		if got := sealedPaths(nil, u.Object); len(got) > 0 {
			t.Errorf("%q hides %v", path, got)
		}
		noteSealed(u, canaryMasks{})
		if got := u.GetAnnotations()[SealedAnnotation]; got != path {
			t.Errorf("%q became %q", path, got)
		}
	}
}

func TestNotesAreBounded(t *testing.T) {
	many := func(n int, format, value string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format+": %s, ", i, value)
		}
		return "{" + b.String() + "}"
	}
	for _, test := range []struct{ name, object, want string }{
		{"many keys", `{kind: ConfigMap, data: ` + many(2000, "key-%d", "canary-value") + `}`, "data"},
		{"many keys below some", `{kind: X, spec: {a: {b: ` + many(2000, "key-%d", "canary-value") + `}, c: canary-value}}`, "spec.a.b,spec.c"},
		{"many keys with dots", `{kind: X, spec: ` + many(2000, `"key.%d"`, "{a: canary-value}") + `}`, "spec"},
		{"many annotations", `{kind: X, metadata: {annotations: ` + many(2000, "key-%d", "canary-value") + `}}`, "metadata.annotations"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := object(t, test.object)
			noteSealed(u, canaryMasks{})
			if got := u.GetAnnotations()[SealedAnnotation]; got != test.want {
				t.Errorf("%d bytes: %.200s, want %s", len(got), got, test.want)
			}
		})
	}
	u := object(t, many(2000, "key-%d", "canary-value"))
	if noteSealed(u, canaryMasks{}); len(u.GetAnnotations()[SealedAnnotation]) > longestNote {
		t.Error("a note of fields that have none above is longer than the most")
	}
}

// Who sees two hashes must not learn that two values are the same, but for the same
// field at another time.
func TestHashesAreOfOnePlace(t *testing.T) {
	key := []byte("key")
	const one = `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: b}, data: {x: Y2FuYXJ5}}`
	of := func(stack, text, key string) string {
		data, _ := Shown(stack, object(t, text), nil, []byte(key)).Object["data"].(map[string]any)
		for _, v := range data {
			return fmt.Sprint(v)
		}
		return ""
	}
	first := of("s", one, "key")
	if first != of("s", one, "key") || !strings.HasPrefix(first, "secret:") {
		t.Errorf("%s is not the same the next time", first)
	}
	for name, other := range map[string]string{
		"stack": of("t", one, "key"), "key": of("s", one, "other"),
		"name":      of("s", strings.Replace(one, "name: a", "name: c", 1), "key"),
		"namespace": of("s", strings.Replace(one, "namespace: b", "namespace: c", 1), "key"),
		"field":     of("s", strings.Replace(one, "{x:", "{z:", 1), "key"),
		"value":     of("s", strings.Replace(one, "Y2FuYXJ5", "Y2FuYXJ6", 1), "key"),
	} {
		if other == first {
			t.Errorf("another %s has the same hash", name)
		}
	}
	const configMap = `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: canary-value, z: [canary-value]}}`
	data, _ := Shown("s", object(t, configMap), canaryMasks{}, key).Object["data"].(map[string]any)
	if x, y := fmt.Sprint(data["x"]), strings.Trim(fmt.Sprint(data["z"]), "[]"); x == y || !strings.HasPrefix(x, "secret:") || !strings.HasPrefix(y, "secret:") {
		t.Errorf("two fields: %s and %s", x, y)
	}
	h := newHasher(key)
	live := object(t, strings.Replace(one, "Y2FuYXJ5", "b2xk", 1))
	if changes := h.diff("s", live, object(t, one), nil); len(changes) != 1 || changes[0].Want != `"`+first+`"` {
		t.Errorf("a plan shows %v, and a render %s", changes, first)
	}
}
