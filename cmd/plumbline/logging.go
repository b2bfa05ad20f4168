package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/log"
	"go.opentelemetry.io/otel/trace"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// both gives each record to two handlers.
type both struct{ one, other slog.Handler }

func (b both) Enabled(ctx context.Context, level slog.Level) bool {
	return b.one.Enabled(ctx, level) || b.other.Enabled(ctx, level)
}

func (b both) Handle(ctx context.Context, record slog.Record) error {
	return errors.Join(b.one.Handle(ctx, record.Clone()), b.other.Handle(ctx, record))
}

func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{b.one.WithAttrs(attrs), b.other.WithAttrs(attrs)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b.one.WithGroup(name), b.other.WithGroup(name)}
}

// withTrace says in which span a record was written.
type withTrace struct{ slog.Handler }

func (h withTrace) Handle(ctx context.Context, record slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		record = record.Clone()
		record.AddAttrs(slog.String(telemetry.KeyTrace, span.TraceID().String()), slog.String(telemetry.KeySpan, span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, record)
}

func (h withTrace) WithAttrs(attrs []slog.Attr) slog.Handler {
	return withTrace{h.Handler.WithAttrs(attrs)}
}
func (h withTrace) WithGroup(name string) slog.Handler { return withTrace{h.Handler.WithGroup(name)} }

// seldom lets one record through in a while, and says how many it didn't.
type seldom struct {
	slog.Handler
	every time.Duration

	mu      sync.Mutex
	next    time.Time
	skipped int
}

func (h *seldom) Handle(ctx context.Context, record slog.Record) error {
	h.mu.Lock()
	now, skipped := time.Now(), h.skipped
	if now.Before(h.next) {
		h.skipped++
		h.mu.Unlock()
		return nil
	}
	h.next, h.skipped = now.Add(h.every), 0
	h.mu.Unlock()
	if skipped > 0 {
		record.AddAttrs(slog.Int("more", skipped))
	}
	return h.Handler.Handle(ctx, record)
}

// otlpHandler makes OpenTelemetry's log records of slog's: attributes stay fields.
// The bridge of opentelemetry-go-contrib was made for an older API.
type otlpHandler struct {
	logger log.Logger
	level  slog.Handler // that says which levels are wanted
	attrs  []attribute.KeyValue
	groups []string
}

func (h *otlpHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.level.Enabled(ctx, level)
}

func (h *otlpHandler) Handle(ctx context.Context, record slog.Record) error {
	var out log.Record
	out.SetTimestamp(record.Time)
	out.SetBody(textValue(record.Message))
	out.SetSeverity(log.Severity(record.Level + 9)) // slog's levels are OpenTelemetry's, from another zero
	out.SetSeverityText(record.Level.String())
	attrs := slices.Clone(h.attrs)
	record.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, h.nested(a)...)
		return true
	})
	out.AddAttributes(attrs...)
	h.logger.Emit(ctx, out)
	return nil
}

func (h *otlpHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		next.attrs = append(next.attrs, h.nested(a)...)
	}
	return &next
}

func (h *otlpHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.groups = append(slices.Clone(h.groups), name)
	return &next
}

// nested puts an attribute below the groups that were opened, as group.key.
func (h *otlpHandler) nested(a slog.Attr) []attribute.KeyValue {
	prefix := ""
	for _, group := range h.groups {
		prefix += group + "."
	}
	return fieldsOf(prefix, a)
}

func fieldsOf(prefix string, a slog.Attr) (out []attribute.KeyValue) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range value.Group() {
			out = append(out, fieldsOf(prefix, member)...)
		}
		return out
	}
	if a.Key == "" {
		return nil
	}
	return []attribute.KeyValue{{Key: attribute.Key(telemetry.Valid(prefix + a.Key)), Value: fieldValue(value)}}
}

// textValue is valid UTF-8: for one text that isn't, the exporter loses a batch.
func textValue(text string) attribute.Value { return attribute.StringValue(telemetry.Valid(text)) }

func fieldValue(v slog.Value) attribute.Value {
	switch v.Kind() {
	case slog.KindString:
		return textValue(v.String())
	case slog.KindBool:
		return attribute.BoolValue(v.Bool())
	case slog.KindInt64:
		return attribute.Int64Value(v.Int64())
	case slog.KindFloat64:
		return attribute.Float64Value(v.Float64())
	case slog.KindTime:
		return textValue(v.Time().Format(time.RFC3339Nano))
	case slog.KindAny:
		return anyValue(v.Any())
	}
	return textValue(v.String())
}

// anyValue is what JSON makes of it, as on stdout.
func anyValue(value any) attribute.Value {
	if err, ok := value.(error); ok {
		return textValue(err.Error())
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return textValue(fmt.Sprintf("!ERROR:%v", err))
	}
	var decoded any
	if err := json.Unmarshal(raw, &decoded); err != nil {
		return textValue(string(raw))
	}
	return jsonValue(decoded)
}

func jsonValue(value any) attribute.Value {
	switch value := value.(type) {
	case string:
		return textValue(value)
	case bool:
		return attribute.BoolValue(value)
	case float64:
		return attribute.Float64Value(value)
	case []any:
		list := make([]attribute.Value, len(value))
		for i, member := range value {
			list[i] = jsonValue(member)
		}
		return attribute.SliceValue(list...)
	case map[string]any:
		var members []attribute.KeyValue
		for _, key := range slices.Sorted(maps.Keys(value)) {
			members = append(members, attribute.KeyValue{Key: attribute.Key(key), Value: jsonValue(value[key])})
		}
		return attribute.MapValue(members...)
	}
	return attribute.Value{}
}

// short bounds what somebody else's error says.
func short(text string) string {
	if len(text) > 512 {
		return strings.ToValidUTF8(text[:512], "") + "…"
	}
	return text
}
