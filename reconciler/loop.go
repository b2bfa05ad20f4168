package reconciler

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// Loop puts stacks in motion: a commit, a dependency that became Ready, drift,
// a retry, a hand. Everything is an event that puts a name into one queue; the
// queue gives each name to one worker at a time.
type Loop struct {
	Pipeline *Pipeline
	Config   Config
	Cluster  *Cluster
	// Watched and OfStack read what the watches know.
	Watched func(observe.ID) (observe.Entry, bool)
	OfStack func(stack string) []observe.Entry
	// Judge has the watches judge the objects of a stack by its own expressions.
	Judge func(stack string, rules observe.Rules)
	// Why asks why a workload is not ready; nil: nobody does.
	Why func(context.Context, observe.ID) (string, error)
	// Last is the snapshot that was accepted before a restart.
	Last func(fetch.Source) (fetch.Snapshot, error)
	// Past reads an older commit of a source; nil: there is no past.
	Past PastFunc
	// Scope tells whether a kind is namespaced, where the cluster knows it.
	Scope func(schema.GroupKind) (namespaced, known bool)
	// KindsMoved is called when a CRD came or went.
	KindsMoved func()
	// Only, where set, leaves all other stacks alone, also those that left Git.
	Only func(stack string) bool
	// Secrets opens what is sealed.
	Secrets Secrets
	// Forget, where set, is told of stacks that are no more.
	Forget func(stack string)
	// Said, where set, is called when a status changed. It must not call back.
	Said func()
	// Event, where set, tells the people who look at a Stack object. It must not wait,
	// nor call back.
	Event func(stack *unstructured.Unstructured, kind, reason, message string)
	// Recorder measures what happens; nil: nobody does.
	Recorder *telemetry.Recorder
	Log      *slog.Logger

	mu       sync.Mutex
	stacks   map[string]*stackState
	sources  map[string]*sourceState
	claims   map[apply.ID][]string // who wants what
	drifts   driftLog
	lenient  bool // what the gate denies is looked at all the same
	queue    workqueue.TypedDelayingInterface[string]
	urgent   sync.Map                         // stacks that don't wait for their turn
	looks    workqueue.TypedInterface[string] // at health only: a stack that became Ready doesn't wait behind those that are applied
	statuses workqueue.TypedDelayingInterface[string]
	whys     workqueue.TypedInterface[string] // stacks whose pods are to be asked
	fetches  chan struct{}
	turns    atomic.Int64
	progress time.Time // when the last of the passing states is to be written
}

// Workers only bound how many plans are in memory at once: no worker waits for
// anything but its own requests, and those have a bound of their own.
const (
	workers       = 16
	statusWorkers = 4
)

// Init makes the loop ready for events. Run needs it, and so does whoever
// delivers events before Run.
func (l *Loop) Init() {
	l.stacks = map[string]*stackState{}
	l.sources = map[string]*sourceState{}
	l.claims = map[apply.ID][]string{}
	order := &urgent{now: func(stack string) bool { _, now := l.urgent.Load(stack); return now }}
	l.queue = workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{
		Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: order})})
	l.looks = workqueue.NewTyped[string]()
	l.statuses = workqueue.NewTypedDelayingQueue[string]()
	l.whys = workqueue.NewTyped[string]()
	l.fetches = make(chan struct{}, orDefault(l.Config.Limits.Fetches, 4))
	if l.Pipeline != nil {
		l.Pipeline.renders = make(chan struct{}, orDefault(l.Config.Limits.Renders, cores()))
	}
	for _, config := range l.Config.Sources {
		l.sources[config.Name] = &sourceState{config: config, poke: make(chan struct{}, 1)}
	}
}

