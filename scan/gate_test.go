package scan_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/scan"
)

var now = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func objects(t testing.TB, texts ...string) (out []scan.Object) {
	t.Helper()
	for _, text := range texts {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		out = append(out, scan.Object{Unstructured: &unstructured.Unstructured{Object: o}, Origin: "apps/web/web.yaml"})
	}
	return out
}

func pod(image string) string {
	return "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: o11y}, spec: {containers: [{name: a, image: " + image + ", securityContext: {privileged: true}}]}}"
}

func TestMain(m *testing.M) {
	scan.Quiet(os.Stderr)
	os.Exit(m.Run())
}

// shared compiles once for all tests.
var shared = sync.OnceValue(func() *scan.Gate { return &scan.Gate{Now: func() time.Time { return now }} })

func judge(t testing.TB, gate *scan.Gate, r scan.Request) scan.Verdict {
	t.Helper()
	if r.FS == nil {
		r.FS = fstest.MapFS{}
	}
	if r.Stack == "" {
		r.Stack = t.Name()
	}
	if r.Dir == "" {
		r.Dir = "apps/web"
	}
	v, err := gate.Scan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func find(v scan.Verdict, id string) *scan.Finding {
	for i := range v.Findings {
		if v.Findings[i].ID == id {
			return &v.Findings[i]
		}
	}
	return nil
}

func TestFinding(t *testing.T) {
	v := judge(t, shared(), scan.Request{Objects: objects(t, pod("ghcr.io/x/y:1")), Policy: scan.Policy{FailOn: scan.SeverityHigh}})
	f := find(v, "KSV-0017")
	if f == nil || !f.Denies || f.Severity != scan.SeverityHigh || f.Object != "Pod o11y/web" || f.Container != "a" ||
		f.File != "apps/web/web.yaml" || f.Field != "spec.containers[0]" || f.Fix == "" || f.URL == "" || f.Title == "" {
		t.Fatalf("have %+v", f)
	}
	var denied *scan.DeniedError
	if !errors.As(v.Err(), &denied) || !strings.Contains(denied.Error(), "KSV-0017 HIGH Pod o11y/web container a") {
		t.Errorf("have %v", v.Err())
	}
}

func TestThreshold(t *testing.T) {
	for name, c := range map[string]struct {
		operator scan.Operator
		stack    scan.Severity
		denies   bool // a HIGH finding
	}{
		"default":                {scan.Operator{}, "", false},
		"daemon":                 {scan.Operator{FailOn: scan.SeverityHigh}, "", true},
		"stack is stricter":      {scan.Operator{}, scan.SeverityLow, true},
		"stack is looser":        {scan.Operator{FailOn: scan.SeverityHigh}, scan.SeverityCritical, false},
		"stack wants none":       {scan.Operator{FailOn: scan.SeverityHigh}, scan.SeverityNone, false},
		"floor":                  {scan.Operator{Floor: scan.SeverityHigh}, scan.SeverityNone, true},
		"floor below the stack":  {scan.Operator{Floor: scan.SeverityCritical}, scan.SeverityHigh, true},
		"floor, default beneath": {scan.Operator{Floor: scan.SeverityMedium}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			gate := &scan.Gate{Operator: c.operator}
			v := judge(t, gate, scan.Request{Objects: objects(t, pod("ghcr.io/x/y:1")), Policy: scan.Policy{FailOn: c.stack}})
			if f := find(v, "KSV-0017"); f == nil || f.Denies != c.denies {
				t.Errorf("threshold %s, have %+v", v.FailOn, f)
			}
		})
	}
}

// TestDenied: the first line says all that fits a table.
func TestDenied(t *testing.T) {
	for name, c := range map[string]struct {
		gate *scan.Gate
		pod  string
		on   scan.Severity
		want string
	}{
		"one":                {shared(), pod("yy"), "", "the gate denies it: PLB-0002: a finding is CRITICAL or worse"},
		"three":              {shared(), pod("yy"), "HIGH", "the gate denies it: PLB-0002, KSV-0014, KSV-0017 and 1 more: 4 findings are HIGH or worse"},
		"nothing of its own": {&scan.Gate{Operator: scan.Operator{Pin: scan.PinDigest}}, pod("yy:1"), "NONE", "the gate denies it: PLB-0003: plumbline.yaml fixes what a finding is against"},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(t, c.gate, scan.Request{Objects: objects(t, c.pod), Policy: scan.Policy{FailOn: c.on}})
			if first, _, _ := strings.Cut(v.Err().Error(), "\n"); first != c.want {
				t.Errorf("have %s\nwant %s", first, c.want)
			}
		})
	}
}

