package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
)

// tree is the ended spans as indented lines: name, duration, result.
func (w witness) tree() string {
	children := map[string][]trace.ReadOnlySpan{}
	for _, s := range w.spans.Ended() {
		parent := ""
		if s.Parent().IsValid() {
			parent = s.Parent().SpanID().String()
		}
		children[parent] = append(children[parent], s)
	}
	var b strings.Builder
	var write func(parent, indent string)
	write = func(parent, indent string) {
		for _, s := range children[parent] {
			failed := ""
			if s.Status().Code == codes.Error {
				failed = " failed"
			}
			fmt.Fprintf(&b, "%s%s %s%s\n", indent, s.Name(), s.EndTime().Sub(s.StartTime()), failed)
			write(s.SpanContext().SpanID().String(), indent+"  ")
		}
	}
	write("", "")
	return b.String()
}

// takes is a step of a known duration, by the bubble's clock.
func takes(d time.Duration) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) { time.Sleep(d); return "", nil }
}

func TestPushIsOneTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness(t)
		began := time.Now()
		time.Sleep(2 * time.Second)
		p := w.Pushed(Commit{Source: "src", Repository: "https://git.lan/me/ops.git", Ref: "refs/heads/main", Revision: "abc"}, began, time.Now())
		_, _ = Traced(w.Recorder, SpanRender, takes(time.Second))(p.Context(t.Context()), "")
		a, b := p.Deliver("a", "revision"), p.Deliver("b", "revision")
		p.Published(nil)
		ctx := a.Context(t.Context())
		_, _ = Traced(w.Recorder, SpanPlan, takes(time.Second))(ctx, "")
		applied := time.Now()
		_, _ = Traced(w.Recorder, SpanApply, takes(time.Second))(ctx, "")
		b.Ended(ResultFailure, errBoom)
		time.Sleep(10 * time.Second)
		w.RolloutEnded(ctx, Rollout{Stack: "a", Result: ResultSuccess, Began: applied, Committed: began})
		a.Ended(ResultSuccess, nil)
		a.Ended(ResultFailure, errBoom) // it has ended
		w.Began("a", "drift", "abc", a).Ended(ResultSuccess, nil)
		want := `push 15s
  fetch 2s
  render 1s
  reconcile b 2s failed
  reconcile a 12s
    plan 1s
    apply 1s
    rollout 11s
reconcile a 0s
`
		if diff := cmp.Diff(want, w.tree()); diff != "" {
			t.Error(diff)
		}
		spans := w.spans.Ended()
		last := spans[len(spans)-1]
		if len(last.Links()) != 1 || last.Links()[0].SpanContext.SpanID() != a.span.SpanContext().SpanID() {
			t.Error("drift is not linked to the delivery that it drifted from")
		}
		for _, s := range spans {
			if s.Name() == SpanPush {
				attributes := fmt.Sprint(s.Attributes())
				for _, part := range []string{"vcs.ref.head.revision", "abc", "vcs.ref.head.name", "main", "vcs.repository.url.full", "https://git.lan/me/ops.git", "branch"} {
					if !strings.Contains(attributes, part) {
						t.Errorf("push has no %s: %s", part, attributes)
					}
				}
			}
		}
	})
}

func TestStoppedEndsAllSpans(t *testing.T) {
	w := newWitness(t)
	w.Pushed(Commit{}, time.Now(), time.Now()).Deliver("a", "revision")
	failed := w.Pushed(Commit{}, time.Now(), time.Now())
	failed.Published(errBoom)
	w.Stopped()
	w.Stopped()
	if started, ended := len(w.spans.Started()), len(w.spans.Ended()); started != 5 || ended != 5 {
		t.Errorf("%d spans began, %d ended", started, ended)
	}
	if len(w.pushes) != 0 {
		t.Error("pushes are kept")
	}
}

// TestPushWaitsForItsStacks: one that is done early doesn't end it.
func TestPushWaitsForItsStacks(t *testing.T) {
	w := newWitness(t)
	p := w.Pushed(Commit{}, time.Now(), time.Now())
	p.Deliver("a", "revision").Ended(ResultSuccess, nil)
	late := p.Deliver("b", "revision")
	late.Ended(ResultSuccess, nil)
	if strings.Contains(w.tree(), SpanPush) {
		t.Error("it ended, and more stacks may come")
	}
	p.Published(nil)
	if !strings.Contains(w.tree(), SpanPush) || len(w.pushes) != 0 {
		t.Error("it didn't end")
	}
}

