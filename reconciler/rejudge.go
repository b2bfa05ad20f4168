package reconciler

import (
	"context"
	"time"

	"github.com/plumbline-dev/plumbline/scan"
)

// A verdict may come out otherwise although nobody pushed: an image that was looked at
// is known now, or may be there; an exception has ended. Then the stack is judged anew.

// await has a stack judged again when that is worth it.
func (l *Loop) await(ctx context.Context, name string, s *stackState, v scan.Verdict) {
	if s.judging != nil {
		s.judging()
	}
	ctx, s.judging = context.WithCancel(ctx) //nolint:gosec // called when it is judged next, and ends with ctx
	again := func() {
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.judgeAgain(name)
		_ = l.Poke(s.declared.Source)
	}
	if len(v.Waits) > 0 {
		go func() {
			if v.Known(ctx) == nil {
				again()
			}
		}()
	}
	if !v.Next.IsZero() {
		timer := time.AfterFunc(time.Until(v.Next), again)
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
}

// judgeAgain has the gate look at a stack anew, when its source is looked at next.
func (l *Loop) judgeAgain(name string) {
	s, ok := l.stacks[name]
	if !ok || s.removed {
		return
	}
	s.rejudge = true
	if s.hash = ""; s.gate != nil {
		s.gate.hash = ""
	}
	if source := l.sources[s.declared.Source]; source != nil {
		source.again = true
	}
}

// anew is true, once, for a stack that somebody asked to be judged again.
func (l *Loop) anew(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	if !ok || !s.anew {
		return false
	}
	s.anew = false
	return true
}
