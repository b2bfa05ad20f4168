package reconciler

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func stackFile(name, spec string) string {
	return "apiVersion: plumbline.dev/v1alpha1\nkind: Stack\nmetadata: {name: " + name + "}\nspec:\n" + spec
}

const kustomizeApp = "  kustomize: {path: app}\n"

func TestDiscover(t *testing.T) {
	fsys := fstest.MapFS{
		"k8s/a/stack.yaml":          {Data: []byte(stackFile("a", kustomizeApp))},
		"k8s/deep/er/b/stack.yaml":  {Data: []byte(stackFile("b", kustomizeApp+"  dependsOn: [a, other/z]\n"))},
		"k8s/c/stack.yaml":          {Data: []byte(stackFile("c", "  kustomise: {path: app}\n"))},
		"k8s/c/app/deployment.yaml": {Data: []byte("kind: Deployment\n")},
		"k8s/.git/stack.yaml":       {Data: []byte("hidden")},
		"elsewhere/d/stack.yaml":    {Data: []byte(stackFile("d", kustomizeApp))},
	}
	stacks, broken, err := Discover(fsys, SourceConfig{Name: "home", Stacks: "k8s"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range stacks {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"home.a", "home.b"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"home.a", "other.z"}, stacks[1].dependencies()); diff != "" {
		t.Error(diff)
	}
	if len(broken) != 1 || broken[0].Name != "home.c" || !strings.Contains(broken[0].Err.Error(), `k8s/c/stack.yaml:5: unknown field "kustomise"`) {
		t.Errorf("broken: %+v", broken)
	}
	if _, _, err := Discover(fsys, SourceConfig{Name: "home", Stacks: "gone"}); err == nil {
		t.Error("a directory that is not there is no error: its stacks would be taken for deleted")
	}
}

func TestDiscoverRefusesNamesGivenTwice(t *testing.T) {
	fsys := fstest.MapFS{
		"a/stack.yaml": {Data: []byte(stackFile("same", kustomizeApp))},
		"b/stack.yaml": {Data: []byte(stackFile("same", kustomizeApp))},
		"c/stack.yaml": {Data: []byte(stackFile("fine", kustomizeApp))},
	}
	stacks, broken, err := Discover(fsys, SourceConfig{Name: "home"})
	if err != nil || len(stacks) != 1 || len(broken) != 2 {
		t.Fatalf("got %v, %v, %v", stacks, broken, err)
	}
	if text := broken[0].Err.Error(); !strings.Contains(text, "a/stack.yaml, b/stack.yaml") {
		t.Errorf("the error doesn't name both: %s", text)
	}
}

func TestParseStackRefuses(t *testing.T) {
	for _, test := range []struct{ name, file, told, want string }{
		{"nothing", "", "", "is empty"},
		{"another kind", strings.Replace(stackFile("a", kustomizeApp), "kind: Stack", "kind: Stock", 1), "home.a", `"Stock"`},
		{"no name", stackFile("''", kustomizeApp), "", "metadata.name"},
		{"a name too long for a label", stackFile(strings.Repeat("a", 60), kustomizeApp), "home." + strings.Repeat("a", 60), "a label holds 63"},
		{"nothing to render", stackFile("a", "  namespace: x\n"), "home.a", "spec.kustomize: missing"},
		{"an absolute path", stackFile("a", "  kustomize: {path: /etc}\n"), "home.a", "relative to stack.yaml"},
		{"a bad namespace", stackFile("a", kustomizeApp+"  namespace: A_B\n"), "home.a", `spec.namespace: "A_B"`},
		{"a duration without a unit", stackFile("a", kustomizeApp+"  ready: {timeout: 5}\n"), "home.a", `stack.yaml:6: "5" is not a duration`},
		{"a kind that is pruned anyway", stackFile("a", kustomizeApp+"  prune: {include: [Deployment]}\n"), "home.a", "is pruned anyway"},
		{"a list where a map belongs", stackFile("a", "  kustomize: [app]\n"), "home.a", "stack.yaml:5: got a seq where a map belongs"},
		{"a tab", "metadata:\n\tname: a\n", "home.a", "stack.yaml:2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, told, err := parseStack("stack.yaml", []byte(test.file), SourceConfig{Name: "home"})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if told != test.told {
				t.Errorf("told the name %q, want %q", told, test.told)
			}
		})
	}
}

func TestDefaultsAreMergedUnder(t *testing.T) {
	var defaults yaml.Node
	if err := yaml.Unmarshal([]byte("{namespace: o11y, vars: {A: '1', B: '2'}, drift: {mode: detect}, prune: {limit: 20%}}"), &defaults); err != nil {
		t.Fatal(err)
	}
	source := SourceConfig{Name: "home", defaults: *defaults.Content[0]}
	for range 2 { // the second must not see what the first changed
		got, _, err := parseStack("stack.yaml", []byte(stackFile("a", kustomizeApp+"  vars: {B: x, C: '3'}\n  prune: {limit: 5}\n")), source)
		if err != nil {
			t.Fatal(err)
		}
		want := StackSpec{Kustomize: &KustomizeSpec{"app"}, Namespace: "o11y", Vars: map[string]string{"A": "1", "B": "x", "C": "3"},
			Drift: DriftSpec{Mode: DriftDetect}, Prune: PruneSpec{Limit: "5"}}
		if diff := cmp.Diff(want, got.Spec); diff != "" {
			t.Error(diff)
		}
	}
	plain, _, err := parseStack("stack.yaml", []byte(stackFile("b", kustomizeApp)), source)
	if err != nil || plain.Spec.Vars["B"] != "2" || plain.Spec.Vars["C"] != "" {
		t.Errorf("a stack's own values leaked into the defaults: %v, %v", plain.Spec, err)
	}
}

