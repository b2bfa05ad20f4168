package reconciler

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

// TestDue is the order of precedence: what a stack does about its triggers.
func TestDue(t *testing.T) {
	id := apply.ID{Kind: "ConfigMap", Name: "a"}
	settled := func() *stackState {
		return &stackState{generation: 3, applied: 3, parent: &unstructured.Unstructured{},
			known: map[apply.ID]apply.Applied{id: {UID: "1"}}}
	}
	with := func(change func(*stackState)) *stackState { s := settled(); change(s); return s }
	detect := func(s *stackState) { s.declared.Spec.Drift.Mode = DriftDetect }
	for _, test := range []struct {
		name     string
		state    *stackState
		triggers []Trigger
		moved    bool // the cluster is not as it is known
		step     step
		why      Trigger
	}{
		{"all is well", settled(), []Trigger{TriggerHealth}, false, stepObserve, ""},
		{"a new generation", with(func(s *stackState) { s.generation = 4 }), []Trigger{TriggerRevision}, false, stepGo, TriggerRevision},
		{"what it waited for came", with(func(s *stackState) { s.generation = 4 }), []Trigger{TriggerDependency}, false, stepGo, TriggerDependency},
		{"an event of our own write", settled(), []Trigger{TriggerDrift}, false, stepObserve, ""},
		{"drift", settled(), []Trigger{TriggerDrift}, true, stepGo, TriggerDrift},
		{"drift to look at", with(detect), []Trigger{TriggerDrift}, true, stepPreview, TriggerDrift},
		{"drift to ignore", with(func(s *stackState) { s.declared.Spec.Drift.Mode = DriftOff }), []Trigger{TriggerDrift}, true, stepObserve, ""},
		{"the resync", settled(), []Trigger{TriggerInterval}, false, stepGo, TriggerInterval},
		{"the resync, drift to look at", with(detect), []Trigger{TriggerInterval}, true, stepPreview, TriggerInterval},
		{"a restart", with(func(s *stackState) { s.known = nil }), []Trigger{TriggerRevision}, false, stepGo, TriggerStart},
		{"a restart, drift to look at", with(func(s *stackState) { s.known = nil; detect(s) }), []Trigger{TriggerRevision}, true, stepPreview, TriggerStart},
		{"stalled, and drift", with(func(s *stackState) { s.generation, s.stalled = 4, 4 }), []Trigger{TriggerDrift}, true, stepObserve, ""},
		{"stalled, and a hand", with(func(s *stackState) { s.generation, s.stalled = 4, 4 }), []Trigger{TriggerHand}, false, stepGo, TriggerHand},
		{"stalled, and the resync", with(func(s *stackState) { s.generation, s.stalled = 4, 4 }), []Trigger{TriggerInterval}, false, stepGo, TriggerInterval},
		{"stalled, and what stood in the way is gone", with(func(s *stackState) { s.generation, s.stalled = 4, 4 }), []Trigger{TriggerRetry}, false, stepGo, TriggerRevision},
		{"what it read from OpenBao moved", settled(), []Trigger{TriggerSecrets}, false, stepGo, TriggerSecrets},
		{"the same, where drift is only looked at", with(func(s *stackState) { detect(s); s.moved = true }), []Trigger{TriggerSecrets, TriggerInterval}, false, stepGo, TriggerSecrets},
		{"OpenBao is back, where drift is only looked at", with(detect), []Trigger{TriggerSecrets}, false, stepPreview, TriggerSecrets},
		{"both wait for a new generation", with(func(s *stackState) { s.generation = 4 }), []Trigger{TriggerSecrets}, false, stepGo, TriggerRevision},
		{"stalled, and newer inputs", with(func(s *stackState) { s.generation, s.stalled = 5, 4 }), []Trigger{TriggerRevision}, false, stepGo, TriggerRevision},
		{"backing off", with(func(s *stackState) { s.failures, s.retryAt = 2, time.Now().Add(time.Hour) }), []Trigger{TriggerDrift}, true, stepObserve, ""},
		{"backing off, and a hand", with(func(s *stackState) { s.failures, s.retryAt = 2, time.Now().Add(time.Hour) }), []Trigger{TriggerHand}, false, stepGo, TriggerHand},
		{"backed off", with(func(s *stackState) { s.failures = 2 }), []Trigger{TriggerRetry}, false, stepGo, TriggerRetry},
		{"half applied", with(func(s *stackState) { s.incomplete = true }), []Trigger{TriggerDrift}, false, stepGo, TriggerRetry},
		{"removed, and something went", with(func(s *stackState) { s.removed = true }), []Trigger{TriggerDrift}, false, stepGo, TriggerDrift},
	} {
		t.Run(test.name, func(t *testing.T) {
			loop := &Loop{OfStack: func(string) []observe.Entry {
				if test.moved {
					return nil
				}
				return []observe.Entry{{ID: observe.ID(id), UID: "1"}}
			}}
			triggers := map[Trigger]bool{}
			for _, why := range test.triggers {
				triggers[why] = true
			}
			if step, why := loop.due("home.a", test.state, triggers); step != test.step || why != test.why {
				t.Errorf("got %v %q, want %v %q", step, why, test.step, test.why)
			}
		})
	}
}
