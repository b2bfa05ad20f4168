package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// buffer is a stdout that may be written from anywhere.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func start(t *testing.T) (signals, *buffer) {
	t.Helper()
	stdout := &buffer{}
	out, err := newSignals(t.Context(), slog.NewJSONHandler(stdout, nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		out.stop(flushPatience)
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(error) {}))
	})
	return out, stdout
}

// said is the lines with a message. Of telemetry, exporters of another test may
// have something to say yet: OpenTelemetry has one error handler.
func said(stdout *buffer, message string) string {
	var b strings.Builder
	for line := range strings.Lines(stdout.String()) {
		if strings.Contains(line, `"msg":"`+message+`"`) {
			b.WriteString(line)
		}
	}
	return b.String()
}

var errBoom = errors.New("boom")

// TestSignalsReachACollector: spans, metrics and logs, as the variables say.
func TestSignalsReachACollector(t *testing.T) {
	for protocol, serve := range map[string]func(*collector, *testing.T) string{protocolHTTP: (*collector).overHTTP, protocolGRPC: (*collector).overGRPC} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			c := newCollector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", serve(c, t))
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=home")
			out, stdout := start(t)
			step := telemetry.Traced(out.recorder, telemetry.SpanPlan, func(ctx context.Context, _ string) (string, error) {
				out.log.With("source", "src").InfoContext(ctx, telemetry.MsgDrift, telemetry.KeyStack, "grafana", telemetry.KeyPlan, []string{"/spec/a", "/spec/b"},
					"deep", map[string]any{"k": 1}, "n", 3, slog.Group("g", "x", true), telemetry.KeyError, errBoom, "at", time.Unix(0, 0).UTC(), "took", time.Second)
				return "", errBoom
			})
			_, _ = step(t.Context(), "")
			out.log.Debug("not wanted")
			out.recorder.WatchRestarted(t.Context(), "Deployment.apps")
			out.stop(flushPatience)

			c.mu.Lock()
			defer c.mu.Unlock()
			if span, ok := c.spans["plan"]; !ok || !strings.Contains(span, "error.type=_OTHER") || strings.Contains(span, "boom") {
				t.Errorf("spans: %v", c.spans)
			}
			if !c.metrics["plumbline.watch.restarts"] || !c.metrics["plumbline.step.duration"] {
				t.Errorf("metrics: %v", c.metrics)
			}
			want := []string{"INFO drift source=src stack=grafana plan=[/spec/a,/spec/b] deep={k=0 false 1 } n=3 false 0 g.x=0 true 0 error=boom at=1970-01-01T00:00:00Z took=1s  in a span"}
			if diff := cmp.Diff(want, c.logs); diff != "" {
				t.Error(diff)
			}
			for _, part := range []string{"service.name=plumbline", "service.version=", "deployment.environment.name=home"} {
				if !strings.Contains(c.about, part) {
					t.Errorf("the resource has no %s: %s", part, c.about)
				}
			}
			var line map[string]any
			if err := json.Unmarshal([]byte(said(stdout, telemetry.MsgDrift)), &line); err != nil {
				t.Fatalf("stdout is no line of JSON: %v\n%s", err, stdout)
			}
			if line["msg"] != "drift" || line["stack"] != "grafana" || len(line["trace_id"].(string)) != 32 || len(line["span_id"].(string)) != 16 {
				t.Errorf("stdout says %v", line)
			}
		})
	}
}

