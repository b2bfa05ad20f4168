package reconciler

import (
	"context"
	"slices"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

// resumed goes through a stack that Git has not changed: after a restart, and at
// the slow resync. Drift that is to be left alone is left alone.
func (l *Loop) resumed(s *stackState) (step, Trigger) {
	why := TriggerInterval
	if s.known == nil {
		why = TriggerStart
	}
	if s.mode() == DriftCorrect {
		return stepGo, why
	}
	return stepPreview, why
}

// drifted bounds how often one stack is put right: somebody may insist.
func (l *Loop) drifted(name string, s *stackState) (step, Trigger) {
	switch s.mode() {
	case DriftOff:
		return stepObserve, ""
	case DriftDetect:
		return stepPreview, TriggerDrift
	}
	since := time.Since(s.drifted)
	if since > time.Minute {
		s.drifts = 0
	}
	pause := min(time.Minute, 250*time.Millisecond<<min(max(0, s.drifts-5), 8))
	if s.drifts >= 5 && since < pause {
		if !s.pausing {
			s.pausing = true
			l.triggerAfter(name, TriggerDrift, pause-since)
		}
		return stepObserve, ""
	}
	s.drifts++
	s.drifted, s.pausing = time.Now(), false
	return stepGo, TriggerDrift
}

// suspicious compares what is known with what the watches say now. The events
// of our own writes end here.
func (l *Loop) suspicious(name string, s *stackState) bool {
	live := l.OfStack(name)
	if len(live) != len(s.known) || s.parent == nil || s.wide() {
		return true
	}
	return slices.ContainsFunc(live, func(e observe.Entry) bool {
		known, ok := s.known[apply.ID(e.ID)]
		return !ok || known.UID != e.UID || known.Fingerprint != apply.Fingerprint(e.Fingerprint) || e.Deleting
	})
}

// previewed reports drift that the stack wants left alone.
func (l *Loop) previewed(ctx context.Context, trip Trip) {
	run := l.preview(ctx, trip)
	plan, err := run.Plan, run.Err
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[trip.Stack]
	if !ok {
		return
	}
	l.opened(trip, s, run)
	if err != nil {
		l.failed(trip, s, err)
		return
	}
	if l.rotated(s, run) {
		s.moved = true
		l.trigger(trip.Stack, TriggerSecrets)
	}
	s.failures, s.known, s.status.HandledAt = 0, plan.Known(), trip.handled
	if drift := plan.String(); drift != s.drift {
		s.drift = drift
		if plan.Differs() && s.mode() != DriftOff {
			l.Log.Warn("drift detected", "stack", trip.Stack, "revision", trip.Revision, "plan", drift)
		}
	}
	l.observeStack(trip.Stack, s)
}
