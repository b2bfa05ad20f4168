package reconciler

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
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

// movedFunc is secrets.Bao.Moved: which reads would give something else, and which
// can't be looked at.
type movedFunc func(context.Context, map[secrets.Read]secrets.Version) (moved map[secrets.Read]string, failed map[secrets.Read]error)

func (l *Loop) lookAtSecrets(ctx context.Context, look movedFunc) {
	asked := l.reads()
	moved, failed := look(ctx, asked)
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, s := range l.stacks {
		switch {
		case s.refused:
			l.tryAgain(name, s)
		case len(s.reads) > 0:
			l.secretsMoved(name, s, asked, moved, failed)
		}
	}
}

// tryAgain looks again for what OpenBao did not give. Where drift is to be left
// alone, what is applied is not applied again for that.
func (l *Loop) tryAgain(name string, s *stackState) {
	s.retryAt = time.Time{}
	if s.applied == s.generation {
		l.trigger(name, TriggerSecrets)
		return
	}
	l.trigger(name, TriggerRetry)
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

// secretsMoved tells one stack what became of what it read: unless it has read it
// again in the meantime.
func (l *Loop) secretsMoved(name string, s *stackState, asked map[secrets.Read]secrets.Version, moved map[secrets.Read]string, failed map[secrets.Read]error) {
	var away, unseen error
	for _, read := range sortedReads(s.reads) {
		version := s.reads[read]
		why, changed := moved[read]
		switch err := failed[read]; {
		case asked[read] != version:
		case changed && version != "":
			if !s.moved {
				l.Log.Info(telemetry.MsgSecretMoved, "stack", name, "path", read.Path, "why", s.masked(why))
			}
			s.moved = true
		case away == nil && secrets.Unavailable(err):
			away = err
		case unseen == nil && err != nil:
			unseen = err
		}
	}
	l.sayUnseen(name, s, unseen)
	switch {
	case s.moved:
		l.trigger(name, TriggerSecrets)
	case away != nil:
		l.saySecrets(name, s, away)
	case s.stale != "": // OpenBao is back
		l.trigger(name, TriggerSecrets)
	}
}

// sayUnseen tells, once, why a stack's secrets can't be looked at: they are read
// all the same, with the resync or by hand.
func (l *Loop) sayUnseen(name string, s *stackState, err error) {
	text := ""
	if err != nil {
		text = s.masked(err.Error())
	}
	if text != "" && text != s.unseen {
		l.Log.Warn("secrets rotate with the resync only", "stack", name, "error", text)
	}
	s.unseen = text
}

// opened notes what a trip read, and whether it could.
func (l *Loop) opened(trip Trip, s *stackState, run Run) {
	s.refused = refused(run.Err)
	if run.Err == nil {
		s.newest, s.live = trip.Secrets.Redactor, trip.Secrets.Redactor
	}
	if run.Secrets.Reads != nil || run.Err == nil {
		s.reads = run.Secrets.Reads
		l.saySecrets(trip.Stack, s, run.Secrets.Stale)
	}
}

// rotated is true where a preview has read something else than was applied last:
// what OpenBao has is wanted as what Git has, and no drift.
func (l *Loop) rotated(s *stackState, run Run) bool {
	now, known := l.versions(run.Secrets.Reads)
	return known && now != s.status.Secrets
}

// versions sums up what was read, for those who have the key. known is false where
// some of it was not.
func (l *Loop) versions(reads map[secrets.Read]secrets.Version) (sum string, known bool) {
	if len(reads) == 0 {
		return "", true
	}
	var parts []string
	for _, read := range sortedReads(reads) {
		if reads[read] == "" {
			return "", false
		}
		parts = append(parts, fmt.Sprintf("%q", read), string(reads[read]))
	}
	return base64.RawURLEncoding.EncodeToString(l.Secrets.Key.Sum("versions", parts...)[:16]), true
}

func sortedReads(reads map[secrets.Read]secrets.Version) []secrets.Read {
	return slices.SortedFunc(maps.Keys(reads), func(a, b secrets.Read) int {
		return slices.Compare([]string{a.Path, a.Query, a.Keys}, []string{b.Path, b.Query, b.Keys})
	})
}

// saySecrets says whether the stack's references could be read. What is applied
// stays, and so does Ready.
func (l *Loop) saySecrets(name string, s *stackState, err error) {
	before := s.stale
	s.stale = ""
	if err != nil {
		s.stale = s.masked(err.Error())
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
		condition.Message = short("what was read last stays applied: "+s.stale, messageBytes)
	}
	setCondition(&s.status.Conditions, condition)
	if before == s.stale {
		return
	}
	switch {
	case before == "":
		l.Log.Warn(telemetry.MsgSecretsAway, "stack", name, "error", s.stale)
		l.warn(name, s, reasonSecretsAway, reasonSecretsAway, condition.Message)
	case s.stale == "":
		l.Log.Info(telemetry.MsgSecretsBack, "stack", name)
	}
	l.statuses.Add(name)
}

// refused is true where OpenBao has not what a stack refers to, or does not give
// it: what is in Git may be right, so it is asked again now and then.
func refused(err error) bool {
	if secrets.Unavailable(err) {
		return false
	}
	return slices.ContainsFunc(referenceErrors(err), func(e *secrets.ReferenceError) bool { return !e.InputFault() })
}

// misreferred is true where only a commit, or the operator, can help.
func misreferred(err error) bool {
	return !secrets.Unavailable(err) && !refused(err) && len(referenceErrors(err)) > 0
}

func referenceErrors(err error) (all []*secrets.ReferenceError) {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			all = append(all, referenceErrors(e)...)
		}
		return all
	}
	var one *secrets.ReferenceError
	if errors.As(err, &one) {
		all = append(all, one)
	}
	return all
}
