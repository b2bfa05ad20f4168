package fetch

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1" //nolint:gosec // Git's object format
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
)

// entry is one object of a pack that is being indexed.
type entry struct {
	id     plumbing.Hash
	known  bool // id is computed
	crc    uint32
	offset int64
}

// indexer computes the index of a pack that came from outside: every id is hashed from the content, so that a remote
// cannot name an object what it is not. Content is streamed; what deltas need in memory is bounded by maxDelta.
type indexer struct {
	ctx     context.Context
	pack    *pack // data and size only; find works on byID
	in      *bufio.Reader
	z       zlibReader // takes from the indexer itself
	at      int64
	sum     hash.Hash // over the whole pack
	crc     hash.Hash32
	entries []entry
	headers []header // parallel to entries
	bases   map[int64]struct{}
	byID    map[plumbing.Hash]int64
	cache   *baseCache
	limit   int // objects
}

// indexPack reads a whole pack and returns its entries sorted by id, and its checksum.
func indexPack(ctx context.Context, f *os.File, limit int) ([]entry, [trailer]byte, error) {
	var sum [trailer]byte
	info, err := f.Stat()
	if err != nil {
		return nil, sum, err
	}
	x := &indexer{
		ctx: ctx, pack: &pack{data: f, size: info.Size()}, sum: sha1.New(), crc: crc32.NewIEEE(), //nolint:gosec // as above
		bases: map[int64]struct{}{}, byID: map[plumbing.Hash]int64{}, cache: newBaseCache(16 << 20), limit: limit,
		in: bufio.NewReaderSize(io.NewSectionReader(f, 0, info.Size()), 64<<10),
	}
	if err := x.scan(); err != nil {
		return nil, sum, err
	}
	if err := x.resolve(); err != nil {
		return nil, sum, err
	}
	copy(sum[:], x.sum.Sum(nil))
	slices.SortFunc(x.entries, func(a, b entry) int { return bytes.Compare(a.id[:], b.id[:]) })
	return x.entries, sum, nil
}

// Read and ReadByte let zlib take exactly the bytes of one object, and hash them in passing.
func (x *indexer) Read(b []byte) (int, error) {
	n, err := x.in.Read(b)
	x.passed(b[:n])
	return n, err
}

func (x *indexer) ReadByte() (byte, error) {
	c, err := x.in.ReadByte()
	if err == nil {
		x.passed([]byte{c})
	}
	return c, err
}

func (x *indexer) passed(b []byte) {
	x.at += int64(len(b))
	x.sum.Write(b)
	x.crc.Write(b)
}

func (x *indexer) scan() error {
	var head [packHeader]byte
	if _, err := io.ReadFull(x, head[:]); err != nil {
		return fmt.Errorf("%w: pack ends early", ErrProtocol)
	}
	if string(head[:4]) != "PACK" || binary.BigEndian.Uint32(head[4:]) != 2 {
		return fmt.Errorf("%w: not a pack of version 2", ErrProtocol)
	}
	count := binary.BigEndian.Uint32(head[8:])
	if int64(count) > x.pack.size/8 { // an entry has at least that: header and empty zlib stream
		return fmt.Errorf("%w: pack of %s claims %d objects", ErrProtocol, formatBytes(x.pack.size), count)
	}
	if int64(count) > int64(x.limit) { // a few bytes in the pack are many times that in memory
		return withHint(fmt.Errorf("%w: the pack holds %d objects, limit %d", ErrTooLarge, count, x.limit), "move what is applied to a repository with less history")
	}
	x.entries, x.headers = make([]entry, 0, count), make([]header, 0, count)
	for range count {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if err := x.scanObject(); err != nil {
			return fmt.Errorf("%w: object at %d: %w", ErrProtocol, x.at, err)
		}
	}
	want := x.sum.Sum(nil)
	var got [trailer]byte
	if _, err := io.ReadFull(x.in, got[:]); err != nil || !bytes.Equal(got[:], want) {
		return fmt.Errorf("%w: checksum of the pack is wrong", ErrProtocol)
	}
	if _, err := x.in.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: data behind the pack", ErrProtocol)
	}
	return nil
}

func (x *indexer) scanObject() error {
	e := entry{offset: x.at}
	ahead, _ := x.in.Peek(64)
	h, used, err := parseHeader(ahead, x.at)
	if err != nil {
		return err
	}
	x.crc.Reset()
	if _, err := io.CopyN(io.Discard, x, int64(used)); err != nil {
		return err
	}
	h.data = x.at
	if e.id, err = x.scanContent(h); err != nil {
		return err
	}
	e.crc = x.crc.Sum32()
	if e.known = !h.kind.IsDelta(); e.known {
		x.byID[e.id] = e.offset
	} else if h.kind == plumbing.OFSDeltaObject {
		x.bases[h.base] = struct{}{}
	}
	x.entries, x.headers = append(x.entries, e), append(x.headers, h)
	return nil
}

// scanContent reads over the data of one object, and hashes it if it is not a delta.
func (x *indexer) scanContent(h header) (id plumbing.Hash, err error) {
	if x.z == nil {
		z, err := zlib.NewReader(x)
		if err != nil {
			return id, err
		}
		x.z = z.(zlibReader)
	} else if err := x.z.Reset(x, nil); err != nil {
		return id, err
	}
	if h.kind.IsDelta() {
		if h.size > maxDelta {
			return id, fmt.Errorf("%w: delta of %s, limit %s", ErrTooLarge, formatBytes(h.size), formatBytes(maxDelta))
		}
		return id, x.drain(io.Discard, x.z, h.size)
	}
	sum := plumbing.NewHasher(h.kind, h.size) // SHA-1 that detects collision attacks, as in Git itself
	err = x.drain(sum, x.z, h.size)
	return sum.Sum(), err
}

// drain copies exactly size bytes; reading on to the end has zlib compare its checksum.
func (x *indexer) drain(to io.Writer, from io.Reader, size int64) error {
	n, err := io.Copy(to, io.LimitReader(from, size+1))
	if err == nil && n != size {
		err = errors.New("its size is not what its header says")
	}
	return err
}
