package checks_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	embedded "github.com/aquasecurity/trivy-checks"
	trivy "github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/aquasecurity/trivy/pkg/iac/types"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/scan/checks"
)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

const privileged = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: o11y}
spec:
  template:
    spec:
      containers:
      - {name: a, image: "ghcr.io/x/y:latest", securityContext: {privileged: true}}
      - {name: b, image: "ghcr.io/x/y:1", resources: {limits: {cpu: 1}}}
`

var corpus = map[string]string{
	"privileged":  privileged,
	"config map":  "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {password: secret, aws_secret_access_key: abc}}",
	"role":        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r}, rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}, {apiGroups: [''], resources: [secrets], verbs: [get]}]}",
	"binding":     "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: r}, roleRef: {kind: ClusterRole, name: cluster-admin}, subjects: [{kind: Group, name: 'system:anonymous'}]}",
	"service":     "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {externalIPs: [1.2.3.4]}}",
	"cron job":    "{apiVersion: batch/v1, kind: CronJob, metadata: {name: j}, spec: {jobTemplate: {spec: {template: {spec: {hostNetwork: true, containers: [{name: c, image: c}]}}}}}}",
	"unknown":     "{apiVersion: example.org/v1, kind: Thing, metadata: {name: t}, spec: {a: 1}}",
	"nonsense":    "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {template: {spec: {containers: {not: a list}}}}}",
	"no metadata": "{apiVersion: v1, kind: Pod}",
}

// TestAsTrivy holds the findings to those of Trivy's own scanner.
func TestAsTrivy(t *testing.T) {
	trivy.LoadAndRegister = func() {} // all checks of all clouds
	scanner := trivy.NewScanner(trivy.WithPolicyFilesystem(merged{embedded.EmbeddedPolicyFileSystem, embedded.EmbeddedLibraryFileSystem}),
		trivy.WithPolicyDirs("checks/kubernetes", "lib/kubernetes", "lib/cloud/metadata.rego"))
	if err := scanner.LoadPolicies(nil); err != nil {
		t.Fatal(err)
	}
	set, err := checks.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for name, text := range corpus {
		t.Run(name, func(t *testing.T) {
			results, err := scanner.ScanInput(t.Context(), types.SourceKubernetes, trivy.Input{Path: "x.yaml", Contents: withLines(object(t, text), new(int))})
			if err != nil {
				t.Fatal(err)
			}
			want, have := []string{}, []string{}
			for _, r := range results.GetFailed() {
				want = append(want, r.Rule().ID+" "+string(r.Severity())+" "+r.Description())
			}
			for _, f := range set.Run(t.Context(), object(t, text)) {
				if f.Err != nil {
					t.Fatal(f.ID, f.Err)
				}
				have = append(have, f.ID+" "+f.Severity+" "+f.Message)
			}
			slices.Sort(want)
			slices.Sort(have)
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("Trivy has what we don't (-), we have what Trivy doesn't (+):\n%s", diff)
			}
			total += len(have)
		})
	}
	if total < 50 {
		t.Errorf("%d findings in all: the corpus finds nothing", total)
	}
}

// withLines gives each map a line of its own, as Trivy's parsers do.
func withLines(v any, line *int) any {
	switch v := v.(type) {
	case map[string]any:
		*line++
		at := map[string]any{"startline": *line, "endline": *line, "filepath": "", "offset": 0}
		for key := range v {
			v[key] = withLines(v[key], line)
		}
		v["__defsec_metadata"] = at
	case []any:
		for i := range v {
			v[i] = withLines(v[i], line)
		}
	}
	return v
}

// merged is one tree over another.
type merged [2]fs.FS

func (m merged) Open(name string) (fs.File, error) {
	if f, err := m[0].Open(name); err == nil {
		return f, nil
	}
	return m[1].Open(name)
}

func TestFieldsAndDetails(t *testing.T) {
	set, err := checks.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range set.Run(t.Context(), object(t, privileged)) {
		if f.ID != "KSV-0017" {
			continue
		}
		want := "spec.template.spec.containers[0]"
		if f.Field != want || f.Severity != "HIGH" || f.Title == "" || f.Fix == "" || !strings.HasPrefix(f.URL, "https://avd.aquasec.com/misconfig/") || !slices.Contains(f.Aliases, "AVD-KSV-0017") {
			t.Errorf("have %+v, want the field %s and all that the check says of itself", f, want)
		}
		return
	}
	t.Error("a privileged container was not found")
}

func TestConcurrently(t *testing.T) {
	set, err := checks.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	want := len(set.Run(t.Context(), object(t, privileged)))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for _, text := range corpus {
				set.Run(context.Background(), object(t, text))
			}
			if have := len(set.Run(context.Background(), object(t, privileged))); have != want {
				t.Errorf("%d findings at once, %d alone", have, want)
			}
		})
	}
	group.Wait()
}

const meta = `# METADATA
# title: Owner is missing
# scope: package
# custom:
#   id: USR-0001
#   severity: HIGH
#   recommended_action: Say who owns it.
#   input:
#     selector:
#     - type: kubernetes
`

func custom(t *testing.T, text string) (*checks.Set, error) {
	t.Helper()
	files, err := checks.Sources(fstest.MapFS{"p/a.rego": {Data: []byte(text)}, "p/a_test.rego": {Data: []byte("not rego")}}, "p")
	if err != nil {
		t.Fatal(err)
	}
	return checks.Custom(files)
}

func TestCustom(t *testing.T) {
	set, err := custom(t, meta+"package user.owner\nimport data.lib.kubernetes\ndeny[res] { not input.metadata.labels.owner; res := result.new(sprintf(\"%s has no owner\", [kubernetes.name]), input.metadata) }\n")
	if err != nil {
		t.Fatal(err)
	}
	found := set.Run(t.Context(), object(t, privileged))
	if len(found) != 1 || found[0].ID != "USR-0001" || found[0].Message != "web has no owner" || found[0].Field != "metadata" || found[0].Err != nil {
		t.Errorf("have %+v", found)
	}
}

func TestCustomRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"syntax":          {meta + "package user.a\ndeny[x] { x := \n", "p/a.rego:13"},
		"http.send":       {meta + "package user.a\ndeny[x] { x := http.send({\"url\": \"http://169.254.169.254\"}).raw_body }\n", "p/a.rego:12: undefined function http.send"},
		"environment":     {meta + "package user.a\ndeny[x] { x := opa.runtime().env.PATH }\n", "undefined function opa.runtime"},
		"lookup":          {meta + "package user.a\ndeny[x] { x := net.lookup_ip_addr(\"a\") }\n", "undefined function net.lookup_ip_addr"},
		"clock":           {meta + "package user.a\ndeny[x] { x := time.now_ns() }\n", "undefined function time.now_ns"},
		"schema":          {meta + "package user.a\ndeny[x] { x := json.match_schema({}, {\"$ref\": \"http://127.0.0.1\"}) }\n", "undefined function json.match_schema"},
		"no deny":         {meta + "package user.a\ndenied[x] { x := 1 }\n", "has no rule deny, so it never denies"},
		"version 1":       {meta + "package user.a\ndeny contains x if { x := 1 }\n", "need: import rego.v1"},
		"Trivy's package": {meta + "package builtin.kubernetes.KSV017\ndeny[x] { false; x := 1 }\n", `"builtin" belongs to Trivy`},
		"Trivy's library": {meta + "package lib.kubernetes\ndeny[x] { false; x := 1 }\n", `"lib" belongs to Trivy`},
		"a number":        {strings.Replace(meta, "#   id:", "#   minimum_trivy_version: 0.60\n#   id:", 1) + "package user.a\ndeny[x] { x := 1 }\n", "METADATA: a field holds what it can't"},
		"a schema":        {strings.Replace(meta, "# custom:", "# schemas:\n#   - input: {type: object}\n# custom:", 1) + "package user.a\ndeny[x] { x := 1 }\n", "only schema[\"kubernetes\"] is known here"},
		"a selector":      {strings.Replace(meta, "type: kubernetes", "type: kubernets", 1) + "package user.a\ndeny[x] { x := 1 }\n", `type: "kubernets": want kubernetes`},
		"Trivy's id":      {strings.Replace(meta, "USR-0001", "KSV-0014", 1) + "package user.a\ndeny[x] { x := 1 }\n", "custom.id: KSV-0014: KSV… are not yours"},
		"no metadata":     {"package user.a\ndeny[x] { x := 1 }\n", "has no METADATA comment"},
		"no severity":     {strings.Replace(meta, "HIGH", "BAD", 1) + "package user.a\ndeny[x] { x := 1 }\n", `custom.severity: "BAD"`},
		"no id":           {strings.Replace(meta, "#   id: USR-0001\n", "", 1) + "package user.a\ndeny[x] { x := 1 }\n", "custom.id: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := custom(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "p/a.rego") {
				t.Errorf("have %v, want %q and the file", err, c.want)
			}
		})
	}
}

// TestLoop runs a check that would take for ever. It is asked once: the second object doesn't
// pay for it again, although the check would be done with that one at once.
func TestLoop(t *testing.T) {
	set, err := custom(t, meta+"package user.a\ndeny[x] { input.metadata.name == \"endless\"; r := numbers.range(1, 100000); r[i]; r[j]; r[k]; i+j+k < 0; x := 1 }\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"endless", "fine"} {
		found := set.Run(t.Context(), object(t, "{kind: Pod, metadata: {name: "+name+"}}"))
		if len(found) != 1 || !errors.Is(found[0].Err, checks.ErrBudget) || found[0].ID != "USR-0001" || !found[0].Again {
			t.Fatalf("%s: have %+v, want a check that took too long", name, found)
		}
	}
}

// TestHostile has checks do what can't be stopped from within: the process that judges them
// ends, and nothing else does.
func TestHostile(t *testing.T) {
	double := func(name, first, form string, n int) string {
		text := name + "0 := " + first + "; "
		for i := range n {
			text += fmt.Sprintf("%s%d := "+form+"; ", name, i+1, name, i, name, i)
		}
		return text
	}
	strings13 := double("s", `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"`, `concat("", [%s%d, %s%d])`, 13)
	checks.SetOwnBudget(t, 6*time.Second)
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"a step without end":      {strings13 + `object.subset(split(s12, ""), array.concat(split(s11, ""), ["b"])); x := 1`, checks.ErrBudget},
		"a type without end":      {double("a", "[1, 1]", "[%s%d, %s%d]", 40) + double("b", "[1, 1]", "[%s%d, %s%d]", 40) + "a40 == b40; x := 1", checks.ErrBudget},
		"a value without end":     {double("a", "[1, 1]", "[%s%d, %s%d]", 40) + "x := count(a40)", nil},
		"memory in a single step": {strings13 + `x := concat(s13, split(s13, ""))`, checks.ErrMemory},
		"a compiler that goes on": {"x := " + strings.Repeat("count(", 2000) + "[1]" + strings.Repeat(")", 2000), checks.ErrBudget},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"p/a.rego": meta + "package user.a\ndeny[x] { " + c.body + " }\n"}
			found, err := checks.Judge(t.Context(), files, []map[string]any{object(t, privileged)})
			if err == nil && len(found[0]) == 1 {
				err = found[0][0].Err
			} else if !errors.Is(err, checks.ErrChild) {
				t.Errorf("have %v, want that it is tried again", err)
			}
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("have %v, want %v", err, c.want)
			}
			t.Log(err)
		})
	}
	found, err := checks.Judge(t.Context(), map[string]string{"p/a.rego": meta + "package user.a\ndeny[x] { x := numbers.range(1, 5000)[_] }\n"}, []map[string]any{object(t, privileged), object(t, privileged)})
	if err != nil || len(found) != 2 || len(found[0]) != 100 || !strings.Contains(found[1][99].Message, "more than 99 things") {
		t.Errorf("have %d, %v", len(found), err)
	}
	found, err = checks.Judge(t.Context(), map[string]string{"p/a.rego": crashing}, []map[string]any{object(t, privileged)})
	if err != nil || len(found[0]) != 1 || found[0][0].Err == nil || found[0][0].Again {
		t.Errorf("have %+v, %v, want an error that another try doesn't mend", found, err)
	}
}

