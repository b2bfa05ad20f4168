package reconciler

import (
	"context"
	"strings"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// claim notes anew who wants what. A stack whose claims stood in the way of
// another's may have let go.
func (l *Loop) claim() {
	claims := map[apply.ID][]string{}
	for _, name := range sorted(l.stacks) {
		for _, id := range l.stacks[name].wants {
			claims[id] = append(claims[id], name)
		}
	}
	l.claims = claims
	for name, s := range l.stacks {
		if s.clashed {
			s.clashed, s.stalled = false, 0
			l.trigger(name, TriggerRetry)
		}
	}
}

// release tries again where the reason to hold deletions is another now, or none.
func (l *Loop) release() {
	for name, s := range l.stacks {
		if source := l.sources[s.declared.Source]; source != nil && s.held != "" && s.hold != l.hold(source, s) {
			l.trigger(name, TriggerRetry)
		}
	}
}

// elsewhere is another stack that wants the object.
func (l *Loop) elsewhere(stack string, id apply.ID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, other := range l.claims[id] {
		if other != stack {
			return other
		}
	}
	return ""
}

// foreign is true for a stack of which we don't know what it wants: another
// Plumbline's, or one that could not be read since the start.
func (l *Loop) foreign(stack string) bool {
	if l.Cluster.Stack(stack) == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	source, _, _ := strings.Cut(stack, ".")
	if l.sources[source] == nil || !l.sources[source].advanced {
		return true
	}
	s, ok := l.stacks[stack]
	return ok && (s.broken != nil || s.gate != nil) && len(s.wants) == 0
}

// forget ends a stack that left Git and the cluster.
func (l *Loop) forget(name string, s *stackState) {
	delete(l.stacks, name)
	if s.judging != nil {
		s.judging()
	}
	l.drifts.forget(name)
	if l.Forget != nil {
		l.Forget(name)
	}
	l.Secrets.Bao.Forget(s.declared.Source, name)
	l.judged(Declared{Name: name})
	s.delivery.Ended(telemetry.ResultSuccess, nil)
	l.Log.InfoContext(s.delivery.Context(context.Background()), "stack removed", "stack", name, "revision", s.revision)
}
