package apply

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDiff(t *testing.T) {
	for _, test := range []struct {
		name, have, want string
		changes          []string
	}{
		{"nothing", "{spec: {a: 1}}", "{spec: {a: 1}}", nil},
		{"a value", "{spec: {a: 1}}", "{spec: {a: 2}}", []string{"spec.a: 1 → 2"}},
		{"a new field", "{spec: {}}", "{spec: {a: [x]}}", []string{`spec.a: (none) → ["x"]`}},
		{"a field that goes", "{spec: {a: x}}", "{spec: {}}", []string{`spec.a: "x" → (none)`}},
		{"lists by name", "{c: [{name: a, image: x}, {name: b}]}", "{c: [{name: b}, {name: a, image: z}]}", []string{`c[name=a].image: "x" → "z"`}},
		{"lists by place", "{c: [1, 2]}", "{c: [1, 3, 4]}", []string{"c[1]: 2 → 3", "c[2]: (none) → 4"}},
		{"names that come twice go by place", "{c: [{name: a}, {name: a}]}", "{c: [{name: a}]}", []string{`c[1]: {"name":"a"} → (none)`}},
		{"awkward keys are quoted", "{metadata: {labels: {app.k8s.io/x: a}}}", "{metadata: {labels: {app.k8s.io/x: b}}}",
			[]string{`metadata.labels["app.k8s.io/x"]: "a" → "b"`}},
		{"what only a server writes", "{metadata: {resourceVersion: '1', uid: a, generation: 1, managedFields: []}, status: {x: 1}}",
			"{metadata: {resourceVersion: '2', uid: b, generation: 2}, status: {x: 2}}", nil},
		{"another type", "{a: {b: 1}}", "{a: text}", []string{`a: {"b":1} → "text"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, c := range newHasher(nil).diff("s", object(t, test.have), object(t, test.want), nil) {
				got = append(got, c.String())
			}
			if diff := cmp.Diff(test.changes, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiffShowsNoSecret(t *testing.T) {
	have := object(t, `{apiVersion: v1, kind: Secret, data: {password: Y2FuYXJ5LW9uZQ==, same: c2FtZQ==},
		metadata: {annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"data":"Y2FuYXJ5LW9uZQ=="}'}}}`)
	want := object(t, `{apiVersion: v1, kind: Secret, data: {password: Y2FuYXJ5LXR3bw==, same: c2FtZQ==}, stringData: {token: canary-three}}`)
	changes := newHasher(nil).diff("s", have, want, nil)
	if len(changes) != 2 || changes[0].Path != "data.password" || changes[0].Have == changes[0].Want {
		t.Errorf("a changed secret is not seen as changed: %v", changes)
	}
	for _, c := range changes {
		for _, canary := range []string{"Y2FuYXJ5", "canary"} {
			if strings.Contains(c.String(), canary) {
				t.Errorf("shows a secret: %s", c)
			}
		}
	}
}

func TestDiffIsBounded(t *testing.T) {
	big := &unstructured.Unstructured{Object: map[string]any{"data": map[string]any{"x": strings.Repeat("é", 1<<20)}}}
	if got := newHasher(nil).diff("s", &unstructured.Unstructured{Object: map[string]any{}}, big, nil); len(got) != 1 || len(got[0].Want) > 2*shownValue {
		t.Errorf("a value of 2 MB is shown with %d bytes", len(got[0].Want))
	}
	many := &unstructured.Unstructured{Object: map[string]any{}}
	for i := range 5000 {
		many.Object[strings.Repeat("k", i%50)+string(rune('a'+i%26))+strings.Repeat("z", i/50)] = int64(i)
	}
	if got := newHasher(nil).diff("s", &unstructured.Unstructured{Object: map[string]any{}}, many, nil); len(got) != shownFields+1 {
		t.Errorf("%d fields are shown", len(got))
	}
}

func TestChangeShowsWhereLongValuesDiffer(t *testing.T) {
	line := strings.Repeat("the same again, ", 40)
	got := change("data.text", line+"then this", line+"then that")
	if !strings.HasSuffix(got.Have, `then this"`) || !strings.HasSuffix(got.Want, `then that"`) || !strings.HasPrefix(got.Have, "…") {
		t.Errorf("not what differs: %s", got)
	}
	if len(got.Have) > 2*sameShown+len("…then this") {
		t.Errorf("too much of what is the same: %s", got.Have)
	}
	if short := change("x", "a", nil); short.Have != `"a"` || short.Want != "" {
		t.Errorf("short values: %+v", short)
	}
}
