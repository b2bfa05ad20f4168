package reconciler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/secrets"
)

// finish takes what a trip came to.
func (l *Loop) finish(ctx context.Context, trip Trip, run Run) {
	if ctx.Err() != nil {
		return // stopping: the next start goes on from what is in the cluster
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[trip.Stack]
	if !ok {
		return
	}
	l.opened(trip, s, run)
	if s.generation == trip.generation && s.recalls(l.Secrets.Key, trip, run) { // a restart is no reason to call it by a newer commit
		s.revision, s.recalled = s.status.Revision, true
	}
	if run.Inventory.Applied != nil {
		s.known = run.Inventory.Applied
		s.parent = newer(s.parent, slim(run.Inventory.Parent))
	}
	l.corrected(ctx, s, run)
	s.held, s.removal = run.Plan.Held, run.Plan.Removal
	s.giving = run.Plan.Counts()[apply.ActionHandOver] > 0
	s.status.HandledAt = trip.handled // only now: whoever asked wants to hear what came of it
	if run.Err != nil {
		l.failed(trip, s, run.Err)
		return
	}
	l.succeeded(trip, s, run)
}

func (l *Loop) failed(trip Trip, s *stackState, err error) {
	s.failures++
	s.missing = apply.UnknownKind(err)
	s.clash(err)
	if apply.Terminal(err) || inputsToBlame(err) || s.refused || misreferred(err) {
		s.stalled, s.failures = trip.generation, 0
		if s.generation == trip.generation {
			l.giveUp(trip.Stack, s, telemetry.ResultFailure, err)
		}
		l.say(trip.Stack, s, true, reasonOf(err), err.Error())
		l.setReady(trip.Stack, s, false)
		return
	}
	delay := backoff(s.failures)
	s.retryAt = time.Now().Add(delay - time.Millisecond)
	l.triggerAfter(trip.Stack, TriggerRetry, delay)
	l.say(trip.Stack, s, false, reasonOf(err), err.Error())
}

// reasonOf is the reason of the condition Ready after a run that failed.
func reasonOf(err error) string {
	switch {
	case secrets.Unavailable(err):
		return "SecretsUnavailable"
	case len(referenceErrors(err)) > 0:
		return "SecretsRefused"
	case apply.Terminal(err), inputsToBlame(err):
		return "Refused"
	}
	return "Retrying"
}

// backoff doubles from half a second to two minutes, with jitter.
func backoff(failures int) time.Duration {
	delay := min(2*time.Minute, 500*time.Millisecond<<min(failures-1, 10))
	return delay/2 + rand.N(delay/2)
}

func (l *Loop) succeeded(trip Trip, s *stackState, run Run) {
	s.failures, s.missing, s.moved = 0, false, false
	if sum, known := l.versions(run.Secrets.Reads); known {
		s.status.Secrets = sum
	}
	if s.stalled == trip.generation {
		s.stalled = 0
	}
	s.incomplete = run.Inventory.Partial || len(run.Inventory.Waiting) > 0
	if s.applied != trip.generation {
		s.deadline, s.began = time.Time{}, run.Applying // a new rollout, a new deadline
	}
	s.applied = trip.generation
	if s.generation == trip.generation {
		s.status.Applied = s.revision
		if !s.incomplete {
			s.status.Desired = s.desired
		}
	}
	if run.Changed() > 0 {
		l.tellOthers(trip.Stack)
	}
	if s.removed && run.Inventory.Parent == nil {
		l.forget(trip.Stack, s)
		return
	}
	if s.generation != trip.generation {
		l.queue.Add(trip.Stack) // newer inputs came in the meantime
		return
	}
	if !s.incomplete {
		s.rendered, s.partials = nil, 0
	} else if l.mayGoOn(run.Inventory) {
		l.triggerAfter(trip.Stack, TriggerRetry, min(2*time.Minute, 50*time.Millisecond<<min(s.partials, 12)))
		s.partials++
	}
	l.askAround(s)
	l.refused(trip.Stack, s, run)
	l.settle(trip.Stack, s, run.Health)
}

// askAround looks at the other sources when deletions wait for that.
func (l *Loop) askAround(s *stackState) {
	if s.held == "" || s.hold == "" {
		return
	}
	for name, other := range l.sources {
		if name != s.declared.Source && !other.looked.After(s.pushed) {
			_ = l.Poke(name) // it is one of ours
		}
	}
}

// tellOthers lets stacks look again that give objects away, or wait for what
// others bring: the watches don't tell of our own writes.
func (l *Loop) tellOthers(stack string) {
	for name, s := range l.stacks {
		if name != stack && (s.giving || s.incomplete) {
			l.trigger(name, TriggerRetry)
		}
	}
}

// mayGoOn is true when what a partial apply waited for is there already: its
// event may have come before anybody listened. What another stack brings is
// waited for until that stack tells.
func (l *Loop) mayGoOn(inv apply.Inventory) bool {
	laid := false
	for _, id := range inv.IDs() {
		if id.Kind == "CustomResourceDefinition" || id.Kind == "Namespace" {
			if e, ok := l.Watched(observe.ID(id)); !ok || e.Status != status.CurrentStatus {
				return false
			}
			laid = true
		}
	}
	return inv.Partial && laid
}

// look is observe for a stack that nothing stands in the way of.
func (l *Loop) look(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.stacks[name]; ok {
		if reason, _, _ := l.blocked(name, s); reason == "" {
			l.observeStack(name, s)
		}
	}
}

// observe looks at the stack's objects. It costs no request.
func (l *Loop) observe(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.stacks[name]; ok {
		l.observeStack(name, s)
	}
}

func (l *Loop) observeStack(name string, s *stackState) {
	if s.gate != nil && (s.stalled == s.generation || s.failures > 0) { // what was let through failed, and what would mend it is denied
		l.say(name, s, s.gate.reason == reasonDenied, s.gate.reason, s.gate.says(s))
	}
	if s.stalled == s.generation || s.applied == 0 || s.known == nil || s.failures > 0 || s.removed {
		return
	}
	ids := slices.SortedFunc(slices.Values(s.wants), apply.ID.Compare)
	l.settle(name, s, healthOf(ids, l.Watched))
}

// settle says how the stack is doing, and wakes who waited for it.
func (l *Loop) settle(name string, s *stackState, h Health) {
	l.wonder(name, s, h)
	h = h.masked(s.masked).explained(s.stuck.why)
	ready := !s.removed && s.current() && h.Ready()
	s.status.Objects = fmt.Sprintf("%d/%d", h.Current, h.Total)
	switch {
	case s.removed:
		l.say(name, s, false, "Removing", orString(s.held, "its objects are on their way out"))
		if s.held != "" {
			s.delivery.Ended(telemetry.ResultSkip, nil)
		}
	case ready && len(s.contended) > 0:
		s.deadline = time.Time{}
		l.say(name, s, true, ConditionContended, s.contention())
	case ready && s.refusal != "":
		s.deadline = time.Time{}
		l.say(name, s, true, "Refused", s.refusal)
	case ready && s.gate != nil:
		s.deadline = time.Time{}
		l.say(name, s, s.gate.reason == reasonDenied, s.gate.reason, s.gate.says(s))
	case ready:
		s.deadline, s.status.Digest = time.Time{}, apply.Digest(l.Secrets.Key, s.known)
		l.say(name, s, false, "Ready", h.String())
	case l.overdue(name, s):
		l.say(name, s, true, "RolloutFailed", h.String())
		l.rolledOut(name, s, telemetry.ResultTimeout)
		l.giveUp(name, s, telemetry.ResultTimeout, errors.New(s.shown(h.String())))
	default:
		l.say(name, s, false, "Progressing", h.String())
	}
	l.setReady(name, s, ready)
}

// overdue is true when the stack has not been Ready for longer than it may. The
// clock starts when it ceases to be, and with every rollout.
func (l *Loop) overdue(name string, s *stackState) bool {
	if !s.current() {
		return false
	}
	if s.deadline.IsZero() {
		timeout := s.declared.Spec.Ready.Timeout.or(5 * time.Minute)
		s.deadline = time.Now().Add(timeout)
		l.triggerAfter(name, TriggerHealth, timeout+time.Millisecond)
	}
	return time.Now().After(s.deadline)
}

// rolledOut measures the rollout of a new generation: when it is Ready, and when it
// is overdue.
func (l *Loop) rolledOut(name string, s *stackState, result telemetry.Result) {
	if !s.announce || s.began.IsZero() || (result == telemetry.ResultTimeout && s.late) {
		return
	}
	s.late = result == telemetry.ResultTimeout
	if s.late {
		l.rolloutFailed(name, s)
	}
	l.Recorder.RolloutEnded(s.delivery.Context(context.Background()), telemetry.Rollout{Stack: name, Result: result, Began: s.began, Committed: s.committed})
}

// setReady wakes the dependants in the moment a stack becomes Ready.
func (l *Loop) setReady(name string, s *stackState, ready bool) {
	was := s.ready
	s.ready = ready
	if !ready || was {
		return
	}
	if s.announce {
		l.rolledOut(name, s, telemetry.ResultSuccess)
		s.announce = false
		s.delivery.Ended(telemetry.ResultSuccess, nil)
		l.Log.InfoContext(s.delivery.Context(context.Background()), telemetry.MsgStackReady, "stack", name, "revision", s.revision, "objects", s.status.Objects,
			"leadTime", time.Since(s.pushed).Round(time.Millisecond).String())
		l.eventReady(name, s)
	}
	for other, o := range l.stacks {
		if o.applied != o.generation && slices.Contains(o.declared.dependencies(), name) {
			l.trigger(other, TriggerDependency)
		}
	}
}
