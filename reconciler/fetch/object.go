package fetch

import (
	"bufio"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	// maxDelta bounds what a delta may be made of, and yield: those are in memory at once.
	maxDelta = 64 << 20
	// maxChain is Git's own limit for chains of deltas.
	maxChain = 4095
)

// header is what precedes the data of an object in a pack.
type header struct {
	kind plumbing.ObjectType // may be a delta
	size int64               // inflated; of the delta, if it is one
	base int64               // OFSDelta: its offset
	ref  plumbing.Hash       // REFDelta: its id
	data int64               // where the deflated data begins
}

func (p *pack) header(offset int64) (header, error) {
	var buf [64]byte
	n, err := p.data.ReadAt(buf[:min(int64(len(buf)), p.size-offset)], offset)
	if err != nil && n == 0 {
		return header{}, corrupt(err)
	}
	h, used, err := parseHeader(buf[:n], offset)
	if err != nil {
		return header{}, err
	}
	h.data = offset + int64(used)
	return h, nil
}

var errHeader = fmt.Errorf("%w: bad object header", ErrCorrupt)

func parseHeader(b []byte, offset int64) (h header, used int, err error) {
	if len(b) == 0 {
		return h, 0, errHeader
	}
	c := b[0]
	used = 1
	h.kind, h.size = plumbing.ObjectType(c>>4&7), int64(c&15)
	for shift := 4; c&0x80 != 0; shift += 7 {
		if used == len(b) || shift > 56 {
			return h, 0, errHeader
		}
		c = b[used]
		used++
		h.size |= int64(c&0x7f) << shift
	}
	if h.size < 0 {
		return h, 0, errHeader
	}
	switch h.kind {
	case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
	case plumbing.OFSDeltaObject:
		back, n := parseDistance(b[used:])
		used += n
		if h.base = offset - back; n == 0 || back <= 0 || h.base < packHeader {
			return h, 0, errHeader
		}
	case plumbing.REFDeltaObject:
		if len(b)-used < hashSize {
			return h, 0, errHeader
		}
		used += copy(h.ref[:], b[used:])
	default:
		return h, 0, errHeader
	}
	return h, used, nil
}

// parseDistance reads how far back the base of a delta is; used is 0 when it is malformed.
func parseDistance(b []byte) (back int64, used int) {
	for i, c := range b[:min(len(b), 9)] {
		back |= int64(c & 0x7f)
		if c&0x80 == 0 {
			return back, i + 1
		}
		back = (back + 1) << 7
	}
	return 0, 0
}

// object inflates the object at offset. Nothing larger than limit is ever allocated for the result.
func (p *pack) object(offset, limit int64) (plumbing.ObjectType, []byte, error) {
	var deltas []header
	h, err := p.header(offset)
	for ; err == nil && h.kind.IsDelta(); h, err = p.header(offset) {
		if deltas = append(deltas, h); len(deltas) > maxChain {
			return 0, nil, fmt.Errorf("%w: chain of more than %d deltas", ErrCorrupt, maxChain)
		}
		if offset, err = p.base(h); err != nil {
			break
		}
	}
	if err != nil {
		return 0, nil, err
	}
	bound := limit
	if len(deltas) > 0 {
		bound = maxDelta
	}
	out, err := p.inflate(h, bound)
	for i := len(deltas) - 1; i >= 0 && err == nil; i-- {
		var delta []byte
		if delta, err = p.inflate(deltas[i], maxDelta); err != nil {
			break
		}
		if i == 0 {
			bound = limit
		}
		out, err = applyDelta(out, delta, bound)
	}
	return h.kind, out, err
}

func (p *pack) base(h header) (int64, error) {
	if h.kind == plumbing.OFSDeltaObject {
		return h.base, nil
	}
	offset, ok, err := p.find(h.ref)
	if err == nil && !ok {
		err = fmt.Errorf("%w: delta against %s, which the pack does not have", ErrCorrupt, h.ref)
	}
	return offset, err
}

// stat returns kind and size of the object at offset without inflating it.
func (p *pack) stat(offset int64) (plumbing.ObjectType, int64, error) {
	h, err := p.header(offset)
	if err != nil {
		return 0, 0, err
	}
	size := h.size
	if h.kind.IsDelta() {
		if size, err = p.deltaResult(h); err != nil {
			return 0, 0, err
		}
	}
	for n := 0; h.kind.IsDelta(); n++ {
		if n > maxChain {
			return 0, 0, fmt.Errorf("%w: chain of more than %d deltas", ErrCorrupt, maxChain)
		}
		if offset, err = p.base(h); err != nil {
			return 0, 0, err
		}
		if h, err = p.header(offset); err != nil {
			return 0, 0, err
		}
	}
	return h.kind, size, nil
}

func (p *pack) deltaResult(h header) (int64, error) {
	var start [20]byte
	n, err := p.inflateInto(h, start[:min(int64(len(start)), h.size)], false)
	if err != nil {
		return 0, err
	}
	_, rest, err := leb128(start[:n])
	if err != nil {
		return 0, err
	}
	size, _, err := leb128(rest)
	return size, err
}

func (p *pack) inflate(h header, limit int64) ([]byte, error) {
	if h.size > limit {
		return nil, fmt.Errorf("%w: object of %s, limit %s", ErrTooLarge, formatBytes(h.size), formatBytes(limit))
	}
	out := make([]byte, h.size)
	_, err := p.inflateInto(h, out, true)
	return out, err
}

type zlibReader interface {
	io.ReadCloser
	zlib.Resetter
}

type inflater struct {
	in *bufio.Reader
	z  zlibReader
}

var inflaters = sync.Pool{New: func() any { return &inflater{in: bufio.NewReaderSize(nil, 4096)} }}

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 4096) }

// inflateInto fills out; whole says that the object must end there, and its checksum be right.
func (p *pack) inflateInto(h header, out []byte, whole bool) (int, error) {
	f := inflaters.Get().(*inflater)
	defer inflaters.Put(f)
	f.in.Reset(io.NewSectionReader(p.data, h.data, p.size-trailer-h.data))
	if err := f.reset(); err != nil {
		return 0, corrupt(err)
	}
	n, err := io.ReadFull(f.z, out)
	if err != nil {
		return n, corrupt(err)
	}
	if whole {
		var more [1]byte
		if m, err := f.z.Read(more[:]); m != 0 || !errors.Is(err, io.EOF) {
			return n, fmt.Errorf("%w: object is longer than its header says, or its checksum is wrong", ErrCorrupt)
		}
	}
	return n, nil
}

func (f *inflater) reset() error {
	if f.z != nil {
		return f.z.Reset(f.in, nil)
	}
	z, err := zlib.NewReader(f.in)
	if err != nil {
		return err
	}
	f.z = z.(zlibReader)
	return nil
}
