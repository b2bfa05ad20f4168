package expressions

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestSealed: whatever an expression asks, nothing of what was sealed is in what it says.
func TestSealed(t *testing.T) {
	const canary = "canary"
	obj := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": "a", "annotations": map[string]any{sealedAnnotation: `spec.password,spec.list,spec.deep,spec["a.b"].c`}},
		"spec": map[string]any{"password": canary, "open": "open", "deep": map[string]any{"a": []any{canary}}, "a.b": map[string]any{"c": canary},
			"list": []any{canary, map[string]any{"name": canary}}, "keys": map[string]any{"a": "b"}},
	}}
	before := obj.DeepCopy()
	for _, text := range []string{"object.spec.password", "object.spec.list[0]", "object.spec.list[1].name", "string(object.spec.list)", "object.spec.deep.a[0]", "object.spec['a.b'].c",
		"string(int(object.spec.password))", "string(duration(object.spec.password))", "object.spec.keys[object.spec.password]"} {
		for _, e := range []Expression{{Ready: "false", Message: text}, {Ready: text + " == 'x'"}, {Ready: "true", Failed: text + " != 'x'", Message: text}} {
			program, err := Compile(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, says := program.Judge(obj); strings.Contains(says, canary) {
				t.Errorf("%v says %q", e, says)
			}
		}
	}
	if diff := cmp.Diff(before.Object, obj.Object); diff != "" {
		t.Errorf("the object was changed: %s", diff)
	}
	program, err := Compile(Expression{Ready: "object.spec.open != 'open'", Message: "object.spec.open + object.spec.password"})
	if err != nil {
		t.Fatal(err)
	}
	if _, says := program.Judge(obj); says != "open***" {
		t.Errorf("it says %q", says)
	}
}

// TestErrorsTellNothing: what can't be evaluated isn't repeated.
func TestErrorsTellNothing(t *testing.T) {
	const canary = "canary"
	obj := &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{"a": canary, "n": int64(7)}}}
	for text, want := range map[string]string{
		"object[object.data.a]":                                          "it lacks a field yet",
		"object.data[object.data.a + 'b'] == ''":                         "it lacks a field yet",
		"int(object.data.a) == 1":                                        "ready: can't be evaluated",
		"duration(object.data.a) == duration('1s')":                      "ready: can't be evaluated",
		"timestamp(object.data.a) > timestamp(0)":                        "ready: can't be evaluated",
		"bool(object.data.a)":                                            "ready: can't be evaluated",
		"object.data.a.b":                                                "no b yet",
		"object.data.n / 0 == 1":                                         "ready: division by zero",
		"object.data.nothing":                                            "no nothing yet",
		"timestamp('1970-01-01T00:00:00Z').getHours(object.data.a) == 1": "ready: can't be evaluated",
	} {
		program, err := Compile(Expression{Ready: text, Failed: text})
		if err != nil {
			t.Fatal(err)
		}
		if _, says := program.Judge(obj); strings.TrimPrefix(says, "failed: ") != strings.TrimPrefix(want, "ready: ") || strings.Contains(says, canary) {
			t.Errorf("%s says %q, want %q", text, says, want)
		}
	}
}