// TestTelemetryOfNoText: what is no UTF-8, of whoever named or said it, costs
// nobody else's records, nor its own.
func TestTelemetryOfNoText(t *testing.T) {
	const half, bad = "caf\xc3", "caf\uFFFD"
	for protocol, serve := range map[string]func(*collector, *testing.T) string{protocolHTTP: (*collector).overHTTP, protocolGRPC: (*collector).overGRPC} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			c := newCollector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", serve(c, t))
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			out, _ := start(t)
			mask := telemetry.Masked(func(string) func(string) string { return func(s string) string { return s } })
			about := telemetry.About(func(s string) []attribute.KeyValue { return []attribute.KeyValue{telemetry.AttrStack.String(s)} })
			step := telemetry.Traced(out.recorder, telemetry.SpanPlan, func(context.Context, string) (string, error) {
				return "", errors.New("x" + strings.Repeat("é", 3000)) // the bound is within a character
			}, mask, about)
			_, _ = step(t.Context(), half)
			push := out.recorder.Pushed(telemetry.Commit{Source: half, Repository: half, Ref: "refs/heads/" + half, Revision: half}, time.Now(), time.Now())
			push.Deliver(half, half).Ended(telemetry.ResultError, errors.New(half))
			push.Published(nil)
			out.recorder.Began(half, half, half, nil).Ended(telemetry.ResultError, errors.New(half))
			out.recorder.RolloutEnded(t.Context(), telemetry.Rollout{Stack: half})
			out.recorder.SourceLooked(t.Context(), half, nil)
			out.recorder.Observe(func() telemetry.Snapshot {
				return telemetry.Snapshot{Stacks: []telemetry.Stack{{Name: half, Source: half, Revision: half, Drift: map[string]int{half: 1}}}, Queues: map[string]int{half: 1}}
			})
			out.recorder.DriftDetected(t.Context(), telemetry.Drift{Kind: half, Manager: strings.Repeat("x", 255) + "é", Action: telemetry.ActionLeave})
			out.log.Info("before")
			out.log.With("with", half).WithGroup("g").Info(half, half, half, "error", errors.New(half), "any", []string{half}, "deep", map[string]any{half: half})
			out.log.Warn("cut", "error", short("x"+strings.Repeat("é", 300)))
			out.log.Info("after")
			out.stop(flushPatience)

			c.mu.Lock()
			defer c.mu.Unlock()
			want := []string{"INFO before ", "INFO " + bad + " with=" + bad + " g." + bad + "=" + bad + " g.error=" + bad + " g.any=[" + bad + "] g.deep={" + bad + "=" + bad + " } ",
				"WARN cut error=x" + strings.Repeat("é", 255) + "… ", "INFO after "}
			if diff := cmp.Diff(want, c.logs); diff != "" {
				t.Error(diff)
			}
			if span := c.spans["plan"]; !strings.Contains(span, "plumbline.stack="+bad) || !strings.HasSuffix(span, "éé…") {
				t.Errorf("spans: %v", c.spans)
			}
			for _, name := range []string{telemetry.SpanPush, telemetry.SpanFetch, telemetry.SpanReconcile + " " + bad, telemetry.SpanRollout} {
				if c.spans[name] == "" {
					t.Errorf("no span %q: %v", name, c.spans)
				}
			}
			if !c.metrics["plumbline.drift.detected"] || !c.metrics["plumbline.stack.ready"] {
				t.Errorf("metrics: %v", c.metrics)
			}
		})
	}
}

func TestWhatIsExported(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		want []string
		says string
	}{
		"nothing said":     {nil, nil, ""},
		"endpoint":         {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, []string{"logs", "traces", "metrics"}, ""},
		"endpoint of one":  {map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, []string{"traces"}, ""},
		"exporter named":   {map[string]string{"OTEL_LOGS_EXPORTER": "otlp"}, []string{"logs"}, ""},
		"none of one":      {map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_LOGS_EXPORTER": "none"}, []string{"traces", "metrics"}, ""},
		"two exporters":    {map[string]string{"OTEL_METRICS_EXPORTER": "prometheus, otlp"}, []string{"metrics"}, ""},
		"prometheus":       {map[string]string{"OTEL_METRICS_EXPORTER": "prometheus"}, nil, ""},
		"disabled":         {map[string]string{"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, nil, ""},
		"unknown exporter": {map[string]string{"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_LOGS_EXPORTER": "otlp"}, []string{"logs"}, `OTEL_TRACES_EXPORTER=\"zipkin\"`},
		"unknown protocol": {map[string]string{"OTEL_LOGS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, nil, "http/json"},
	} {
		t.Run(name, func(t *testing.T) {
			newCollector(t)
			for key, value := range tt.env {
				t.Setenv(key, value)
			}
			out, stdout := start(t)
			if diff := cmp.Diff(tt.want, out.exported); diff != "" {
				t.Error(diff)
			}
			if said := said(stdout, telemetry.MsgTelemetrySettings); !strings.Contains(said, tt.says) || (tt.says == "") != (said == "") {
				t.Errorf("it says %q", said)
			}
			out.recorder.WatchRestarted(t.Context(), "A")
			answer := httptest.NewRecorder()
			out.metrics.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			if !strings.Contains(answer.Body.String(), `plumbline_watch_restarts_total{plumbline_kind="A"} 1`) {
				t.Error("/metrics is always there")
			}
			out.stop(time.Millisecond)
		})
	}
}

// TestNothingLeavesUnasked listens where OTLP has its defaults.
func TestNothingLeavesUnasked(t *testing.T) {
	newCollector(t)
	var connections atomic.Int32
	for _, address := range []string{"127.0.0.1:4317", "127.0.0.1:4318"} {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Skipf("somebody else listens there: %v", err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				connections.Add(1)
				conn.Close()
			}
		}()
	}
	out, _ := start(t)
	step := telemetry.Traced(out.recorder, telemetry.SpanPlan, func(context.Context, string) (string, error) { return "", nil })
	_, _ = step(t.Context(), "")
	out.log.Info("a line")
	out.stop(flushPatience)
	if n := connections.Load(); n != 0 || len(out.closers) != 0 {
		t.Errorf("%d connections, %d exporters", n, len(out.closers))
	}
}

// TestStopDoesNotWaitForACollector that takes everything and never answers.
func TestStopDoesNotWaitForACollector(t *testing.T) {
	newCollector(t)
	released := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-released }))
	defer server.Close()
	defer close(released)
	for _, protocol := range []string{protocolHTTP, protocolGRPC} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
		out, _ := start(t)
		out.recorder.Pushed(telemetry.Commit{Source: "s"}, time.Now(), time.Now())
		out.log.Info("a line")
		began := time.Now()
		out.stop(50 * time.Millisecond)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: stopping took %s", protocol, took)
		}
	}
}

