package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	prometheusexporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	notrace "go.opentelemetry.io/otel/trace/noop"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// signals are the ways in which the daemon tells what it does. The zero value,
// with a log, is what a command has.
type signals struct {
	log      *slog.Logger
	recorder *telemetry.Recorder
	metrics  http.Handler // for Prometheus
	// exported lists what goes to a collector: traces, metrics, logs.
	exported []string
	closers  []func(context.Context) error
	failed   func(error) // says that something could not be exported
}

// quiet is what commands tell: nothing, but what they print.
func quiet() signals { return signals{log: slog.New(slog.DiscardHandler)} }

// newSignals sets up what the OTEL_* variables ask for: nothing leaves the process
// unless one of them says where to. /metrics is always there to be asked.
//
// What is wrong with telemetry is said in the log on stdout, and is no reason not to run.
func newSignals(ctx context.Context, stdout slog.Handler) (signals, error) {
	trouble := slog.New(&seldom{Handler: stdout, every: time.Minute})
	failed := func(err error) {
		trouble.Warn(telemetry.MsgTelemetryFailed, telemetry.KeyError, short(err.Error()))
	}
	// The exporters have no other way to report than this global.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(failed))
	otel.SetLogger(funcr.New(func(_, args string) { failed(errors.New(args)) }, funcr.Options{Verbosity: 1}))

	about := describe(ctx, failed)
	s := signals{failed: failed}
	if err := s.addLogs(ctx, stdout, about); err != nil {
		return signals{}, err
	}
	traces := s.addTraces(ctx, about)
	metrics, err := s.addMetrics(ctx, about)
	if err != nil {
		return signals{}, err
	}
	s.recorder, err = telemetry.New(metrics, traces, telemetry.Options{Version: version(), GoVersion: runtime.Version(), Class: errorClass})
	return s, err
}

// describe says who we are; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME know better.
func describe(ctx context.Context, failed func(error)) *resource.Resource {
	host, _ := os.Hostname() // an empty one is as good as none
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		semconv.ServiceName("plumbline"), semconv.ServiceVersion(version()), semconv.ServiceInstanceID(fmt.Sprintf("%s_%d", host, os.Getpid()))),
		resource.WithFromEnv())
	if err != nil {
		failed(err)
	}
	return about
}

// ignored says that a setting can't be followed.
func (s *signals) ignored(err error) {
	s.log.Warn(telemetry.MsgTelemetrySettings, telemetry.KeyError, err.Error())
}

// addLogs makes the log: JSON on stdout, and OTLP where it is asked for.
func (s *signals) addLogs(ctx context.Context, stdout slog.Handler, about *resource.Resource) error {
	handler := slog.Handler(withTrace{stdout})
	s.log = slog.New(handler)
	protocol, err := protocolOf("LOGS")
	if err != nil {
		s.ignored(err)
	}
	if protocol == "" {
		return nil
	}
	exporter, err := logExporter(ctx, protocol)
	if err != nil {
		s.ignored(err)
		return nil
	}
	provider := sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	s.log = slog.New(both{handler, &otlpHandler{logger: provider.Logger(telemetry.Scope), level: stdout}})
	s.closing("logs", provider.Shutdown)
	return nil
}

func (s *signals) addTraces(ctx context.Context, about *resource.Resource) trace.TracerProvider {
	protocol, err := protocolOf("TRACES")
	if err != nil {
		s.ignored(err)
	}
	if protocol == "" {
		return notrace.NewTracerProvider()
	}
	exporter, err := spanExporter(ctx, protocol)
	if err != nil {
		s.ignored(err)
		return notrace.NewTracerProvider()
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(exporter))
	s.closing("traces", provider.Shutdown)
	return provider
}

// addMetrics makes the metrics readable on /metrics, and sends them where it is asked for.
func (s *signals) addMetrics(ctx context.Context, about *resource.Resource) (*sdkmetric.MeterProvider, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	reader, err := prometheusexporter.New(prometheusexporter.WithRegisterer(registry), prometheusexporter.WithoutScopeInfo(), prometheusexporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("set up /metrics: %w", err)
	}
	s.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true})
	options := []sdkmetric.Option{sdkmetric.WithResource(about), sdkmetric.WithReader(reader),
		sdkmetric.WithCardinalityLimit(0)} // the Recorder bounds it, and says what the rest is
	if os.Getenv("OTEL_METRICS_EXEMPLAR_FILTER") == "" { // they take as much memory as all the rest, and few look at them
		options = append(options, sdkmetric.WithExemplarFilter(exemplar.AlwaysOffFilter))
	}
	protocol, err := protocolOf("METRICS")
	if err != nil {
		s.ignored(err)
	}
	if protocol == "" {
		return sdkmetric.NewMeterProvider(options...), nil
	}
	exporter, err := metricExporter(ctx, protocol)
	if err != nil {
		s.ignored(err)
		return sdkmetric.NewMeterProvider(options...), nil
	}
	provider := sdkmetric.NewMeterProvider(append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))...)
	s.closing("metrics", provider.Shutdown)
	return provider, nil
}

func (s *signals) closing(what string, shutdown func(context.Context) error) {
	s.exported, s.closers = append(s.exported, what), append(s.closers, shutdown)
}

// flushPatience is how long a collector may take for what is left at the end.
const flushPatience = 5 * time.Second

// stop exports what is left. It returns within its patience, whatever a collector does.
func (s signals) stop(patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.recorder.Stopped()
	var group sync.WaitGroup
	for _, shutdown := range s.closers {
		group.Go(func() {
			if err := shutdown(ctx); err != nil {
				s.failed(fmt.Errorf("export the rest: %w", err))
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
