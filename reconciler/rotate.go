package reconciler

import (
	"context"
	"maps"
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
	reads := l.reads()
	changes, err := moved(ctx, reads)
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saySome(err)
	for name, s := range l.stacks {
		switch {
		case s.refused:
			s.retryAt = time.Time{}
			l.trigger(name, TriggerRetry)
		case len(s.reads) == 0:
		case secrets.Unavailable(err):
			l.saySecrets(name, s, err)
		default:
			l.secretsMoved(name, s, reads, changes)
		}
	}
}

// saySome tells, once, why some secrets can't be looked at.
func (l *Loop) saySome(err error) {
	text := ""
	if err != nil && !secrets.Unavailable(err) {
		text = err.Error()
	}
	if text != "" && text != l.unseen {
		l.Log.Warn("secrets not looked at: they rotate with the resync, or by hand", "error", text)
	}
	l.unseen = text
}

// reads is what the stacks have read.
func (l *Loop) reads() map[secrets.Read]secrets.Version {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[secrets.Read]secrets.Version{}
	for _, s := range l.stacks {
		maps.Copy(all, s.reads)
	}
	return all
}

// secretsMoved sets a stack in motion that read what has moved, unless it has read
// it again in the meantime.
func (l *Loop) secretsMoved(name string, s *stackState, asked map[secrets.Read]secrets.Version, changes map[secrets.Read]string) {
	for read, version := range s.reads {
		if why, moved := changes[read]; moved && asked[read] == version {
			if s.stale == "" {
				l.Log.Info("secret moved", "stack", name, "path", read.Path, "why", why)
			}
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
		condition.Status, condition.Reason = metav1.ConditionFalse, "Refused"
		if secrets.Unavailable(err) {
			condition.Reason = "OpenBaoUnavailable"
		}
		condition.Message = short("what was read last stays applied: "+s.redactor.Text(s.stale), messageBytes)
	}
	setCondition(&s.status.Conditions, condition)
	if before == s.stale {
		return
	}
	switch {
	case before == "":
		l.Log.Warn("secrets unavailable", "stack", name, "error", s.redactor.Text(s.stale))
	case s.stale == "":
		l.Log.Info("secrets available again", "stack", name)
	}
	l.statuses.Add(name)
}
