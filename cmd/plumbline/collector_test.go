package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collector is a real OTLP receiver, over HTTP and gRPC.
type collector struct {
	tracepb.UnimplementedTraceServiceServer
	mu      sync.Mutex
	spans   map[string]string // name → attributes
	metrics map[string]bool
	logs    []string // body and attributes
	about   string   // the resource
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	for _, v := range os.Environ() { // of whoever runs the tests
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	return &collector{spans: map[string]string{}, metrics: map[string]bool{}}
}

// Export is the trace service; the others have the same method.
func (c *collector) Export(_ context.Context, r *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.ResourceSpans {
		c.about = texts(resource.Resource.Attributes)
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans[span.Name] = texts(span.Attributes) + span.Status.GetMessage()
			}
		}
	}
	return &tracepb.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	metricspb.UnimplementedMetricsServiceServer
	*collector
}

func (c metricsService) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.ResourceMetrics {
		for _, scope := range resource.ScopeMetrics {
			for _, m := range scope.Metrics {
				c.metrics[m.Name] = true
			}
		}
	}
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

type logsService struct {
	logspb.UnimplementedLogsServiceServer
	*collector
}

func (c logsService) Export(_ context.Context, r *logspb.ExportLogsServiceRequest) (*logspb.ExportLogsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range r.ResourceLogs {
		for _, scope := range resource.ScopeLogs {
			for _, l := range scope.LogRecords {
				span := ""
				if len(l.TraceId) > 0 {
					span = " in a span"
				}
				c.logs = append(c.logs, fmt.Sprintf("%s %s %s%s", l.SeverityText, l.Body.GetStringValue(), texts(l.Attributes), span))
			}
		}
	}
	return &logspb.ExportLogsServiceResponse{}, nil
}

func texts(attributes []*commonpb.KeyValue) string {
	var b strings.Builder
	for _, kv := range attributes {
		fmt.Fprintf(&b, "%s=%s ", kv.Key, text(kv.Value))
	}
	return b.String()
}

func text(v *commonpb.AnyValue) string {
	switch v := v.Value.(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_ArrayValue:
		parts := []string{}
		for _, member := range v.ArrayValue.Values {
			parts = append(parts, text(member))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case *commonpb.AnyValue_KvlistValue:
		return "{" + texts(v.KvlistValue.Values) + "}"
	}
	return fmt.Sprint(v.GetIntValue(), v.GetBoolValue(), v.GetDoubleValue())
}

// overHTTP serves, and returns its URL.
func (c *collector) overHTTP(t *testing.T) string {
	mux := http.NewServeMux()
	handle(mux, "/v1/traces", new(tracepb.ExportTraceServiceRequest), c.Export)
	handle(mux, "/v1/metrics", new(metricspb.ExportMetricsServiceRequest), metricsService{collector: c}.Export)
	handle(mux, "/v1/logs", new(logspb.ExportLogsServiceRequest), logsService{collector: c}.Export)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func handle[In, Out proto.Message](mux *http.ServeMux, path string, empty In, export func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request, ok := proto.Clone(empty).(In)
		if !ok || proto.Unmarshal(body, request) != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			http.Error(w, "no protobuf", http.StatusBadRequest)
			return
		}
		answer, _ := export(r.Context(), request)
		raw, _ := proto.Marshal(answer)
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(raw)
	})
}

func (c *collector) overGRPC(t *testing.T) string {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	tracepb.RegisterTraceServiceServer(server, c)
	metricspb.RegisterMetricsServiceServer(server, metricsService{collector: c})
	logspb.RegisterLogsServiceServer(server, logsService{collector: c})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return "http://" + listener.Addr().String()
}
