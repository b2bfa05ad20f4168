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

// Corrections of one stack that come faster than this begin to pause: somebody may
// move something else each time.
const (
	freeCorrections = 20 // within a minute
	longestPause    = time.Second
	longestLook     = 10 * time.Second // where drift is only looked at
)

// drifted says what to do about drift, and bounds how often one stack is gone through.
func (l *Loop) drifted(name string, s *stackState) (step, Trigger) {
	if s.mode() == DriftOff {
		return stepObserve, ""
	}
	since := time.Since(s.drifted)
	if since > time.Minute {
		s.drifts = 0
	}
	next, longest := stepGo, longestPause
	if s.mode() == DriftDetect {
		next, longest = stepPreview, longestLook
	}
	pause := min(longest, 25*time.Millisecond<<min(max(0, s.drifts-freeCorrections), 12))
	if s.drifts >= freeCorrections && since < pause {
		l.triggerOnce(name, &s.pausing, TriggerDrift, pause-since)
		return stepObserve, ""
	}
	s.drifts++
	s.drifted = time.Now()
	return next, TriggerDrift
}

// suspicious compares what is known with what the watches say now. The events
// of our own writes end here.
func (l *Loop) suspicious(name string, s *stackState) bool {
	live, there := l.OfStack(name), 0
	for id, known := range s.known {
		if known.UID != "" {
			there++
		}
		if _, moved := s.seen[id]; moved && known.Adrift {
			return true
		}
	}
	if len(live) != there || s.parent == nil || s.wide() {
		return true
	}
	return slices.ContainsFunc(live, func(e observe.Entry) bool {
		known, ok := s.known[apply.ID(e.ID)]
		return !ok || known.UID != e.UID || known.Fingerprint != apply.Fingerprint(e.Fingerprint) || e.Deleting
	})
}

// saw notes when the watch first told that an object is not as it was.
func (s *stackState) saw(id apply.ID) {
	if s.seen == nil {
		s.seen = map[apply.ID]time.Time{}
	}
	if _, ok := s.seen[id]; !ok {
		s.seen[id] = time.Now()
	}
}

// previewed takes what a look at a stack came to whose drift is left alone.
func (l *Loop) previewed(ctx context.Context, trip Trip) {
	run := l.preview(ctx, trip)
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
	if run.Err != nil {
		l.failed(trip, s, run.Err)
		return
	}
	if l.rotated(s, run) {
		s.moved = true
		l.trigger(trip.Stack, TriggerSecrets)
	}
	s.failures, s.status.HandledAt = 0, trip.handled
	if s.stalled == trip.generation {
		s.stalled = 0
	}
	s.knows(run.Plan.Known(), run.Plan)
	l.observeStack(trip.Stack, s)
}

// knows takes what is true of the stack's objects, and what isn't.
func (s *stackState) knows(known map[apply.ID]apply.Applied, plan apply.Plan) {
	s.known = known
	for id, was := range plan.Drifted() {
		if _, ok := known[id]; !ok {
			known[id] = was
		}
	}
}

// Attentive is true for an object that drifted and was not put right. The watch tells
// every write to it: what others own, an entry doesn't show.
func (l *Loop) Attentive(id observe.ID) bool {
	_, adrift := l.drifts.objects.Load(apply.ID(id))
	return adrift
}

