package scan_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/scan/images"
)

// known is what is known of images; what it doesn't hold is being looked at.
type known map[string]images.Report

func (k known) Look(reference string, _ bool) (images.Report, <-chan struct{}) {
	if report, ok := k[reference]; ok {
		return report, nil
	}
	return images.Report{}, make(chan struct{})
}

func TestWhatIsKnownOfImages(t *testing.T) {
	soon := time.Date(2026, 11, 28, 12, 1, 0, 0, time.UTC)
	mended := images.Vulnerability{ID: "CVE-2026-1", Severity: "CRITICAL", Title: "reads too much", Package: "openssl", Version: "3.0", Fixed: "3.1", URL: "https://avd/1", PURL: "pkg:apk/alpine/openssl@3.0"}
	unmended := images.Vulnerability{ID: "CVE-2026-2", Severity: "HIGH", Title: "writes too much", Package: "musl", Version: "1", PURL: "pkg:apk/alpine/musl@1"}
	inFile := images.Vulnerability{ID: "CVE-2026-3", Severity: "HIGH", Title: "pads", Package: "left-pad", Version: "1", Fixed: "2", Path: "app/node_modules/left-pad/package.json"}
	for _, test := range []struct {
		name     string
		report   images.Report
		operator scan.Operator
		policy   scan.Policy
		ignore   string
		want     []string // ids, those that deny with a !
		next     time.Time
	}{
		{"all is well", images.Report{}, scan.Operator{}, scan.Policy{}, "", nil, time.Time{}},
		{"missing", images.Report{Missing: "ghcr.io doesn't have it", Retry: soon}, scan.Operator{}, scan.Policy{}, "", []string{"!PLB-0005"}, soon},
		{"missing, and nothing denies", images.Report{Missing: "ghcr.io doesn't have it", Retry: soon}, scan.Operator{FailOn: "NONE"}, scan.Policy{}, "", []string{"PLB-0005"}, time.Time{}},
		{"unknown, allowed", images.Report{Unknown: "no database", Retry: soon}, scan.Operator{FailOn: "LOW"}, scan.Policy{}, "", []string{"PLB-0006"}, time.Time{}},
		{"unknown, denied", images.Report{Unknown: "no database", Retry: soon}, scan.Operator{Images: scan.ImagePolicy{DenyUnknown: true}}, scan.Policy{}, "", []string{"!PLB-0006"}, soon},
		{"unknown, denied: no repository lets it pass", images.Report{Unknown: "no database"}, scan.Operator{Images: scan.ImagePolicy{DenyUnknown: true}}, scan.Policy{},
			"misconfigurations: [{id: PLB-0006, statement: x}]", []string{"!PLB-0006"}, time.Time{}},
		{"vulnerable", images.Report{Vulnerabilities: []images.Vulnerability{mended, unmended}}, scan.Operator{FailOn: "HIGH"}, scan.Policy{}, "", []string{"!CVE-2026-1", "!CVE-2026-2"}, time.Time{}},
		{"below the threshold", images.Report{Vulnerabilities: []images.Vulnerability{mended, unmended}}, scan.Operator{}, scan.Policy{}, "", []string{"!CVE-2026-1", "CVE-2026-2"}, time.Time{}},
		{"what nobody mends is left out", images.Report{Vulnerabilities: []images.Vulnerability{mended, unmended}}, scan.Operator{FailOn: "HIGH", Images: scan.ImagePolicy{IgnoreUnfixed: true}}, scan.Policy{}, "", []string{"!CVE-2026-1"}, time.Time{}},
		{"excepted", images.Report{Vulnerabilities: []images.Vulnerability{mended, unmended}}, scan.Operator{FailOn: "HIGH"}, scan.Policy{},
			"vulnerabilities: [{id: CVE-2026-1, statement: not reachable}, {id: CVE-2026-2, purls: ['pkg:apk/alpine/other'], statement: another}]", []string{"!CVE-2026-2", "CVE-2026-1"}, time.Time{}},
		{"excepted by package", images.Report{Vulnerabilities: []images.Vulnerability{unmended}}, scan.Operator{FailOn: "HIGH"}, scan.Policy{},
			"vulnerabilities: [{id: CVE-2026-2, purls: ['pkg:apk/alpine/musl'], statement: not reachable}]", []string{"CVE-2026-2"}, time.Time{}},
		{"excepted by its path in the image", images.Report{Vulnerabilities: []images.Vulnerability{inFile}}, scan.Operator{FailOn: "HIGH"}, scan.Policy{},
			"vulnerabilities: [{id: CVE-2026-3, paths: ['app/node_modules/**'], statement: only builds}]", []string{"CVE-2026-3"}, time.Time{}},
		{"no severity that there is", images.Report{Vulnerabilities: []images.Vulnerability{{ID: "X", Severity: "NONE"}}}, scan.Operator{FailOn: "LOW"}, scan.Policy{}, "", []string{"X"}, time.Time{}},
		{"nobody is asked of what may not come", images.Report{Missing: "x"}, scan.Operator{Registries: scan.Registries{Deny: []string{"ghcr.io"}}}, scan.Policy{}, "", []string{"!PLB-0004"}, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			gate := &scan.Gate{Operator: test.operator, Images: known{"ghcr.io/x/y:1": test.report}}
			v := judge(t, gate, scan.Request{Objects: objects(t, pod("ghcr.io/x/y:1")), Policy: test.policy, FS: fstest.MapFS{".trivyignore.yaml": {Data: []byte(test.ignore)}}})
			var got []string
			for _, f := range v.Findings {
				if f.Kind == scan.KindMisconfiguration {
					continue
				}
				id := f.ID
				if f.Denies {
					id = "!" + id
				}
				got = append(got, id)
				if f.Container != "a" || f.Image != "ghcr.io/x/y:1" || f.Field == "" || f.Fix == "" || f.Object == "" {
					t.Errorf("%+v", f)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if !v.Next.Equal(test.next) {
				t.Errorf("judged again at %v, want %v", v.Next, test.next)
			}
		})
	}
}

func TestPending(t *testing.T) {
	gate := &scan.Gate{Images: known{"yy:1": {}}}
	request := scan.Request{Objects: objects(t, pod("yy:1"), strings.Replace(pod("yy:2"), "web", "web2", 1))}
	v := judge(t, gate, request)
	if !slices.Equal(v.Pending, []string{"yy:2"}) || len(v.Waits) != 1 {
		t.Errorf("have %v", v.Pending)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v.Known(ctx) == nil {
		t.Error("it is known")
	}
	gate.Images = known{"yy:1": {}, "yy:2": {}}
	if v = judge(t, gate, request); len(v.Pending)+len(v.Waits) > 0 || v.Known(ctx) != nil {
		t.Errorf("have %v", v.Pending)
	}
}

// TestImageMasked: what was opened is in no text about an image, however long it is.
func TestImageMasked(t *testing.T) {
	secret := "sesame" + strings.Repeat("x", 180)
	reference := "registry.example.org/" + secret + ":1"
	mask := func(text string) string { return strings.ReplaceAll(text, secret, "•••") }
	for name, gate := range map[string]*scan.Gate{
		"missing": {Images: known{reference: {Reference: reference, Missing: "registry.example.org doesn't have " + reference}}},
		"unknown": {Images: known{reference: {Reference: reference, Unknown: strings.Repeat("y", 400) + reference}}}, "pending": {Images: known{}},
	} {
		v := judge(t, gate, scan.Request{Objects: objects(t, pod(reference)), Mask: mask})
		for _, text := range v.Pending {
			if strings.Contains(text, "sesame") {
				t.Errorf("%s: %s", name, text)
			}
		}
		for _, f := range v.Findings {
			if strings.Contains(f.String()+f.Image+f.Message, "sesame") {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// TestImagesTold: a vulnerability is told once of each image, what is missing at every place;
// a stack can't have the gate hold any number of images.
func TestImagesTold(t *testing.T) {
	bad := images.Report{Missing: "it isn't there", Vulnerabilities: []images.Vulnerability{{ID: "CVE-2026-1", Severity: "CRITICAL", Package: "openssl"}}}
	gate := &scan.Gate{Images: known{"yy:1": bad, "yy:2": bad}}
	v := judge(t, gate, scan.Request{Objects: objects(t, pod("yy:1"), strings.Replace(pod("yy:1"), "web", "web2", 1), strings.Replace(pod("yy:2"), "web", "web3", 1))})
	count := map[string]int{}
	for _, f := range v.Findings {
		count[f.ID]++
	}
	if count["CVE-2026-1"] != 2 || count["PLB-0005"] != 3 {
		t.Errorf("have %v, want the vulnerability of two images, and three places", count)
	}
	all := known{}
	var pods []string
	for i := range 501 {
		all[fmt.Sprintf("yy:%d", i)] = images.Report{}
		pods = append(pods, strings.Replace(pod(fmt.Sprintf("yy:%d", i)), "web", fmt.Sprintf("web%d", i), 1))
	}
	gate = &scan.Gate{Images: all}
	gate.Operator.Images.DenyUnknown = true
	many := func(n int) scan.Verdict { // nothing that a stack says lets it pass
		return judge(t, gate, scan.Request{Policy: scan.Policy{FailOn: scan.SeverityNone}, Objects: objects(t, append(pods[:n:n], pods[:n]...)...), File: "apps/web/stack.yaml"})
	}
	if f := find(many(500), "PLB-0006"); f != nil {
		t.Errorf("500: have %+v", f)
	}
	if f := find(many(501), "PLB-0006"); f == nil || !f.Denies || f.File != "apps/web/stack.yaml" || !strings.Contains(f.Message, "more than 500 different images") {
		t.Errorf("501: have %+v", f)
	}
}