// TestTroubleIsSaidSeldom: a collector that is away costs a line a minute.
func TestTroubleIsSaidSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stdout := &buffer{}
		log := slog.New(&seldom{Handler: slog.NewJSONHandler(stdout, nil), every: time.Minute})
		for range 181 { // three minutes of the bubble's clock
			log.Warn(telemetry.MsgTelemetryFailed, telemetry.KeyError, "refused")
			time.Sleep(time.Second)
		}
		lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
		if len(lines) != 4 || !strings.Contains(lines[3], `"more":59`) {
			t.Errorf("it says\n%s", stdout)
		}
	})
}

// TestTroubleGoesToStdout: what the exporters report is a line of the log.
func TestTroubleGoesToStdout(t *testing.T) {
	newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
	_, stdout := start(t)
	otel.Handle(errors.New(strings.Repeat("x", 5000)))
	otel.Handle(errBoom)
	var line map[string]any
	if err := json.Unmarshal([]byte(stdout.String()), &line); err != nil {
		t.Fatalf("not one line: %v: %s", err, stdout)
	}
	if line["msg"] != telemetry.MsgTelemetryFailed || line["level"] != "WARN" || len(line["error"].(string)) > 600 {
		t.Errorf("it says %v", line)
	}
}

// TestMetricsPage holds /metrics to the names of the reference page.
func TestMetricsPage(t *testing.T) {
	newCollector(t)
	out, _ := start(t)
	r, ctx := out.recorder, t.Context()
	up := true
	r.Observe(func() telemetry.Snapshot {
		return telemetry.Snapshot{Stacks: []telemetry.Stack{{Name: "s", Source: "src", Revision: "abc", Objects: 2, Drift: map[string]int{"A": 1}, Findings: map[string]int{"HIGH": 1}}}, Queues: map[string]int{"stacks": 1}, OpenBao: &up,
			Certificates: map[string]time.Time{"openbao CA": time.Now()}, Exceptions: []telemetry.Exception{{Stack: "s", ID: "CVE-2026-1", Expires: time.Now()}}}
	})
	drift := telemetry.Drift{Kind: "A", Manager: "m\x00\xff\"\n", Action: telemetry.ActionLeave, Took: 1}
	r.DriftDetected(ctx, drift)
	r.DriftCorrected(ctx, drift)
	r.RunEnded(ctx, telemetry.Run{Stack: "s", Trigger: "hand", Err: errBoom})
	r.RolloutEnded(ctx, telemetry.Rollout{Stack: "s", Result: telemetry.ResultSuccess, Began: time.Now(), Committed: time.Now()})
	r.StackSaid(ctx, "s", "Ready")
	r.SourceLooked(ctx, "src", nil)
	r.SourceMoved(ctx, "src", 1, 1)
	r.Fetched(ctx, "src", 1, nil)
	r.Rendered(ctx, "s", 1, nil)
	r.WatchRestarted(ctx, "A")
	r.Requested(ctx, "get", "2xx")
	r.SecretsRead(ctx, 1, nil)
	_, _ = telemetry.Traced(r, telemetry.SpanPlan, func(context.Context, int) (int, error) { return 0, nil })(ctx, 0)

	address := freeAddress(t)
	stop, err := serve(ctx, address, &leading{}, out.metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range telemetry.Metrics() {
		family := families[m.Prometheus()]
		if family == nil {
			t.Errorf("%s is not on /metrics as %s", m.Name, m.Prometheus())
			continue
		}
		labels := map[string]bool{}
		for _, key := range m.Attributes {
			labels[telemetry.PrometheusLabel(key)] = true
		}
		for _, label := range family.Metric[0].Label {
			if !labels[label.GetName()] {
				t.Errorf("%s has a label %s that is not in the reference", m.Name, label.GetName())
			}
		}
		if family.GetHelp() != m.Text || !strings.EqualFold(family.GetType().String(), string(m.Kind)) {
			t.Errorf("%s is a %s: %s", m.Name, family.GetType(), family.GetHelp())
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if families[name] == nil {
			t.Errorf("%s is not on /metrics", name)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
