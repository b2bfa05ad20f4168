package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/record/util"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// events writes what happens to stacks to the API server, one after the other, for
// those who kubectl describe them. Nothing waits for it, and nothing depends on it.
type events struct {
	client    eventsClient
	log       *slog.Logger
	correlate *record.EventCorrelator
	queue     chan *corev1.Event
	stopping  chan struct{}
	stopped   chan struct{}
	forbidden sync.Once
}

// eventsClient is the part of client-go's that is used.
type eventsClient interface {
	Create(ctx context.Context, event *corev1.Event, options metav1.CreateOptions) (*corev1.Event, error)
	Patch(ctx context.Context, name string, kind types.PatchType, data []byte, options metav1.PatchOptions, subresources ...string) (*corev1.Event, error)
}

// Bounds of Events. Of one reason, a stack may tell 25 times in a row, and then once
// a minute: a drift that comes again and again doesn't cost us the Event which says
// that a rollout failed.
const (
	eventsQueued   = 1000
	eventsKnown    = 1024 // of which is remembered that they were told
	eventBurst     = 25
	eventEvery     = time.Minute
	eventTries     = 4
	eventPause     = time.Second // before the second try; then twice as long each time
	eventPatience  = 10 * time.Second
	eventsPatience = 2 * time.Second // for what is left at the end
)

// eventsNamespace is where Events of objects without a namespace have to be.
const eventsNamespace = metav1.NamespaceDefault

func newEvents(client eventsClient, log *slog.Logger) *events {
	e := &events{client: client, log: slog.New(&seldom{Handler: log.Handler(), every: time.Minute}),
		correlate: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{LRUCacheSize: eventsKnown, BurstSize: eventBurst,
			QPS: float32(1 / eventEvery.Seconds()), SpamKeyFunc: spamKey}),
		queue: make(chan *corev1.Event, eventsQueued), stopping: make(chan struct{}), stopped: make(chan struct{})}
	return e
}

func spamKey(e *corev1.Event) string {
	return strings.Join([]string{e.InvolvedObject.Name, string(e.InvolvedObject.UID), e.Type, e.Reason}, "\n")
}

// tell is for [reconciler.Loop.Event].
func (e *events) tell(stack *unstructured.Unstructured, kind, reason, message string) {
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: util.GenerateEventName(stack.GetName(), now.UnixNano()), Namespace: eventsNamespace},
		InvolvedObject: corev1.ObjectReference{APIVersion: stack.GetAPIVersion(), Kind: stack.GetKind(), Name: stack.GetName(),
			UID: stack.GetUID(), ResourceVersion: stack.GetResourceVersion()},
		Type: kind, Reason: reason, Message: message, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: "plumbline"}, ReportingController: "plumbline",
	}
	select {
	case e.queue <- event:
	default:
		e.log.Warn(telemetry.MsgEventFailed, telemetry.KeyStack, stack.GetName(), telemetry.KeyError, "too many of them wait to be written")
	}
}

// run writes until stop, and then what is left.
func (e *events) run(ctx context.Context) {
	defer close(e.stopped)
	for {
		select {
		case event := <-e.queue:
			e.send(ctx, event)
			continue
		case <-e.stopping:
		}
		for {
			select {
			case event := <-e.queue:
				e.send(ctx, event)
			default:
				return
			}
		}
	}
}

// start runs it; the end of ctx alone doesn't stop it.
func (e *events) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go e.run(ctx)
	return func() {
		defer cancel()
		close(e.stopping)
		select {
		case <-e.stopped:
		case <-time.After(eventsPatience):
		}
	}
}

// send writes an Event, or adds it to one that says the same.
func (e *events) send(ctx context.Context, event *corev1.Event) {
	result, err := e.correlate.EventCorrelate(event)
	if err != nil || result.Skip {
		return
	}
	for try := 1; ; try++ {
		written, err := e.write(ctx, result)
		if err == nil {
			e.correlate.UpdateState(written)
			return
		}
		if try == eventTries || !mayPass(err) || !e.pause(ctx, eventPause<<(try-1)) {
			e.failed(event, err)
			return
		}
	}
}

func (e *events) write(ctx context.Context, result *record.EventCorrelateResult) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, eventPatience)
	defer cancel()
	if result.Event.Count > 1 {
		written, err := e.client.Patch(ctx, result.Event.Name, types.StrategicMergePatchType, result.Patch, metav1.PatchOptions{})
		if !apierrors.IsNotFound(err) { // they expire
			return written, err
		}
		result.Event.ResourceVersion = ""
	}
	return e.client.Create(ctx, result.Event, metav1.CreateOptions{})
}

// mayPass is true where the same may be taken in a moment.
func mayPass(err error) bool {
	reason := apierrors.ReasonForError(err)
	return reason == metav1.StatusReasonUnknown || apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err)
}

// pause waits, unless it is to stop: then there is one try for each.
func (e *events) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-e.stopping:
	case <-ctx.Done():
	}
	return false
}

// failed says so: that Events are forbidden once, everything else at most once a minute.
func (e *events) failed(event *corev1.Event, err error) {
	say := func() {
		e.log.Warn(telemetry.MsgEventFailed, telemetry.KeyStack, event.InvolvedObject.Name, telemetry.KeyError, short(err.Error()))
	}
	if apierrors.IsForbidden(err) {
		e.forbidden.Do(say)
		return
	}
	say()
}
