package fetch

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // Git's pack format
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-git/go-git/v5/plumbing"
)

// store is the object database of one mirror: packs only. Any number of goroutines may read it while one adds packs.
type store struct {
	dir     string // of the packs
	packs   atomic.Pointer[[]*pack]
	trees   *treeCache
	objects int         // that one pack may hold
	suspect atomic.Bool // an object could not be read: check the packs before trusting them again
}

// errNoObject says that an object is in no pack.
var errNoObject = errors.New("object is missing")

// limits of a store; those of Mirrors, with defaults.
type limits struct {
	treeBytes int64
	objects   int
}

// openStore opens the packs below dir/objects/pack and removes what a killed process left there.
// check has each pack compared with its checksum, which costs reading it once.
func openStore(dir string, l limits, check bool) (*store, error) {
	st := &store{dir: filepath.Join(dir, "objects", "pack"), trees: newTreeCache(l.treeBytes), objects: l.objects}
	names, err := os.ReadDir(st.dir)
	if err != nil {
		return nil, err
	}
	var packs []*pack
	for _, n := range names {
		base, isIndex := strings.CutSuffix(n.Name(), ".idx")
		switch {
		case strings.HasPrefix(n.Name(), "tmp_"), isOrphan(names, n.Name()):
			err = os.Remove(filepath.Join(st.dir, n.Name()))
		case isIndex && strings.HasPrefix(base, "pack-"):
			var p *pack
			if p, err = openPack(filepath.Join(st.dir, base)); err == nil {
				packs = append(packs, p)
			}
			if err == nil && check {
				err = p.check()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = corrupt(err)
		}
		if err != nil {
			return nil, err
		}
	}
	st.packs.Store(&packs)
	return st, nil
}

// isOrphan finds a pack whose index was not written any more, or was removed already.
func isOrphan(all []fs.DirEntry, name string) bool {
	base, ok := strings.CutSuffix(name, ".pack")
	return ok && !slices.ContainsFunc(all, func(e fs.DirEntry) bool { return e.Name() == base+".idx" })
}

// check compares a pack and its index with their checksums.
func (p *pack) check() error {
	info, err := p.index.Stat()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		file *os.File
		size int64
	}{{p.data, p.size}, {p.index, info.Size()}} {
		sum := sha1.New() //nolint:gosec // as above
		if _, err := io.Copy(sum, io.NewSectionReader(f.file, 0, f.size-trailer)); err != nil {
			return corrupt(err)
		}
		var want [trailer]byte
		if _, err := f.file.ReadAt(want[:], f.size-trailer); err != nil {
			return corrupt(err)
		}
		if !bytes.Equal(sum.Sum(nil), want[:]) {
			return fmt.Errorf("%w: checksum of %s is wrong", ErrCorrupt, filepath.Base(f.file.Name()))
		}
	}
	return nil
}

func (st *store) find(id plumbing.Hash) (*pack, int64, error) {
	packs := *st.packs.Load()
	for i := len(packs) - 1; i >= 0; i-- { // newest first
		offset, ok, err := packs[i].find(id)
		if err != nil {
			st.suspect.Store(true)
			return nil, 0, err
		}
		if ok {
			return packs[i], offset, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: %s", errNoObject, id)
}

func (st *store) has(id plumbing.Hash) bool {
	_, _, err := st.find(id)
	return err == nil
}

// object returns kind and content of an object of at most limit bytes.
func (st *store) object(id plumbing.Hash, limit int64) (plumbing.ObjectType, []byte, error) {
	p, offset, err := st.find(id)
	if err != nil {
		return 0, nil, err
	}
	kind, data, err := p.object(offset, limit)
	return kind, data, st.noticed(id, err)
}

// stat returns kind and size of an object.
func (st *store) stat(id plumbing.Hash) (plumbing.ObjectType, int64, error) {
	p, offset, err := st.find(id)
	if err != nil {
		return 0, 0, err
	}
	kind, size, err := p.stat(offset)
	return kind, size, st.noticed(id, err)
}

func (st *store) noticed(id plumbing.Hash, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrTooLarge) {
		st.suspect.Store(true)
	}
	return fmt.Errorf("read object %s: %w", id, err)
}

func (st *store) bytes() (n int64) {
	for _, p := range *st.packs.Load() {
		n += p.size
	}
	return n
}

// add stores the pack that is read from r, of at most limit bytes.
func (st *store) add(ctx context.Context, r io.Reader, limit int64) error {
	f, err := os.CreateTemp(st.dir, "tmp_pack_")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(r, limit+1))
	if err != nil {
		return err
	}
	if n > limit {
		return withHint(fmt.Errorf("%w: the pack exceeds %s", ErrTooLarge, formatBytes(limit)), "raise maxBytes if the repository is meant to be that large")
	}
	entries, sum, err := indexPack(ctx, f, st.objects)
	if err != nil {
		return err
	}
	p, err := st.install(f, entries, sum)
	if err != nil {
		return err
	}
	packs := append(append([]*pack(nil), *st.packs.Load()...), p)
	st.packs.Store(&packs)
	return nil
}

// install gives a pack its index and its name. Everything is on the disk before the index, which makes it count,
// gets its name.
func (st *store) install(f *os.File, entries []entry, sum [trailer]byte) (*pack, error) {
	base := filepath.Join(st.dir, fmt.Sprintf("pack-%x", sum))
	idx, err := os.CreateTemp(st.dir, "tmp_idx_")
	if err != nil {
		return nil, err
	}
	defer os.Remove(idx.Name())
	defer idx.Close()
	if err := writeIndex(idx, entries, sum); err != nil {
		return nil, err
	}
	for _, file := range []*os.File{f, idx} {
		if err := errors.Join(file.Chmod(0o444), file.Sync()); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(f.Name(), base+".pack"); err != nil {
		return nil, err
	}
	if err := os.Rename(idx.Name(), base+".idx"); err != nil {
		return nil, err
	}
	if err := syncDir(st.dir); err != nil {
		return nil, err
	}
	return openPack(base)
}

// writeIndex writes an index of version 2; entries are sorted by id.
func writeIndex(f io.Writer, entries []entry, sum [trailer]byte) error {
	w := indexWriter{w: bufio.NewWriter(f), sum: sha1.New()} //nolint:gosec // as above
	w.write(idxMagic[:])
	n := 0
	for first := range 256 {
		for n < len(entries) && int(entries[n].id[0]) <= first {
			n++
		}
		w.uint32(uint32(n))
	}
	for _, e := range entries {
		w.write(e.id[:])
	}
	for _, e := range entries {
		w.uint32(e.crc)
	}
	var far []int64
	for _, e := range entries {
		if e.offset < 1<<31 {
			w.uint32(uint32(e.offset))
		} else {
			w.uint32(1<<31 | uint32(len(far)))
			far = append(far, e.offset)
		}
	}
	for _, o := range far {
		w.uint32(uint32(o >> 32))
		w.uint32(uint32(o))
	}
	w.write(sum[:])
	w.write(w.sum.Sum(nil))
	return w.w.Flush()
}

// indexWriter leaves errors to the final Flush, which repeats the first one.
type indexWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (w indexWriter) write(b []byte) { w.sum.Write(b); _, _ = w.w.Write(b) }

func (w indexWriter) uint32(v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	w.write(b[:])
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