func ignoring(text string) fstest.MapFS {
	return fstest.MapFS{"apps/web/.trivyignore.yaml": {Data: []byte("misconfigurations:\n" + text)}}
}

func TestExceptions(t *testing.T) {
	for name, c := range map[string]struct {
		ignore   string
		operator scan.Operator
		passes   bool
		warning  string
	}{
		"counts":               {ignore: "- {id: KSV-0017, statement: because}", passes: true},
		"by another name":      {ignore: "- {id: AVD-KSV-0017, statement: because}", passes: true},
		"no statement":         {ignore: "- {id: KSV-0017}", warning: "apps/web/.trivyignore.yaml:2: KSV-0017: does not count: it has no statement"},
		"expired":              {ignore: "- {id: KSV-0017, statement: because, expired_at: 2026-11-28}", warning: "expired at 2026-11-28"},
		"soon":                 {ignore: "- {id: KSV-0017, statement: because, expired_at: 2026-12-05}", passes: true, warning: "expires at 2026-12-05"},
		"later":                {ignore: "- {id: KSV-0017, statement: because, expired_at: 2027-12-05}", passes: true},
		"path":                 {ignore: "- {id: KSV-0017, statement: because, paths: ['apps/**/*.yaml']}", passes: true},
		"another path":         {ignore: "- {id: KSV-0017, statement: because, paths: ['other/**']}"},
		"another id":           {ignore: "- {id: KSV-0001, statement: because}"},
		"beyond the floor":     {ignore: "- {id: KSV-0017, statement: because}", operator: scan.Operator{Floor: scan.SeverityHigh}, warning: "apps/web/.trivyignore.yaml:2: KSV-0017: does not count: scan.floor is HIGH, and it is HIGH"},
		"above the floor":      {ignore: "- {id: KSV-0017, statement: because}", operator: scan.Operator{Floor: scan.SeverityCritical}, passes: true},
		"the operator's floor": {ignore: "", operator: scan.Operator{Floor: scan.SeverityHigh, Exceptions: exceptions(t, "- {id: KSV-0017, statement: ours}")}, passes: true},
	} {
		t.Run(name, func(t *testing.T) {
			gate := &scan.Gate{Operator: c.operator, Now: func() time.Time { return now }}
			v := judge(t, gate, scan.Request{Objects: objects(t, pod("ghcr.io/x/y:1")), FS: ignoring(c.ignore), Policy: scan.Policy{FailOn: scan.SeverityHigh}})
			f := find(v, "KSV-0017")
			if f == nil || f.Denies == c.passes || (f.Exception != nil) != c.passes {
				t.Errorf("have %+v", f)
			}
			if all := strings.Join(v.Warnings, "\n"); (all == "") != (c.warning == "") || !strings.Contains(all, c.warning) {
				t.Errorf("warnings %q, want %q", all, c.warning)
			}
		})
	}
}

