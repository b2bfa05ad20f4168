package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

var errBoom = errors.New("boom s3cret")

// witness is a Recorder and what it recorded.
type witness struct {
	*Recorder
	reader *metric.ManualReader
	spans  *tracetest.SpanRecorder
}

func newWitness(t *testing.T) witness {
	t.Helper()
	w := witness{reader: metric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	meters := metric.NewMeterProvider(metric.WithReader(w.reader), metric.WithCardinalityLimit(0))
	var err error
	w.Recorder, err = New(meters, trace.NewTracerProvider(trace.WithSpanProcessor(w.spans)), Options{Version: "v1", GoVersion: "go1"})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// points are the recorded attribute sets and values, by metric.
func (w witness) points(t *testing.T) map[string]map[attribute.Set]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := w.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[attribute.Set]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			set := map[attribute.Set]float64{}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					set[p.Attributes] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					set[p.Attributes] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					set[p.Attributes] = p.Sum
				}
			}
			out[m.Name] = set
		}
	}
	return out
}

// everything says each thing that can be said.
func everything(ctx context.Context, r *Recorder) {
	available := true
	r.Observe(func() Snapshot {
		return Snapshot{
			Stacks: []Stack{{Name: "s", Source: "src", Revision: "abc", Ready: true, Objects: 3, ReadyObjects: 2, Drift: map[string]int{"Deployment.apps": 1}, Findings: map[string]int{"HIGH": 2}}},
			Queues: map[string]int{"stacks": 4}, OpenBao: &available,
			Certificates: map[string]time.Time{"kubernetes client": time.Unix(1, 0)}, Exceptions: []Exception{{"s", "CVE-2026-1", time.Unix(1, 0)}},
		}
	})
	r.DriftDetected(ctx, Drift{Kind: "Deployment.apps", Manager: "kubectl", Action: ActionCorrect, Took: time.Second})
	r.DriftCorrected(ctx, Drift{Kind: "Deployment.apps", Took: time.Second})
	r.RunEnded(ctx, Run{Stack: "s", Trigger: "revision", Took: time.Second, Err: errBoom})
	r.RolloutEnded(ctx, Rollout{Stack: "s", Result: ResultSuccess, Began: time.Now(), Committed: time.Now()})
	r.StackSaid(ctx, "s", "Ready")
	r.SourceLooked(ctx, "src", nil)
	r.SourceMoved(ctx, "src", 1, 2)
	r.Fetched(ctx, "src", time.Second, nil)
	r.Rendered(ctx, "s", time.Second, nil)
	r.WatchRestarted(ctx, "Deployment.apps")
	r.Requested(ctx, "get", "2xx")
	r.SecretsRead(ctx, 2, errBoom)
	step := Traced(r, SpanPlan, func(context.Context, int) (int, error) { return 1, errBoom })
	_, _ = step(ctx, 1) // the error is the step's own
	p := r.Pushed(Commit{Source: "src", Ref: "refs/heads/main", Revision: "abc"}, time.Now(), time.Now())
	d := p.Deliver("s", "revision")
	r.Began("s", "drift", "abc", d).Ended(ResultSuccess, nil)
	p.Published(nil)
	d.Ended(ResultFailure, errBoom)
	r.Stopped()
}

// TestEveryMetricIsRecorded holds the table to the verbs, and the verbs to the table.
func TestEveryMetricIsRecorded(t *testing.T) {
	w := newWitness(t)
	everything(t.Context(), w.Recorder)
	have := w.points(t)
	for _, m := range Metrics() {
		allowed := map[attribute.Key]bool{}
		for _, key := range m.Attributes {
			allowed[key] = true
		}
		if len(have[m.Name]) == 0 {
			t.Errorf("%s is in the table, and no verb records it", m.Name)
		}
		for set := range have[m.Name] {
			for _, kv := range set.ToSlice() {
				if !allowed[kv.Key] {
					t.Errorf("%s is recorded with %s, which the table doesn't say", m.Name, kv.Key)
				}
			}
		}
		delete(have, m.Name)
	}
	for name := range have {
		t.Errorf("%s is recorded, and is not in the table", name)
	}
}

func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Metrics() {
		switch {
		case seen[m.Name] || seen[m.Prometheus()]:
			t.Errorf("%s: there are two", m.Name)
		case !regexp.MustCompile(`^(plumbline|cicd)(\.[a-z_]+)+$`).MatchString(m.Name):
			t.Errorf("%s: not a name of ours", m.Name)
		case !strings.HasSuffix(m.Text, "."):
			t.Errorf("%s: no sentence", m.Name)
		case (m.Kind == Histogram) != (len(m.bounds) > 0):
			t.Errorf("%s: bounds are for histograms", m.Name)
		}
		seen[m.Name], seen[m.Prometheus()] = true, true
	}
}

