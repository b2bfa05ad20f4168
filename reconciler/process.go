package reconciler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/render"
)

func cores() int { return runtime.GOMAXPROCS(0) }

// step is what to do about a stack now.
type step int

const (
	stepNothing step = iota
	stepBlocked      // say why it can't go on
	stepObserve      // look how its objects are doing
	stepPreview      // look whether it drifted, and leave it
	stepGo           // down the road
)

// process is what a worker does with a name from the queue.
func (l *Loop) process(ctx context.Context, name string) {
	next, trip := l.next(name)
	switch next {
	case stepGo:
		l.finish(ctx, trip, l.reconcile(ctx, trip))
	case stepPreview:
		l.previewed(ctx, trip)
	case stepObserve:
		l.observe(name)
	case stepBlocked, stepNothing:
	}
}

// reconcile goes down the road. A panic in one stack is that stack's error.
func (l *Loop) reconcile(ctx context.Context, trip Trip) (run Run) {
	defer func() {
		if p := recover(); p != nil {
			stack := make([]byte, 4096)
			run.Err = fmt.Errorf("panic: %v\n%s", p, stack[:runtime.Stack(stack, false)])
		}
	}()
	return l.Pipeline.Reconcile(ctx, trip)
}

// next decides, under the lock, from what is known now: so the newest inputs
// always win.
func (l *Loop) next(name string) (step, Trip) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	if !ok {
		return stepNothing, Trip{}
	}
	triggers := s.triggers
	s.triggers = nil
	if reason, message, stalled := l.blocked(name, s); reason != "" {
		s.status.HandledAt = s.handled
		l.say(name, s, stalled, reason, message)
		return stepBlocked, Trip{}
	}
	next, why := l.due(name, s, triggers)
	if next == stepGo && s.applied != s.generation && !s.removed {
		l.say(name, s, false, "Progressing", "applying "+s.revision)
	}
	if next == stepGo || next == stepPreview {
		return next, l.trip(name, s, why)
	}
	return next, Trip{}
}

// blocked says why a stack can't go on at all; an empty reason: it can.
func (l *Loop) blocked(name string, s *stackState) (reason, message string, stalled bool) {
	switch {
	case annotation(s.parent, SuspendAnnotation) == "true":
		return "Suspended", "suspended by hand; to go on: plumbline resume " + name, false
	case s.declared.Spec.Suspend && !s.removed:
		return "Suspended", "suspended in " + s.declared.File, false
	case s.broken != nil:
		return s.reason, s.broken.Error(), true
	case s.removed || s.applied == s.generation:
		return "", "", false
	}
	if members := cycle(name, l.dependenciesOf); members != nil {
		return "DependencyCycle", errCycle(members).Error(), true
	}
	if waits := l.waitsFor(s); len(waits) > 0 {
		return "DependencyNotReady", "waits for " + strings.Join(waits, ", "), false
	}
	return "", "", false
}

func (l *Loop) dependenciesOf(name string) []string {
	if s, ok := l.stacks[name]; ok && !s.removed {
		return s.declared.dependencies()
	}
	return nil
}

// waitsFor lists the dependencies that are not Ready with their newest inputs.
func (l *Loop) waitsFor(s *stackState) []string {
	var out []string
	for _, dep := range s.declared.dependencies() {
		d, ok := l.stacks[dep]
		switch {
		case !ok && l.readyElsewhere(dep):
		case !ok || d.removed:
			out = append(out, dep+" (no such stack)")
		case !d.current() || !d.ready:
			out = append(out, dep)
		}
	}
	return out
}

// readyElsewhere is true for a stack that another Plumbline keeps Ready.
func (l *Loop) readyElsewhere(name string) bool {
	u := l.Cluster.Stack(name)
	return u != nil && slices.ContainsFunc(statusOf(u).Conditions, func(c metav1.Condition) bool {
		return c.Type == ConditionReady && c.Status == metav1.ConditionTrue
	})
}

