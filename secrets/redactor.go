package secrets

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
)

// Mask stands where an opened value stood.
const Mask = "[REDACTED]"

// Redactor knows what a run opened, and masks it in whatever leaves the process:
// as it is, and in the ways in which programs write it down. It holds keyed
// hashes, no plaintext, so it may outlive the run. It is safe for concurrent use;
// a nil one knows nothing.
//
// A value that is too short or too common to be masked wherever it occurs is
// known together with the key it stood under: see [Redactor.Leaf].
type Redactor struct {
	key  HashKey
	seed maphash.Seed
	keys [2]uint64 // of the hash of prefixes

	mu     sync.RWMutex
	filter []uint64            // of prefixes: most places in a text are passed by here
	sizes  map[uint64]uint32   // of the forms that begin with a prefix: by its hash, and by what follows that
	forms  map[uint64]uint32   // by their hash: how much behind them is masked too
	leaves map[uint64]struct{} // of values that go by their key
	public map[string]bool
	opened bool
}

// shortest is how long a value has to be to be masked wherever it occurs, and how
// much of it is its prefix.
const shortest = 6

// NewRedactor returns a Redactor that knows nothing yet. key makes its hashes
// comparable with those of other runs.
func NewRedactor(key HashKey) *Redactor {
	return &Redactor{
		key:    key,
		seed:   maphash.MakeSeed(),
		keys:   [2]uint64{rand.Uint64(), rand.Uint64() | 1},
		sizes:  map[uint64]uint32{},
		forms:  map[uint64]uint32{},
		leaves: map[uint64]struct{}{},
		public: map[string]bool{},
	}
}

// Public names something that stands in Git for everybody to read. A value that
// says the same can't be hidden by hiding that name everywhere; it goes by its key,
// also where it was added before: all of a file may be sealed, its names too.
func (r *Redactor) Public(names ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		r.public[strings.ToLower(name)] = true
		for _, p := range fragmentsOf(name) {
			for _, form := range p.forms() {
				delete(r.forms, maphash.String(r.seed, form.text))
			}
		}
	}
}

// Add makes a value known, with the last key of the path at which it stood.
func (r *Redactor) Add(key string, value []byte) {
	if r == nil || len(value) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = true
	text := string(value)
	trimmed := strings.TrimSpace(text)
	r.leaves[r.leaf(key, text)] = struct{}{}
	r.leaves[r.leaf(key, trimmed)] = struct{}{}
	if r.usual(trimmed) {
		return
	}
	for _, p := range fragmentsOf(text) {
		if r.usual(p.text) { // a line of it may be
			continue
		}
		for _, form := range p.forms() {
			r.know(form)
		}
	}
}

// usual is true of what can't be masked wherever it occurs.
func (r *Redactor) usual(text string) bool {
	return len(text) < shortest || common[strings.ToLower(text)] || r.public[strings.ToLower(text)] || strings.Contains(Mask, text)
}

func (r *Redactor) know(w written) {
	if len(w.text) < shortest {
		return
	}
	sum := maphash.String(r.seed, w.text)
	rest, known := r.forms[sum]
	r.forms[sum] = max(rest, uint32(min(w.rest, math.MaxUint32)))
	if known {
		return
	}
	hash := r.prefix(load(w.text) | uint64(w.text[shortest-1])<<40)
	size := uint32(len(w.text))
	at := hash
	for r.sizes[at] != 0 && r.sizes[at] != size {
		at++
	}
	r.sizes[at] = size
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

// Opened is true when the run opened anything at all.
func (r *Redactor) Opened() bool {
	if r == nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.opened
}

// Text is s with every value that is known masked.
func (r *Redactor) Text(s string) string {
	spans := r.find(s, false)
	if len(spans) == 0 {
		return s
	}
	var b strings.Builder
	at := 0
	for _, span := range spans {
		b.WriteString(s[at:span[0]])
		b.WriteString(Mask)
		at = span[1]
	}
	b.WriteString(s[at:])
	return b.String()
}

// find lists where known values stand, in order, merged where they touch.
func (r *Redactor) find(s string, first bool) (spans [][2]int) {
	if r == nil || len(s) < shortest {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.forms) == 0 {
		return nil
	}
	filter, window := r.filter, load(s)<<8
	for i := 0; i+shortest <= len(s); i++ {
		window = window>>8 | uint64(s[i+shortest-1])<<40
		hash := r.prefix(window)
		if filter[hash>>6&uint64(len(filter)-1)]&(1<<(hash&63)) == 0 {
			continue
		}
		end := r.longest(s, i, hash)
		switch last := len(spans) - 1; {
		case end == 0:
		case last >= 0 && i <= spans[last][1]:
			spans[last][1] = max(spans[last][1], end)
		default:
			spans = append(spans, [2]int{i, end})
		}
		if first && len(spans) > 0 {
			return spans
		}
	}
	return spans
}

// longest is where the longest form ends that begins at i; 0 where none does.
func (r *Redactor) longest(s string, i int, hash uint64) (end int) {
	for ; ; hash++ {
		size := int(r.sizes[hash])
		if size == 0 {
			return end
		}
		if size > len(s)-i {
			continue
		}
		if rest, known := r.forms[maphash.String(r.seed, s[i:i+size])]; known {
			end = max(end, min(i+size+int(rest), len(s)))
		}
	}
}

// Leaf is true when a value in an object, under this last key of its path, is or
// holds one that was opened.
func (r *Redactor) Leaf(key string, value any) bool {
	if r == nil || value == nil {
		return false
	}
	text := fmt.Sprint(value)
	r.mu.RLock()
	_, known := r.leaves[r.leaf(key, text)]
	r.mu.RUnlock()
	return known || len(r.find(text, true)) > 0
}

func (r *Redactor) leaf(key, value string) uint64 {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(key) // never fails, says hash/maphash
	_ = h.WriteByte(0)
	_, _ = h.WriteString(value)
	return h.Sum64()
}

// Hash stands for a value where a change is to be seen and the value is not.
func (r *Redactor) Hash(value any) string {
	if r == nil {
		return Mask
	}
	return fmt.Sprintf("secret:%x", r.key.Sum("shown", fmt.Sprint(value))[:6])
}

// Error is err with its text masked. What errors.Is and errors.As find in it is as
// it was: it must not be printed by itself.
func (r *Redactor) Error(err error) error {
	if err == nil || r == nil {
		return err
	}
	text := r.Text(err.Error())
	if done, ok := err.(*redacted); ok && done.text == text { //nolint:errorlint // one further in says nothing of what was wrapped around it
		return err
	}
	return &redacted{err, text}
}

type redacted struct {
	err  error
	text string
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.err }

// Format keeps %+v and the like from looking inside.
func (e *redacted) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(e.text)) }

// common words are values in many files and secrets in none.
var common = func() map[string]bool {
	out := map[string]bool{}
	for _, word := range strings.Fields(`admin administrator default disable disabled enable enabled example false grafana
		guest header http https influxdb kubernetes localhost loki metrics monitoring mysql none null password plumbline
		postgres postgresql production prometheus public readonly root secret secrets service staging string system token true
		undefined unknown user username vault`) {
		out[word] = true
	}
	return out
}()
