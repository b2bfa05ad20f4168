package fetch

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// relation of a new commit to the accepted one.
type relation int

const (
	relationForward  relation = iota // the accepted commit is an ancestor of the new one
	relationBack                     // the new commit is an ancestor of the accepted one
	relationDiverged                 // neither
)

// relate walks from both commits at once, one step each in turn, until one finds the other: the usual case, a few new
// commits, costs a few reads however long the history is.
func (st *store) relate(ctx context.Context, accepted, next plumbing.Hash) (relation, error) {
	forward, back := newHistory(st, next), newHistory(st, accepted)
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		a, okA, err := forward.next()
		if err != nil {
			return 0, err
		}
		b, okB, err := back.next()
		if err != nil {
			return 0, err
		}
		switch {
		case okA && a == accepted:
			return relationForward, nil
		case okB && b == next:
			return relationBack, nil
		case !okA && !okB:
			return relationDiverged, nil
		}
	}
}

// history yields a commit and all its ancestors once, nearest first.
type history struct {
	st    *store
	queue []plumbing.Hash
	seen  map[plumbing.Hash]struct{}
}

func newHistory(st *store, from plumbing.Hash) *history {
	return &history{st: st, queue: []plumbing.Hash{from}, seen: map[plumbing.Hash]struct{}{from: {}}}
}

func (h *history) next() (id plumbing.Hash, ok bool, err error) {
	if len(h.queue) == 0 {
		return id, false, nil
	}
	id, h.queue = h.queue[0], h.queue[1:]
	parents, err := h.st.parents(id)
	if err != nil {
		return id, false, err
	}
	for _, p := range parents {
		if _, ok := h.seen[p]; !ok {
			h.seen[p] = struct{}{}
			h.queue = append(h.queue, p)
		}
	}
	return id, true, nil
}

// maxHaves is how many commits are offered to the remote as known, so that it sends only what is new. go-git asks in
// one round, without negotiation, so some history is offered for the case that the branch was rewritten.
const maxHaves = 64

func (st *store) haves(from plumbing.Hash) (ids []plumbing.Hash) {
	h := newHistory(st, from)
	for len(ids) < maxHaves {
		id, ok, err := h.next()
		if !ok || err != nil {
			return ids
		}
		ids = append(ids, id)
	}
	return ids
}

// maxPaths bounds the files that a tree unfolds to: a few small trees that hold each other many times (a "git bomb")
// would keep every reader busy forever.
const maxPaths = 1 << 20

// survey checks that everything below a tree is there, and counts its paths. sound holds the counts of trees that were
// found complete before, and is added to.
func (st *store) survey(ctx context.Context, id plumbing.Hash, sound map[plumbing.Hash]int, depth int) (int, error) {
	if n, ok := sound[id]; ok {
		return n, nil
	}
	if depth > 256 {
		return 0, fmt.Errorf("%w: directories nested more than 256 deep", ErrTooLarge)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t, err := st.tree(id)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, n := range t.nodes {
		below := 1
		switch n.kind {
		case kindDir:
			if below, err = st.survey(ctx, n.id, sound, depth+1); err != nil {
				return 0, err
			}
		case kindFile, kindLink:
			if _, _, err := st.find(n.id); err != nil {
				return 0, err
			}
		}
		if count += below; count > maxPaths {
			return 0, fmt.Errorf("%w: more than %d files", ErrTooLarge, maxPaths)
		}
	}
	sound[id] = count
	return count, nil
}

// incomplete reports that an error means damage: something that must be there is not, or cannot be read.
func incomplete(err error) bool {
	return errors.Is(err, errNoObject) || errors.Is(err, ErrCorrupt)
}
