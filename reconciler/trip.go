package reconciler

import (
	"fmt"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/render"
)

// trip puts together what one way down the road needs.
func (l *Loop) trip(name string, s *stackState, why Trigger) Trip {
	source := l.sources[s.declared.Source]
	trip := Trip{Stack: name, Trigger: why, Revision: s.revision, Removed: s.removed, Rendered: s.rendered,
		Apply: apply.Request{
			Spec: s.declared.mirror(source.config.URL), Parent: s.parent, Known: s.known, Digest: storedDigest(s.parent),
			Prune: s.declared.Spec.prune(), Confirmed: annotation(s.parent, ConfirmAnnotation), Hold: l.hold(source, s),
			Elsewhere: func(id apply.ID) string { return l.elsewhere(name, id) },
			Foreign:   l.foreign,
			Reserved:  l.Secrets.Reserved,
			Ignore:    s.declared.Spec.Drift.ignored(),
			Settled:   s.applied == s.generation && s.generation > 0 && !s.removed && why != TriggerSecrets,
		}}
	trip.Unseal, trip.Secrets = l.sealed(s.declared)
	trip.Secrets.Fresh, trip.Secrets.Stale = why == TriggerHand, s.applied == s.generation
	trip.Restart, trip.Key = s.declared.Spec.Secrets.Restart, l.Secrets.Key
	if why == TriggerHand || (why == TriggerInterval && s.recalled) { // the server is asked
		s.recalled = false
		trip.Apply.Known, trip.Apply.Digest = nil, ""
	}
	if !s.removed {
		trip.Render = l.renderRequest(s.declared, source)
		if s.tree != nil {
			trip.Render.FS = s.tree
		}
	}
	trip.seen, s.seen = s.seen, nil
	trip.handled = s.handled
	trip.generation, s.hold = s.generation, trip.Apply.Hold
	trip.delivery = l.deliveryFor(name, s, why)
	return trip
}

// hold is a reason not to delete anything: what could not be read may hold what
// seems to be gone.
func (l *Loop) hold(source *sourceState, s *stackState) string {
	if s.unsure != "" {
		return s.unsure
	}
	for _, name := range sorted(l.sources) {
		other := l.sources[name]
		switch {
		case other.broken > 0:
			return fmt.Sprintf("%d other stacks of source %s can't be read or rendered: objects may have moved there", other.broken, name)
		case l.heldBack(name) > 0:
			return fmt.Sprintf("the gate holds back %d stacks of source %s: objects may have moved there", l.heldBack(name), name)
		case other == source:
		case other.failing:
			return fmt.Sprintf("source %s can't be fetched: objects may have moved there", name)
		case !other.looked.After(s.pushed):
			return "source " + name + lookedAtFirst
		}
	}
	return ""
}

// lookedAtFirst ends the reason for a hold that is over in a moment.
const lookedAtFirst = " is looked at first: objects may have moved there"

func (l *Loop) renderRequest(d Declared, source *sourceState) render.Request {
	request := d.Render(source.snapshot.FS)
	request.Scope = l.Scope
	return request
}