// judge looks for drift in a plan. It notes what there is, and takes out of the plan
// what somebody insists on.
func (l *Loop) judge(ctx context.Context, trip Trip, run Run) apply.Plan {
	l.mu.Lock()
	defer l.mu.Unlock()
	plan := run.Plan
	s, ok := l.stacks[trip.Stack]
	if ok && s.mode() == DriftOff {
		l.drifts.forget(trip.Stack)
	}
	if !ok || s.mode() == DriftOff || l.rotatedAway(s, trip, run) {
		return plan
	}
	open, left := map[apply.ID]bool{}, []string{}
	for _, c := range plan.Changes {
		open[c.ID] = c.Action != apply.ActionNone
		if c.Action == apply.ActionNone {
			delete(s.contended, c.ID) // whoever insisted gave up
		}
		if c.Drift == "" {
			continue
		}
		if drift, fresh := l.judgeChange(ctx, trip, s, c, &plan); fresh && drift.Action == ActionLeave {
			left = append(left, drift.String())
		}
	}
	l.eventDrift(s, trip.Stack, EventWarning, "DriftDetected", left)
	for _, id := range l.drifts.of(trip.Stack) {
		if !open[id] { // somebody else put it back, or nobody wants it any more
			l.closeDrift(ctx, trip.Stack, id, time.Now())
		}
	}
	return plan
}

func (l *Loop) judgeChange(ctx context.Context, trip Trip, s *stackState, c apply.Change, plan *apply.Plan) (drift *openDrift, fresh bool) {
	before := l.drifts.find(trip.Stack, c.ID) // it was not put right yet
	drift, fresh = l.noteDrift(trip, s, c)
	switch {
	case c.Refused != nil:
		drift.Error = short(s.shown(c.Refused.Error()), errorOfDrift)
	case !trip.corrects || s.mode() != DriftCorrect:
	case s.contended[c.ID].covers(contestable(drift.Drift)):
		drift.Action, drift.told = ActionContend, before != nil && before.Action == ActionContend && before.told
		plan.Leave(c.ID, s.contended[c.ID].reason)
	case before == nil || before.Action == ActionContend:
		if reason := s.insisted(c, drift.Drift); reason != "" {
			drift.Action = ActionContend
			plan.Leave(c.ID, reason)
		}
	}
	if fresh {
		l.Recorder.DriftDetected(ctx, drift.recorded())
	}
	if drift.Action != ActionCorrect || c.Refused != nil {
		l.tell(ctx, drift)
	}
	return drift, fresh
}

// rotatedAway is true after a restart for a stack that read something else from
// OpenBao before it: then what differs may not be drift, and nobody knows.
func (l *Loop) rotatedAway(s *stackState, trip Trip, run Run) bool {
	sum, known := l.versions(run.Secrets.Reads)
	return trip.Trigger == TriggerStart && known && s.status.Secrets != "" && sum != s.status.Secrets
}

// corrected closes the drift that a run put right, and says of the rest why not.
func (l *Loop) corrected(ctx context.Context, s *stackState, run Run) {
	if s.known != nil {
		s.knows(s.known, run.Plan)
	}
	for id := range run.Inventory.When { // the watch tells of our own writes too
		if live, ok := l.Watched(observe.ID(id)); ok && apply.Fingerprint(live.Fingerprint) == s.known[id].Fingerprint {
			delete(s.seen, id)
		}
	}
	var right []string
	for _, id := range l.drifts.of(run.Stack) {
		if at, ok := run.Inventory.When[id]; ok {
			right = append(right, l.drifts.find(run.Stack, id).String())
			l.closeDrift(ctx, run.Stack, id, at)
			continue
		}
		if drift := l.drifts.find(run.Stack, id); run.Err != nil && drift.Action == ActionCorrect {
			drift.Error = short(s.shown(run.Err.Error()), errorOfDrift)
			l.tell(ctx, drift)
		}
	}
	l.eventDrift(s, run.Stack, EventNormal, "DriftCorrected", right)
}

// refused says of drift that can't be put right that it is so, and tries again later:
// whatever stands in the way may go. Nobody else of the stack waits for it.
func (l *Loop) refused(name string, s *stackState, run Run) {
	err := run.Plan.Refused()
	if err == nil {
		s.refusals, s.refusal = 0, ""
		return
	}
	s.refusals, s.refusal = s.refusals+1, err.Error()
	l.triggerOnce(name, &s.retrying, TriggerRetry, backoff(s.refusals))
}