func exceptions(t *testing.T, text string) scan.Exceptions {
	t.Helper()
	x, err := scan.ParseExceptions("operator.yaml", []byte("misconfigurations:\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestMalformedIgnoreFile: what can't be read lets nothing pass, and says where.
func TestMalformedIgnoreFile(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":   {"- {id: KSV-0017, statement: x, expires: 2030-01-01}", `.trivyignore.yaml:2: unknown field "expires"`},
		"unknown list":    {" []\nmisconfiguration: [{id: KSV-0017, statement: x}]", ".trivyignore.yaml:3: field misconfiguration: there are misconfigurations, secrets and vulnerabilities"},
		"bad date":        {"- {id: KSV-0017, statement: x, expired_at: soon}", `.trivyignore.yaml:2: expired_at: "soon"`},
		"bad pattern":     {"- {id: KSV-0017, statement: x, paths: ['[']}", `.trivyignore.yaml:2: paths: "["`},
		"many choices":    {"- {id: KSV-0017, statement: x, paths: ['{" + strings.Repeat("a,", 40) + "b}']}", "32 alternatives in all"},
		"many paths":      {"- {id: KSV-0017, statement: x, paths: [" + strings.Repeat("a, ", 1001) + "]}", "1001 paths: at most 1000"},
		"many braces":     {"- {id: KSV-0017, statement: x, paths: ['" + strings.Repeat("{a,a}", 40) + "Z']}", "at most 500 bytes, 3 braces, and 32 alternatives in all"},
		"no id":           {"- {statement: x}", ".trivyignore.yaml:2: id: missing"},
		"no YAML":         {"- {id: [", ".trivyignore.yaml:2: "},
		"two documents":   {" []\n---\nsecrets: []", "more than one YAML document"},
		"a text":          {"x", ".trivyignore.yaml:2: "},
		"too large":       {"# " + strings.Repeat("x", 300<<10), "at most 262144"},
		"bad package URL": {" []\nvulnerabilities: [{id: CVE-1, statement: x, purls: [nonsense]}]", `.trivyignore.yaml:3: purls: "nonsense"`},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(t, shared(), scan.Request{Objects: objects(t, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: b}}"), FS: ignoring(c.text)})
			f := find(v, "PLB-0008")
			if f == nil || !f.Denies || !strings.Contains(f.Message, c.want) || v.Err() == nil {
				t.Errorf("have %+v, want %q", f, c.want)
			}
		})
	}
	v := judge(t, shared(), scan.Request{Objects: objects(t, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: b}}"), Policy: scan.Policy{IgnoreFile: "gone.yaml"}})
	if f := find(v, "PLB-0008"); f == nil || !f.Denies {
		t.Errorf("a named file that is not there: have %+v", f)
	}
}

func TestImages(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		image    string
		operator scan.Operator
		policy   scan.Policy
		want     string // a finding; "": none of ours
	}{
		"a version":                          {image: "ghcr.io/x/y:1"},
		"a digest":                           {image: "ghcr.io/x/y" + digest},
		"a digest and latest":                {image: "ghcr.io/x/y:latest" + digest},
		"latest":                             {image: "ghcr.io/x/y:latest", want: "PLB-0002"},
		"no tag":                             {image: "yy", want: "PLB-0002"},
		"a port is no tag":                   {image: "localhost:5000/y", want: "PLB-0002"},
		"latest, allowed":                    {image: "yy", policy: scan.Policy{Pin: scan.PinNone}},
		"latest, not by us":                  {image: "yy", policy: scan.Policy{Pin: scan.PinNone}, operator: scan.Operator{Pin: scan.PinTag}, want: "PLB-0002"},
		"digest wanted":                      {image: "yy:1", policy: scan.Policy{Pin: scan.PinDigest}, want: "PLB-0003"},
		"digest wanted by us":                {image: "yy:1", operator: scan.Operator{Pin: scan.PinDigest}, want: "PLB-0003"},
		"short digest":                       {image: "yy@sha256:abc", want: "PLB-0001"},
		"a newline":                          {image: `"yy:1\nx"`, want: "PLB-0001"},
		"an escape":                          {image: `"yy:1\x1b[31m"`, want: "PLB-0001"},
		"spaces":                             {image: `"yy:1 --privileged"`, want: "PLB-0001"},
		"a path":                             {image: "ghcr.io/../../etc/passwd:1", want: "PLB-0001"},
		"right to left":                      {image: `"yy:1\u202e"`, want: "PLB-0001"},
		"a URL":                              {image: "https://ghcr.io/x:1", want: "PLB-0001"},
		"empty":                              {image: `""`, want: "PLB-0001"},
		"very long":                          {image: strings.Repeat("a", 600) + ":1", want: "PLB-0001"},
		"registry allowed":                   {image: "ghcr.io/x/y:1", policy: scan.Policy{Registries: scan.Registries{Allow: []string{"ghcr.io/x"}}}},
		"registry not allowed":               {image: "ghcr.io/xx/y:1", policy: scan.Policy{Registries: scan.Registries{Allow: []string{"ghcr.io/x"}}}, want: "PLB-0004"},
		"registry denied":                    {image: "yy:1", policy: scan.Policy{Registries: scan.Registries{Deny: []string{"docker.io"}}}, want: "PLB-0004"},
		"denied by the operator":             {image: "yy:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"docker.io/library"}}}, want: "PLB-0004"},
		"not widened":                        {image: "yy:1", operator: scan.Operator{Registries: scan.Registries{Allow: []string{"ghcr.io"}}}, policy: scan.Policy{Registries: scan.Registries{Allow: []string{"docker.io"}}}, want: "PLB-0004"},
		"any part":                           {image: "reg.example.org/x/y:1", policy: scan.Policy{Registries: scan.Registries{Allow: []string{"*.example.org"}}}},
		"denied by Docker's other name":      {image: "registry-1.docker.io/library/yy:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"docker.io"}}}, want: "PLB-0004"},
		"denied with its port":               {image: "ghcr.io:443/x/y:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"ghcr.io/x"}}}, want: "PLB-0004"},
		"denied in capitals":                 {image: "GHCR.io/x/y:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"ghcr.io"}}}, want: "PLB-0004"},
		"denied with its port in full":       {image: "ghcr.io:00443/x/y:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"ghcr.io/x"}}}, want: "PLB-0004"},
		"denied without an owner":            {image: "registry-1.docker.io/yy:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"docker.io/library"}}}, want: "PLB-0004"},
		"denied in mixed capitals":           {image: "Docker.io/yy:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"docker.io/library"}}}, want: "PLB-0004"},
		"denied by a rule in capitals":       {image: "ghcr.io/x/y:1", operator: scan.Operator{Registries: scan.Registries{Deny: []string{"GHCR.io", "index.docker.io"}}}, want: "PLB-0004"},
		"NONE doesn't loosen what is denied": {image: "ghcr.io/x/y:1", policy: scan.Policy{FailOn: scan.SeverityNone}, operator: scan.Operator{Registries: scan.Registries{Deny: []string{"ghcr.io"}}}, want: "PLB-0004"},
		"NONE doesn't loosen how images are pinned": {image: "ghcr.io/x/y:1", policy: scan.Policy{FailOn: scan.SeverityNone}, operator: scan.Operator{Pin: scan.PinDigest}, want: "PLB-0003"},
		"a longer host": {image: "ghcr.io.evil.org/x/y:1", policy: scan.Policy{Registries: scan.Registries{Allow: []string{"ghcr.io"}}}, want: "PLB-0004"},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(t, &scan.Gate{Operator: c.operator}, scan.Request{Objects: objects(t, pod(c.image)), Policy: c.policy,
				FS: ignoring("- {id: PLB-0004, statement: please, paths: [nowhere]}")})
			var have []string
			for _, f := range v.Findings {
				if f.Kind == scan.KindImage {
					have = append(have, f.ID)
					if !f.Denies || f.Container != "a" || f.Field != "spec.containers[0].image" || strings.ContainsAny(f.Message+f.Image, "\n\x1b\u202e") {
						t.Errorf("have %+v", f)
					}
				}
			}
			if strings.Join(have, " ") != c.want {
				t.Errorf("have %v, want %q", have, c.want)
			}
		})
	}
}

const awsKey = "AKIA" + "QYLPMN5HHHFPZAM2"

func TestExposedSecrets(t *testing.T) {
	config := "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: o11y}, data: {env: 'aws_access_key_id = " + awsKey + "'}}"
	v := judge(t, shared(), scan.Request{Objects: objects(t, config)})
	f := find(v, "aws-access-key-id")
	if f == nil || !f.Denies || f.Kind != scan.KindSecret || f.Field != "data.env" {
		t.Errorf("have %+v", f)
	}
	if raw := everything(t, v); strings.Contains(raw, awsKey) {
		t.Errorf("the verdict shows it: %s", raw)
	}
	secret := strings.NewReplacer("ConfigMap", "Secret", "data:", "stringData:").Replace(config)
	if v := judge(t, shared(), scan.Request{Objects: objects(t, secret)}); find(v, "aws-access-key-id") != nil {
		t.Error("a Secret's data was looked at")
	}
	annotated := strings.NewReplacer("ConfigMap", "Secret", "data:", "stringData:", "namespace: o11y", "namespace: o11y, annotations: {a: 'aws_access_key_id = "+awsKey+"'}").Replace(config)
	if v := judge(t, shared(), scan.Request{Objects: objects(t, annotated)}); find(v, "aws-access-key-id") == nil {
		t.Error("a Secret's annotations were not looked at")
	}
}

// everything is all that a verdict says.
func everything(t *testing.T, v scan.Verdict) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestTrivyQuotesNothing: two of its checks put into their messages what they found.
func TestTrivyQuotesNothing(t *testing.T) {
	config := "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: o11y}, data: {password: hunter2-canary, env: 'username: hunter3-canary'}}"
	v := judge(t, shared(), scan.Request{Objects: objects(t, config)})
	if find(v, "KSV-01010") == nil && find(v, "KSV-0109") == nil {
		t.Fatalf("found nothing: %+v", v.Findings)
	}
	if raw := everything(t, v); strings.Contains(raw, "canary") {
		t.Errorf("the verdict shows it: %s", raw)
	}
}

func TestMasked(t *testing.T) {
	mask := func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }
	long := strings.Repeat("x", 195) + "hunter2"
	v := judge(t, shared(), scan.Request{Objects: objects(t, pod("hunter2.example.org/x"), strings.Replace(pod(long+"&"), "web", "web2", 1)), Mask: mask})
	if find(v, "PLB-0001") == nil {
		t.Fatal("no finding quotes it")
	}
	if raw := everything(t, v); strings.Contains(raw, "xxxhunt") {
		t.Errorf("the verdict shows half of it: %s", raw)
	}
	if raw := everything(t, v); strings.Contains(raw, "hunter2") {
		t.Errorf("the verdict shows it: %s", raw)
	}
}

const own = `# METADATA
# title: Owner is missing
# scope: package
# custom:
#   id: USR-0001
#   severity: CRITICAL
package user.owner
deny[res] { not input.metadata.labels.owner; %s res := result.new("no owner", input.metadata) }
`

func TestOwnChecks(t *testing.T) {
	for name, c := range map[string]struct{ extra, want, message string }{
		"finds":   {"", "USR-0001", "no owner"},
		"loops":   {"r := numbers.range(1, 100000); r[i]; r[j]; r[k]; i+j+k < 0;", "PLB-0007", "took too long"},
		"is none": {"http.send({})[x];", "PLB-0009", "checks/a.rego:8: undefined function http.send"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := fstest.MapFS{"apps/web/checks/a.rego": {Data: fmt.Appendf(nil, own, c.extra)}}
			v := judge(t, shared(), scan.Request{Objects: objects(t, pod("yy:1")), FS: fsys, Policy: scan.Policy{Checks: "checks"}})
			if f := find(v, c.want); f == nil || !f.Denies || !strings.Contains(f.Message, c.message) {
				t.Errorf("have %+v of %v", f, v.Err())
			}
		})
	}
	for dir, want := range map[string]string{"gone": "apps/web/gone is not there", "../../../up": "../up leaves the repository"} {
		v := judge(t, shared(), scan.Request{Objects: objects(t, pod("yy:1")), Policy: scan.Policy{Checks: dir}})
		if f := find(v, "PLB-0009"); f == nil || !strings.Contains(f.Message, want) {
			t.Errorf("%s: have %+v", dir, f)
		}
	}
}

// TestOwnChecksSeeNoSecret: what was opened could be told in any way that no mask knows.
func TestOwnChecksSeeNoSecret(t *testing.T) {
	check := strings.Replace(fmt.Sprintf(own, ""), `deny[res] { not input.metadata.labels.owner;  res := result.new("no owner", input.metadata) }`,
		`deny[x] { x := strings.reverse(input.data.password) }
deny[x] { x := sprintf("%d", [input.data.pin * 2]) }
deny[x] { x := concat("-", split(input.data.password, "")) }`, 1)
	if !strings.Contains(check, "reverse") {
		t.Fatal(check)
	}
	object := "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {password: drowssap-terces, pin: 123456}}"
	mask := func(s string) string {
		return strings.NewReplacer("drowssap-terces", "•••", "123456", "•••").Replace(s)
	}
	v := judge(t, shared(), scan.Request{Objects: objects(t, object), FS: fstest.MapFS{"apps/web/checks/a.rego": {Data: []byte(check)}}, Policy: scan.Policy{Checks: "checks"}, Mask: mask})
	text := everything(t, v)
	if find(v, "USR-0001") == nil || !strings.Contains(text, "•••") {
		t.Fatalf("the check was not asked: %s", text)
	}
	for _, secret := range []string{"secret-password", "d-r-o-w", "246912"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is told: %s", secret, text)
		}
	}
}

// TestSlowMachine: what took too long is told with a time when it is judged again, and is not
// remembered of the object.
func TestSlowMachine(t *testing.T) {
	fsys := fstest.MapFS{"apps/web/checks/a.rego": {Data: fmt.Appendf(nil, own, "r := numbers.range(1, 100000); r[i]; r[j]; r[k]; i+j+k < 0;")}}
	gate, request := &scan.Gate{}, scan.Request{Objects: objects(t, pod("yy:1")), FS: fsys, Policy: scan.Policy{Checks: "checks"}}
	first := judge(t, gate, request)
	if until := time.Until(first.Next); find(first, "PLB-0007") == nil || until <= 0 || until > 10*time.Minute {
		t.Fatalf("judged again in %s, after %v", until, first.Err())
	}
	if second := judge(t, gate, request); !second.Next.After(first.Next) {
		t.Errorf("it was not tried again: next at %s, before %s", second.Next, first.Next)
	}
}

// TestEndlessStack: what there was no time for denies, is judged again by itself, and nothing
// of it is remembered.
func TestEndlessStack(t *testing.T) {
	gate, request := &scan.Gate{}, scan.Request{Objects: objects(t, pod("yy:1"))}
	if err := gate.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	restore := scan.SetStackBudget(time.Nanosecond)
	v := judge(t, gate, request)
	restore()
	if f := find(v, "PLB-0007"); f == nil || !f.Denies || !strings.Contains(f.Message, "took too long: more than 1ns on the stack") || v.Next.IsZero() {
		t.Errorf("have %+v, judged again at %s", f, v.Next)
	}
	if v := judge(t, gate, request); find(v, "PLB-0007") != nil || find(v, "KSV-0017") == nil {
		t.Errorf("have %+v", v.Findings)
	}
}

// TestTooLarge: a small file can make an object of which the paths alone fill the memory.
func TestTooLarge(t *testing.T) {
	inner := "[" + strings.Repeat("{a: 1}, ", 3000) + "]"
	for range 40 {
		inner = "{" + strings.Repeat("k", 400) + ": " + inner + "}"
	}
	v := judge(t, shared(), scan.Request{Objects: objects(t, "{apiVersion: x.example.org/v1, kind: Thing, metadata: {name: a}, spec: "+inner+"}")})
	if f := find(v, "PLB-0007"); f == nil || !f.Denies || !strings.Contains(f.Message, "the paths of its fields come to more than 32 MiB") {
		t.Errorf("have %+v", f)
	}
}

// TestManyFindings: the report has all, what is said is bounded.
func TestManyFindings(t *testing.T) {
	pods := []string{}
	for i := range 14 {
		containers := []string{}
		for n := range 50 {
			containers = append(containers, fmt.Sprintf("{name: c%d, image: 'yy'}", n))
		}
		pods = append(pods, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: many%d, namespace: o11y}, spec: {containers: [%s]}}", i, strings.Join(containers, ", ")))
	}
	v := judge(t, shared(), scan.Request{Objects: objects(t, pods...), Policy: scan.Policy{FailOn: scan.SeverityLow}})
	if len(v.Findings) < 10_000 {
		t.Fatalf("%d findings", len(v.Findings))
	}
	if text := v.Err().Error(); len(text) > 8<<10 || !strings.Contains(text, "more: plumbline scan lists all") {
		t.Errorf("%d bytes: %.300s", len(text), text)
	}
}

// TestScannedOnce: what was judged is not judged again.
func TestScannedOnce(t *testing.T) {
	asked := 0
	gate := &scan.Gate{}
	request := scan.Request{Objects: objects(t, pod("hunter2/y")), Mask: func(s string) string { asked++; return s }}
	first := judge(t, gate, request)
	before := asked
	second := judge(t, gate, request)
	told := 4 * len(second.Findings) // the texts of what is remembered are masked again
	if before <= told || asked != before+told || len(first.Findings) != len(second.Findings) {
		t.Errorf("asked %d times at first, %d in all", before, asked)
	}
	before = asked
	request.Objects = append(request.Objects, objects(t, strings.Replace(pod("yy:1"), "name: web", "name: web2", 1))...)
	judge(t, gate, request)
	if asked <= before+2*told {
		t.Error("a new object was not judged")
	}
}

// TestPolicyMoves: what is remembered of an object is not what another policy says.
func TestPolicyMoves(t *testing.T) {
	gate := &scan.Gate{}
	request := scan.Request{Stack: "s", Objects: objects(t, pod("yy:1"))}
	if v := judge(t, gate, request); find(v, "PLB-0003") != nil || find(v, "PLB-0004") != nil {
		t.Fatalf("have %+v", v.Findings)
	}
	request.Policy.Pin = scan.PinDigest
	if v := judge(t, gate, request); find(v, "PLB-0003") == nil {
		t.Error("a stricter pin was not seen")
	}
	request.Policy.Registries.Deny = []string{"docker.io"}
	if v := judge(t, gate, request); find(v, "PLB-0004") == nil {
		t.Error("a registry that is denied now was not seen")
	}
}

// TestManyAtOnce has the race detector look at objects that are judged at once.
func TestManyAtOnce(t *testing.T) {
	texts := []string{}
	for i := range 40 {
		texts = append(texts, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d, namespace: o11y}, data: {a: b}}", i))
	}
	gate := shared()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { judge(t, gate, scan.Request{Objects: objects(t, texts...)}) })
	}
	group.Wait()
}

