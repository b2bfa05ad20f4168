package observe

import (
	"context"
	"sync"
	"time"

	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
)

// A tap is a watch whose events pass through a function. (watch.Filter is that too, but it leaves its goroutine
// behind when it is stopped with an event at hand.)
type tap struct {
	from    apiwatch.Interface
	through func(apiwatch.Event) apiwatch.Event
	barren  func() // it ended at once and without an event
	events  chan apiwatch.Event
	stopped chan struct{}
	stop    func()
}

func tapped(from apiwatch.Interface, through func(apiwatch.Event) apiwatch.Event, barren func()) *tap {
	t := &tap{from: from, through: through, barren: barren, events: make(chan apiwatch.Event), stopped: make(chan struct{})}
	t.stop = sync.OnceFunc(func() { close(t.stopped); from.Stop() })
	go t.run()
	return t
}

func (t *tap) ResultChan() <-chan apiwatch.Event { return t.events }
func (t *tap) Stop()                             { t.stop() }

func (t *tap) run() {
	defer close(t.events)
	start, any := time.Now(), false
	for event := range t.from.ResultChan() {
		any = true
		select {
		case t.events <- t.through(event):
		case <-t.stopped:
			return
		}
	}
	if !any && time.Since(start) < time.Second {
		t.barren()
	}
}

// interruptible is the real clock, except that nobody waits on it after the context is done:
// cache.Reflector would sleep through its backoff.
type interruptible struct {
	clock.RealClock
	ctx context.Context
}

func (c interruptible) After(d time.Duration) <-chan time.Time {
	ctx, cancel := context.WithTimeout(c.ctx, d)
	fired := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { cancel(); fired <- time.Now() })
	return fired
}