func TestNilRecorderDoesNothing(t *testing.T) {
	for name, r := range map[string]*Recorder{"nil": nil, "zero": {}} {
		t.Run(name, func(t *testing.T) {
			everything(t.Context(), r)
			if r.Transport(http.DefaultTransport) != http.DefaultTransport {
				t.Error("it wraps the transport")
			}
			if got := r.Pushed(Commit{}, time.Now(), time.Now()).Context(t.Context()); got != t.Context() {
				t.Error("it changes the context")
			}
		})
	}
}

// TestHostileNamesStayFew feeds names that somebody else chooses.
func TestHostileNamesStayFew(t *testing.T) {
	w := newWitness(t)
	drift := map[string]int{}
	for i := range 10_000 {
		name := fmt.Sprintf("evil-%d\n\xff%s", i, strings.Repeat("x", 300))
		if i%2 == 0 {
			name = fmt.Sprintf("%d", i)
		}
		drift[name] = 1
		w.DriftDetected(t.Context(), Drift{Kind: name, Manager: name, Action: Action(name), Took: 1})
		w.DriftCorrected(t.Context(), Drift{Kind: name})
		w.WatchRestarted(t.Context(), name)
		w.StackSaid(t.Context(), name, name)
		w.Rendered(t.Context(), name, 0, nil)
		w.RunEnded(t.Context(), Run{Stack: name, Trigger: name})
		w.Requested(t.Context(), name, name)
		w.Fetched(t.Context(), name, 0, nil)
	}
	w.Observe(func() Snapshot { return Snapshot{Stacks: []Stack{{Name: "s", Drift: drift}}} })
	for name, points := range w.points(t) {
		distinct := map[attribute.Key]map[string]bool{}
		for set := range points {
			for _, kv := range set.ToSlice() {
				if distinct[kv.Key] == nil {
					distinct[kv.Key] = map[string]bool{}
				}
				distinct[kv.Key][kv.Value.AsString()] = true
				if v := kv.Value.AsString(); len(v) > valueBytes || strings.Contains(v, "\n") || !utf8.ValidString(v) {
					t.Fatalf("%s: %s=%q", name, kv.Key, v)
				}
			}
		}
		for key, values := range distinct {
			if len(values) > most(key)+1 {
				t.Errorf("%s: %d values of %s", name, len(values), key)
			}
		}
		if len(points) > mostStacks+mostValues+2 {
			t.Errorf("%s: %d series", name, len(points))
		}
	}
	sum := 0.
	for _, n := range w.points(t)["plumbline.drift.objects"] {
		sum += n
	}
	if sum != 10_000 {
		t.Errorf("%v objects have drifted, not 10000: nothing may be lost by counting it as %q", sum, other)
	}
}

func TestGoneStackHasNoGauge(t *testing.T) {
	w := newWitness(t)
	stacks := []Stack{{Name: "stays"}, {Name: "goes", Drift: map[string]int{"A": 1}, Findings: map[string]int{"LOW": 1}}}
	w.Observe(func() Snapshot { return Snapshot{Stacks: stacks} })
	count := func() (n int) {
		for _, points := range w.points(t) {
			for set := range points {
				if v, ok := set.Value(AttrStack); ok && v.AsString() == "goes" {
					n++
				}
			}
		}
		return n
	}
	if n := count(); n != 10 {
		t.Errorf("%d series, not 10", n)
	}
	stacks = stacks[:1]
	if n := count(); n != 0 {
		t.Errorf("%d series of a stack that is gone", n)
	}
	w.SourceLooked(t.Context(), "src", errBoom)
	if len(w.points(t)["plumbline.source.failing"]) != 1 {
		t.Error("the source has no gauge")
	}
	w.Observe(nil) // it leads no more
	if left := w.points(t); len(left) != 1 || left["plumbline.build.info"] == nil {
		t.Errorf("who leads no more still tells of %d metrics", len(left))
	}
}

func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(t)
		began := time.Now()
		time.Sleep(3 * time.Second) // of the bubble's clock
		w.RolloutEnded(t.Context(), Rollout{Stack: "s", Result: ResultSuccess, Began: began, Committed: began.Add(-time.Minute)})
		w.RolloutEnded(t.Context(), Rollout{Stack: "late", Result: ResultTimeout, Began: began, Committed: began})
		w.DriftDetected(t.Context(), Drift{Kind: "A", Took: -time.Hour}) // another clock
		w.StackSaid(t.Context(), "s", "Progressing")
		w.StackSaid(t.Context(), "s", "Progressing")
		w.StackSaid(t.Context(), "s", "Ready")
		have := w.points(t)
		want := map[string]map[attribute.Set]float64{
			"plumbline.rollout.duration": {
				attribute.NewSet(AttrStack.String("s"), AttrResult.String("success")):    3,
				attribute.NewSet(AttrStack.String("late"), AttrResult.String("timeout")): 3,
			},
			"plumbline.lead_time":                {attribute.NewSet(AttrStack.String("s")): 63},
			"plumbline.drift.detection.duration": {attribute.NewSet(AttrKind.String("A")): 0},
			"plumbline.drift.detected":           {attribute.NewSet(AttrKind.String("A"), AttrManager.String("unknown")): 1},
			"plumbline.stack.transitions": {
				attribute.NewSet(AttrStack.String("s"), AttrReason.String("Progressing")): 1,
				attribute.NewSet(AttrStack.String("s"), AttrReason.String("Ready")):       1,
			},
		}
		delete(have, "plumbline.build.info")
		if diff := cmp.Diff(want, have, cmp.Transformer("text", func(s attribute.Set) string { return s.Encoded(attribute.DefaultEncoder()) })); diff != "" {
			t.Error(diff)
		}
	})
}