// TestErrorTextsStayInside: only what was masked leaves.
func TestErrorTextsStayInside(t *testing.T) {
	mask := func(string) func(string) string {
		return func(s string) string { return strings.ReplaceAll(s, "s3cret", "[REDACTED]") }
	}
	network := context.DeadlineExceeded
	for name, tt := range map[string]struct {
		err     error
		options []StepOption[string]
		class   string
		text    string
		code    codes.Code
	}{
		"no mask":   {errBoom, nil, ClassOther, "", codes.Error},
		"masked":    {errBoom, []StepOption[string]{Masked(mask)}, ClassOther, "boom [REDACTED]", codes.Error},
		"timeout":   {fmt.Errorf("read: %w", network), nil, ClassTimeout, "", codes.Error},
		"known":     {errKnown, nil, "known", "", codes.Error},
		"cancelled": {context.Canceled, nil, "", "", codes.Unset},
		"none":      {nil, []StepOption[string]{Masked(mask)}, "", "", codes.Unset},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			w.options.Class = func(err error) string {
				if errors.Is(err, errKnown) {
					return "known"
				}
				return ""
			}
			step := Traced(w.Recorder, SpanPlan, func(context.Context, string) (int, error) { return 7, tt.err }, tt.options...)
			if out, err := step(t.Context(), ""); out != 7 || !errors.Is(err, tt.err) {
				t.Errorf("the step gives %v, %v", out, err)
			}
			span := w.spans.Ended()[0]
			class := ""
			for _, kv := range span.Attributes() {
				if kv.Key == AttrErrorType {
					class = kv.Value.AsString()
				}
			}
			if span.Status().Code != tt.code || span.Status().Description != tt.text || class != tt.class {
				t.Errorf("the span says %v, %q", span.Status(), class)
			}
			if strings.Contains(fmt.Sprint(span.Attributes(), span.Events()), "s3cret") {
				t.Error("the secret leaves")
			}
		})
	}
}

var errKnown = errors.New("known")

func TestPanicGoesOn(t *testing.T) {
	w := newWitness(t)
	step := Traced(w.Recorder, SpanRender, func(context.Context, string) (string, error) { panic("s3cret") })
	defer func() {
		if recover() == nil {
			t.Error("the panic is swallowed")
		}
		if span := w.spans.Ended()[0]; span.Status().Code != codes.Error || strings.Contains(fmt.Sprint(span.Attributes(), span.Events(), span.Status()), "s3cret") {
			t.Errorf("the span says %v %v", span.Status(), span.Events())
		}
	}()
	_, _ = step(t.Context(), "")
}

// TestStacksEndAtOnce: each in its own goroutine, some twice, while the push is
// published and the daemon stops.
func TestStacksEndAtOnce(t *testing.T) {
	w := newWitness(t)
	const stacks = 50
	var group sync.WaitGroup
	for range 4 {
		p := w.Pushed(Commit{Source: "src"}, time.Now(), time.Now())
		for i := range stacks {
			d := p.Deliver(fmt.Sprint(i), "revision")
			for _, end := range []func(){func() { d.Ended(ResultSuccess, nil) }, func() { d.Finished(errBoom) }, func() { _ = d.Open() }} {
				group.Go(end)
			}
		}
		group.Go(func() { p.Deliver("late", "revision").Ended(ResultCancellation, nil) })
		group.Go(func() { p.Published(nil) })
		group.Go(w.Stopped)
	}
	group.Wait()
	if want := 4 * (stacks + 3); len(w.spans.Started()) != want || len(w.spans.Ended()) != want {
		t.Errorf("%d spans began, %d ended, want %d", len(w.spans.Started()), len(w.spans.Ended()), want)
	}
	if len(w.pushes) != 0 {
		t.Error("pushes are kept")
	}
}

// TestRunsOfTheirOwn: what no push caused ends with its run, as that went.
func TestRunsOfTheirOwn(t *testing.T) {
	w := newWitness(t)
	for _, tt := range []struct {
		err  error
		want Result
	}{{nil, ResultSuccess}, {errBoom, ResultError}, {context.Canceled, ResultCancellation}, {context.DeadlineExceeded, ResultTimeout}} {
		d := w.Began("a", "hand", "abc", nil)
		if !d.Open() {
			t.Error("it ended before it began")
		}
		d.Finished(tt.err)
		spans := w.spans.Ended()
		if attributes := fmt.Sprint(spans[len(spans)-1].Attributes()); d.Open() || !strings.Contains(attributes, string(tt.want)) {
			t.Errorf("%v: want %s: %s", tt.err, tt.want, attributes)
		}
	}
	p := w.Resumed(Commit{Source: "src", Revision: "abc"})
	p.Deliver("a", "revision").Ended(ResultSuccess, nil)
	p.Published(nil)
	if tree := w.tree(); !strings.Contains(tree, "start ") || strings.Contains(tree, SpanFetch) {
		t.Error(tree)
	}
}
