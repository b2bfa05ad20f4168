package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A componentError says which component ended although nobody asked it to.
type componentError struct {
	name string
	err  error
}

func (e componentError) Error() string { return fmt.Sprintf("%s: %v", e.name, e.err) }
func (e componentError) Unwrap() error { return e.err }

// A supervisor runs components until one fails or all are stopped.
type supervisor struct {
	ctx   context.Context // ends with the cause of the first failure
	fail  context.CancelCauseFunc
	stops []func() // in order of start
}

func newSupervisor() *supervisor {
	s := &supervisor{}
	s.ctx, s.fail = context.WithCancelCause(context.Background())
	return s
}

// start runs a component until stop. Ending before that is a failure.
func (s *supervisor) start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := run(ctx)
		if err == nil {
			err = errors.New("ended unexpectedly")
		}
		if ctx.Err() == nil {
			s.fail(componentError{name, err})
		}
	}()
	s.stops = append(s.stops, func() {
		cancel()
		<-done
	})
}

// adopt takes over the stop of a component that runs already.
func (s *supervisor) adopt(stop func()) { s.stops = append(s.stops, stop) }

// failing returns a context that also ends, with a componentError as its cause,
// when a component fails.
func (s *supervisor) failing(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	unlink := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	return ctx, func() { unlink(); cancel(nil) }
}

// stop ends the components in reverse order of their start, so that none loses
// what it talks to before it ends itself.
func (s *supervisor) stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.stops[i]()
		}()
		select {
		case <-done:
		case <-time.After(stopTimeout):
		}
	}
}