func TestRegistriesThatAreNone(t *testing.T) {
	for _, pattern := range []string{"busybox", "library/busybox", "https://ghcr.io", "", "a b", "[", "ghcr"} {
		if (scan.Registries{Deny: []string{pattern}}).Validate() == nil {
			t.Errorf("%q is taken for a registry", pattern)
		}
	}
	for _, pattern := range []string{"ghcr.io", "*.example.org", "*", "localhost", "localhost:5000/x", "docker.io/library", "registry:5000"} {
		if err := (scan.Registries{Deny: []string{pattern}}).Validate(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzExceptions(f *testing.F) {
	f.Add("misconfigurations:\n- {id: KSV-0017, statement: x, expired_at: 2030-01-01, paths: ['**']}")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := scan.ParseExceptions("f", []byte(text)); err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("%q names no file", err)
		}
	})
}

// BenchmarkGate judges a thousand objects that nobody has seen before.
func BenchmarkGate(b *testing.B) {
	gate := &scan.Gate{}
	began := time.Now()
	judge(b, gate, scan.Request{Objects: objects(b, pod("yy:1"))})
	first := time.Since(began)
	round := 0
	for b.Loop() {
		b.StopTimer()
		texts := []string{}
		round++
		for i := range 250 {
			name := fmt.Sprintf("o%d-%d", round, i)
			texts = append(texts, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: "+name+", namespace: o11y}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: web, image: 'ghcr.io/x/y:1'}]}}}}",
				"{apiVersion: v1, kind: ServiceAccount, metadata: {name: "+name+", namespace: o11y}}",
				"{apiVersion: v1, kind: Service, metadata: {name: "+name+", namespace: o11y}, spec: {ports: [{port: 80}]}}",
				"{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: "+name+", namespace: o11y}, spec: {defaultBackend: {service: {name: "+name+", port: {number: 80}}}}}")
		}
		request := scan.Request{Stack: "bench", Objects: objects(b, texts...), FS: fstest.MapFS{}}
		b.StartTimer()
		judge(b, gate, request)
	}
	b.ReportMetric(float64(first.Milliseconds()), "first-ms")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "gate-s")
}
