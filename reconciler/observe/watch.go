package observe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// A watching is the one watch of a kind.
type watching struct {
	store
	kind   Kind
	ctx    context.Context
	stop   context.CancelFunc
	synced chan struct{} // closed when the first listing is complete
	done   chan struct{} // closed when it has stopped
	moved  atomic.Bool   // another one goes on in its place: what it has taken in is still told

	mu  sync.Mutex
	err error // what went wrong last; nil since something went right
}

func newWatching(o *Observer, kind Kind) *watching {
	w := &watching{kind: kind, synced: make(chan struct{}), done: make(chan struct{})}
	w.ctx, w.stop = context.WithCancel(o.ctx)
	w.store = store{
		o:       o,
		live:    map[place]*record{},
		gone:    map[place]types.UID{},
		started: sync.OnceFunc(func() { close(w.synced) }),
		alive:   func() bool { return w.ctx.Err() == nil || w.moved.Load() && o.ctx.Err() == nil },
	}
	return w
}

// run watches until the watching is stopped, after the one before it has ended.
//
// cache.Reflector brings streaming lists, resuming, relisting on 410 and backoff. It is fed with items, so it never
// holds an object; it is told not to log; and errors are caught on their way into it, since it keeps most to itself.
func (w *watching) run(after <-chan struct{}) {
	defer close(w.done)
	if after != nil {
		<-after
	}
	lw := cache.ToListWatcherWithWatchListSemantics(
		&cache.ListWatch{ListWithContextFunc: w.list, WatchFuncWithContext: w.watch}, w.o.options.Client)
	silent := klog.Logger{}
	reflector := cache.NewReflectorWithOptions(lw, nil, &w.store, cache.ReflectorOptions{
		Logger:          &silent,
		Name:            "observe",
		TypeDescription: w.kind.GroupVersionResource.String(),
		Clock:           interruptible{ctx: w.ctx},
		Backoff:         &wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 10, Cap: 30 * time.Second},
	})
	reflector.RunWithContext(klog.NewContext(w.ctx, silent))
}

func (w *watching) list(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	options.LabelSelector = StackLabel
	list, err := w.o.options.Client.Resource(w.kind.GroupVersionResource).List(ctx, options)
	if err != nil {
		w.trouble(err)
		return nil, err
	}
	w.trouble(nil)
	items := &metainternal.List{Items: make([]runtime.Object, len(list.Items))}
	items.ResourceVersion, items.Continue = list.GetResourceVersion(), list.GetContinue()
	for i := range list.Items {
		items.Items[i] = w.o.itemOf(&list.Items[i])
		list.Items[i] = unstructured.Unstructured{}
	}
	return items, nil
}

func (w *watching) watch(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	options.LabelSelector = StackLabel
	stream, err := w.o.options.Client.Resource(w.kind.GroupVersionResource).Watch(ctx, options)
	if err != nil {
		w.trouble(err)
		return nil, err
	}
	return tapped(stream, w.reduce, func() { w.trouble(errBarren) }), nil
}

// errBarren is told because client-go hides it: it takes a connection that breaks at once for an empty watch.
var errBarren = errors.New("the server closed the stream at once")

// reduce turns an event's object into an item.
func (w *watching) reduce(event apiwatch.Event) apiwatch.Event {
	if event.Type == apiwatch.Error {
		w.trouble(apierrors.FromObject(event.Object))
		return event
	}
	obj, ok := event.Object.(*unstructured.Unstructured)
	if !ok {
		return event
	}
	w.trouble(nil)
	if event.Type == apiwatch.Bookmark {
		it := &item{}
		it.ResourceVersion, it.Annotations = obj.GetResourceVersion(), obj.GetAnnotations()
		event.Object = it
		return event
	}
	event.Object = w.o.itemOf(obj)
	return event
}

// trouble remembers what went wrong for Synced, and tells it. A nil error says that all is well again.
func (w *watching) trouble(err error) {
	if w.ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	if err != nil {
		gvr := w.kind.GroupVersionResource
		w.o.options.Trouble(gvr, fmt.Errorf("watch %s: %w", gvr.GroupResource(), err))
	}
}

// why says why the first listing is not complete.
func (w *watching) why(cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return fmt.Errorf("no answer yet: %w", cause)
	}
	return fmt.Errorf("%w: %w", cause, w.err)
}
