package reconciler

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// A commit is one trace: push → reconcile STACK → the steps of its trips and its
// rollout. A delivery is what it means for one stack. It begins when the commit's
// candidates are published, so it holds the time in which the stack waits for others,
// and it ends when the stack is Ready, or when only a person or newer inputs can
// bring it on.
//
// Every other trip (drift, a hand, the resync) is a trace of its own, also where it
// changes nothing: that a stack was looked at, and how long it took, is what people
// look for there, and OTEL_TRACES_SAMPLER knows how many of them they want. Looks
// that ask nobody have none.

// advanceIn takes a commit to the stacks of its source, within its trace.
func (l *Loop) advanceIn(ctx context.Context, push *telemetry.Push, s *sourceState, snapshot fetch.Snapshot) (context.Context, error) {
	s.push = push
	ctx = push.Context(ctx)
	err := l.advance(ctx, s, snapshot)
	push.Published(err)
	return ctx, err
}

func commitOf(s *sourceState, snapshot fetch.Snapshot) telemetry.Commit {
	return telemetry.Commit{Source: s.config.Name, Repository: s.config.URL, Ref: snapshot.Ref, Revision: snapshot.Commit} // a URL with credentials is no valid one
}

// supersede ends what newer inputs make pointless. A trip that is under way ends its
// delivery itself.
func (l *Loop) supersede(name string, s *stackState) {
	if s.applied == s.generation && !s.late {
		l.rolledOut(name, s, telemetry.ResultCancellation)
	}
	s.began = time.Time{}
	if s.generation > 0 {
		s.warned = ""
	}
	if s.delivery != s.traveling {
		s.delivery.Ended(telemetry.ResultCancellation, nil)
	}
}

// deliver begins what a commit means for a stack. For one that can't be planned, it
// ends there; for one that is in the cluster already, it means nothing.
func (s *stackState) deliver(source *sourceState) {
	if s.applied == s.generation && s.broken == nil {
		return
	}
	s.delivery = source.push.Deliver(s.declared.Name, string(TriggerRevision))
	if s.broken != nil {
		s.delivery.Ended(telemetry.ResultFailure, s.broken)
	}
}

// deliveryFor is where a trip belongs: to the commit that it brings, or nowhere but
// to itself. One that brings what was given up before is that commit's from now on.
func (l *Loop) deliveryFor(name string, s *stackState, why Trigger) *telemetry.Delivery {
	open := s.delivery.Open()
	if open && (why == TriggerRevision || why == TriggerDependency || why == TriggerRetry) {
		s.traveling = s.delivery
		return s.delivery
	}
	began := l.Recorder.Began(name, string(why), s.revision, s.delivery)
	if !open && s.applied != s.generation {
		s.delivery, s.traveling = began, began
	}
	return began
}

// arrived ends the trace of a trip of its own, and that of a commit which is not the
// newest any more.
func (l *Loop) arrived(trip Trip, run *Run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stacks[trip.Stack]
	switch {
	case s == nil || s.traveling == nil || trip.delivery != s.traveling:
		trip.delivery.Finished(run.Err)
	case trip.delivery != s.delivery:
		trip.delivery.Ended(telemetry.ResultCancellation, nil)
		s.traveling = nil
	default:
		s.traveling = nil
	}
}

// abandon ends every trace that has not ended: what comes next is another process',
// or another's who leads.
func (l *Loop) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.stacks {
		s.delivery.Ended(telemetry.ResultCancellation, nil)
	}
	l.Recorder.Stopped()
}

// stuck ends the delivery of a stack that goes on only when somebody does something.
func (l *Loop) stuck(name string, s *stackState, reason, message string, stalled bool) {
	switch {
	case stalled:
		l.giveUp(name, s, telemetry.ResultFailure, errors.New(s.shown(message)))
	case reason == "Suspended", reason == "DependencyNotReady" && l.hopeless(s):
		l.giveUp(name, s, telemetry.ResultSkip, nil)
	}
}

// giveUp ends a delivery that did not come to its end, and those that wait for it.
// Otherwise a push would last, unseen, until somebody mends what it broke.
func (l *Loop) giveUp(name string, s *stackState, result telemetry.Result, err error) {
	s.delivery.Ended(result, err)
	for other, o := range l.stacks {
		if o.applied != o.generation && o.delivery.Open() && o.delivery != o.traveling && slices.Contains(o.declared.dependencies(), name) {
			l.giveUp(other, o, telemetry.ResultSkip, nil)
		}
	}
}

// hopeless is true for a stack that waits for one which was given up.
func (l *Loop) hopeless(s *stackState) bool {
	return slices.ContainsFunc(s.declared.dependencies(), func(dep string) bool {
		source, _, _ := strings.Cut(dep, ".")
		d, ok := l.stacks[dep]
		switch {
		case !ok:
			return !l.readyElsewhere(dep) && (l.sources[source] == nil || l.sources[source].advanced)
		case d.current() && d.ready && d.gate == nil:
			return false
		}
		return d.removed || d.broken != nil || d.gate != nil || d.late || d.applied != d.generation && !d.delivery.Open()
	})
}
