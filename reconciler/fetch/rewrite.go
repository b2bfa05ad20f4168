package fetch

import (
	"context"
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// checkRewrite compares a commit with the one that was accepted before. st has the history of both.
func checkRewrite(ctx context.Context, s Source, st *store, was accepted, c *commit) error {
	if !was.binds(s, c) {
		return nil
	}
	rel, err := st.relate(ctx, plumbing.NewHash(was.Commit), c.Hash)
	if err != nil {
		return err
	}
	return judge(s, rel, was, c)
}

// binds reports whether there is a rule between the accepted commit and c.
func (a accepted) binds(s Source, c *commit) bool {
	return a.Commit != "" && a.Follows == s.Ref.String() && !s.AllowRewrite && a.Commit != c.Hash.String()
}

// judge refuses what goes back. With signatures, what diverged goes back, too: whoever holds the remote but no key has
// old signed commits of other branches to offer, and can vary the id of a signed commit where its signature does not
// cover it.
func judge(s Source, rel relation, was accepted, c *commit) error {
	how := ""
	switch {
	case rel == relationBack:
		how = "is an ancestor of"
	case rel == relationDiverged && s.Verify.enabled():
		how = "is not a descendant, as it must be where signatures are required, of"
	default:
		return nil
	}
	return withHint(fmt.Errorf("%w: %s (%s) %s %s, which was accepted before", ErrRollback, c.Hash, c.subject(), how, was.Commit),
		"go on with a new commit on top of it, or set allowRewrite on the source if rewriting history is intended")
}

// inherit returns the record of what was accepted, for a new clone to take over. A remote can bring about a new clone
// by an incomplete pack, and leave the accepted commit out of it. Then the record is given up only for a commit that
// may replace it, judged with the history that is still there: it, and the commit it names, stay in force otherwise.
func (m *mirror) inherit(ctx context.Context, s Source, old, clone *store, want tip, c *commit) (accepted, error) {
	was, _ := readAccepted(m.dir) // or the disk lost it
	if clone.complete(was) == nil {
		return was, nil // accept compares them there
	}
	if was.binds(s, c) {
		rel, err := relateIn(ctx, plumbing.NewHash(was.Commit), c.Hash, old, clone)
		if err != nil {
			return was, err
		}
		if err := judge(s, rel, was, c); err != nil {
			return was, err
		}
	}
	_, err := s.Verify.check(c, want.name)
	return accepted{}, err
}

// relateIn asks each store that has the history of both. If none has, it cannot be said that they are related.
func relateIn(ctx context.Context, accepted, next plumbing.Hash, stores ...*store) (relation, error) {
	for _, st := range stores {
		if st == nil || !st.has(accepted) || !st.has(next) {
			continue
		}
		if rel, err := st.relate(ctx, accepted, next); err == nil {
			return rel, nil
		}
	}
	return relationDiverged, ctx.Err()
}
