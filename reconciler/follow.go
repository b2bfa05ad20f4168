package reconciler

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Following is what somebody sees who follows the Source and Stack objects.
type Following struct {
	Sources []SourceView
	Stacks  []StackView
	// Trouble is why it may be out of date; nil: it isn't.
	Trouble error
}

// followPatience is how long an API server that is away is left alone at most.
const followPatience = 5 * time.Second

// Follow watches the Source and Stack objects, and tells how they are whenever
// something changed, until the context ends. What changes while somebody is told
// comes together the next time. An API server that goes away is asked again and
// again.
func (c *Cluster) Follow(ctx context.Context, tell func(Following)) {
	f := &follower{moved: make(chan struct{}, 1), trouble: map[string]error{}}
	var group sync.WaitGroup
	defer group.Wait()
	for _, kind := range []struct {
		resource schema.GroupVersionResource
		store    *cache.Store
	}{{sourcesResource, &c.sources}, {stacksResource, &c.stacks}} {
		store := &toldStore{Store: cache.NewStore(cache.MetaNamespaceKeyFunc), moved: f.move}
		*kind.store = store
		f.stores = append(f.stores, store)
		backoff := &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 10, Cap: followPatience}
		reflector := cache.NewReflectorWithOptions(f.noticing(kind.resource.Resource, listWatch(c.client.Resource(kind.resource), "")),
			&unstructured.Unstructured{}, store, cache.ReflectorOptions{Backoff: backoff})
		group.Go(func() { reflector.RunWithContext(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.moved:
		}
		if now, complete := f.now(c); complete {
			tell(now)
		}
	}
}

// follower notes what comes, and what stands in the way.
type follower struct {
	moved  chan struct{}
	stores []*toldStore

	mu      sync.Mutex
	trouble map[string]error // by resource
}

func (f *follower) move() {
	select {
	case f.moved <- struct{}{}:
	default: // who hears of one hears of all
	}
}

// now is how everything is; complete once all has been listed, or something
// stands in the way.
func (f *follower) now(c *Cluster) (now Following, complete bool) {
	f.mu.Lock()
	for _, err := range f.trouble {
		now.Trouble = err
	}
	f.mu.Unlock()
	complete = true
	for _, store := range f.stores {
		complete = complete && store.listed()
	}
	for _, name := range keys(c.sources) {
		if u := c.Source(name); u != nil {
			now.Sources = append(now.Sources, sourceView(u))
		}
	}
	for _, name := range keys(c.stacks) {
		if u := c.Stack(name); u != nil {
			now.Stacks = append(now.Stacks, stackView(u))
		}
	}
	return now, complete || now.Trouble != nil
}

func keys(store cache.Store) []string {
	all := map[string]bool{}
	for _, key := range store.ListKeys() {
		all[key] = true
	}
	return sorted(all)
}

// noticing notes the errors of lists and watches, and their end.
func (f *follower) noticing(resource string, lw *cache.ListWatch) *cache.ListWatch {
	note := func(ctx context.Context, err error) {
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		before := f.trouble[resource]
		delete(f.trouble, resource)
		if err != nil {
			f.trouble[resource] = withoutURL(err)
		}
		f.mu.Unlock()
		if err != nil || before != nil {
			f.move()
		}
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := lw.ListWithContextFunc(ctx, o)
			note(ctx, err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			stream, err := lw.WatchFuncWithContext(ctx, o)
			note(ctx, err)
			return stream, err
		},
	}
}

// withoutURL is an error as people read it: a request has a long address.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return failed.Err
	}
	return err
}

// toldStore is a store that tells when something came or went.
type toldStore struct {
	cache.Store
	moved func()

	mu       sync.Mutex
	replaced bool
}

// Add notes an object.
func (s *toldStore) Add(o any) error { defer s.moved(); return s.Store.Add(o) }

// Update notes another state of an object.
func (s *toldStore) Update(o any) error { defer s.moved(); return s.Store.Update(o) }

// Delete notes that an object is gone.
func (s *toldStore) Delete(o any) error { defer s.moved(); return s.Store.Delete(o) }

// Replace notes all objects that there are.
func (s *toldStore) Replace(all []any, version string) error {
	defer s.moved()
	err := s.Store.Replace(all, version)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaced = true
	return err
}

func (s *toldStore) listed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaced
}
