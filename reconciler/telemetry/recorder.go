package telemetry

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Recorder records what its verbs say. A nil Recorder, and the zero one, record
// nothing. It is safe for concurrent use.
type Recorder struct {
	options    Options
	tracer     trace.Tracer
	counters   [metricCount]metric.Int64Counter
	histograms [metricCount]metric.Float64Histogram
	gauges     [metricCount]metric.Float64Observable
	values     values
	snapshot   atomic.Pointer[func() Snapshot]

	mu      sync.Mutex
	reasons map[string]string     // stack → what it said last
	sources map[string]sourceSeen // by name
	pushes  map[*Push]struct{}    // that have not ended
}

type sourceSeen struct {
	failing bool
	success time.Time
}

// Options of a Recorder.
type Options struct {
	Version, GoVersion string
	// Class gives the class of an error: one of a few words, never its text. Empty,
	// or where it is nil: a class that the standard library's errors tell.
	Class func(error) string
}

// New makes the instruments.
func New(meters metric.MeterProvider, tracers trace.TracerProvider, options Options) (*Recorder, error) {
	r := &Recorder{options: options, tracer: tracers.Tracer(Scope, trace.WithInstrumentationVersion(options.Version)),
		reasons: map[string]string{}, sources: map[string]sourceSeen{}, pushes: map[*Push]struct{}{}}
	meter := meters.Meter(Scope, metric.WithInstrumentationVersion(options.Version))
	var observables []metric.Observable
	for i, m := range table {
		var err error
		switch m.Kind {
		case Counter:
			r.counters[i], err = meter.Int64Counter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Text))
		case Histogram:
			r.histograms[i], err = meter.Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Text),
				metric.WithExplicitBucketBoundaries(m.bounds...))
		case Gauge:
			gauge, failed := meter.Float64ObservableGauge(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Text))
			r.gauges[i], err = gauge, failed
			observables = append(observables, gauge)
		}
		if err != nil {
			return nil, fmt.Errorf("make the instrument %s: %w", m.Name, err)
		}
	}
	if _, err := meter.RegisterCallback(r.observe, observables...); err != nil {
		return nil, fmt.Errorf("register the gauges: %w", err)
	}
	return r, nil
}

func (r *Recorder) off() bool { return r == nil || r.tracer == nil }

// count adds to a counter, with the values of its attributes in the table's order.
func (r *Recorder) count(ctx context.Context, which id, n int, values ...string) {
	if !r.off() && n > 0 {
		r.counters[which].Add(ctx, int64(n), metric.WithAttributeSet(r.attributes(which, values)))
	}
}

// measure records a duration. Clocks may disagree; nothing took less than no time.
func (r *Recorder) measure(ctx context.Context, which id, took time.Duration, values ...string) {
	if !r.off() {
		r.histograms[which].Record(ctx, max(0, took).Seconds(), metric.WithAttributeSet(r.attributes(which, values)))
	}
}

// attributes leaves out what is empty.
func (r *Recorder) attributes(which id, values []string) attribute.Set {
	list := make([]attribute.KeyValue, 0, len(values))
	for i, key := range table[which].Attributes {
		if values[i] != "" {
			list = append(list, key.String(r.values.bounded(key, values[i])))
		}
	}
	return attribute.NewSet(list...)
}
