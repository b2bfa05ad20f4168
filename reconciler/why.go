package reconciler

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// A stack that is not Ready for a moment is nobody's business; one that stays so
// has its pods asked, ever more rarely. A healthy one asks nothing.
const (
	firstLook   = 2 * time.Second
	nextLook    = 10 * time.Second
	rarestLook  = time.Minute
	lookTimeout = 10 * time.Second
	lookers     = 2 // nobody waits for them
)

// stuck is what is known of why a stack is not Ready.
type stuck struct {
	generation int64             // that it is about
	why        map[string]string // by object, what its pods say
	seen       string            // how the stack was doing without that
	looks      int
	looked     time.Time
	timer      *time.Timer // of the next look; nil: none
}

// wonder has the pods of a stack asked that stays not Ready. Loop.mu is held.
func (l *Loop) wonder(name string, s *stackState, h Health) {
	if l.Why == nil {
		return
	}
	waits := !s.removed && s.current() && !h.Ready()
	if !waits || s.stuck.generation != s.generation {
		if s.stuck.timer != nil {
			s.stuck.timer.Stop()
		}
		s.stuck = stuck{generation: s.generation}
	}
	if !waits {
		return
	}
	if seen := h.String(); seen != s.stuck.seen {
		s.stuck.seen = seen
		if s.stuck.looks > 1 && s.stuck.timer != nil && s.stuck.timer.Stop() { // something moves: no reason to look so rarely
			s.stuck.looks, s.stuck.timer = 1, nil
		}
	}
	if s.stuck.timer == nil {
		s.stuck.timer = time.AfterFunc(s.stuck.next(s.declared.Spec.Ready.Timeout.or(5*time.Minute)), func() { l.whys.Add(name) })
	}
}

// next is when the next look is due. The first one comes before the rollout is called failed.
func (w stuck) next(timeout time.Duration) time.Duration {
	if w.looks == 0 {
		return min(firstLook, timeout/2)
	}
	return max(0, time.Until(w.looked.Add(min(rarestLook, nextLook<<min(w.looks-1, 8)))))
}

// lookInto asks the pods of a stack's workloads why it is not Ready.
func (l *Loop) lookInto(ctx context.Context, name string) {
	generation, ids := l.unready(name)
	why := map[string]string{}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for _, id := range ids {
		text, err := l.Why(ctx, observe.ID(id))
		if apierrors.IsForbidden(err) {
			text = "its pods and events may not be read"
		}
		if text != "" {
			why[id.String()] = text
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	if !ok || s.stuck.generation != generation || s.stuck.timer == nil {
		return // it has newer inputs, or is Ready
	}
	for id, text := range why {
		why[id] = observe.Shown(text, s.masked)
	}
	s.stuck.why, s.stuck.timer, s.stuck.looked = why, nil, time.Now()
	s.stuck.looks++
	if reason, _, _ := l.blocked(name, s); reason == "" {
		l.observeStack(name, s)
	}
}

// unready lists the workloads that are to be asked.
func (l *Loop) unready(name string) (generation int64, ids []apply.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	if !ok {
		return 0, nil
	}
	var failed []apply.ID
	for _, id := range slices.SortedFunc(slices.Values(s.wants), apply.ID.Compare) {
		entry, there := l.Watched(observe.ID(id))
		switch {
		case !there || entry.Status == status.CurrentStatus || !observe.IsWorkload(entry.ID):
		case entry.Status == status.FailedStatus:
			failed = append(failed, id)
		default:
			ids = append(ids, id)
		}
	}
	ids = append(failed, ids...)
	return s.stuck.generation, ids[:min(len(ids), shownObjects)]
}

// explained is the health with what the pods say behind the objects that they are of.
func (h Health) explained(why map[string]string) Health {
	explain := func(lines []string) (out []string) {
		for _, line := range lines {
			if id, _, _ := strings.Cut(line, ": "); why[id] != "" {
				line += ": " + why[id]
			}
			out = append(out, line)
		}
		return out
	}
	h.Failed, h.Pending = explain(h.Failed), explain(h.Pending)
	return h
}

// rolloutFailed is the record of a rollout that is overdue. What it waits for was
// said just before, and masked then.
func (l *Loop) rolloutFailed(name string, s *stackState) {
	why := ""
	for _, c := range s.status.Conditions {
		if c.Type == ConditionReady {
			why = c.Message
		}
	}
	l.Log.Warn(telemetry.MsgRolloutFailed, telemetry.KeyStack, name, telemetry.KeyRevision, s.revision, telemetry.KeyObjects, s.status.Objects,
		telemetry.KeyTook, time.Since(s.began).Round(time.Millisecond).String(), telemetry.KeyWhy, why)
}
