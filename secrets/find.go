package secrets

import (
	"hash/maphash"
	"math"
	"math/bits"
)

// know makes a form known, or counts one use more of it.
func (r *Redactor) know(w written, more form) {
	if len(w.text) < shortest {
		return
	}
	sum := maphash.String(r.seed, w.text)
	f, known := r.forms[sum]
	if !known && len(r.forms) >= r.most {
		r.full = true
		return
	}
	more.rest = uint32(min(w.rest, math.MaxUint32/2))
	longer := more.rest > f.rest
	f.rest = max(f.rest, more.rest)
	f.uses += min(more.uses, math.MaxUint16-f.uses)
	f.pieces += min(more.pieces, math.MaxUint16-f.pieces)
	r.forms[sum] = f
	if known && !longer {
		return
	}
	hash := r.prefix(load(w.text) | uint64(w.text[shortest-1])<<40)
	size := uint32(len(w.text))
	at := hash
	for r.sizes[at] != 0 && r.sizes[at] != size {
		at++
	}
	r.sizes[at] = size
	if at != hash || f.rest > 0 {
		r.reach[hash] = max(r.reach[hash], r.sizes[hash], size+f.rest)
	}
	if len(r.filter)*4 < len(r.sizes) && len(r.filter) < widest {
		r.grow()
	}
	r.filter[hash>>6&uint64(len(r.filter)-1)] |= 1 << (hash & 63)
}

// widest is how many words the filter has at most: half a megabyte.
const widest = 1 << 16

// grow keeps one bit of the filter in sixteen set at most, up to its widest.
func (r *Redactor) grow() {
	r.filter = make([]uint64, max(2*len(r.filter), 64))
	for hash := range r.sizes {
		r.filter[hash>>6&uint64(len(r.filter)-1)] |= 1 << (hash & 63)
	}
}

// load is all of a prefix but its last byte.
func load(s string) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32
}

// prefix hashes six bytes: keyed, and not to be turned round.
func (r *Redactor) prefix(bytes uint64) uint64 {
	high, low := bits.Mul64(bytes^r.keys[0], r.keys[1])
	return high ^ low
}

// tries is how many forms are looked up in a text whatever its length, besides one
// for every few bytes.
const tries = 4 << 10

// find lists where known values stand, in order, merged where they touch.
//
// Values may be chosen so that many begin alike, in a text that begins like them at
// every byte. When that has cost too much, all that begins like one is taken for the
// longest: too much is masked then, and nothing too little.
func (r *Redactor) find(s string, first bool) (spans [][2]int) {
	if r == nil || len(s) < shortest {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.forms) == 0 {
		return nil
	}
	left := len(s)/4 + tries
	filter, window := r.filter, load(s)<<8
	for i := 0; i+shortest <= len(s); i++ {
		window = window>>8 | uint64(s[i+shortest-1])<<40
		hash := r.prefix(window)
		if filter[hash>>6&uint64(len(filter)-1)]&(1<<(hash&63)) == 0 {
			continue
		}
		var end int
		if left > 0 {
			end = r.longest(s, i, hash, &left)
		} else {
			end = r.farthest(s, i, hash)
		}
		switch last := len(spans) - 1; {
		case end == 0:
			continue
		case last >= 0 && i <= spans[last][1]:
			spans[last][1] = max(spans[last][1], end)
		default:
			spans = append(spans, [2]int{i, end})
		}
		if first {
			return spans
		}
	}
	return spans
}

// longest is where the longest form ends that begins at i; 0 where none does. It
// counts what it tries.
func (r *Redactor) longest(s string, i int, hash uint64, left *int) (end int) {
	for ; ; hash++ {
		size := int(r.sizes[hash])
		if size == 0 {
			return end
		}
		*left--
		if size > len(s)-i {
			continue
		}
		*left -= size / 64
		if f, known := r.forms[maphash.String(r.seed, s[i:i+size])]; known {
			end = max(end, min(i+size+int(f.rest), len(s)))
		}
	}
}

// farthest is where the longest form would end that begins like the text at i; 0
// where none does.
func (r *Redactor) farthest(s string, i int, hash uint64) (end int) {
	size := r.sizes[hash]
	if size == 0 {
		return 0
	}
	return min(i+int(max(size, r.reach[hash])), len(s))
}
