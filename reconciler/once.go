package reconciler

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// Preview plans every stack of one snapshot, and changes nothing. The loop has
// to have one source. Plans are sorted by stack; the error is about those that
// can't be planned, and they are not among the plans.
func (l *Loop) Preview(ctx context.Context, snapshot fetch.Snapshot) ([]apply.Plan, error) {
	l.lenient = true // whoever only looks wants to see what would be, and what the gate says
	if err := l.Cluster.Load(ctx); err != nil {
		return nil, err
	}
	if err := l.advance(ctx, l.sources[l.Config.Sources[0].Name], snapshot); err != nil {
		return nil, err
	}
	plans := []apply.Plan{}
	var errs []error
	for _, name := range sorted(l.stacks) {
		s := l.stacks[name]
		if s.broken != nil {
			errs = append(errs, s.broken)
			continue
		}
		trip := l.trip(name, s, TriggerHand)
		trip.Secrets.Stale, trip.Secrets.Look = false, true // what can't be known is no plan; and nothing is made
		trip.Apply.Settled = false                          // what can't be applied is an error, also where it drifted
		run := l.preview(ctx, trip)
		if run.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, run.Err))
			continue
		}
		plans = append(plans, run.Plan)
		if s.verdict.denied != "" {
			errs = append(errs, &GateError{name, s.verdict.denied})
		}
	}
	return plans, errors.Join(errs...)
}

// GateError says that the gate denies what was planned.
type GateError struct{ Stack, Message string }

// Error names the stack and the findings.
func (e *GateError) Error() string { return e.Stack + ": " + e.Message }

// Summary is how one stack is doing.
type Summary struct {
	Name, Reason, Message string
	Objects, Revision     string
	Ready                 bool
	Settled               bool // nothing will change by itself
}

// Summaries tells how every stack is doing, sorted by name. all is true when
// each has settled, and there are some.
func (l *Loop) Summaries() (list []Summary, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all = len(l.stacks) > 0
	for _, s := range l.sources {
		all = all && s.advanced
	}
	for _, name := range sorted(l.stacks) {
		s := l.stacks[name]
		sum := Summary{Name: name, Objects: s.status.Objects, Revision: s.revision, Settled: l.settled(s)}
		for _, c := range s.status.Conditions {
			if c.Type == ConditionReady && s.said {
				sum.Reason, sum.Message, sum.Ready = c.Reason, c.Message, c.Status == metav1.ConditionTrue
			}
		}
		all = all && sum.Settled
		list = append(list, sum)
	}
	return list, all
}

func (l *Loop) settled(s *stackState) bool {
	ready := func(kind string) bool {
		return slices.ContainsFunc(s.status.Conditions, func(c metav1.Condition) bool {
			return c.Type == kind && c.Status == metav1.ConditionTrue
		})
	}
	if s.removed {
		return s.held != "" || s.unsure != ""
	}
	if ready(ConditionStalled) || (ready(ConditionReady) && s.current()) || s.declared.Spec.Suspend || annotation(s.parent, SuspendAnnotation) == "true" {
		return true
	}
	if s.applied == s.generation {
		return false
	}
	for _, name := range s.declared.dependencies() { // waits for one that will not come
		dep, ok := l.stacks[name]
		if !ok || (!dep.ready && l.settled(dep)) {
			return true
		}
	}
	return false
}

// Written is true when the cluster has been told everything that was said.
func (l *Loop) Written() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.statuses.Len() > 0 {
		return false
	}
	for _, s := range l.stacks {
		if s.written != sha256.Sum256([]byte(normal(s.status))) {
			return false
		}
	}
	return true
}
