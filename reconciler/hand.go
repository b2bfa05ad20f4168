package reconciler

import (
	"context"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// sourcePrefix tells a source's name from a stack's in the queue of statuses;
// no stack's name holds a slash.
const sourcePrefix = "source/"

// stackMoved takes what happens to Stack objects: what people ask for by their
// annotations, and that somebody deleted one.
func (l *Loop) stackMoved(u *unstructured.Unstructured, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := u.GetName()
	s, ok := l.stacks[name]
	if !ok {
		return
	}
	if gone {
		if s.parent != nil && s.parent.GetUID() == u.GetUID() {
			s.parent = nil
			l.trigger(name, TriggerDrift)
		}
		return
	}
	before := s.parent
	s.parent = newer(s.parent, u)
	if annotation(before, SuspendAnnotation) != annotation(s.parent, SuspendAnnotation) {
		l.trigger(name, TriggerDrift)
	}
	l.asked(name, s)
}

// asked notes a request by hand, once, and looks at the source first.
func (l *Loop) asked(name string, s *stackState) {
	at := annotation(s.parent, RequestAnnotation)
	if at == "" || at == s.handled || at == s.asked {
		return
	}
	s.asked, s.askedAt = at, time.Now()
	s.anew = true
	l.judgeAgain(name)
	if l.Poke(s.declared.Source) != nil { // a source that is gone has nothing to look at
		l.takeUp(name, s)
	}
}

// takeUp carries out a request by hand, after its source was looked at.
func (l *Loop) takeUp(name string, s *stackState) {
	s.handled, s.stalled, s.failures, s.drifts = s.asked, 0, 0, 0
	l.trigger(name, TriggerHand)
}

// lookedAt ends a look at a source that began at that time: who asked before it
// has the newest commit now.
func (l *Loop) lookedAt(source *sourceState, began time.Time, request string) {
	source.looked, source.handled = began, request
	for name, s := range l.stacks {
		if s.declared.Source == source.config.Name && s.asked != s.handled && s.askedAt.Before(began) {
			l.takeUp(name, s)
		}
	}
}

// sourceMoved takes requests to look at a source.
func (l *Loop) sourceMoved(u *unstructured.Unstructured, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.sources[u.GetName()]
	if !ok {
		return
	}
	if gone {
		l.statuses.Add(sourcePrefix + s.config.Name)
		return
	}
	if at := annotation(u, RequestAnnotation); at != "" && at != s.asked {
		s.asked = at
		_ = l.Poke(s.config.Name)
	}
}

// writeSource is writeStatus for a source.
func (l *Loop) writeSource(ctx context.Context, key string) {
	l.mu.Lock()
	s, ok := l.sources[strings.TrimPrefix(key, sourcePrefix)]
	if !ok {
		l.mu.Unlock()
		return
	}
	config, status := s.config, s.status
	l.mu.Unlock()
	if len(status.Conditions) == 0 {
		return
	}
	if err := l.Cluster.WriteSource(ctx, config, status); err != nil && ctx.Err() == nil {
		l.Log.Warn("status not written", "source", config.Name, "error", err.Error())
		l.statuses.AddAfter(key, 5*time.Second)
	}
}