// due decides between a trip, a look, and nothing.
func (l *Loop) due(name string, s *stackState, triggers map[Trigger]bool) (step, Trigger) {
	switch {
	case triggers[TriggerHand]:
		return stepGo, TriggerHand
	case s.applied == s.generation && s.generation > 0 && !s.removed && (s.known == nil || triggers[TriggerInterval]):
		return l.resumed(s)
	case triggers[TriggerInterval]:
		return stepGo, TriggerInterval
	case s.failures > 0 && time.Now().Before(s.retryAt):
		return stepObserve, ""
	case s.stalled == s.generation && s.generation > 0 && !triggers[TriggerRetry]:
		return stepObserve, ""
	case s.failures > 0:
		return stepGo, TriggerRetry
	case s.applied != s.generation && triggers[TriggerDependency]:
		return stepGo, TriggerDependency
	case s.applied != s.generation:
		return stepGo, TriggerRevision
	case s.incomplete || triggers[TriggerRetry]:
		return stepGo, TriggerRetry
	case s.removed && triggers[TriggerDrift]: // handed over, or gone at last
		return stepGo, TriggerDrift
	case triggers[TriggerDrift] && l.suspicious(name, s):
		return l.drifted(name, s)
	}
	return stepObserve, ""
}

// resumed goes through a stack that Git has not changed: after a restart, and at
// the slow resync. Drift that is to be left alone is left alone.
func (l *Loop) resumed(s *stackState) (step, Trigger) {
	why := TriggerInterval
	if s.known == nil {
		why = TriggerStart
	}
	if s.mode() == DriftCorrect {
		return stepGo, why
	}
	return stepPreview, why
}

// drifted bounds how often one stack is put right: somebody may insist.
func (l *Loop) drifted(name string, s *stackState) (step, Trigger) {
	switch s.mode() {
	case DriftOff:
		return stepObserve, ""
	case DriftDetect:
		return stepPreview, TriggerDrift
	}
	since := time.Since(s.drifted)
	if since > time.Minute {
		s.drifts = 0
	}
	pause := min(time.Minute, 250*time.Millisecond<<min(max(0, s.drifts-5), 8))
	if s.drifts >= 5 && since < pause {
		if !s.pausing {
			s.pausing = true
			l.triggerAfter(name, TriggerDrift, pause-since)
		}
		return stepObserve, ""
	}
	s.drifts++
	s.drifted, s.pausing = time.Now(), false
	return stepGo, TriggerDrift
}

// suspicious compares what is known with what the watches say now. The events
// of our own writes end here.
func (l *Loop) suspicious(name string, s *stackState) bool {
	live := l.OfStack(name)
	if len(live) != len(s.known) || s.parent == nil || s.wide() {
		return true
	}
	return slices.ContainsFunc(live, func(e observe.Entry) bool {
		known, ok := s.known[apply.ID(e.ID)]
		return !ok || known.UID != e.UID || known.Fingerprint != apply.Fingerprint(e.Fingerprint) || e.Deleting
	})
}

// trip puts together what one way down the road needs.
func (l *Loop) trip(name string, s *stackState, why Trigger) Trip {
	source := l.sources[s.declared.Source]
	trip := Trip{Stack: name, Trigger: why, Revision: s.revision, Removed: s.removed, Rendered: s.rendered,
		Apply: apply.Request{
			Spec: s.declared.mirror(source.config.URL), Parent: s.parent, Known: s.known, Digest: storedDigest(s.parent),
			Prune: s.declared.Spec.prune(), Confirmed: annotation(s.parent, ConfirmAnnotation), Hold: l.hold(source, s),
			Elsewhere: func(id apply.ID) string { return l.elsewhere(name, id) },
			Foreign:   l.foreign,
		}}
	if why == TriggerHand || (why == TriggerInterval && s.recalled) { // the server is asked
		s.recalled = false
		trip.Apply.Known, trip.Apply.Digest = nil, ""
	}
	if !s.removed {
		trip.Render = l.renderRequest(s.declared, source)
	}
	trip.handled = s.handled
	trip.generation, s.hold = s.generation, trip.Apply.Hold
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
		case other == source:
		case other.failing:
			return fmt.Sprintf("source %s can't be fetched: objects may have moved there", name)
		case !other.looked.After(s.pushed):
			return fmt.Sprintf("source %s is looked at first: objects may have moved there", name)
		}
	}
	return ""
}

