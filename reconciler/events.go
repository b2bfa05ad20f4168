package reconciler

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
)

// Kinds of Events, as Kubernetes has them.
const (
	EventNormal  = "Normal"
	EventWarning = "Warning"
)

// Reasons of Events that are no reasons of conditions. Others are as in docs/errors.md.
const eventHeld = "DeletionsHeld"

const (
	reasonSecretsAway = "SecretsUnavailable"
	reasonLate        = "RolloutFailed"
	reasonRemoving    = "Removing"
)

// Bounds of Events: the API takes messages of 1 KiB, of which whoever sends them may
// need some to say that one stands for several.
const (
	eventBytes  = 960
	eventsAhead = 8 // before there is a Stack object to tell of
)

// event is what is said of a stack to those who look at its object.
type event struct{ kind, reason, message string }

// event tells whoever looks at the Stack object what happened to the stack: as soon
// as there is one. Loop.mu is held.
func (l *Loop) event(s *stackState, name, kind, reason, message string) {
	if l.Event == nil || len(s.events) == eventsAhead {
		return
	}
	message = strings.ToValidUTF8(short(s.shown(message), eventBytes), "")
	s.events = append(s.events, event{kind, reason, message})
	l.sendEvents(name, s)
}

func (l *Loop) sendEvents(name string, s *stackState) {
	parent := s.parent
	if parent == nil && len(s.events) > 0 {
		parent = l.Cluster.Stack(name)
	}
	if parent == nil {
		return
	}
	for _, e := range s.events {
		l.Event(parent, e.kind, e.reason, e.message)
	}
	s.events = nil
}

// eventSaid tells of those states that ask for somebody: each once, until the stack
// was Ready or has newer inputs. message is masked.
func (l *Loop) eventSaid(name string, s *stackState, stalled bool, reason, message string) {
	switch {
	case reason == "Ready":
		s.warned = ""
	case reason == reasonRemoving && s.held == "":
		if s.warned != reason {
			s.warned = reason
			l.event(s, name, EventNormal, reason, message)
		}
	case stalled || reason == reasonSecretsAway:
		l.warn(name, s, toldAs(reason, message), reason, message)
	}
	l.eventHolding(name, s)
}

func (l *Loop) warn(name string, s *stackState, key, reason, message string) {
	if s.warned != key {
		s.warned = key
		l.event(s, name, EventWarning, reason, message)
	}
}

// toldAs is what one Event is enough for. The messages of some reasons change while
// nothing else does.
func toldAs(reason, message string) string {
	switch reason {
	case reasonLate, reasonSecretsAway, reasonRemoving:
		return reason
	}
	return reason + "\n" + short(message, messageBytes)
}

// toldBefore is what the Events of the process before this one said, by the status
// that it left.
func toldBefore(status Status) (warned, holding string) {
	if ready := meta.FindStatusCondition(status.Conditions, ConditionReady); ready != nil {
		warned = toldAs(ready.Reason, ready.Message)
	}
	if meta.IsStatusConditionFalse(status.Conditions, ConditionSecrets) {
		warned = reasonSecretsAway
	}
	if status.Held != nil {
		holding = status.Held.Removal
	}
	return warned, holding
}

// eventHolding tells of deletions that are held, but for as long as another source
// is looked at.
func (l *Loop) eventHolding(name string, s *stackState) {
	switch {
	case s.held == "":
		s.holding = ""
	case s.holding != s.removal && !strings.HasSuffix(s.held, lookedAtFirst):
		s.holding = s.removal
		message := s.held
		if !strings.Contains(message, "--confirm") {
			message += fmt.Sprintf("; to delete all the same: plumbline reconcile %s --confirm %s", name, s.removal)
		}
		l.event(s, name, EventWarning, eventHeld, message)
	}
}

// eventReady tells of a rollout that came to its end.
func (l *Loop) eventReady(name string, s *stackState) {
	l.event(s, name, EventNormal, "Ready", fmt.Sprintf("%s: %s objects ready, %s after the commit was seen",
		s.revision[:min(len(s.revision), 12)], s.status.Objects, time.Since(s.pushed).Round(time.Millisecond)))
}

// eventDrift tells of the drift that one run found: one Event, however many objects.
func (l *Loop) eventDrift(s *stackState, name, kind, reason string, drifts []string) {
	if n := len(drifts); n == 1 {
		l.event(s, name, kind, reason, drifts[0])
	} else if n > 1 {
		l.event(s, name, kind, reason, fmt.Sprintf("%d objects: %s", n, someOf(drifts)))
	}
}