// TestFirstExpiryCounts has more exceptions than there may be series.
func TestFirstExpiryCounts(t *testing.T) {
	w := newWitness(t)
	exceptions := []Exception{}
	for i := range mostValues + 20 {
		exceptions = append(exceptions, Exception{"s", fmt.Sprintf("CVE-%d", i), time.Unix(int64(1000-i), 0)})
	}
	w.Observe(func() Snapshot {
		return Snapshot{Exceptions: exceptions, Certificates: map[string]time.Time{"openbao CA": time.Unix(2_000_000_000, 5)}}
	})
	points := w.points(t)
	have := points["plumbline.gate.exception.expiry.time"]
	if len(have) != mostValues+1 {
		t.Errorf("%d series, not %d", len(have), mostValues+1)
	}
	if first := have[attribute.NewSet(AttrStack.String("s"), AttrException.String(other))]; first != float64(1000-mostValues-19) {
		t.Errorf("the first of the others expires at %v", first)
	}
	if at := points["plumbline.certificate.expiry.time"][attribute.NewSet(AttrCertificate.String("openbao CA"))]; at != 2_000_000_000 {
		t.Errorf("the certificate expires at %v", at)
	}
}

func TestTransportCounts(t *testing.T) {
	answer := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(answer) }))
	defer server.Close()
	for name, tt := range map[string]struct {
		method, path, content string
		code                  int
		want                  string
	}{
		"get":           {"GET", "/api/v1/namespaces/a/pods/b", "", 200, "get 2xx"},
		"get namespace": {"GET", "/api/v1/namespaces/a", "", 404, "get 4xx"},
		"list":          {"GET", "/apis/apps/v1/deployments?limit=5", "", 200, "list 2xx"},
		"list in one":   {"GET", "/apis/apps/v1/namespaces/a/deployments", "", 500, "list 5xx"},
		"behind a path": {"GET", "/k8s/clusters/c/apis/apps/v1/namespaces/a/deployments/b", "", 200, "get 2xx"},
		"watch":         {"GET", "/api/v1/pods?watch=true", "", 200, "watch 2xx"},
		"apply":         {"PATCH", "/api/v1/namespaces/a/pods/b?fieldManager=x", "application/apply-patch+yaml", 429, "apply 429"},
		"dry-run":       {"PATCH", "/api/v1/namespaces/a/pods/b?dryRun=All", "application/apply-patch+yaml", 409, "dry-run 4xx"},
		"patch":         {"PATCH", "/api/v1/namespaces/a/pods/b", "application/merge-patch+json", 200, "patch 2xx"},
		"create":        {"POST", "/api/v1/namespaces/a/pods", "", 201, "create 2xx"},
		"update":        {"PUT", "/api/v1/namespaces/a/pods/b", "", 200, "update 2xx"},
		"delete":        {"DELETE", "/api/v1/namespaces/a/pods/b", "", 200, "delete 2xx"},
		"discovery":     {"GET", "/apis", "", 200, "discover 2xx"},
		"other":         {"OPTIONS", "/api/v1/pods", "", 200, "other 2xx"},
		"no server":     {"GET", "", "", 0, "discover none"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			url, answerCode := server.URL+tt.path, tt.code
			if tt.code == 0 {
				url, answerCode = "http://127.0.0.1:1", 200
			}
			answer = answerCode
			request, _ := http.NewRequestWithContext(t.Context(), tt.method, url, nil)
			request.Header.Set("Content-Type", tt.content)
			client := http.Client{Transport: w.Transport(http.DefaultTransport)}
			if response, err := client.Do(request); err == nil {
				response.Body.Close()
			}
			have := w.points(t)["plumbline.api.requests"]
			if len(have) != 1 {
				t.Fatalf("%d series", len(have))
			}
			for set := range have {
				verb, _ := set.Value(AttrVerb)
				status, _ := set.Value(AttrStatus)
				if got := verb.AsString() + " " + status.AsString(); got != tt.want {
					t.Errorf("%s, not %s", got, tt.want)
				}
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	for name, want := range map[string]string{"kubectl-edit": "kubectl-edit", "é": "é", "a\nb\x7f": "a_b_", "a\u009b2J": "a_2J", "a\u202eb\u2066\u200f\u061c": "a_b___", "\xff": "_"} {
		if got := printable(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}
