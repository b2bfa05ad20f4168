package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// ledger is an API server that takes Events, or answers what it is told to.
type ledger struct {
	mu      sync.Mutex
	created []*corev1.Event
	patched int
	answer  func(try int) error
	tries   int
}

func (l *ledger) try() error {
	l.tries++
	if l.answer == nil {
		return nil
	}
	return l.answer(l.tries)
}

func (l *ledger) Create(_ context.Context, event *corev1.Event, _ metav1.CreateOptions) (*corev1.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.try(); err != nil {
		return nil, err
	}
	l.created = append(l.created, event)
	return event, nil
}

func (l *ledger) Patch(_ context.Context, name string, _ types.PatchType, _ []byte, _ metav1.PatchOptions, _ ...string) (*corev1.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.try(); err != nil {
		return nil, err
	}
	for _, e := range l.created {
		if e.Name == name {
			l.patched++
			e.Count++
			return e, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "events"}, name)
}

func aStack(name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "plumbline.dev/v1alpha1", "kind": "Stack"}}
	u.SetName(name)
	u.SetUID("1")
	return u
}

// tellEvents runs events against a ledger, in a bubble.
func tellEvents(t *testing.T, l *ledger, tell func(e *events)) (log string) {
	t.Helper()
	stdout := &buffer{}
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(l, slog.New(slog.NewJSONHandler(stdout, nil)))
		stop := e.start(t.Context())
		tell(e)
		stop()
	})
	return stdout.String()
}

// TestEventsAreFlushed: what was told last is written when the daemon stops.
func TestEventsAreFlushed(t *testing.T) {
	l := &ledger{}
	tellEvents(t, l, func(e *events) {
		for i := range 300 {
			e.tell(aStack(fmt.Sprint("home.", i)), corev1.EventTypeNormal, "Ready", "abc: 1/1 objects ready")
		}
	})
	if len(l.created) != 300 {
		t.Errorf("%d of 300 were written", len(l.created))
	}
	e := l.created[0]
	if e.Namespace != "default" || e.InvolvedObject.Kind != "Stack" || e.InvolvedObject.UID != "1" || e.InvolvedObject.APIVersion != "plumbline.dev/v1alpha1" ||
		e.Source.Component != "plumbline" || e.Type != "Normal" || e.Count != 1 || e.FirstTimestamp.IsZero() || !strings.HasPrefix(e.Name, "home.0.") {
		t.Errorf("%+v", e)
	}
}

// TestEventsAreBounded: of what comes again and again, most is counted, some is left
// out, and the rest still gets through.
func TestEventsAreBounded(t *testing.T) {
	l := &ledger{}
	tellEvents(t, l, func(e *events) {
		for i := range 500 {
			e.tell(aStack("home.a"), corev1.EventTypeNormal, "DriftCorrected", fmt.Sprintf("number %d", i))
			time.Sleep(100 * time.Millisecond)
		}
		e.tell(aStack("home.a"), corev1.EventTypeWarning, "RolloutFailed", "late")
		time.Sleep(time.Second)
	})
	if l.tries > eventBurst+2 || len(l.created) != 11 || l.created[10].Reason != "RolloutFailed" { // nine, one for all others
		t.Errorf("%d requests, %d Events", l.tries, len(l.created))
	}
	if message := l.created[9].Message; !strings.Contains(message, "combined from similar events") {
		t.Errorf("the last of them says %q", message)
	}
}

// TestEventsThatFail: each way in which the API server may not take them, and how
// often that is tried and said.
func TestEventsThatFail(t *testing.T) {
	resource := schema.GroupResource{Resource: "events"}
	for name, tt := range map[string]struct {
		answer  func(try int) error
		tries   int
		said    int
		written int
	}{
		"forbidden":       {func(int) error { return apierrors.NewForbidden(resource, "a", errBoom) }, 3, 1, 0},
		"invalid":         {func(int) error { return apierrors.NewBadRequest("no") }, 3, 3, 0},
		"away for long":   {func(int) error { return errors.New("connection refused") }, 3 * eventTries, 3, 0},
		"away for moment": {func(try int) error { return map[bool]error{true: errBoom}[try < 3] }, 5, 0, 3},
	} {
		t.Run(name, func(t *testing.T) {
			l := &ledger{answer: tt.answer}
			log := tellEvents(t, l, func(e *events) {
				for i := range 3 {
					e.tell(aStack("home.a"), corev1.EventTypeNormal, "Ready", fmt.Sprint(i))
					time.Sleep(2 * time.Minute)
				}
			})
			if said := strings.Count(log, telemetry.MsgEventFailed); l.tries != tt.tries || said != tt.said || len(l.created) != tt.written {
				t.Errorf("%d tries, said %d times, %d written, want %+v\n%s", l.tries, said, len(l.created), tt, log)
			}
		})
	}
}

// TestEventsDontWait for an API server that doesn't answer: neither when they are
// told nor at the end.
func TestEventsDontWait(t *testing.T) {
	l := &ledger{}
	blocked := make(chan struct{})
	l.answer = func(int) error { <-blocked; return errBoom }
	stdout := &buffer{}
	e := newEvents(l, slog.New(slog.NewJSONHandler(stdout, nil)))
	stop := e.start(t.Context())
	began := time.Now()
	for i := range eventsQueued + 10 {
		e.tell(aStack("home.a"), corev1.EventTypeNormal, "Ready", fmt.Sprint(i))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("telling took %s", took)
	}
	stop()
	if took := time.Since(began); took > 2*eventsPatience {
		t.Errorf("stopping took %s", took)
	}
	if said := strings.Count(stdout.String(), telemetry.MsgEventFailed); said != 1 {
		t.Errorf("said %d times that some are lost", said)
	}
	close(blocked)
	<-e.stopped
}
