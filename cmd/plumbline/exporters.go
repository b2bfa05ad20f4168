package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// OTLP's protocols.
const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// protocolOf says how a signal (TRACES, METRICS, LOGS) is exported; empty: not at
// all. Unlike what the specification has for OTLP, there is no default: without an
// endpoint or an exporter that is named, nothing is sent to localhost.
func protocolOf(signal string) (string, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return "", nil
	}
	wanted := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT")) != ""
	if variable := "OTEL_" + signal + "_EXPORTER"; os.Getenv(variable) != "" {
		var err error
		if wanted, err = exporters(signal, variable); err != nil {
			return "", err
		}
	}
	if !wanted {
		return "", nil
	}
	switch protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), protocolHTTP); protocol {
	case protocolGRPC, protocolHTTP:
		return protocol, nil
	default:
		return "", fmt.Errorf("no %s are exported: OTLP protocol %q: there are %s and %s", strings.ToLower(signal), protocol, protocolGRPC, protocolHTTP)
	}
}

// exporters reads a list of exporters.
func exporters(signal, variable string) (otlp bool, err error) {
	for name := range strings.SplitSeq(os.Getenv(variable), ",") {
		switch name = strings.TrimSpace(name); {
		case name == "otlp":
			otlp = true
		case name == "" || name == "none" || name == "prometheus" && signal == "METRICS": // /metrics is there anyway
		default:
			return false, fmt.Errorf("no %s are exported: %s=%q: there are otlp and none, and stdout has the log", strings.ToLower(signal), variable, name)
		}
	}
	return otlp, nil
}

// The rest of the settings (endpoint, headers, certificates, compression, timeouts)
// the exporters read from their variables themselves.

func spanExporter(ctx context.Context, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == protocolGRPC {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

func metricExporter(ctx context.Context, protocol string) (sdkmetric.Exporter, error) {
	if protocol == protocolGRPC {
		return otlpmetricgrpc.New(ctx)
	}
	return otlpmetrichttp.New(ctx)
}

func logExporter(ctx context.Context, protocol string) (sdklog.Exporter, error) {
	if protocol == protocolGRPC {
		return otlploggrpc.New(ctx)
	}
	return otlploghttp.New(ctx)
}
