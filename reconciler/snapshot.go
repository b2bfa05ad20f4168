package reconciler

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// Turns is how often a stack had its turn so far.
func (l *Loop) Turns() int64 { return l.turns.Load() }

// Snapshot is how all stacks are now, for whoever measures it. It may be called
// from anywhere, at any time.
func (l *Loop) Snapshot() telemetry.Snapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := telemetry.Snapshot{Queues: map[string]int{"stacks": l.queue.Len(), "looks": l.looks.Len(), "statuses": l.statuses.Len()}}
	available := true
	for _, name := range sorted(l.stacks) {
		s := l.stacks[name]
		m := s.measured(name)
		m.Drift = l.drifts.kinds(name)
		now.Stacks = append(now.Stacks, m)
		available = available && !s.withoutBao()
	}
	for _, name := range sorted(l.stacks) {
		for _, e := range l.stacks[name].verdict.exceptions {
			if !e.Expires.IsZero() {
				now.Exceptions = append(now.Exceptions, telemetry.Exception{Stack: name, ID: e.ID, Expires: e.Expires})
			}
		}
	}
	if l.Secrets.Bao != nil {
		now.OpenBao = &available
	}
	return now
}

func (s *stackState) measured(name string) telemetry.Stack {
	conditions := s.status.Conditions
	m := telemetry.Stack{Name: name, Source: s.declared.Source, Revision: s.revision,
		Contended: len(s.contended) > 0, Denied: s.gate != nil && s.gate.reason == reasonDenied, Findings: map[string]int{},
		Ready: meta.IsStatusConditionTrue(conditions, ConditionReady), Stalled: meta.IsStatusConditionTrue(conditions, ConditionStalled)}
	if ready := meta.FindStatusCondition(conditions, ConditionReady); ready != nil {
		m.Suspended = ready.Reason == "Suspended"
	}
	for severity, n := range s.verdict.counts {
		m.Findings[string(severity)] = n
	}
	_, _ = fmt.Sscanf(s.status.Objects, "%d/%d", &m.ReadyObjects, &m.Objects) // empty before the first look
	return m
}

// withoutBao is true for a stack that could not read what it refers to.
func (s *stackState) withoutBao() bool {
	for kind, reason := range map[string]string{ConditionSecrets: "OpenBaoUnavailable", ConditionReady: "SecretsUnavailable"} {
		if c := meta.FindStatusCondition(s.status.Conditions, kind); c != nil && c.Reason == reason {
			return true
		}
	}
	return false
}
