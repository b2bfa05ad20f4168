package fetch

import (
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
)

// At returns a commit of a source that came with what was fetched before: one that was in force once, say. It is
// read from the disk, without network, and what is accepted stays as it is. errors.Is(err, ErrNoSnapshot) when the
// mirror doesn't have it; ErrUnverified when it does not satisfy s.Verify by itself: a tag's signature is not asked.
func (m *Mirrors) At(s Source, id string) (Snapshot, error) {
	const op = "read an older commit"
	if err := s.Validate(); err != nil {
		return Snapshot{}, &Error{Source: s.Name, Op: "validate", Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
	}
	if !plumbing.IsHash(id) {
		return Snapshot{}, fail(s, op, fmt.Errorf("%w: %q is no commit", ErrNoSnapshot, printable(id, 64)))
	}
	mirror := m.mirror(s)
	st, err := mirror.open()
	if err != nil {
		return Snapshot{}, fail(s, op, fmt.Errorf("%w: %w", ErrNoSnapshot, err))
	}
	kind, data, err := st.object(plumbing.NewHash(id), maxCommit)
	if err == nil && kind != plumbing.CommitObject {
		err = fmt.Errorf("is a %s", kind)
	}
	if err != nil {
		return Snapshot{}, fail(s, op, fmt.Errorf("%w: %s: %w", ErrNoSnapshot, id, err))
	}
	c, err := decodeCommit(data)
	if err != nil {
		return Snapshot{}, fail(s, op, err)
	}
	signer, err := s.Verify.check(c, "")
	if err != nil {
		return Snapshot{}, fail(s, op, err)
	}
	tree := &treeFS{st: st, root: c.TreeHash, maxFile: orDefault(m.MaxFileBytes, 10<<20)}
	return Snapshot{Source: s.Name, Commit: id, Author: c.author(), Subject: c.subject(), Time: c.Committer.When, Signer: signer, FS: tree}, nil
}