// TestEndless: what Trivy's own checks don't finish with is told, and the next object doesn't
// suffer for it.
func TestEndless(t *testing.T) {
	set, err := checks.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	restore := checks.SetObjectBudget(time.Nanosecond)
	found := set.Run(t.Context(), object(t, privileged))
	restore()
	late := slices.DeleteFunc(found, func(f checks.Found) bool { return f.Err == nil }) // some are done before they are stopped
	for _, f := range late {
		if !errors.Is(f.Err, checks.ErrBudget) || !f.Again {
			t.Fatalf("have %+v, want a check that took too long", f)
		}
	}
	if len(late) == 0 {
		t.Error("nothing took too long")
	}
	found = set.Run(t.Context(), object(t, privileged))
	if len(found) == 0 || slices.ContainsFunc(found, func(f checks.Found) bool { return f.Err != nil }) {
		t.Errorf("the next object: have %+v", found)
	}
}

// crashing has rules contradict each other, which OPA can't evaluate.
const crashing = meta + "package user.a\nvalue = 1 { input.kind }\nvalue = 2 { input.metadata }\ndeny[x] { value > 0; x := \"x\" }\n"

func TestCrash(t *testing.T) {
	set, err := custom(t, crashing)
	if err != nil {
		t.Fatal(err)
	}
	found := set.Run(t.Context(), object(t, privileged))
	if len(found) != 1 || found[0].Err == nil || found[0].ID != "USR-0001" {
		t.Errorf("have %+v, want a check that can't be evaluated", found)
	}
	deep := object(t, "{kind: Pod}")
	at := deep
	for range 300 {
		next := map[string]any{}
		at["a"], at = next, next
	}
	if found := set.Run(t.Context(), deep); len(found) != 1 || found[0].Err == nil {
		t.Errorf("have %+v, want an object that is too deep", found)
	}
}

func BenchmarkRun(b *testing.B) {
	set, err := checks.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	o := object(b, privileged)
	set.Run(b.Context(), o)
	for b.Loop() {
		set.Run(b.Context(), o)
	}
}