func FuzzParseStack(f *testing.F) {
	f.Add([]byte(stackFile("a", kustomizeApp)))
	f.Add([]byte("metadata: {name: [1]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		stack, name, err := parseStack("stack.yaml", data, SourceConfig{Name: "home"})
		if err == nil && (stack.Name == "" || name == "") {
			t.Errorf("accepted a stack without a name")
		}
	})
}

func TestASourceIsBounded(t *testing.T) {
	many := fstest.MapFS{}
	for i := range stacksOfSource + 1 {
		many[strings.Repeat("d", i%50+1)+strings.Repeat("e", i/50+1)+"/stack.yaml"] = &fstest.MapFile{Data: []byte(stackFile("same", kustomizeApp))}
	}
	if _, _, err := Discover(many, SourceConfig{Name: "home"}); err == nil || !strings.Contains(err.Error(), "split the source") {
		t.Errorf("too many stacks: %v", err)
	}
	large := fstest.MapFS{"a/stack.yaml": {Data: make([]byte, stackBytes+1)}}
	if _, broken, err := Discover(large, SourceConfig{Name: "home"}); err != nil || len(broken) != 1 || !strings.Contains(broken[0].Err.Error(), "at most") {
		t.Errorf("a large file: %v, %v", broken, err)
	}
	deps := kustomizeApp + "  dependsOn: [" + strings.Repeat("x, ", dependsOnOfStack) + "y]\n"
	if _, _, err := parseStack("stack.yaml", []byte(stackFile("a", deps)), SourceConfig{Name: "home"}); err == nil || !strings.Contains(err.Error(), "at most 50") {
		t.Errorf("too many dependencies: %v", err)
	}
	if name := toldName([]byte("metadata:\n  name: " + strings.Repeat("-", 300) + "\n  x: [")); name != "" {
		t.Errorf("told %q, which can't be a stack's name", name)
	}
	if text := someOf([]string{"1", "2", "3", "4", "5", "6", "7"}); text != "1, 2, 3, 4, 5 and 2 more" {
		t.Error(text)
	}
}

func TestThePrunePolicyOutlivesGit(t *testing.T) {
	no := false
	want := PruneSpec{Enabled: &no, Limit: "0", Include: []string{"Namespace"}}
	declared := Declared{Source: "home", Spec: StackSpec{Prune: want}}
	stack := &unstructured.Unstructured{Object: map[string]any{"spec": declared.mirror("https://x/y")}}
	got, ok := mirroredPrune(stack)
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%v: %s", ok, diff)
	}
	if _, ok := mirroredPrune(&unstructured.Unstructured{Object: map[string]any{}}); ok {
		t.Error("what was never written is remembered")
	}
}

func TestReadyExpressions(t *testing.T) {
	many := strings.Repeat("    - {kind: Foo.example.com, ready: 'true'}\n", 21)
	for name, tt := range map[string]struct{ list, want string }{
		"good":          {"    - {kind: Foo.example.com, ready: object.status.ok, failed: object.status.bad, message: object.status.why}\n    - {kind: Service, ready: 'true'}\n", ""},
		"syntax":        {"    - {kind: Service, ready: 'true'}\n    - {kind: Foo.example.com, ready: 'object.status.('}\n", `a/stack.yaml: spec.ready.expressions[1].ready: "object.status.(": at 1:15: Syntax error`},
		"no boolean":    {"    - {kind: Foo.example.com, ready: '\"yes\"'}\n", `spec.ready.expressions[0].ready: "\"yes\"" is a string, want a bool`},
		"missing":       {"    - {kind: Foo.example.com}\n", "spec.ready.expressions[0].ready: missing"},
		"two at once":   {"    - {kind: Foo.example.com, ready: '(', failed: ')'}\n", `failed: ")"`},
		"kind":          {"    - {kind: foo, ready: 'true'}\n", `spec.ready.expressions[0].kind: "foo": want KIND.GROUP`},
		"twice":         {"    - {kind: Foo.a.b, ready: 'true'}\n    - {kind: Foo.a.b, ready: 'false'}\n", `spec.ready.expressions[1].kind: "Foo.a.b" has an expression already`},
		"a Secret":      {"    - {kind: Secret, ready: 'true'}\n", "spec.ready.expressions[0].kind: a Secret is ready when it is there"},
		"a Secret.":     {"    - {kind: Secret., ready: 'true'}\n", "spec.ready.expressions[0].kind: a Secret is ready when it is there"},
		"no Secret":     {"    - {kind: Secret.example.com, ready: 'true'}\n    - {kind: Foo.a.b, ready: 'true'}\n", ""},
		"too many":      {many, "spec.ready.expressions: 21 of them: at most 20"},
		"unknown field": {"    - {kind: Foo.a.b, ready: 'true', when: now}\n", `unknown field "when"`},
	} {
		t.Run(name, func(t *testing.T) {
			file := stackFile("a", kustomizeApp+"  ready:\n   expressions:\n"+tt.list)
			stacks, broken, err := Discover(fstest.MapFS{"a/stack.yaml": {Data: []byte(file)}}, SourceConfig{Name: "home"})
			switch {
			case err != nil:
				t.Fatal(err)
			case tt.want == "" && (len(stacks) != 1 || len(stacks[0].rules) != 2):
				t.Errorf("got %+v, %+v", stacks, broken)
			case tt.want != "" && (len(broken) != 1 || !strings.Contains(broken[0].Err.Error(), tt.want)):
				t.Errorf("got %+v, want an error with %s", broken, tt.want)
			}
		})
	}
}
