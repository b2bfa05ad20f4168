package reconciler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// Look is a stack held against the cluster by somebody who is not the daemon.
type Look struct {
	Plan             apply.Plan
	Source, Revision string
	Action           DriftAction // what the daemon does about drift of this stack
	// Unsure is why what differs may be something else than drift; empty: it is drift.
	Unsure string
}

// PastFunc reads an older commit of a source.
type PastFunc = func(source fetch.Source, commit string) (fetch.Snapshot, error)

// LookForDrift plans each stack that was applied, or the named one, as it was
// applied: from the newest commit where that wants the same still, else from the
// one that is in the cluster. It changes nothing. The error is about what could not
// be looked at, and that is not among the looks, which are sorted by stack.
func (l *Loop) LookForDrift(ctx context.Context, stack string, past PastFunc) ([]Look, error) {
	l.lenient = true // what is in the cluster was let through
	if err := l.Cluster.Load(ctx); err != nil {
		return nil, err
	}
	if err := l.wasApplied(stack); err != nil {
		return nil, err
	}
	looks, errs := []Look{}, []error{}
	for _, name := range sorted(l.sources) {
		search := search{loop: l, source: l.sources[name], past: past, left: l.appliedOf(name, stack)}
		if len(search.left) > 0 {
			search.run(ctx)
		}
		looks, errs = append(looks, search.looks...), append(errs, search.errs...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	slices.SortFunc(looks, func(a, b Look) int { return strings.Compare(a.Plan.Stack, b.Plan.Stack) })
	return looks, errors.Join(errs...)
}

func (l *Loop) wasApplied(stack string) error {
	u := l.Cluster.Stack(stack)
	switch {
	case stack == "":
		return nil
	case u == nil:
		return &NoStackError{stack, slices.Sorted(slices.Values(l.Cluster.stacks.ListKeys()))}
	case statusOf(u).Applied == "":
		return fmt.Errorf("%s was never applied: nothing of it can have drifted", stack)
	}
	return nil
}

// appliedOf are the stacks of a source that are in the cluster, each with its commit.
func (l *Loop) appliedOf(source, only string) map[string]string {
	out := map[string]string{}
	for _, u := range l.Cluster.Stacks(source) {
		if commit := statusOf(u).Applied; commit != "" && (only == "" || only == u.GetName()) {
			out[u.GetName()] = commit
		}
	}
	return out
}

// search finds, for each stack of a source, the files that it was applied from.
type search struct {
	loop   *Loop
	source *sourceState
	past   PastFunc
	left   map[string]string // stacks that were not looked at yet, and what was applied
	looks  []Look
	errs   []error
}

func (s *search) run(ctx context.Context) {
	newest, err := s.loop.fetch(ctx, s.source)
	if err != nil {
		s.errs = append(s.errs, err)
		return
	}
	if err := s.advance(ctx, newest, ""); err != nil {
		s.errs = append(s.errs, fmt.Errorf("source %s: %w", s.source.config.Name, err))
		return
	}
	s.settle(ctx, "", func(st *stackState) (string, bool) { return "", st.asApplied() })
	commits := slices.Compact(slices.Sorted(maps.Values(s.left)))
	for _, commit := range commits {
		s.lookBack(ctx, newest, commit)
	}
	if len(s.left) == 0 {
		return
	}
	if err := s.advance(ctx, newest, ""); err == nil { // it was none before
		s.settle(ctx, "", func(st *stackState) (string, bool) {
			return fmt.Sprintf("%s wants something else than what was applied (%s), which can't be read here: some of what differs may be that",
				st.revision, st.status.Applied), true
		})
	}
	for _, name := range sorted(s.left) {
		s.errs = append(s.errs, fmt.Errorf("%s: is no longer in the source %s, and what was applied (%s) can't be read", name, s.source.config.Name, s.left[name]))
	}
}

// lookBack looks at those stacks of which this commit was applied.
func (s *search) lookBack(ctx context.Context, newest fetch.Snapshot, commit string) {
	snapshot := newest
	if commit != newest.Commit {
		var err error
		if snapshot, err = s.past(s.source.config.Fetch(), commit); err != nil {
			return // the newest has to do
		}
	}
	if s.advance(ctx, snapshot, commit) != nil {
		return
	}
	s.settle(ctx, commit, func(st *stackState) (string, bool) {
		if st.asApplied() {
			return "", true
		}
		return "what " + commit + " comes to here is not what was applied: with other settings, keys, or another version; some of what differs may be that",
			st.broken == nil && st.revision == commit
	})
}

// advance makes a snapshot what the stacks want that were not looked at yet.
func (s *search) advance(ctx context.Context, snapshot fetch.Snapshot, commit string) error {
	s.loop.Only = func(stack string) bool { return s.concerns(stack, commit) }
	return s.loop.advance(ctx, s.source, snapshot)
}

func (s *search) concerns(stack, commit string) bool {
	applied, ok := s.left[stack]
	return ok && (commit == "" || applied == commit)
}

// settle looks at the stacks for which the files were found.
func (s *search) settle(ctx context.Context, commit string, found func(*stackState) (unsure string, ok bool)) {
	for _, name := range sorted(s.left) {
		st := s.loop.stacks[name]
		if st == nil || !s.concerns(name, commit) {
			continue
		}
		unsure, ok := found(st)
		if !ok {
			continue
		}
		delete(s.left, name)
		look, err := s.loop.lookAt(ctx, name, st, unsure)
		if err != nil {
			s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		s.looks = append(s.looks, look)
	}
}

// asApplied is true where what Git wants is what was applied last.
func (s *stackState) asApplied() bool {
	return s.broken == nil && s.generation > 0 && s.applied == s.generation
}

func (l *Loop) lookAt(ctx context.Context, name string, s *stackState, unsure string) (Look, error) {
	look := Look{Source: s.declared.Source, Revision: s.revision, Action: s.driftAction(), Unsure: unsure}
	if s.broken != nil {
		return look, s.broken
	}
	trip := l.trip(name, s, TriggerHand)
	trip.Secrets.Stale, trip.Secrets.Look = false, true // what can't be known is no drift; and nothing is made
	trip.Apply.Settled = true
	run := l.preview(ctx, trip)
	look.Plan = run.Plan
	if run.Err == nil && unsure == "" && l.rotated(s, run) {
		look.Unsure = "OpenBao has something else than what was applied: some of what differs may be that"
	}
	return look, run.Err
}

// driftAction is what the daemon does about drift of the stack.
func (s *stackState) driftAction() DriftAction {
	switch {
	case s.mode() != DriftCorrect, s.declared.Spec.Suspend, annotation(s.parent, SuspendAnnotation) == "true":
		return ActionLeave
	case meta.IsStatusConditionTrue(s.status.Conditions, ConditionContended):
		return ActionContend
	}
	return ActionCorrect
}
