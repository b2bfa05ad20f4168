package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/scan"
)

func TestMain(m *testing.M) {
	if os.Getenv(gateEnv) != "" {
		main() // of the process that measureGate starts
	}
	scan.Quiet(os.Stderr)
	os.Exit(m.Run())
}

func TestSelected(t *testing.T) {
	for _, test := range []struct {
		pattern string
		stacks  int
		want    bool
	}{
		{"", 100, true},
		{"Install", 100, true},
		{"Install/stacks=100$", 100, true},
		{"Install/stacks=100$", 1000, false},
		{"Noop|OneStack/stacks=500", 500, true},
		{"install", 100, false},
	} {
		if got := selected(regexp.MustCompile(test.pattern), test.stacks); got != test.want {
			t.Errorf("%q selects %d stacks: %v", test.pattern, test.stacks, got)
		}
	}
}

func TestNeeded(t *testing.T) {
	b := bench{options: options{bench: regexp.MustCompile("OneStack")}, n: 40}
	for benchmark, want := range map[string]bool{install: true, upgrade: true, oneStack: true, restart: false, recheck: false, noop: false} {
		if b.needed(benchmark) != want {
			t.Errorf("%s needed for OneStack: %v", benchmark, !want)
		}
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-stacks", "3, 40", "-count", "2", "-objects", "8,100"}, "Noop", nil, nil)
	if err != nil || o.bench.String() != "Noop" || o.count != 2 || !cmp.Equal(o.stacks, []int{3, 40}) || !cmp.Equal(o.objects, []int{8, 100}) {
		t.Errorf("got %+v, %v", o, err)
	}
	for _, args := range [][]string{{"-stacks", "0"}, {"-stacks", "many"}, {"-bench", "("}, {"Install"},
		{"-objects", "10"}, {"-objects", "4"}, {"-samples", "0"}, {"-rest", "1ms"}} {
		if _, err := parse(args, "", nil, nil); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

func TestLine(t *testing.T) {
	r := result{ready: 36614 * time.Millisecond, floor: floor{took: 20 * time.Second, ready: 25 * time.Second, cpu: 40 * time.Second},
		requests: requests{unitRequests: 9012, unitApply: 5000, "get-req": 0, unitDryRun: 4012},
		usage:    usage{anon: 95 * mib, rss: 160 * mib, cpu: 20100 * time.Millisecond}, server: 50 * time.Second}
	want := strings.Join([]string{"BenchmarkInstall/stacks=1000 1", "36.6 ready-s", "20 floor-s", "1.831 x-floor", "25 floor-ready-s",
		"1.465 x-floor-ready", "9012 requests", "5000 apply-req", "4012 dryrun-req", "95 anon-MiB", "160 rss-MiB", "20.1 cpu-s",
		"50 server-cpu-s", "40 floor-cpu-s", "1.752 x-floor-cpu"}, "\t") + "\n"
	if diff := cmp.Diff(want, line(name(install, 1000), r.values())); diff != "" {
		t.Error(diff)
	}
}

const someMetrics = `# HELP apiserver_request_total [STABLE] Counter of apiserver requests
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="All",group="apps",resource="deployments",scope="resource",subresource="",verb="APPLY",version="v1"} 7
apiserver_request_total{code="201",component="apiserver",dry_run="",group="apps",resource="deployments",scope="resource",subresource="",verb="APPLY",version="v1"} 4
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",verb="GET",version="v1"} 1e+06
apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt",priority_level="exempt"} 5000
apiserver_flowcontrol_dispatched_requests_total{flow_schema="plumbline",priority_level="workload-high"} 2
apiserver_flowcontrol_dispatched_requests_total{flow_schema="plumbline-leases",priority_level="leader-election"} 99
apiserver_flowcontrol_dispatched_requests_total{flow_schema="plumbline-patch",priority_level="workload-high"} 14
apiserver_flowcontrol_dispatched_requests_total{flow_schema="plumbline-watch",priority_level="workload-high"} 3
`

func TestRequests(t *testing.T) {
	now := parseRequests([]byte(someMetrics))
	got := now.since(requests{unitRequests: 1, unitApply: 1, unitPatch: 1})
	want := requests{unitRequests: 18, unitApply: 3, unitDryRun: 7, unitPatch: 3, "watch-req": 3, unitOther: 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	sum := 0.0
	for unit, n := range got {
		if unit != unitRequests {
			sum += n
		}
	}
	if sum != got.total() {
		t.Errorf("the verbs make %v, the total is %v", sum, got.total())
	}
	if got := parseLeases([]byte(someMetrics)); got != 99 {
		t.Errorf("%v requests about leases", got)
	}
}

func TestProc(t *testing.T) {
	status := []byte("Name:\tplumbline\nVmRSS:\t  125600 kB\nRssAnon:\t   82000 kB\nRssFile:\t 43600 kB\n")
	if got := statusBytes(status, "RssAnon"); got != 82000<<10 {
		t.Errorf("RssAnon: %d", got)
	}
	if got := statusBytes(status, "VmSwap"); got != 0 {
		t.Errorf("VmSwap: %d", got)
	}
	got, err := statCPU("42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 250 75 0 0 20 0 9 0 1 1 1")
	if err != nil || got != 3250*time.Millisecond {
		t.Errorf("CPU: %v, %v", got, err)
	}
	if _, err := statCPU("42 (a"); err == nil {
		t.Error("half a line is taken for a whole one")
	}
}

// TestObjects holds the floor to what the daemon applies.
func TestObjects(t *testing.T) {
	all, err := floorObjects(0, 3, tagInstall, false)
	if err != nil || len(all) != 12 {
		t.Fatalf("%d objects, %v", len(all), err)
	}
	changed, err := floorObjects(0, 3, tagUpgrade, true)
	if err != nil || len(changed) != 3 || imageIn(changed[0]) != imageOf(tagUpgrade) {
		t.Errorf("%d changed objects, %v", len(changed), err)
	}
	for _, u := range all {
		if resources[u.GetKind()].Resource == "" || u.GetNamespace() != floorNamespace {
			t.Errorf("%s %s/%s", u.GetKind(), u.GetNamespace(), u.GetName())
		}
	}
	if files := stackFiles(0, tagInstall); len(files) != 6 {
		t.Errorf("a stack of %d files", len(files))
	}
}

func TestGateSelected(t *testing.T) {
	for pattern, want := range map[string]struct{ gate, plane bool }{
		"":                    {true, true},
		".":                   {true, true},
		"Gate":                {true, false},
		"Gate/objects=1000$":  {true, false},
		"Gate|Noop/stacks=40": {true, true},
		"objects=1000":        {true, true},
		"Upgrade":             {false, true},
		"Drift":               {false, true},
		"Gate/objects=40$":    {false, false},
	} {
		o, err := parse(nil, pattern, nil, nil)
		if err != nil || gateSelected(o.bench) != want.gate || o.needsPlane() != want.plane {
			t.Errorf("%q selects the gate: %v, needs a control plane: %v, %v", pattern, gateSelected(o.bench), o.needsPlane(), err)
		}
	}
}

// TestGateObjects: none is like another, and none is as it was before.
func TestGateObjects(t *testing.T) {
	seen, mix := map[string]bool{}, map[string]int{}
	for _, tag := range []string{tagInstall, tagUpgrade} {
		all, err := gateObjects(gateCount, tag)
		if err != nil || len(all) != gateCount || all[0].GetKind() != "Deployment" {
			t.Fatalf("%d objects, %v", len(all), err)
		}
		for _, o := range all {
			raw, err := o.MarshalJSON()
			if err != nil || seen[string(raw)] {
				t.Errorf("%s %s at %s was there before, %v", o.GetKind(), o.GetName(), tag, err)
			}
			seen[string(raw)] = true
			mix[o.GetKind()]++
		}
	}
	want := map[string]int{"Deployment": 400, "Service": 400, "ServiceAccount": 400, "Ingress": 400, "ConfigMap": 400}
	if diff := cmp.Diff(want, mix); diff != "" {
		t.Error(diff)
	}
}

// TestGateSmoke measures the gate, in a process of its own. There is no control plane to start.
func TestGateSmoke(t *testing.T) {
	var out, log bytes.Buffer
	missing := []string{"-plumbline", "/nowhere", "-lab", "/nowhere"}
	if code := run(t.Context(), append(missing, "-bench", "Gate", "-v"), &out, &log); code != 0 {
		t.Fatalf("exit code %d: %s", code, &log)
	}
	if want := `(?m)^BenchmarkGate/objects=1000 1\t[\d.]+ first-ms\t[\d.]+ gate-s\n\z`; !regexp.MustCompile(want).MatchString(out.String()) {
		t.Errorf("no %s in:\n%s", want, &out)
	}
}

// TestSmoke measures three stacks, from a commit to Ready, with everything real.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a control plane")
	}
	var out, log bytes.Buffer
	if code := run(t.Context(), []string{"-stacks", "3", "-bench", "Install", "-v"}, &out, &log); code != 0 {
		t.Fatalf("exit code %d: %s", code, &log)
	}
	for _, want := range []string{`(?m)^pkg: github\.com/plumbline-dev/plumbline`,
		`(?m)^BenchmarkInstall/stacks=3 1\t[\d.]+ ready-s\t.* x-floor\t.*\b15 apply-req\t.*\b12 dryrun-req\t`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in:\n%s", want, &out)
		}
	}
}
