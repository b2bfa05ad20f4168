// Package observe watches what was applied: it turns the objects of a cluster that carry a stack's label into
// entries (identity, resourceVersion, a fingerprint of the fields that are ours, health), keeps those, and tells
// each change of one.
//
// It promises one watch per kind, for labelled objects only; that no object is kept, only its Entry; that a change
// is told once, in the order of its kind, and never for events that alter nothing in the Entry; and that a reader
// never sees a state older than a write that was reported by Saw or SawGone.
package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unique"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Kind is a kind of object and where it is served.
type Kind struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// GroupKind returns the kind without its version.
func (k Kind) GroupKind() schema.GroupKind { return schema.GroupKind{Group: k.Group, Kind: k.Kind} }

// Options say whom to ask and whom to tell.
type Options struct {
	Client dynamic.Interface
	// Manager is the field manager that we apply as.
	Manager string
	// Changed is told each change, in order per kind, from one goroutine per kind. It must not block. It may call
	// the Observer. What it is told may be older than what Get returns: a write that was reported by Saw meanwhile.
	Changed func(Change)
	// Attentive is true for an object of which every write is to be told, also where its Entry stays the same. It must
	// not block, nor call the Observer. Nil: for none.
	Attentive func(ID) bool
	// Trouble is told when a list or watch fails. It will be tried again.
	Trouble func(schema.GroupVersionResource, error)
}

// An Observer watches kinds and remembers their labelled objects. Its methods may be called concurrently.
type Observer struct {
	ctx     context.Context
	options Options
	judge   *judge

	mu      sync.RWMutex
	kinds   map[schema.GroupKind]*watching
	retired map[schema.GroupKind]<-chan struct{} // done of a kind's last watching, if it was stopped
	stacks  map[unique.Handle[string]]map[*record]struct{}
}

// New returns an Observer that watches nothing yet. It stops with ctx.
func New(ctx context.Context, o Options) *Observer {
	if o.Changed == nil {
		o.Changed = func(Change) {}
	}
	if o.Attentive == nil {
		o.Attentive = func(ID) bool { return false }
	}
	if o.Trouble == nil {
		o.Trouble = func(schema.GroupVersionResource, error) {}
	}
	return &Observer{
		ctx:     ctx,
		options: o,
		judge:   newJudge(),
		kinds:   map[schema.GroupKind]*watching{},
		retired: map[schema.GroupKind]<-chan struct{}{},
		stacks:  map[unique.Handle[string]]map[*record]struct{}{},
	}
}

// Watch starts to watch a kind, in all namespaces. It does nothing if the kind is watched already, unless in another
// version: then the watch moves to the new version and what is known stays known.
func (o *Observer) Watch(kind Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	gk := kind.GroupKind()
	if old := o.kinds[gk]; old == nil || old.kind.GroupVersionResource != kind.GroupVersionResource {
		o.watch(kind)
	}
}

// watch starts a watch, in the place of the one before it. o.mu is held.
func (o *Observer) watch(kind Kind) {
	gk := kind.GroupKind()
	old, w, after := o.kinds[gk], newWatching(o, kind), o.retired[gk]
	if old != nil {
		old.moved.Store(true)
		old.stop()
		after = old.done
		w.live, w.gone = old.live, old.gone
		old.live, old.gone = nil, nil
	}
	delete(o.retired, gk)
	o.kinds[gk] = w
	go w.run(after)
}

// Judge has the objects of a stack judged by these expressions, where their kinds have some. Where that is otherwise
// than before, the kinds are listed again: what changes by that is told, and Synced waits for it.
func (o *Observer) Judge(stack string, rules Rules) {
	moved := o.judge.learn(stack, rules)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, gk := range moved {
		if w := o.kinds[gk]; w != nil {
			o.watch(w.kind)
		}
	}
}

