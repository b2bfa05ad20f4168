package expressions

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write generated files anew")

// An example is an object of testdata/objects.yaml, and what is to be said of it.
type example struct {
	Kinds  string         `json:"kinds"` // KIND... of GROUP
	Want   status.Status  `json:"want"`
	Says   string         `json:"says"`
	Object map[string]any `json:"object"`
}

func examples(t *testing.T) (all []example) {
	t.Helper()
	text, err := os.ReadFile("testdata/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var e example
		if err := yaml.UnmarshalStrict([]byte(document), &e); err != nil {
			t.Fatalf("%v in %s", err, document)
		}
		all = append(all, e)
	}
	return all
}

func (e example) kinds() (all []schema.GroupKind) {
	names, group, _ := strings.Cut(e.Kinds, " of ")
	for name := range strings.FieldsSeq(names) {
		all = append(all, schema.GroupKind{Group: group, Kind: name})
	}
	return all
}

func (e example) of(gk schema.GroupKind) *unstructured.Unstructured {
	obj := (&unstructured.Unstructured{Object: integers(e.Object).(map[string]any)}).DeepCopy()
	obj.SetKind(gk.Kind)
	obj.SetAPIVersion(gk.Group + "/v1")
	return obj
}

// integers makes numbers what the API machinery reads them as.
func integers(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			v[key] = integers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case float64:
		return int64(v)
	}
	return value
}

// TestShipped has each shipped expression say what it should of objects as their operators leave them.
func TestShipped(t *testing.T) {
	library, seen := NewLibrary(), map[schema.GroupKind]map[status.Status]bool{}
	for _, e := range examples(t) {
		for _, gk := range e.kinds() {
			program, err := library.For(gk)
			if program == nil || err != nil {
				t.Fatalf("%s: %v, %v", gk, program, err)
			}
			obj := e.of(gk)
			before := obj.DeepCopy()
			have, says := program.Judge(obj)
			if matched, _ := regexp.MatchString("^(?:"+e.Says+")$", says); have != e.Want || !matched {
				t.Errorf("%s is %s: %q, want %s: %q: %v", gk, have, says, e.Want, e.Says, e.Object)
			}
			if diff := cmp.Diff(before.Object, obj.Object); diff != "" {
				t.Errorf("%s was changed: %s", gk, diff)
			}
			if seen[gk] == nil {
				seen[gk] = map[status.Status]bool{}
			}
			seen[gk][have] = true
		}
	}
	for _, f := range Shipped() {
		for _, e := range f.Expressions() {
			if !seen[e.Kind][status.CurrentStatus] {
				t.Errorf("no example of a %s that is ready", e.Kind)
			}
			if e.Ready != "true" && !seen[e.Kind][status.InProgressStatus] {
				t.Errorf("no example of a %s in progress", e.Kind)
			}
			if e.Failed != "" && !seen[e.Kind][status.FailedStatus] {
				t.Errorf("no example of a %s that failed", e.Kind)
			}
		}
	}
}

// TestStale: what was said of an older generation is neither success nor failure.
func TestStale(t *testing.T) {
	library, n := NewLibrary(), 0
	for _, e := range examples(t) {
		if e.Want == status.InProgressStatus || !strings.Contains(fmt.Sprint(e.Object), "observedGeneration") {
			continue
		}
		for _, gk := range e.kinds() {
			program, _ := library.For(gk)
			obj := e.of(gk)
			obj.SetGeneration(obj.GetGeneration() + 1)
			if have, says := program.Judge(obj); have != status.InProgressStatus || !strings.Contains(says, "has seen generation") {
				t.Errorf("%s of a newer generation is %s: %q", gk, have, says)
			}
			n++
		}
	}
	if n < 60 {
		t.Errorf("only %d examples tell of a generation", n)
	}
}

