package fetch

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // Git's pack format
	"encoding/binary"
	"io"
	"os"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// compact merges packs when there are more than limit. Deltas only refer to objects of their own pack, by distance or
// by id, so packs are merged by copying them behind each other: nothing is inflated, and no object can get lost.
// The merged packs are unlinked after the new one has its name; whoever has them open reads on. A pack that is larger
// than all others together is left alone.
func (st *store) compact(limit int) error {
	packs := *st.packs.Load()
	if len(packs) <= limit {
		return nil
	}
	largest := slices.MaxFunc(packs, func(a, b *pack) int { return int(a.size - b.size) })
	var keep, merge []*pack
	for _, p := range packs {
		if p == largest && 2*p.size > st.bytes() {
			keep = append(keep, p)
		} else {
			merge = append(merge, p)
		}
	}
	merged, err := st.merge(merge)
	if err != nil {
		return err
	}
	keep = append(keep, merged)
	st.packs.Store(&keep)
	for _, p := range merge {
		if p.data.Name() == merged.data.Name() {
			continue
		}
		// The index first: a pack without one does not count.
		_ = os.Remove(p.index.Name())
		_ = os.Remove(p.data.Name())
	}
	return syncDir(st.dir)
}

func (st *store) merge(packs []*pack) (*pack, error) {
	f, err := os.CreateTemp(st.dir, "tmp_pack_")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	total := 0
	for _, p := range packs {
		total += p.count
	}
	head := [packHeader]byte{'P', 'A', 'C', 'K', 0, 0, 0, 2}
	binary.BigEndian.PutUint32(head[8:], uint32(total))
	digest := sha1.New() //nolint:gosec // as above
	w := io.MultiWriter(f, digest)
	if _, err := w.Write(head[:]); err != nil {
		return nil, err
	}
	entries, err := appendPacks(w, packs, total)
	if err != nil {
		return nil, err
	}
	var sum [trailer]byte
	copy(sum[:], digest.Sum(nil))
	if _, err := f.Write(sum[:]); err != nil {
		return nil, err
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return bytes.Compare(a.id[:], b.id[:]) })
	return st.install(f, entries, sum)
}

// appendPacks copies the objects of packs behind each other, and returns where they are now.
func appendPacks(w io.Writer, packs []*pack, total int) ([]entry, error) {
	entries := make([]entry, 0, total)
	at := int64(packHeader)
	for _, p := range packs {
		n, err := io.Copy(w, io.NewSectionReader(p.data, packHeader, p.size-packHeader-trailer))
		if err != nil {
			return nil, err
		}
		moved := at - packHeader
		err = p.entries(func(id plumbing.Hash, crc uint32, offset int64) error {
			entries = append(entries, entry{id: id, crc: crc, offset: offset + moved})
			return nil
		})
		if err != nil {
			return nil, err
		}
		at += n
	}
	return entries, nil
}