func (l *Loop) renderRequest(d Declared, source *sourceState) render.Request {
	request := d.Render(source.snapshot.FS)
	request.Scope = l.Scope
	return request
}

// finish takes what a trip came to.
func (l *Loop) finish(ctx context.Context, trip Trip, run Run) {
	if ctx.Err() != nil {
		return // stopping: the next start goes on from what is in the cluster
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[trip.Stack]
	if !ok {
		return
	}
	if s.recalls(trip, run) { // a restart is no reason to call it by a newer commit
		s.revision, s.recalled = s.status.Revision, true
	}
	if run.Inventory.Applied != nil {
		s.known = run.Inventory.Applied
		s.parent = newer(s.parent, run.Inventory.Parent)
	}
	s.held, s.removal = run.Plan.Held, run.Plan.Removal
	s.giving = run.Plan.Counts()[apply.ActionHandOver] > 0
	s.status.HandledAt = trip.handled // only now: whoever asked wants to hear what came of it
	if run.Err != nil {
		l.failed(trip, s, run.Err)
		return
	}
	l.succeeded(trip, s, run)
}

func (l *Loop) failed(trip Trip, s *stackState, err error) {
	s.failures++
	s.missing = apply.UnknownKind(err)
	s.clash(err)
	if apply.Terminal(err) || inputsToBlame(err) {
		s.stalled, s.failures = trip.generation, 0
		l.say(trip.Stack, s, true, "Refused", err.Error())
		l.setReady(trip.Stack, s, false)
		return
	}
	delay := backoff(s.failures)
	s.retryAt = time.Now().Add(delay - time.Millisecond)
	l.triggerAfter(trip.Stack, TriggerRetry, delay)
	l.say(trip.Stack, s, false, "Retrying", err.Error())
}

// backoff doubles from half a second to two minutes, with jitter.
func backoff(failures int) time.Duration {
	delay := min(2*time.Minute, 500*time.Millisecond<<min(failures-1, 10))
	return delay/2 + rand.N(delay/2)
}

func (l *Loop) succeeded(trip Trip, s *stackState, run Run) {
	s.failures, s.missing = 0, false
	if s.stalled == trip.generation {
		s.stalled = 0
	}
	s.incomplete = run.Inventory.Partial || len(run.Inventory.Waiting) > 0
	if s.applied != trip.generation {
		s.deadline = time.Time{} // a new rollout, a new deadline
	}
	s.applied = trip.generation
	if s.generation == trip.generation {
		s.status.Applied = s.revision
		if !s.incomplete {
			s.status.Desired = s.desired
		}
	}
	if run.Changed() > 0 {
		l.tellOthers(trip.Stack)
	}
	if s.removed && run.Inventory.Parent == nil {
		l.forget(trip.Stack, s)
		return
	}
	if s.generation != trip.generation {
		l.queue.Add(trip.Stack) // newer inputs came in the meantime
		return
	}
	if !s.incomplete {
		s.rendered, s.partials = nil, 0
	} else if l.mayGoOn(run.Inventory) {
		l.triggerAfter(trip.Stack, TriggerRetry, min(2*time.Minute, 50*time.Millisecond<<min(s.partials, 12)))
		s.partials++
	}
	l.askAround(s)
	l.settle(trip.Stack, s, run.Health)
}

// askAround looks at the other sources when deletions wait for that.
func (l *Loop) askAround(s *stackState) {
	if s.held == "" || s.hold == "" {
		return
	}
	for name, other := range l.sources {
		if name != s.declared.Source && !other.looked.After(s.pushed) {
			_ = l.Poke(name) // it is one of ours
		}
	}
}

// tellOthers lets stacks look again that give objects away, or wait for what
// others bring: the watches don't tell of our own writes.
func (l *Loop) tellOthers(stack string) {
	for name, s := range l.stacks {
		if name != stack && (s.giving || s.incomplete) {
			l.trigger(name, TriggerRetry)
		}
	}
}

// mayGoOn is true when what a partial apply waited for is there already: its
// event may have come before anybody listened. What another stack brings is
// waited for until that stack tells.
func (l *Loop) mayGoOn(inv apply.Inventory) bool {
	laid := false
	for _, id := range inv.IDs() {
		if id.Kind == "CustomResourceDefinition" || id.Kind == "Namespace" {
			if e, ok := l.Watched(observe.ID(id)); !ok || e.Status != status.CurrentStatus {
				return false
			}
			laid = true
		}
	}
	return inv.Partial && laid
}

// look is observe for a stack that nothing stands in the way of.
func (l *Loop) look(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.stacks[name]; ok {
		if reason, _, _ := l.blocked(name, s); reason == "" {
			l.observeStack(name, s)
		}
	}
}

// observe looks at the stack's objects. It costs no request.
func (l *Loop) observe(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.stacks[name]; ok {
		l.observeStack(name, s)
	}
}

func (l *Loop) observeStack(name string, s *stackState) {
	if s.stalled == s.generation || s.applied == 0 || s.known == nil || s.failures > 0 || s.removed {
		return
	}
	ids := slices.SortedFunc(slices.Values(s.wants), apply.ID.Compare)
	l.settle(name, s, healthOf(ids, l.Watched))
}

// settle says how the stack is doing, and wakes who waited for it.
func (l *Loop) settle(name string, s *stackState, h Health) {
	ready := !s.removed && s.current() && h.Ready()
	s.status.Objects = fmt.Sprintf("%d/%d", h.Current, h.Total)
	switch {
	case s.removed:
		l.say(name, s, false, "Removing", orString(s.held, "its objects are on their way out"))
	case ready:
		s.deadline, s.status.Digest = time.Time{}, apply.Digest(s.known)
		l.say(name, s, false, "Ready", h.String())
	case l.overdue(name, s):
		l.say(name, s, true, "RolloutFailed", h.String())
	default:
		l.say(name, s, false, "Progressing", h.String())
	}
	l.setReady(name, s, ready)
}

// overdue is true when the stack has not been Ready for longer than it may. The
// clock starts when it ceases to be, and with every rollout.
func (l *Loop) overdue(name string, s *stackState) bool {
	if !s.current() {
		return false
	}
	if s.deadline.IsZero() {
		timeout := s.declared.Spec.Ready.Timeout.or(5 * time.Minute)
		s.deadline = time.Now().Add(timeout)
		l.triggerAfter(name, TriggerHealth, timeout+time.Millisecond)
	}
	return time.Now().After(s.deadline)
}

// setReady wakes the dependants in the moment a stack becomes Ready.
func (l *Loop) setReady(name string, s *stackState, ready bool) {
	was := s.ready
	s.ready = ready
	if !ready || was {
		return
	}
	if s.announce {
		s.announce = false
		l.Log.Info("stack ready", "stack", name, "revision", s.revision, "objects", s.status.Objects,
			"leadTime", time.Since(s.pushed).Round(time.Millisecond).String())
	}
	for other, o := range l.stacks {
		if o.applied != o.generation && slices.Contains(o.declared.dependencies(), name) {
			l.trigger(other, TriggerDependency)
		}
	}
}

// previewed reports drift that the stack wants left alone.
func (l *Loop) previewed(ctx context.Context, trip Trip) {
	plan, err := l.Pipeline.Preview(ctx, trip)
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[trip.Stack]
	if !ok {
		return
	}
	if err != nil {
		l.failed(trip, s, err)
		return
	}
	s.failures, s.known, s.status.HandledAt = 0, plan.Known(), trip.handled
	if drift := plan.String(); drift != s.drift {
		s.drift = drift
		if plan.Differs() && s.mode() != DriftOff {
			l.Log.Warn("drift detected", "stack", trip.Stack, "revision", trip.Revision, "plan", drift)
		}
	}
	l.observeStack(trip.Stack, s)
}

func orString(s, fallback string) string {
	if s != "" {
		return s
	}
	return fallback
}