// TestOddShapes: an object without a status is not ready, unless it has none by nature, and one whose fields have
// other types than they should gets an answer all the same.
func TestOddShapes(t *testing.T) {
	library := NewLibrary()
	for _, f := range Shipped() {
		for _, e := range f.Expressions() {
			program, err := library.For(e.Kind)
			if err != nil {
				t.Fatalf("%s: %v", e.Kind, err)
			}
			judge := func(text string) (status.Status, string) {
				var object map[string]any
				if err := yaml.Unmarshal([]byte(text), &object); err != nil {
					t.Fatal(err)
				}
				return program.Judge(&unstructured.Unstructured{Object: integers(object).(map[string]any)})
			}
			bare, says := judge(`{metadata: {generation: 1}, spec: {parentRefs: [{name: a}]}}`)
			settled := e.Ready == "true" || strings.Contains(e.Ready, `orValue("ignored")`)
			if settled != (bare == status.CurrentStatus) || !settled && says != "no status yet" {
				t.Errorf("%s without a status is %s: %q", e.Kind, bare, says)
			}
			for _, odd := range []string{`null`, `text`, `7`, `[]`, `{}`, `{conditions: text}`, `{conditions: [text, 7, null, []]}`, `{conditions: [{type: 7, status: []}]}`,
				`{conditions: {Ready: "True"}}`, `{phase: 7, state: [], updateStatus: {}, applied: "yes", version: 7, parents: [7], ancestors: {}, nodeIds: text}`,
				`{parents: [{conditions: text}], ancestors: [{}]}`, `{scale: text, version: v}`, `{observedGeneration: text, conditions: [{type: Ready, status: "True", observedGeneration: []}]}`} {
				have, says := judge(`{metadata: {generation: 1}, spec: {parentRefs: [{name: a}], suspend: [], refreshInterval: {}}, status: ` + odd + `}`)
				if (says == "") != (have == status.CurrentStatus) || have == status.FailedStatus {
					t.Errorf("%s with the status %s is %s: %q", e.Kind, odd, have, says)
				}
			}
		}
	}
}

func TestCompile(t *testing.T) {
	for name, tt := range map[string]struct {
		e    Expression
		part string
		want string
	}{
		"empty":        {Expression{}, "ready", "missing"},
		"syntax":       {Expression{Ready: "object.("}, "ready", "Syntax error"},
		"unknown name": {Expression{Ready: "true", Failed: "status.ok"}, "failed", "at 1:1: undeclared reference to 'status'"},
		"a number":     {Expression{Ready: "1 + 1"}, "ready", "is a int, want a bool"},
		"no text":      {Expression{Ready: "true", Message: "true"}, "message", "is a bool, want a string"},
		"too long":     {Expression{Ready: strings.Repeat("true || ", 300) + "true"}, "ready", "at most 2048"},
		"a pattern":    {Expression{Ready: "object.text.matches('(a+)+b')"}, "ready", "undeclared reference to 'matches'"},
		"too deep":     {Expression{Ready: strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300)}, "ready", "recursion limit"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(tt.e)
			var found *Error
			if !errors.As(err, &found) || found.Part != tt.part || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one of %s with %q", err, tt.part, tt.want)
			}
		})
	}
}

func TestParseKind(t *testing.T) {
	for _, text := range []string{"", "foo.example.com", "Foo.", "Foo bar", "Foo.Example.com", "Foo/v1", "apps/v1.Foo", ".example.com"} {
		if gk, err := ParseKind(text); err == nil && text != "Foo." {
			t.Errorf("%q is taken for the kind %s", text, gk)
		}
	}
	for _, text := range []string{"Service", "Deployment.apps", "Certificate.cert-manager.io"} {
		if gk, err := ParseKind(text); err != nil || gk.String() != text {
			t.Errorf("%q: %v, %v", text, gk, err)
		}
	}
}

