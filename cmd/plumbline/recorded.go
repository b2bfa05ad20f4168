package main

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/secrets"
)

// recorded gives every step of the road its telemetry, so that none of it stands
// on the road.
func recorded(r *telemetry.Recorder, p reconciler.Pipeline) *reconciler.Pipeline {
	p.Fetch = recordedFetch(r, p.Fetch)
	p.Render = telemetry.Traced(r, telemetry.SpanRender, recordedRender(r, p.Render), // its errors are masked above: here, only their class is told
		telemetry.About(func(in render.Request) []attribute.KeyValue { return ofStack(in.Stack) }))
	p.Scan = telemetry.Traced(r, telemetry.SpanScan, p.Scan,
		telemetry.About(func(in scan.Request) []attribute.KeyValue { return ofStack(in.Stack) }))
	p.Resolve = telemetry.Traced(r, telemetry.SpanResolve, recordedResolve(r, p.Resolve),
		telemetry.About(func(in secrets.Request) []attribute.KeyValue { return ofStack(in.Stack) }),
		telemetry.Masked(func(in secrets.Request) func(string) string { return in.Redactor.Text }))
	p.Plan = telemetry.Traced(r, telemetry.SpanPlan, p.Plan,
		telemetry.About(func(in apply.Request) []attribute.KeyValue { return ofStack(in.Stack) }))
	p.Apply = telemetry.Traced(r, telemetry.SpanApply, p.Apply,
		telemetry.About(func(in apply.Plan) []attribute.KeyValue { return ofStack(in.Stack) }))
	p.Observe = telemetry.Traced(r, telemetry.SpanObserve, p.Observe)
	report := p.Report
	p.Report = func(ctx context.Context, run reconciler.Run) {
		r.RunEnded(ctx, telemetry.Run{Stack: run.Stack, Trigger: string(run.Trigger), Took: run.Took, Err: run.Err})
		report(ctx, run)
	}
	return &p
}

func ofStack(name string) []attribute.KeyValue {
	return []attribute.KeyValue{telemetry.AttrStack.String(name)}
}

// recordedFetch has no span: most looks find nothing. The one that does is in its push.
func recordedFetch(r *telemetry.Recorder, step reconciler.Step[fetch.Source, fetch.Snapshot]) reconciler.Step[fetch.Source, fetch.Snapshot] {
	return timed(step, func(ctx context.Context, s fetch.Source, took time.Duration, err error) {
		r.Fetched(ctx, s.Name, took, err)
	})
}

func recordedRender(r *telemetry.Recorder, step reconciler.Step[render.Request, render.Output]) reconciler.Step[render.Request, render.Output] {
	return timed(step, func(ctx context.Context, in render.Request, took time.Duration, err error) {
		r.Rendered(ctx, in.Stack, took, err)
	})
}

func timed[In, Out any](step reconciler.Step[In, Out], tell func(context.Context, In, time.Duration, error)) reconciler.Step[In, Out] {
	return func(ctx context.Context, in In) (Out, error) {
		began := time.Now()
		out, err := step(ctx, in)
		tell(ctx, in, time.Since(began), err)
		return out, err
	}
}

func recordedResolve(r *telemetry.Recorder, step reconciler.Step[secrets.Request, secrets.Resolved]) reconciler.Step[secrets.Request, secrets.Resolved] {
	return func(ctx context.Context, in secrets.Request) (secrets.Resolved, error) {
		out, err := step(ctx, in)
		r.SecretsRead(ctx, len(out.Reads), errors.Join(err, out.Stale))
		return out, err
	}
}

// kindOf is the kind of a resource that is watched: Deployment.apps.
func kindOf(r schema.GroupVersionResource, watched []schema.GroupKind) string {
	for _, kind := range watched {
		if plural, _ := meta.UnsafeGuessKindToResource(kind.WithVersion(r.Version)); plural == r {
			return kind.String()
		}
	}
	return r.GroupResource().String()
}

// watchTrouble tells of a watch that broke.
func watchTrouble(out signals, r schema.GroupVersionResource, watched []schema.GroupKind, err error) {
	out.recorder.WatchRestarted(context.Background(), kindOf(r, watched))
	out.log.Warn(telemetry.MsgWatchFailed, telemetry.KeyResource, r.GroupResource().String(), telemetry.KeyError, err.Error())
}

// errorClass is what kind of thing went wrong, in one of a few words.
func errorClass(err error) string {
	var input *render.InputError
	var panicked *render.PanicError
	var reference *secrets.ReferenceError
	switch {
	case errors.As(err, &panicked):
		return telemetry.ClassPanic
	case errors.As(err, &input):
		return telemetry.ClassInput
	case secrets.Unavailable(err):
		return "openbao"
	case errors.As(err, &reference), errors.Is(err, apply.ErrClaimed), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return telemetry.ClassDenied
	case apierrors.IsTooManyRequests(err):
		return "throttled"
	case apierrors.IsConflict(err):
		return "conflict"
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return telemetry.ClassTimeout
	case apply.UnknownKind(err):
		return "unknown-kind"
	case apply.Terminal(err):
		return telemetry.ClassInput
	case apierrors.ReasonForError(err) != "":
		return "server"
	}
	return ""
}
