package secrets

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Pauses between two knocks at the door of an OpenBao that doesn't answer.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 15 * time.Second
)

// breaker keeps many from waiting, one after another, for an OpenBao that answers
// nobody. While it is open, calls fail at once, for the reason for which it opened.
// The zero value is closed.
type breaker struct {
	mu       sync.Mutex
	cause    error // nil: closed
	pause    time.Duration
	until    time.Time // of the system's clock
	knocking int
}

// why is the reason for which it is open; nil: it is closed.
func (k *breaker) why() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cause
}

// heard takes what came of a call. Those that were under way when it opened say
// nothing new.
func (k *breaker) heard(ctx context.Context, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch silent := silence(err); {
	case silent != nil && k.cause == nil:
		k.cause, k.pause, k.until = silent, firstPause, time.Now().Add(firstPause)
	case silent == nil && (err == nil || ctx.Err() == nil): // whoever gave up has heard nothing
		k.cause = nil
	}
}

// turn is true for the one who may knock now, who says done when that is over.
func (k *breaker) turn(now time.Time, fresh bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.cause == nil || !fresh && (k.knocking > 0 || now.Before(k.until)) {
		return false
	}
	k.knocking++
	return true
}

func (k *breaker) done() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.knocking--
}

// again opens it for longer, after a knock that nobody answered.
func (k *breaker) again(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pause = min(max(2*k.pause, firstPause), longestPause)
	k.cause, k.until = cause, time.Now().Add(k.pause)
}

// silence is why err means that nobody can be asked anything, rather than that one
// question has no answer; nil: it doesn't.
func silence(err error) error {
	var away *baoAway
	if errors.As(err, &away) && away.silent {
		return away.cause
	}
	return nil
}

// knock asks, if OpenBao was silent, whether it still is: when the pause is over,
// or at once where a person asks.
func (b *Bao) knock(ctx context.Context, fresh bool) {
	if !b.breaker.turn(time.Now(), fresh) {
		return
	}
	defer b.breaker.done()
	_, _ = shared(ctx, b, "knock", func() (struct{}, error) { // the breaker has heard what came of it
		s, err := b.currentSession(ctx, lookSelf, true)
		if err == nil {
			var got *answer
			got, err = b.send(ctx, s.token, lookSelf)
			got.wipe()
		}
		if cause := silence(err); cause != nil {
			b.breaker.again(cause)
		} else {
			b.breaker.heard(ctx, err) // it may be a file that is missing
		}
		return struct{}{}, err
	})
}
