package telemetry

import (
	"context"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Commit is what was pushed.
type Commit struct {
	Source     string
	Repository string // URL, without credentials
	Ref        string // as in refs/heads/main
	Revision   string
}

// Attributes of a commit, as vcs.* has them.
func (c Commit) Attributes() []attribute.KeyValue { return readable(c.attributes()) }

func (c Commit) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{AttrSource.String(c.Source), AttrRevision.String(c.Revision)}
	if c.Repository != "" {
		list = append(list, AttrRepository.String(c.Repository))
	}
	if name, ok := strings.CutPrefix(c.Ref, "refs/heads/"); ok {
		return append(list, AttrRef.String(name), AttrRefType.String("branch"))
	}
	if name, ok := strings.CutPrefix(c.Ref, "refs/tags/"); ok {
		return append(list, AttrRef.String(name), AttrRefType.String("tag"))
	}
	if c.Ref != "" {
		list = append(list, AttrRef.String(path.Base(c.Ref)))
	}
	return list
}

// Push is the trace of a commit: from the look that found it until the last stack
// that it changed is Ready, or is known not to become so. A nil one does nothing.
type Push struct {
	recorder *Recorder
	commit   Commit
	span     trace.Span

	mu         sync.Mutex
	deliveries map[*Delivery]struct{} // that have not ended
	published  bool                   // no stack will be added
	ended      bool
}

// Pushed begins the trace of a commit, at the time when the look began that found
// it. That look had no span: most find nothing.
func (r *Recorder) Pushed(c Commit, began, fetched time.Time) *Push {
	p := r.push(SpanPush, c, began)
	if p == nil {
		return nil
	}
	_, fetch := r.tracer.Start(p.Context(context.Background()), SpanFetch, trace.WithTimestamp(began),
		trace.WithAttributes(AttrSource.String(Valid(c.Source)), AttrStep.String(SpanFetch), AttrStepResult.String(string(ResultSuccess))))
	fetch.End(trace.WithTimestamp(fetched))
	return p
}

// Resumed begins the trace of a start with a commit that was accepted before: nobody
// pushed, and nothing is fetched.
func (r *Recorder) Resumed(c Commit) *Push { return r.push(SpanStart, c, time.Now()) }

func (r *Recorder) push(name string, c Commit, began time.Time) *Push {
	if r.off() {
		return nil
	}
	_, span := r.tracer.Start(context.Background(), name, trace.WithNewRoot(), trace.WithTimestamp(began), trace.WithAttributes(c.Attributes()...))
	p := &Push{recorder: r, commit: c, span: span, deliveries: map[*Delivery]struct{}{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pushes[p] = struct{}{}
	return p
}

// Context has the push's span: steps that are done for it are below that.
func (p *Push) Context(ctx context.Context) context.Context {
	if p == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, p.span)
}

// Published says that no stack will be added. err is why none was; its class alone
// is told.
func (p *Push) Published(err error) {
	if p == nil {
		return
	}
	result, class := p.recorder.result(err)
	conclude(p.span, result, class, "")
	p.mu.Lock()
	p.published = true
	p.mu.Unlock()
	p.end(nil)
}

// end is called when a delivery ended, or nothing will be added.
func (p *Push) end(d *Delivery) {
	p.mu.Lock()
	delete(p.deliveries, d)
	done := p.published && len(p.deliveries) == 0 && !p.ended
	p.ended = p.ended || done
	p.mu.Unlock()
	if !done {
		return
	}
	p.span.End()
	p.recorder.mu.Lock()
	defer p.recorder.mu.Unlock()
	delete(p.recorder.pushes, p)
}

func (p *Push) abandon() {
	p.mu.Lock()
	open := make([]*Delivery, 0, len(p.deliveries))
	for d := range p.deliveries {
		open = append(open, d)
	}
	p.published = true
	p.mu.Unlock()
	for _, d := range open {
		d.Ended(ResultCancellation, nil)
	}
	p.end(nil)
}

// Delivery is what a push, or anything else, means for one stack: the span
// "reconcile STACK", in which its steps and its rollout are. A nil one does nothing.
type Delivery struct {
	recorder *Recorder
	push     *Push
	span     trace.Span
	ended    atomic.Bool
}

// Deliver begins a stack's part of a push.
func (p *Push) Deliver(stack, trigger string) *Delivery {
	if p == nil {
		return nil
	}
	d := p.recorder.begin(p.Context(context.Background()), stack, trigger, p.commit.Attributes())
	d.push = p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deliveries[d] = struct{}{}
	return d
}

// Began begins a delivery that no push caused: drift, a hand, the resync. It is a
// trace of its own, linked to the delivery of what is in the cluster, if that is known.
func (r *Recorder) Began(stack, trigger, revision string, after *Delivery) *Delivery {
	if r.off() {
		return nil
	}
	options := []trace.SpanStartOption{trace.WithNewRoot()}
	if after != nil {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: after.span.SpanContext()}))
	}
	return r.begin(context.Background(), stack, trigger, []attribute.KeyValue{AttrRevision.String(revision)}, options...)
}

func (r *Recorder) begin(ctx context.Context, stack, trigger string, about []attribute.KeyValue, options ...trace.SpanStartOption) *Delivery {
	stack = Valid(stack)
	options = append(options, trace.WithSpanKind(trace.SpanKindServer), // as semantic conventions want it for the run of a pipeline
		trace.WithAttributes(readable(append(about, AttrStack.String(stack), AttrPipeline.String(stack), AttrTrigger.String(trigger)))...))
	_, span := r.tracer.Start(ctx, SpanReconcile+" "+stack, options...)
	if id := span.SpanContext().SpanID(); id.IsValid() {
		span.SetAttributes(AttrRunID.String(id.String()))
	}
	return &Delivery{recorder: r, span: span}
}

// Context has the delivery's span.
func (d *Delivery) Context(ctx context.Context) context.Context {
	if d == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, d.span)
}

// Ended says how it ended; only the first time counts. err is why, if anything is
// to blame, and was masked already.
func (d *Delivery) Ended(result Result, err error) {
	if d == nil || !d.ended.CompareAndSwap(false, true) {
		return
	}
	text, class := "", ""
	if err != nil {
		text, class = clip(err.Error()), d.recorder.class(err)
	}
	d.span.SetAttributes(AttrResult.String(string(result)))
	conclude(d.span, result, class, text)
	d.span.End()
	if d.push != nil {
		d.push.end(d)
	}
}

// Finished is Ended for what a run came to: err is the run's, and was masked already.
func (d *Delivery) Finished(err error) {
	if d != nil {
		result, _ := d.recorder.result(err)
		d.Ended(result, err)
	}
}

// Open is true until it has ended.
func (d *Delivery) Open() bool { return d != nil && !d.ended.Load() }
