package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Snapshot is how things are now.
type Snapshot struct {
	Stacks []Stack
	Queues map[string]int // how many wait, by queue
	// OpenBao is nil where none is configured.
	OpenBao *bool
	// Certificates are when those expire that the daemon uses, by what they are for.
	Certificates map[string]time.Time
	// Exceptions are those from the gate.
	Exceptions []Exception
}

// Exception lets pass until then what the gate would refuse.
type Exception struct {
	Stack, ID string
	Expires   time.Time
}

// Stack is how a stack is.
type Stack struct {
	Name, Source, Revision               string
	Ready, Stalled, Contended, Suspended bool
	Denied                               bool           // the gate denies its newest inputs
	Findings                             map[string]int // of the gate, by severity
	Objects, ReadyObjects                int
	Drift                                map[string]int // objects that are not as Git wants them, by kind
}

// Observe says whom to ask how things are: nobody, if nil. A stack that is not in
// the answer has no series any more. It is asked from another goroutine.
func (r *Recorder) Observe(snapshot func() Snapshot) {
	if r.off() {
		return
	}
	if snapshot == nil {
		r.snapshot.Store(nil)
		r.mu.Lock()
		defer r.mu.Unlock()
		clear(r.sources)
		return
	}
	r.snapshot.Store(&snapshot)
}

// observe is called when somebody collects.
func (r *Recorder) observe(_ context.Context, to metric.Observer) error {
	o := observation{r, to}
	o.set(buildInfo, 1, AttrVersion.String(r.options.Version), AttrGoVersion.String(r.options.GoVersion))
	o.sources()
	snapshot := r.snapshot.Load()
	if snapshot == nil {
		return nil
	}
	now := (*snapshot)()
	for _, s := range now.Stacks {
		o.stack(s)
	}
	for queue, depth := range now.Queues {
		o.set(queueDepth, float64(depth), AttrQueue.String(queue))
	}
	if now.OpenBao != nil {
		o.set(baoAvailable, truth(*now.OpenBao))
	}
	o.expiries(now)
	return nil
}

// expiries tells of what ends by itself. What is beyond a bound shares a series,
// which is of the one that ends first.
func (o observation) expiries(now Snapshot) {
	first := map[id]map[attribute.Set]time.Time{certificateExpiry: {}, gateException: {}}
	note := func(which id, at time.Time, values ...string) {
		set := o.attributes(which, values)
		if known, ok := first[which][set]; !ok || at.Before(known) {
			first[which][set] = at
		}
	}
	for name, at := range now.Certificates {
		note(certificateExpiry, at, name)
	}
	for _, e := range now.Exceptions {
		note(gateException, e.Expires, e.Stack, e.ID)
	}
	for which, sets := range first {
		for set, at := range sets {
			o.to.ObserveFloat64(o.gauges[which], float64(at.Unix()), metric.WithAttributeSet(set))
		}
	}
}

// observation is one collection.
type observation struct {
	*Recorder
	to metric.Observer
}

func (o observation) set(which id, value float64, attributes ...attribute.KeyValue) {
	o.to.ObserveFloat64(o.gauges[which], value, metric.WithAttributes(readable(attributes)...))
}

func (o observation) stack(s Stack) {
	name, source := AttrStack.String(s.Name), AttrSource.String(s.Source)
	o.set(stackReady, truth(s.Ready), name, source)
	o.set(stackStalled, truth(s.Stalled), name, source)
	o.set(stackContended, truth(s.Contended), name, source)
	o.set(stackSuspended, truth(s.Suspended), name, source)
	o.set(stackInfo, 1, name, source, AttrRevision.String(s.Revision))
	o.set(stackObjects, float64(s.ReadyObjects), name, AttrObjectState.String("ready"))
	o.set(stackObjects, float64(s.Objects-s.ReadyObjects), name, AttrObjectState.String("pending"))
	o.set(gateDenied, truth(s.Denied), name, source)
	for severity, n := range s.Findings {
		o.set(gateFindings, float64(n), name, AttrSeverity.String(severity))
	}
	kinds := map[string]int{}
	for kind, n := range s.Drift {
		kinds[o.values.bounded(AttrKind, kind)] += n
	}
	for kind, n := range kinds {
		o.set(driftObjects, float64(n), name, AttrKind.String(kind))
	}
}

func (o observation) sources() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, s := range o.Recorder.sources {
		o.set(sourceFailing, truth(s.failing), AttrSource.String(name))
		if !s.success.IsZero() {
			o.set(sourceSuccess, float64(s.success.UnixMilli())/float64(time.Second/time.Millisecond), AttrSource.String(name))
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