// Unwatch stops to watch a kind, and forgets its objects without telling a Change of them.
func (o *Observer) Unwatch(gk schema.GroupKind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.kinds[gk]
	if w == nil {
		return
	}
	w.stop()
	for _, r := range w.live {
		o.unindex(r)
	}
	w.live, w.gone = nil, nil
	o.retired[gk] = w.done
	delete(o.kinds, gk)
}

// Kinds returns the kinds that are watched, in order.
func (o *Observer) Kinds() []schema.GroupKind {
	o.mu.RLock()
	defer o.mu.RUnlock()
	kinds := make([]schema.GroupKind, 0, len(o.kinds))
	for gk := range o.kinds {
		kinds = append(kinds, gk)
	}
	slices.SortFunc(kinds, compareKinds)
	return kinds
}

// Synced waits until the first listing of each of these kinds is complete and its changes were told. If ctx is done
// before, the error names those that are not, and what went wrong last.
func (o *Observer) Synced(ctx context.Context, gks ...schema.GroupKind) error {
	gks = slices.Clone(gks)
	slices.SortFunc(gks, compareKinds)
	var errs []error
	for _, gk := range slices.Compact(gks) {
		if err := o.synced(ctx, gk); err != nil {
			errs = append(errs, fmt.Errorf("sync %s: %w", gk, err))
		}
	}
	return errors.Join(errs...)
}

func (o *Observer) synced(ctx context.Context, gk schema.GroupKind) error {
	for {
		o.mu.RLock()
		w := o.kinds[gk]
		o.mu.RUnlock()
		if w == nil {
			return errors.New("not watched")
		}
		select {
		case <-w.synced:
			return nil
		default:
		}
		select {
		case <-w.synced:
			return nil
		case <-ctx.Done():
			return w.why(context.Cause(ctx))
		case <-o.ctx.Done():
			return w.why(context.Cause(o.ctx))
		case <-w.ctx.Done(): // look again: it may be watched anew
		}
	}
}

// Get returns what is known of an object, if it is watched and exists.
func (o *Observer) Get(id ID) (Entry, bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	w := o.kinds[id.GroupKind()]
	if w == nil {
		return Entry{}, false
	}
	r := w.live[placeOf(id)]
	if r == nil {
		return Entry{}, false
	}
	return r.entry(), true
}

// OfStack returns the entries that carry a stack's label, in the order of their IDs.
func (o *Observer) OfStack(stack string) []Entry {
	o.mu.RLock()
	records := o.stacks[unique.Make(stack)]
	entries := make([]Entry, 0, len(records))
	for r := range records {
		entries = append(entries, r.entry())
	}
	o.mu.RUnlock()
	slices.SortFunc(entries, func(a, b Entry) int { return a.ID.Compare(b.ID) })
	return entries
}

// Saw takes the server's answer to our own write, so that no reader sees an older state, and returns its Entry.
// No Change is told of it. It is remembered only if the kind is watched, and unless a later state is known.
func (o *Observer) Saw(obj *unstructured.Unstructured) Entry {
	for {
		rules := o.judge.rules.Load()
		entry := entryOf(obj, o.options.Manager, o.judge)
		r := recordOf(entry)
		r.skip = entry.Stack == "" || derived(entry)
		if o.saw(r, rules) {
			return entry
		}
	}
}

// saw remembers a record unless the rules by which it was judged have changed.
func (o *Observer) saw(r record, rules *map[string]Rules) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.judge.rules.Load() != rules {
		return false
	}
	if w := o.kinds[r.gk.Value()]; w != nil {
		w.put(r)
	}
	return true
}

// SawGone takes that an object is gone by our own deletion. No Change is told of it. Should the object linger, held by a
// finalizer or a grace period, then it reappears as Deleting when the watch says so.
// Another object of the same name is left alone.
func (o *Observer) SawGone(id ID, uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.kinds[id.GroupKind()]
	if w == nil {
		return
	}
	at := placeOf(id)
	if r := w.live[at]; r != nil && r.uid == uid {
		w.remove(at)
		w.gone[at] = uid
	}
}

func compareKinds(a, b schema.GroupKind) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
}
