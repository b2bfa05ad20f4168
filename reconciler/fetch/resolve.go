package fetch

import (
	"container/list"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// resolve computes the ids of the objects that are stored as deltas.
func (x *indexer) resolve() error {
	for {
		waiting, progress := 0, false
		for i := range x.entries {
			if x.entries[i].known {
				continue
			}
			if err := x.ctx.Err(); err != nil {
				return err
			}
			ok, err := x.resolveOne(i)
			if err != nil {
				return fmt.Errorf("%w: object at %d: %w", ErrProtocol, x.entries[i].offset, err)
			}
			if !ok {
				waiting++
			}
			progress = progress || ok
		}
		if waiting == 0 {
			return nil
		}
		if !progress {
			return fmt.Errorf("%w: %d deltas against objects that the pack does not have", ErrProtocol, waiting)
		}
	}
}

// resolveOne reports false when the base is a delta whose id is not known yet.
func (x *indexer) resolveOne(i int) (bool, error) {
	e := &x.entries[i]
	kind, data, ok, err := x.content(e.offset)
	if !ok || err != nil {
		return ok, err
	}
	sum := plumbing.NewHasher(kind, int64(len(data)))
	if _, err := sum.Write(data); err != nil {
		return false, err
	}
	e.id, e.known = sum.Sum(), true
	x.byID[e.id] = e.offset
	return true, nil
}

// step is one delta on the way to its base.
type step struct {
	header
	offset int64
}

// content inflates the object at offset, from the nearest base in the cache on; ok is false when that is not known yet.
func (x *indexer) content(offset int64) (kind plumbing.ObjectType, data []byte, ok bool, err error) {
	kind, data, deltas, ok, err := x.descend(offset)
	if !ok || err != nil {
		return 0, nil, ok, err
	}
	for i := len(deltas) - 1; i >= 0; i-- {
		delta, err := x.pack.inflate(deltas[i].header, maxDelta)
		if err != nil {
			return 0, nil, false, err
		}
		if data, err = applyDelta(data, delta, maxDelta); err != nil {
			return 0, nil, false, err
		}
		if _, isBase := x.bases[deltas[i].offset]; isBase {
			x.cache.put(deltas[i].offset, kind, data)
		}
	}
	return kind, data, true, nil
}

// descend follows deltas to a base that is in the cache or is no delta.
func (x *indexer) descend(offset int64) (kind plumbing.ObjectType, data []byte, deltas []step, ok bool, err error) {
	for {
		if kind, data, ok := x.cache.get(offset); ok {
			return kind, data, deltas, true, nil
		}
		h, err := x.pack.header(offset)
		if err != nil {
			return 0, nil, nil, false, err
		}
		if !h.kind.IsDelta() {
			data, err := x.pack.inflate(h, maxDelta)
			if err == nil {
				x.cache.put(offset, h.kind, data)
			}
			return h.kind, data, deltas, err == nil, err
		}
		if deltas = append(deltas, step{h, offset}); len(deltas) > maxChain {
			return 0, nil, nil, false, fmt.Errorf("%w: chain of more than %d deltas", ErrCorrupt, maxChain)
		}
		if offset, ok = x.baseOf(h); !ok {
			return 0, nil, nil, false, nil
		}
	}
}

func (x *indexer) baseOf(h header) (int64, bool) {
	if h.kind == plumbing.OFSDeltaObject {
		return h.base, true
	}
	offset, ok := x.byID[h.ref]
	return offset, ok
}

// baseCache keeps the inflated bases that were used last, up to a number of bytes.
type baseCache struct {
	room  int64
	byOff map[int64]*list.Element
	order list.List // of *based, most recent first
}

type based struct {
	offset int64
	kind   plumbing.ObjectType
	data   []byte
}

func newBaseCache(room int64) *baseCache {
	return &baseCache{room: room, byOff: map[int64]*list.Element{}}
}

func (c *baseCache) get(offset int64) (plumbing.ObjectType, []byte, bool) {
	el, ok := c.byOff[offset]
	if !ok {
		return 0, nil, false
	}
	c.order.MoveToFront(el)
	b := el.Value.(*based)
	return b.kind, b.data, true
}

func (c *baseCache) put(offset int64, kind plumbing.ObjectType, data []byte) {
	c.byOff[offset] = c.order.PushFront(&based{offset, kind, data})
	c.room -= int64(len(data))
	for c.room < 0 && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*based)
		delete(c.byOff, old.offset)
		c.room += int64(len(old.data))
	}
}