// TestJudge is about what expressions may say, whoever wrote them.
func TestJudge(t *testing.T) {
	object := `{metadata: {generation: 2}, spec: {count: 2, ratio: 0.5}, status: {count: 2, list: [1, 2, 3], phase: Busy, observedGeneration: 2,
		conditions: [{type: Ready, status: "False", reason: Waiting, message: for rain}, {type: Old, status: "True", observedGeneration: 1}]}}`
	for name, tt := range map[string]struct {
		e    Expression
		want status.Status
		says string
	}{
		"ready":                 {Expression{Ready: "object.status.count == object.spec.count"}, status.CurrentStatus, ""},
		"not ready":             {Expression{Ready: "object.status.count == 3"}, status.InProgressStatus, "for rain"},
		"its own message":       {Expression{Ready: "object.status.count == 3", Message: "'it is ' + object.status.phase"}, status.InProgressStatus, "it is Busy"},
		"a message that fails":  {Expression{Ready: "object.status.count == 3", Message: "object.status.countothing"}, status.InProgressStatus, "for rain"},
		"failed":                {Expression{Ready: "true", Failed: "object.status.phase == 'Busy'"}, status.FailedStatus, "for rain"},
		"nothing to fail":       {Expression{Ready: "true", Failed: "object.status.error != ''"}, status.CurrentStatus, ""},
		"failed is wrong":       {Expression{Ready: "true", Failed: "object.status.phase > 7"}, status.InProgressStatus, "failed: no such overload"},
		"a field that isn't":    {Expression{Ready: "object.status.deep.down"}, status.InProgressStatus, "no deep yet"},
		"no boolean":            {Expression{Ready: "object.status.phase"}, status.InProgressStatus, "ready: is a string, want a bool"},
		"an optional":           {Expression{Ready: "object.status.?nothing"}, status.InProgressStatus, ""},
		"numbers of two sorts":  {Expression{Ready: "object.spec.ratio < object.status.count"}, status.CurrentStatus, ""},
		"of an old generation":  {Expression{Ready: "object.status.conditions.exists(c, c.type == 'Old' && c.status == 'True')"}, status.InProgressStatus, "for rain"},
		"all, with an old one":  {Expression{Ready: "object.status.conditions.all(c, c.type == 'Ready' || c.status == 'True')"}, status.InProgressStatus, "for rain"},
		"without the old one":   {Expression{Ready: "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'False')"}, status.CurrentStatus, ""},
		"an index out of range": {Expression{Ready: "object.status.list[7] == 1"}, status.InProgressStatus, "ready: index out of bounds: 7"},
	} {
		t.Run(name, func(t *testing.T) {
			program, err := Compile(tt.e)
			if name == "an optional" {
				if err == nil {
					t.Error("an optional value is taken for a boolean")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var obj unstructured.Unstructured
			if err := yaml.Unmarshal([]byte(object), &obj.Object); err != nil {
				t.Fatal(err)
			}
			obj.Object["metadata"].(map[string]any)["generation"] = int64(2)
			if have, says := program.Judge(&obj); have != tt.want || says != tt.says {
				t.Errorf("%s: %q, want %s: %q", have, says, tt.want, tt.says)
			}
		})
	}
}

// TestReference holds the page of expressions to the table.
func TestReference(t *testing.T) {
	var page strings.Builder
	page.WriteString("# When a custom resource is ready\n\nGenerated from the table in `reconciler/observe/expressions` by `make generate`.\n\n" +
		"Built-in kinds are judged by [kstatus](https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md), and so is a kind that is not listed here.\n" +
		"The expressions are [CEL](https://cel.dev) over `object`; `spec.ready.expressions` of a [stack.yaml](stack.md) has others for the objects of its stack.\n\n" +
		"`failed` is asked first, then `ready`; an object that is neither is in progress. What an expression asks for and is not there yet is waited for.\n" +
		"While `status.observedGeneration` is behind, nothing is read from the status; a condition whose own is behind counts as `Unknown`.\n" +
		"Without a `message` of its own, it says what the condition Ready says, or else the first one that is not True.\n")
	for _, f := range Shipped() {
		fmt.Fprintf(&page, "\n## %s (`%s`)\n\n", f.Name, f.Group)
		if f.Version == "" {
			page.WriteString("Written without its schemas at hand.\n")
		} else {
			fmt.Fprintf(&page, "Checked against the schemas of %s.\n", f.Version)
		}
		for _, k := range f.Kinds {
			fmt.Fprintf(&page, "\n**%s**\n", strings.ReplaceAll(k.Names, " ", ", "))
			if k.Text != "" {
				fmt.Fprintf(&page, "%s\n", k.Text)
			}
			page.WriteString("\n```yaml\n")
			for _, part := range [][2]string{{"ready", k.Ready}, {"failed", k.Failed}, {"message", k.Message}} {
				if part[1] != "" {
					fmt.Fprintf(&page, "%s: %s\n", part[0], part[1])
				}
			}
			page.WriteString("```\n")
		}
	}
	file := filepath.Join("..", "..", "..", "docs", "reference", "health.md")
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(have)); diff != "" {
		t.Errorf("%s is not what the table says; make generate writes it anew:\n%s", file, diff)
	}
}

func BenchmarkJudge(b *testing.B) {
	program, err := NewLibrary().For(schema.GroupKind{Group: "cert-manager.io", Kind: "Certificate"})
	if err != nil {
		b.Fatal(err)
	}
	obj := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"generation": int64(1)}, "status": map[string]any{
		"conditions": []any{map[string]any{"type": "Ready", "status": "True", "observedGeneration": int64(1)}}}}}
	b.ReportAllocs()
	for b.Loop() {
		program.Judge(obj)
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(Expression{Ready: is("Ready"), Failed: is("Failed")}); err != nil {
			b.Fatal(err)
		}
	}
}
