package reconciler

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/secrets"
)

// ConditionSecrets is on stacks that read something from OpenBao.
const ConditionSecrets = "SecretsResolved"

// rotate looks now and then whether OpenBao would give something else than it
// did, and sets exactly those stacks in motion that read it.
func (l *Loop) rotate(ctx context.Context) {
	if l.Secrets.Bao == nil {
		return
	}
	tick := time.NewTicker(l.Config.Secrets.OpenBao.Interval.or(time.Minute))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.lookAtSecrets(ctx, l.Secrets.Bao.Moved)
		}
	}
}

// movedFunc is secrets.Bao.Moved.
type movedFunc func(context.Context, map[secrets.Read]secrets.Version) (map[secrets.Read]string, error)

func (l *Loop) lookAtSecrets(ctx context.Context, moved movedFunc) {
	for _, round := range l.reads() {
		changes, err := moved(ctx, round)
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		for name, s := range l.stacks {
			l.secretsMoved(name, s, round, changes, err)
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, s := range l.stacks {
		if s.refused {
			s.retryAt = time.Time{}
			l.trigger(name, TriggerRetry)
		}
	}
}

// reads is what the stacks have read: in one round, but where two have read the
// same at different times.
func (l *Loop) reads() []map[secrets.Read]secrets.Version {
	l.mu.Lock()
	defer l.mu.Unlock()
	rounds := []map[secrets.Read]secrets.Version{}
	for _, name := range sorted(l.stacks) {
		for read, version := range l.stacks[name].reads {
			fits := func(round map[secrets.Read]secrets.Version) bool {
				other, taken := round[read]
				return !taken || other == version
			}
			i := slices.IndexFunc(rounds, fits)
			if i < 0 {
				i, rounds = len(rounds), append(rounds, map[secrets.Read]secrets.Version{})
			}
			rounds[i][read] = version
		}
	}
	return rounds
}

// secretsMoved tells one stack what became of what it read.
func (l *Loop) secretsMoved(name string, s *stackState, round map[secrets.Read]secrets.Version, changes map[secrets.Read]string, err error) {
	if len(s.reads) == 0 {
		return
	}
	if err != nil {
		l.saySecrets(name, s, err)
		return
	}
	for read, version := range s.reads {
		why, moved := changes[read]
		if moved && round[read] == version {
			l.Log.Info("secret moved", "stack", name, "path", read.Path, "why", why)
			l.trigger(name, TriggerSecrets)
			return
		}
	}
	if s.stale != "" { // OpenBao is back
		l.trigger(name, TriggerSecrets)
	}
}

// opened notes what a trip read, and whether it could.
func (l *Loop) opened(trip Trip, s *stackState, run Run) {
	if trip.Secrets.Redactor != nil {
		s.redactor = trip.Secrets.Redactor
	}
	s.refused = refused(run.Err)
	if run.Secrets.Reads != nil || run.Err == nil {
		s.reads = run.Secrets.Reads
		l.saySecrets(trip.Stack, s, run.Secrets.Stale)
	}
}

// saySecrets says whether the stack's references could be read. What is applied
// stays, and so does Ready.
func (l *Loop) saySecrets(name string, s *stackState, err error) {
	before := s.stale
	s.stale = ""
	if err != nil {
		s.stale = err.Error()
	}
	if len(s.reads) == 0 && s.stale == "" {
		s.status.Conditions = slices.DeleteFunc(slices.Clone(s.status.Conditions), func(c metav1.Condition) bool { return c.Type == ConditionSecrets })
		return
	}
	condition := metav1.Condition{Type: ConditionSecrets, Status: metav1.ConditionTrue, Reason: "Read"}
	if s.stale != "" {
		condition.Status, condition.Reason = metav1.ConditionFalse, "OpenBaoUnavailable"
		condition.Message = short(s.redactor.Text(s.stale), messageBytes)
	}
	setCondition(&s.status.Conditions, condition)
	if before == s.stale {
		return
	}
	if before == "" || s.stale == "" {
		l.Log.Warn("secrets", "stack", name, "available", s.stale == "", "error", s.redactor.Text(s.stale))
	}
	l.statuses.Add(name)
}
