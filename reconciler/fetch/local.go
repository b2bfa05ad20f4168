package fetch

import (
	"compress/zlib"
	"context"
	"crypto/sha1" //nolint:gosec // Git's pack format
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// openLocal reads file:// in process. go-git's transport for it runs a git binary. Its in-process server lists the refs
// here, but would take seconds and gigabytes to make a pack: what is missing is copied object by object instead.
func openLocal(ses *session) error {
	dir := filepath.FromSlash(ses.remote.path)
	git := dir
	if info, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		if git = filepath.Join(dir, ".git"); !info.IsDir() {
			return withHint(fmt.Errorf("%w: %s is a linked worktree", ErrInvalid, dir), "name the repository that it belongs to")
		}
	}
	for _, name := range []string{"HEAD", "objects"} {
		if _, err := os.Stat(filepath.Join(git, name)); err != nil {
			return fmt.Errorf("%w: %s is not a Git repository: %v", ErrNotFound, dir, err)
		}
	}
	from := filesystem.NewStorage(osfs.New(git, osfs.WithBoundOS()), cache.NewObjectLRU(8*cache.MiByte))
	ses.copy = func(ctx context.Context, to *store, want plumbing.Hash, limit int64) error {
		return copyMissing(ctx, from, to, want, limit)
	}
	var err error
	ses.git, err = server.NewClient(localLoader{from}).NewUploadPackSession(ses.remote.endpoint(), nil)
	return err
}

type localLoader struct{ storer.Storer }

func (l localLoader) Load(*transport.Endpoint) (storer.Storer, error) { return l.Storer, nil }

// copyMissing adds a pack with all that want leads to and to does not have. What to has, it has with all that it leads
// to, so the walk ends there.
func copyMissing(ctx context.Context, from storer.EncodedObjectStorer, to *store, want plumbing.Hash, limit int64) error {
	ids, err := missing(ctx, from, to, want)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(writePack(ctx, w, from, ids)) }()
	return to.add(ctx, r, limit)
}

func missing(ctx context.Context, from storer.EncodedObjectStorer, to *store, want plumbing.Hash) (ids []plumbing.Hash, err error) {
	seen := map[plumbing.Hash]struct{}{}
	todo := []plumbing.Hash{want}
	for len(todo) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, ok := seen[id]; ok || to.has(id) {
			continue
		}
		seen[id] = struct{}{}
		ids = append(ids, id)
		more, err := leadsTo(from, id)
		if err != nil {
			return nil, fmt.Errorf("%w: object %s: %v", ErrNotFound, id, err)
		}
		todo = append(todo, more.walk...)
		for _, blob := range more.blobs {
			if _, ok := seen[blob]; !ok && !to.has(blob) {
				seen[blob] = struct{}{}
				ids = append(ids, blob)
			}
		}
	}
	return ids, nil
}

type links struct{ walk, blobs []plumbing.Hash }

func leadsTo(from storer.EncodedObjectStorer, id plumbing.Hash) (l links, err error) {
	o, err := from.EncodedObject(plumbing.AnyObject, id)
	if err != nil || o.Type() == plumbing.BlobObject {
		return l, err
	}
	if o.Size() > maxTree {
		return l, fmt.Errorf("%w: %s of %s", ErrTooLarge, o.Type(), formatBytes(o.Size()))
	}
	data, err := contentOf(o)
	if err != nil {
		return l, err
	}
	switch o.Type() {
	case plumbing.TreeObject:
		nodes, err := parseTree(data) // any name: only that of the tip are used, and checked
		if err != nil {
			return l, err
		}
		for _, n := range nodes {
			switch n.kind {
			case kindDir:
				l.walk = append(l.walk, n.id)
			case kindFile, kindLink:
				l.blobs = append(l.blobs, n.id)
			}
		}
	case plumbing.CommitObject:
		tree, _, _ := strings.Cut(strings.TrimPrefix(string(data), "tree "), "\n")
		l.walk = append(parentsOf(data), plumbing.NewHash(tree))
	case plumbing.TagObject:
		t, err := parseTag(data)
		if err != nil {
			return l, err
		}
		l.walk = append(l.walk, t.target)
	}
	return l, nil
}

func contentOf(o plumbing.EncodedObject) ([]byte, error) {
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// writePack writes objects as they are, without deltas.
func writePack(ctx context.Context, to io.Writer, from storer.EncodedObjectStorer, ids []plumbing.Hash) error {
	sum := sha1.New() //nolint:gosec // as above
	w := io.MultiWriter(to, sum)
	head := [packHeader]byte{'P', 'A', 'C', 'K', 0, 0, 0, 2}
	binary.BigEndian.PutUint32(head[8:], uint32(len(ids)))
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	z, err := zlib.NewWriterLevel(w, zlib.BestSpeed)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeObject(w, z, from, id); err != nil {
			return err
		}
	}
	_, err = to.Write(sum.Sum(nil))
	return err
}

func writeObject(w io.Writer, z *zlib.Writer, from storer.EncodedObjectStorer, id plumbing.Hash) error {
	o, err := from.EncodedObject(plumbing.AnyObject, id)
	if err != nil {
		return fmt.Errorf("%w: object %s: %v", ErrNotFound, id, err)
	}
	size := o.Size()
	b := []byte{byte(o.Type())<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		b[len(b)-1] |= 0x80
		b = append(b, byte(size&0x7f))
	}
	if _, err := w.Write(b); err != nil {
		return err
	}
	r, err := o.Reader()
	if err != nil {
		return err
	}
	z.Reset(w)
	_, err = io.Copy(z, r)
	return errors.Join(err, r.Close(), z.Close())
}
