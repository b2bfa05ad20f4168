package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Drift is an object that is not as Git wants it.
type Drift struct {
	Kind    string // as in Deployment.apps
	Manager string // who changed it; empty: nobody knows
	Action  Action
	// Took is the time since the watch told of it; for a correction, since it was
	// known what drifted.
	Took time.Duration
}

// DriftDetected is told of each drift once.
func (r *Recorder) DriftDetected(ctx context.Context, d Drift) {
	if d.Manager == "" {
		d.Manager = "unknown"
	}
	r.count(ctx, driftDetected, 1, d.Kind, d.Manager, string(d.Action))
	if d.Took != 0 {
		r.measure(ctx, driftDetection, d.Took, d.Kind)
	}
}

// DriftCorrected is told when an object is as Git wants it again.
func (r *Recorder) DriftCorrected(ctx context.Context, d Drift) {
	r.measure(ctx, driftCorrection, d.Took, d.Kind)
}

// Run is one trip of a stack down the road.
type Run struct {
	Stack, Trigger string
	Took           time.Duration
	Err            error
}

// RunEnded is told of every run.
func (r *Recorder) RunEnded(ctx context.Context, run Run) {
	result, class := r.result(run.Err)
	r.measure(ctx, runDuration, run.Took, run.Stack, "executing", string(result), class, run.Stack)
	r.count(ctx, runs, 1, run.Trigger, string(result))
}

// Rollout is what follows an apply until the objects are Ready.
type Rollout struct {
	Stack     string
	Result    Result
	Began     time.Time // when the apply began
	Committed time.Time // when the commit was made; zero where it caused nothing
}

// RolloutEnded is told when a stack is Ready, overdue, or has newer inputs. It
// gives the rollout its span, below the one of ctx.
func (r *Recorder) RolloutEnded(ctx context.Context, rollout Rollout) {
	if r.off() {
		return
	}
	now := time.Now()
	r.measure(ctx, rolloutDuration, now.Sub(rollout.Began), rollout.Stack, string(rollout.Result))
	if rollout.Result == ResultSuccess && !rollout.Committed.IsZero() {
		r.measure(ctx, leadTime, now.Sub(rollout.Committed), rollout.Stack)
	}
	_, span := r.tracer.Start(ctx, SpanRollout, trace.WithTimestamp(rollout.Began),
		trace.WithAttributes(AttrStack.String(Valid(rollout.Stack)), AttrStep.String(SpanRollout), AttrStepResult.String(string(rollout.Result))))
	conclude(span, rollout.Result, "", "")
	span.End(trace.WithTimestamp(now))
}

// StackSaid is told what a stack's status says, as often as it says it.
func (r *Recorder) StackSaid(ctx context.Context, stack, reason string) {
	if r.off() {
		return
	}
	key := r.values.bounded(AttrStack, stack)
	r.mu.Lock()
	same := r.reasons[key] == reason
	r.reasons[key] = reason
	r.mu.Unlock()
	if !same {
		r.count(ctx, stackTransitions, 1, stack, reason)
	}
}

// SourceLooked is told what came of every look at a source.
func (r *Recorder) SourceLooked(_ context.Context, source string, err error) {
	if r.off() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sources[source]
	s.failing = err != nil
	if err == nil {
		s.success = time.Now()
	}
	r.sources[source] = s
}

// SourceMoved is told of every new commit, and of how many stacks the inputs
// changed by it.
func (r *Recorder) SourceMoved(ctx context.Context, source string, changed, unchanged int) {
	r.count(ctx, sourceMoves, 1, source)
	r.count(ctx, inputsCompared, changed, source, "changed")
	r.count(ctx, inputsCompared, unchanged, source, "unchanged")
}

// Fetched is told how long asking a remote took, and fetching from it.
func (r *Recorder) Fetched(ctx context.Context, source string, took time.Duration, err error) {
	result, _ := r.result(err)
	r.measure(ctx, fetchDuration, took, source, string(result))
}

// Rendered is told of every render.
func (r *Recorder) Rendered(ctx context.Context, stack string, took time.Duration, err error) {
	result, _ := r.result(err)
	r.measure(ctx, renderDuration, took, stack, string(result))
}

// WatchRestarted is told when a watch broke.
func (r *Recorder) WatchRestarted(ctx context.Context, kind string) {
	r.count(ctx, watchRestarts, 1, kind)
}

// Requested is told of every request to the API server: see [Recorder.Transport].
func (r *Recorder) Requested(ctx context.Context, verb, status string) {
	r.count(ctx, apiRequests, 1, verb, status)
}

// SecretsRead is told how many values a run read, and why some could not be.
func (r *Recorder) SecretsRead(ctx context.Context, reads int, err error) {
	r.count(ctx, secretReads, reads, string(ResultSuccess))
	if err != nil {
		result, _ := r.result(err)
		r.count(ctx, secretReads, 1, string(result))
	}
}

// Stopped ends what has not ended: spans that don't are never exported.
func (r *Recorder) Stopped() {
	if r.off() {
		return
	}
	r.mu.Lock()
	open := make([]*Push, 0, len(r.pushes))
	for p := range r.pushes {
		open = append(open, p)
	}
	r.mu.Unlock()
	for _, p := range open {
		p.abandon()
	}
}
