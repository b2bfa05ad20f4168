package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/lab"
)

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i > 0; i-- {
		hundred = append(hundred, time.Duration(i))
	}
	for _, test := range []struct {
		all     []time.Duration
		percent float64
		want    time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 99, 7},
		{[]time.Duration{3, 1, 2}, 50, 2},
		{[]time.Duration{4, 3, 2, 1}, 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{append([]time.Duration{-5}, hundred...), 99, 99},
	} {
		if got := percentile(test.all, test.percent); got != test.want {
			t.Errorf("p%v of %d durations: %d, want %d", test.percent, len(test.all), got, test.want)
		}
	}
}

var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

func TestMatch(t *testing.T) {
	web := func(seen, detected int) drift { return drift{"Service", namespace, "web", at(seen), at(detected)} }
	for name, test := range map[string]struct {
		sent   []int // of changes to the Service web
		drifts []drift
		want   []int // when they were detected; -1: nothing tells
		counts matched
	}{
		"one":                {[]int{100}, []drift{web(110, 120)}, []int{120}, matched{}},
		"twice":              {[]int{100, 500}, []drift{web(110, 120), web(505, 520)}, []int{120, 520}, matched{}},
		"in any order":       {[]int{100, 500}, []drift{web(505, 520), web(110, 120)}, []int{120, 520}, matched{}},
		"the first not told": {[]int{100, 500}, []drift{web(505, 520)}, []int{-1, 520}, matched{untold: 1}},
		"before any":         {[]int{100}, []drift{web(10, 20)}, []int{-1}, matched{untold: 1, unexplained: 1}},
		"told twice":         {[]int{100}, []drift{web(110, 120), web(130, 140)}, []int{120}, matched{unexplained: 1}},
		"seen too early":     {[]int{100}, []drift{web(10, 120)}, []int{120}, matched{early: 1}},
		"another namespace":  {[]int{100}, []drift{{"Service", otherNamespace, "web", at(110), at(120)}}, []int{-1}, matched{untold: 1, unexplained: 1}},
		"another kind":       {[]int{100}, []drift{{"Ingress", namespace, "web", at(110), at(120)}}, []int{-1}, matched{untold: 1, unexplained: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var samples []*sample
			for _, ms := range test.sent {
				samples = append(samples, &sample{kind: "Service", name: "web", sent: at(ms)})
			}
			if got := match(samples, test.drifts); got != test.counts {
				t.Errorf("got %+v, want %+v", got, test.counts)
			}
			for i, s := range samples {
				if want := test.want[i]; (want < 0 && !s.detected.IsZero()) || (want >= 0 && !s.detected.Equal(at(want))) {
					t.Errorf("sample %d: detected %v, want %d ms", i, s.detected, want)
				}
			}
		})
	}
}

func TestDriftsIn(t *testing.T) {
	record := lab.Record{"msg": "drift", "kind": "Deployment.apps", "namespace": "bench", "name": "web",
		"seen": "2030-01-01T12:00:00.1Z", "detected": "2030-01-01T12:00:00.125Z"}
	got, err := driftsIn([]lab.Record{{"msg": "run"}, record})
	want := []drift{{"Deployment", "bench", "web", at(100), at(125)}}
	if err != nil || !cmp.Equal(want, got, cmp.AllowUnexported(drift{})) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := driftsIn([]lab.Record{{"msg": "drift", "kind": "Service", "seen": "2030-01-01T12:00:00Z"}}); err == nil {
		t.Error("a record without detected is taken")
	}
}

func TestLatencies(t *testing.T) {
	got := latencies([]*sample{
		{sent: at(0), answered: at(5), detected: at(15), corrected: at(25)},
		{sent: at(0), answered: at(10), corrected: at(110)}, // nothing told when it was detected
	})
	want := []value{{"detect-p50-ms", 10}, {"detect-p99-ms", 10}, {"detect-max-ms", 10}, {"correct-p50-ms", 20}, {"correct-p99-ms", 100},
		{"correct-max-ms", 100}, {"patch-p50-ms", 5}, {"patch-p99-ms", 10}, {"patch-max-ms", 10}, {"samples", 2}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(value{})); diff != "" {
		t.Error(diff)
	}
}

// TestFields holds what drifts to what Git says.
func TestFields(t *testing.T) {
	for _, k := range kinds {
		was, err := wanted(0, k.kind, k.field)
		if err != nil || was == nil || cmp.Equal(was, k.value) {
			t.Errorf("%s %s is %v, and is changed to %v: %v", k.kind, k.field, was, k.value, err)
		}
	}
	if got := fieldAt(map[string]any{"a": []any{"b"}}, "/a/1"); got != nil {
		t.Errorf("found %v behind the end of a list", got)
	}
}

func TestStride(t *testing.T) {
	for _, n := range []int{8, 12, 100, 1000, 5000} {
		seen := map[int]bool{}
		for i := range n {
			seen[stride(i, n)] = true
		}
		if len(seen) != n {
			t.Errorf("of %d objects, %d drift before one comes again", n, len(seen))
		}
	}
}

func TestDriftSelected(t *testing.T) {
	for pattern, want := range map[string]bool{"": true, "Drift": true, "Drift/objects=100/rest": true, "install$": true, "Install": false, "objects=1000/": false} {
		if driftSelected(regexp.MustCompile(pattern), 100) != want {
			t.Errorf("%q selects drift of 100 objects: %v", pattern, !want)
		}
	}
}

// TestDriftSmoke lets eight objects drift, with everything real.
func TestDriftSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts a control plane")
	}
	var out, log bytes.Buffer
	if code := run(t.Context(), []string{"-objects", "8", "-samples", "4", "-rest", "1s", "-bench", "Drift", "-v"}, &out, &log); code != 0 {
		t.Fatalf("exit code %d: %s", code, &log)
	}
	for _, want := range []string{`(?m)^BenchmarkDrift/objects=8/rest 1\t[\d.-]+ detect-p50-ms\t.*\b4 samples\t.* requests/min\t.* anon-KiB/object\t`,
		`(?m)^BenchmarkDrift/objects=8/install 1\t.* correct-p99-ms\t.*\b\d+ rounds\t`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in:\n%s", want, &out)
		}
	}
}
