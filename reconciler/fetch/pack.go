package fetch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/go-git/go-git/v5/plumbing"
)

// pack reads one packfile through its index (version 2) with ReadAt only: nothing of it is held in memory, and any
// number of goroutines may read. The files stay open, so a pack that was merged away and unlinked stays readable for
// snapshots that hold it; the runtime closes them when the last one is gone.
// Formats: gitformat-pack(5).
type pack struct {
	data, index *os.File
	size        int64 // of data
	count       int
	fanout      [256]uint32
}

const (
	idxHeader  = 8 + 256*4
	packHeader = 12
	hashSize   = 20
	trailer    = hashSize
)

var idxMagic = [8]byte{0xff, 't', 'O', 'c', 0, 0, 0, 2}

// openPack opens base+".pack" and base+".idx" and compares their sizes and trailers.
func openPack(base string) (_ *pack, err error) {
	p := &pack{}
	if p.index, err = os.Open(base + ".idx"); err != nil {
		return nil, err
	}
	if p.data, err = os.Open(base + ".pack"); err != nil {
		p.index.Close()
		return nil, err
	}
	if err := p.readHeads(); err != nil {
		p.close()
		return nil, fmt.Errorf("%w: %s: %v", ErrCorrupt, filepath.Base(base), err)
	}
	return p, nil
}

func (p *pack) close() { p.data.Close(); p.index.Close() }

func (p *pack) readHeads() error {
	var head [idxHeader]byte
	if _, err := p.index.ReadAt(head[:], 0); err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	if !bytes.Equal(head[:8], idxMagic[:]) {
		return errors.New("not an index of version 2")
	}
	for i := range p.fanout {
		p.fanout[i] = binary.BigEndian.Uint32(head[8+4*i:])
		if i > 0 && p.fanout[i] < p.fanout[i-1] {
			return errors.New("index is not sorted")
		}
	}
	p.count = int(p.fanout[255])
	info, err := p.data.Stat()
	if err != nil {
		return err
	}
	p.size = info.Size()
	var first [packHeader]byte
	if _, err := p.data.ReadAt(first[:], 0); err != nil {
		return fmt.Errorf("read pack: %w", err)
	}
	if string(first[:4]) != "PACK" || int(binary.BigEndian.Uint32(first[8:])) != p.count {
		return errors.New("pack and index differ in the number of objects")
	}
	return p.compareTrailers()
}

// compareTrailers finds packs that were cut short.
func (p *pack) compareTrailers() error {
	info, err := p.index.Stat()
	if err != nil {
		return err
	}
	var inPack, inIndex [trailer]byte
	if _, err := p.data.ReadAt(inPack[:], p.size-trailer); err != nil {
		return fmt.Errorf("read pack: %w", err)
	}
	if info.Size() < p.offsets()+int64(p.count)*4+2*trailer {
		return errors.New("index is too short")
	}
	if _, err := p.index.ReadAt(inIndex[:], info.Size()-2*trailer); err != nil {
		return fmt.Errorf("read index: %w", err)
	}
	if inPack != inIndex {
		return errors.New("pack is not the one of the index")
	}
	return nil
}

func (p *pack) crcs() int64    { return idxHeader + int64(p.count)*hashSize }
func (p *pack) offsets() int64 { return p.crcs() + int64(p.count)*4 }

// find returns the offset of an object; ok is false when the pack does not have it.
func (p *pack) find(id plumbing.Hash) (offset int64, ok bool, err error) {
	lo, hi := 0, int(p.fanout[id[0]])
	if id[0] > 0 {
		lo = int(p.fanout[id[0]-1])
	}
	var buf [64 * hashSize]byte
	for hi-lo > len(buf)/hashSize {
		mid := (lo + hi) / 2
		if _, err := p.index.ReadAt(buf[:hashSize], idxHeader+int64(mid)*hashSize); err != nil {
			return 0, false, corrupt(err)
		}
		if bytes.Compare(buf[:hashSize], id[:]) <= 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	names := buf[:(hi-lo)*hashSize]
	if _, err := p.index.ReadAt(names, idxHeader+int64(lo)*hashSize); err != nil && len(names) > 0 {
		return 0, false, corrupt(err)
	}
	n := sort.Search(hi-lo, func(i int) bool { return bytes.Compare(names[i*hashSize:(i+1)*hashSize], id[:]) >= 0 })
	if n == hi-lo || !bytes.Equal(names[n*hashSize:(n+1)*hashSize], id[:]) {
		return 0, false, nil
	}
	offset, err = p.offset(lo + n)
	return offset, err == nil, err
}

// offset is where the nth object of the index begins.
func (p *pack) offset(n int) (int64, error) {
	var b [8]byte
	if _, err := p.index.ReadAt(b[:4], p.offsets()+int64(n)*4); err != nil {
		return 0, corrupt(err)
	}
	o := int64(binary.BigEndian.Uint32(b[:4]))
	if o&(1<<31) != 0 {
		at := p.offsets() + int64(p.count)*4 + (o&^(1<<31))*8
		if _, err := p.index.ReadAt(b[:], at); err != nil {
			return 0, corrupt(err)
		}
		o = int64(binary.BigEndian.Uint64(b[:]) & (1<<63 - 1))
	}
	if o < packHeader || o >= p.size-trailer {
		return 0, fmt.Errorf("%w: offset %d is outside of the pack", ErrCorrupt, o)
	}
	return o, nil
}

// entries calls do for each object in the order of the index.
func (p *pack) entries(do func(id plumbing.Hash, crc uint32, offset int64) error) error {
	names := io.NewSectionReader(p.index, idxHeader, int64(p.count)*hashSize)
	crcs := io.NewSectionReader(p.index, p.crcs(), int64(p.count)*4)
	nr, cr := newReader(names), newReader(crcs)
	for n := range p.count {
		var id plumbing.Hash
		var crc [4]byte
		if _, err := io.ReadFull(nr, id[:]); err != nil {
			return corrupt(err)
		}
		if _, err := io.ReadFull(cr, crc[:]); err != nil {
			return corrupt(err)
		}
		offset, err := p.offset(n)
		if err != nil {
			return err
		}
		if err := do(id, binary.BigEndian.Uint32(crc[:]), offset); err != nil {
			return err
		}
	}
	return nil
}

func corrupt(err error) error { return fmt.Errorf("%w: %v", ErrCorrupt, err) }
