package reconciler

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

func cores() int { return runtime.GOMAXPROCS(0) }

// step is what to do about a stack now.
type step int

const (
	stepNothing step = iota
	stepBlocked      // say why it can't go on
	stepObserve      // look how its objects are doing
	stepPreview      // look whether it drifted, and leave it
	stepGo           // down the road
)

// process is what a worker does with a name from the queue.
func (l *Loop) process(ctx context.Context, name string) {
	l.turns.Add(1)
	next, trip := l.next(name)
	ctx = trip.delivery.Context(ctx)
	switch next {
	case stepGo:
		l.finish(ctx, trip, l.reconcile(ctx, trip))
	case stepPreview:
		l.previewed(ctx, trip)
	case stepObserve:
		l.observe(name)
	case stepBlocked, stepNothing:
	}
}

// reconcile goes down the road. A panic in one stack is that stack's error.
func (l *Loop) reconcile(ctx context.Context, trip Trip) (run Run) {
	defer l.arrived(trip, &run)
	defer recovered(trip, &run)
	return l.Pipeline.Reconcile(ctx, trip)
}

// preview is reconcile for those who only look.
func (l *Loop) preview(ctx context.Context, trip Trip) (run Run) {
	defer l.arrived(trip, &run)
	defer recovered(trip, &run)
	return l.Pipeline.Preview(ctx, trip)
}

func recovered(trip Trip, run *Run) {
	if p := recover(); p != nil {
		stack := make([]byte, 4096)
		run.Err = trip.Secrets.Redactor.Error(fmt.Errorf("panic: %v\n%s", p, stack[:runtime.Stack(stack, false)]))
	}
}

// next decides, under the lock, from what is known now: so the newest inputs
// always win.
func (l *Loop) next(name string) (step, Trip) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	if !ok {
		return stepNothing, Trip{}
	}
	triggers := s.triggers
	s.triggers = nil
	l.urgent.Delete(name)
	if reason, message, stalled := l.blocked(name, s); reason != "" {
		s.status.HandledAt = s.handled
		l.stuck(name, s, reason, message, stalled)
		l.say(name, s, stalled, reason, message)
		return stepBlocked, Trip{}
	}
	next, why := l.due(name, s, triggers)
	if next == stepGo && s.applied != s.generation && s.stalled != s.generation && !s.removed {
		l.say(name, s, false, "Progressing", "applying "+s.revision)
	}
	if next == stepGo || next == stepPreview {
		if why == TriggerHand {
			s.rearm()
		}
		trip := l.trip(name, s, why)
		trip.corrects = next == stepGo
		trip.judge = func(ctx context.Context, run Run) apply.Plan { return l.judge(ctx, trip, run) }
		return next, trip
	}
	return next, Trip{}
}

// blocked says why a stack can't go on at all; an empty reason: it can.
func (l *Loop) blocked(name string, s *stackState) (reason, message string, stalled bool) {
	switch {
	case annotation(s.parent, SuspendAnnotation) == "true":
		return "Suspended", "suspended by hand; to go on: plumbline resume " + name, false
	case s.declared.Spec.Suspend && !s.removed:
		return "Suspended", "suspended in " + s.declared.File, false
	case s.broken != nil:
		return s.reason, s.broken.Error(), true
	case s.gate != nil && (s.generation == 0 || s.gate.blocked):
		return s.gate.reason, s.gate.says(s), s.gate.reason == reasonDenied
	case s.removed || s.applied == s.generation:
		return "", "", false
	}
	if members := cycle(name, l.dependenciesOf); members != nil {
		return "DependencyCycle", errCycle(members).Error(), true
	}
	if waits := l.waitsFor(s); len(waits) > 0 {
		return "DependencyNotReady", "waits for " + strings.Join(waits, ", "), false
	}
	return "", "", false
}

func (l *Loop) dependenciesOf(name string) []string {
	if s, ok := l.stacks[name]; ok && !s.removed {
		return s.declared.dependencies()
	}
	return nil
}

// waitsFor lists the dependencies that are not Ready with their newest inputs.
func (l *Loop) waitsFor(s *stackState) []string {
	var out []string
	for _, dep := range s.declared.dependencies() {
		d, ok := l.stacks[dep]
		switch {
		case !ok && l.readyElsewhere(dep):
		case !ok || d.removed:
			out = append(out, dep+" (no such stack)")
		case !d.current() || !d.ready || d.gate != nil:
			out = append(out, dep)
		}
	}
	return out
}

// readyElsewhere is true for a stack that another Plumbline keeps Ready.
func (l *Loop) readyElsewhere(name string) bool {
	u := l.Cluster.Stack(name)
	return u != nil && slices.ContainsFunc(statusOf(u).Conditions, func(c metav1.Condition) bool {
		return c.Type == ConditionReady && (c.Status == metav1.ConditionTrue || c.Reason == ConditionContended)
	})
}

// due decides between a trip, a look, and nothing.
func (l *Loop) due(name string, s *stackState, triggers map[Trigger]bool) (step, Trigger) {
	switch {
	case triggers[TriggerHand]:
		return stepGo, TriggerHand
	case triggers[TriggerSecrets] && s.applied == s.generation && (s.moved || s.mode() == DriftCorrect):
		return stepGo, TriggerSecrets
	case triggers[TriggerSecrets] && s.applied == s.generation:
		return stepPreview, TriggerSecrets // OpenBao is back: no reason to touch what is to be left alone
	case s.applied == s.generation && s.generation > 0 && !s.removed && (s.known == nil || triggers[TriggerInterval]):
		return l.resumed(s)
	case triggers[TriggerInterval]:
		return stepGo, TriggerInterval
	case s.failures > 0 && time.Now().Before(s.retryAt):
		return stepObserve, ""
	case s.stalled == s.generation && s.generation > 0 && !triggers[TriggerRetry]:
		return stepObserve, ""
	case s.failures > 0:
		return stepGo, TriggerRetry
	case s.applied != s.generation && triggers[TriggerDependency]:
		return stepGo, TriggerDependency
	case s.applied != s.generation:
		return stepGo, TriggerRevision
	case s.incomplete || triggers[TriggerRetry]:
		return stepGo, TriggerRetry
	case s.removed && triggers[TriggerDrift]: // handed over, or gone at last
		return stepGo, TriggerDrift
	case triggers[TriggerDrift] && l.suspicious(name, s):
		return l.drifted(name, s)
	case triggers[TriggerDrift]:
		s.seen = nil // these were the events of our own writes
	}
	return stepObserve, ""
}

func orString(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}