// Run reconciles until the context ends.
func (l *Loop) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := l.Cluster.Watch(ctx, l.stackMoved, l.sourceMoved); err != nil {
		return err
	}
	for _, s := range l.sources {
		group.Go(func() error { l.follow(ctx, s); return nil })
	}
	for range workers {
		group.Go(func() error { drain(ctx, l.queue, func(name string) { l.process(ctx, name) }); return nil })
	}
	for range statusWorkers {
		group.Go(func() error { drain(ctx, l.statuses, func(name string) { l.writeStatus(ctx, name) }); return nil })
	}
	group.Go(func() error { drain(ctx, l.looks, l.look); return nil })
	for range lookers {
		group.Go(func() error { drain(ctx, l.whys, func(name string) { l.lookInto(ctx, name) }); return nil })
	}
	group.Go(func() error { l.resync(ctx); return nil })
	group.Go(func() error { l.rotate(ctx); return nil })
	group.Go(func() error {
		<-ctx.Done()
		l.queue.ShutDown()
		l.looks.ShutDown()
		l.whys.ShutDown()
		l.statuses.ShutDown()
		return nil
	})
	defer l.abandon()
	return group.Wait()
}

// drain gives each name to work, one worker per name at a time, until the queue
// is shut down. What is left when the context ends is left.
func drain(ctx context.Context, queue workqueue.TypedInterface[string], work func(string)) {
	for {
		name, down := queue.Get()
		if down || ctx.Err() != nil {
			return
		}
		work(name)
		queue.Done(name)
	}
}

// trigger puts a stack into the queue. Loop.mu is held.
func (l *Loop) trigger(name string, why Trigger) {
	s, ok := l.stacks[name]
	if !ok {
		return
	}
	if s.triggers == nil {
		s.triggers = map[Trigger]bool{}
	}
	s.triggers[why] = true
	if why == TriggerDrift || why == TriggerHand {
		l.urgent.Store(name, nil)
	}
	l.queue.Add(name)
}

// triggerAfter is trigger, later.
func (l *Loop) triggerAfter(name string, why Trigger, delay time.Duration) {
	time.AfterFunc(delay, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.trigger(name, why)
	})
}

// triggerOnce is triggerAfter, unless there is one to come.
func (l *Loop) triggerOnce(name string, coming *bool, why Trigger, delay time.Duration) {
	if *coming {
		return
	}
	*coming = true
	time.AfterFunc(delay, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		*coming = false
		l.trigger(name, why)
	})
}

// resync goes through every stack now and then, spread over a tenth of the
// interval, as the safety net under the watches.
func (l *Loop) resync(ctx context.Context) {
	every := l.Config.Resync.or(time.Hour)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		for name := range l.stacks {
			l.triggerAfter(name, TriggerInterval, rand.N(every/10))
		}
		l.mu.Unlock()
	}
}

// ObjectMoved takes what the watches tell. It is quick, and asks nobody.
func (l *Loop) ObjectMoved(c observe.Change) {
	id := apply.ID(c.Entry.ID)
	if id.Kind == "CustomResourceDefinition" && l.KindsMoved != nil {
		l.KindsMoved()
		defer l.wakeMissing()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.objectOf(c.Entry.Stack, id, c)
	if c.Before.Stack != c.Entry.Stack {
		l.objectOf(c.Before.Stack, id, c)
	}
}

func (l *Loop) objectOf(stack string, id apply.ID, c observe.Change) {
	s, ok := l.stacks[stack]
	if !ok {
		return
	}
	known, ours := s.known[id]
	_, contended := s.contended[id]
	if (contended || (known.Adrift && s.refusal != "")) && !c.Gone && !c.Entry.Deleting { // it stays so for now
		s.saw(id)
		l.looks.Add(stack)
		l.triggerOnce(stack, &s.watching, TriggerDrift, adriftLooks)
		return
	}
	same := ours && !known.Adrift && !c.Gone && !c.Entry.Deleting && c.Entry.Stack == stack &&
		known.UID == c.Entry.UID && known.Fingerprint == apply.Fingerprint(c.Entry.Fingerprint)
	if same {
		l.looks.Add(stack)
		return
	}
	s.saw(id)
	l.trigger(stack, TriggerDrift)
}

// wakeMissing retries the stacks whose kinds were not served.
func (l *Loop) wakeMissing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, s := range l.stacks {
		if s.missing || s.incomplete {
			s.retryAt = time.Time{} // now, not when its patience ends
			l.trigger(name, TriggerRetry)
		}
	}
}

func orDefault(n, fallback int) int {
	if n > 0 {
		return n
	}
	return fallback
}
