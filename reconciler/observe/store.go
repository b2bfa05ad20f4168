package observe

import (
	"fmt"
	"slices"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Change tells what became of one object.
type Change struct {
	Entry  Entry // as it is now; if Gone, as it was last
	Before Entry // as it was; zero if it is new
	Gone   bool  // deleted, or its StackLabel stripped
}

// An item is a record on its way from the server to the store: what cache.Reflector needs to see, and no more.
type item struct {
	metav1.PartialObjectMetadata
	record record
}

func (o *Observer) itemOf(obj *unstructured.Unstructured) *item {
	it := &item{record: reduce(obj, o.options.Manager, o.judge)}
	it.Namespace, it.Name = it.record.ns.Value(), it.record.name
	it.ResourceVersion = it.record.rv
	return it
}

// A store keeps the records of one kind. It is a cache.ReflectorStore of items, and the Observer's lock guards it.
type store struct {
	o       *Observer
	live    map[place]*record   // nil once the watch is over
	gone    map[place]types.UID // deleted by us, the watch has not said so yet
	started func()              // the first listing is in, and its changes were told
	alive   func() bool         // whether changes are still to be told
}

// Add, Update and Delete take a watch event; Replace takes a listing.
func (s *store) Add(obj any) error    { return s.event(obj, s.put) }
func (s *store) Update(obj any) error { return s.event(obj, s.put) }
func (s *store) Delete(obj any) error { return s.event(obj, s.drop) }

// Resync does nothing: the pipeline looks at everything at an interval of its own.
func (s *store) Resync() error { return nil }

func (s *store) event(obj any, apply func(record) (Change, bool)) error {
	it, ok := obj.(*item)
	if !ok {
		return fmt.Errorf("watch event: want an item, have %T", obj)
	}
	s.o.mu.Lock()
	var change Change
	changed := false
	if s.live != nil {
		change, changed = apply(it.record)
	}
	s.o.mu.Unlock()
	if changed {
		s.tell(change)
	}
	return nil
}

// Replace takes a listing: the first one, or the one after a gap, of which the difference is told.
func (s *store) Replace(objs []any, listed string) error {
	items := make([]*item, len(objs))
	for i, obj := range objs {
		it, ok := obj.(*item)
		if !ok {
			return fmt.Errorf("listing: want an item, have %T", obj)
		}
		items[i] = it
	}
	changes := s.replace(items, listed)
	slices.SortFunc(changes, func(a, b Change) int { return a.Entry.Compare(b.Entry.ID) })
	s.tell(changes...)
	s.started()
	return nil
}

func (s *store) replace(items []*item, listed string) (changes []Change) {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	if s.live == nil {
		return nil
	}
	seen := make(map[place]bool, len(items))
	for _, it := range items {
		seen[it.record.place()] = true
		if change, changed := s.put(it.record); changed {
			changes = append(changes, change)
		}
	}
	return append(changes, s.sweep(seen, listed)...)
}

// sweep forgets what a listing did not contain, unless it was written after the listing was made.
func (s *store) sweep(seen map[place]bool, listed string) (changes []Change) {
	for at, r := range s.live {
		if !seen[at] && !older(listed, r.rv) {
			changes = append(changes, s.remove(at))
		}
	}
	for at := range s.gone {
		if !seen[at] {
			delete(s.gone, at)
		}
	}
	return changes
}

// put records the state of an object, unless a later one is known.
func (s *store) put(r record) (Change, bool) {
	at := r.place()
	old := s.live[at]
	if old != nil && older(r.rv, old.rv) {
		return Change{}, false
	}
	if uid, ok := s.gone[at]; ok {
		if uid == r.uid && !r.deleting { // a deletion is not undone: this was sent before it
			return Change{}, false
		}
		delete(s.gone, at)
	}
	switch {
	case r.skip && old == nil:
		return Change{}, false
	case r.skip:
		return s.remove(at), true
	case old == nil:
		s.live[at] = &r
		s.o.index(&r)
		return Change{Entry: r.entry()}, true
	case r.same(old):
		before, moved := old.entry(), old.rv != r.rv
		old.rv = r.rv
		return Change{Entry: r.entry(), Before: before}, moved && s.o.options.Attentive(r.id())
	}
	change := Change{Entry: r.entry(), Before: old.entry()}
	s.o.unindex(old)
	*old = r
	s.o.index(old)
	return change, true
}

// drop forgets an object that was deleted, unless a later one is known by its name.
func (s *store) drop(r record) (Change, bool) {
	at := r.place()
	if s.gone[at] == r.uid {
		delete(s.gone, at)
	}
	old := s.live[at]
	if old == nil || older(r.rv, old.rv) {
		return Change{}, false
	}
	return s.remove(at), true
}

func (s *store) remove(at place) Change {
	r := s.live[at]
	delete(s.live, at)
	s.o.unindex(r)
	return Change{Entry: r.entry(), Before: r.entry(), Gone: true}
}

// tell hands changes to whoever wants them, in order, and without a lock.
func (s *store) tell(changes ...Change) {
	for _, change := range changes {
		if s.alive() {
			s.o.options.Changed(change)
		}
	}
}

// index and unindex keep the Observer's records by stack.
func (o *Observer) index(r *record) {
	of := o.stacks[r.stack]
	if of == nil {
		of = map[*record]struct{}{}
		o.stacks[r.stack] = of
	}
	of[r] = struct{}{}
}

func (o *Observer) unindex(r *record) {
	delete(o.stacks[r.stack], r)
	if len(o.stacks[r.stack]) == 0 {
		delete(o.stacks, r.stack)
	}
}

func placeOf(id ID) place { return place{unique.Make(id.Namespace), id.Name} }
