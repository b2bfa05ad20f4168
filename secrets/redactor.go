package secrets

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"unicode/utf8"
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
	seed maphash.Seed
	keys [2]uint64 // of the hash of prefixes

	mu        sync.RWMutex
	filter    []uint64            // of prefixes: most places in a text are passed by here
	sizes     map[uint64]uint32   // of the forms that begin with a prefix: by its hash, and by what follows that
	reach     map[uint64]uint32   // how far the forms of a prefix go, where there are some, or more is masked behind one
	forms     map[uint64]form     // by their hash
	sources   map[uint64]struct{} // of the forms: values, and lines of them
	leaves    map[uint64]struct{} // of values that go by their key
	documents map[uint64]struct{} // of whole files
	public    map[string]bool
	names     []byte // that are public and may hold a piece
	opened    bool
	most      int // forms
	full      bool
}

// form is one way to write something down.
type form struct {
	rest   uint32 // how much behind it is masked too
	uses   uint16 // by how many sources, as a whole or a chunk
	pieces uint16 // by how many as a piece
}

// shortest is how long a value has to be to be masked wherever it occurs, and how
// much of it is its prefix.
const shortest = 6

// maxForms is how many forms a Redactor knows at most: some 10 MB.
const maxForms = 200_000

// NewRedactor returns a Redactor that knows nothing yet.
func NewRedactor() *Redactor {
	return &Redactor{
		seed:      maphash.MakeSeed(),
		keys:      [2]uint64{rand.Uint64(), rand.Uint64() | 1},
		sizes:     map[uint64]uint32{},
		reach:     map[uint64]uint32{},
		forms:     map[uint64]form{},
		sources:   map[uint64]struct{}{},
		leaves:    map[uint64]struct{}{},
		documents: map[uint64]struct{}{},
		public:    map[string]bool{},
		most:      maxForms,
	}
}

// Public names something that stands in Git for everybody to read. A value, or a
// line of one, that says the same can't be hidden by hiding that name everywhere; it
// goes by its key, also where it was added before: all of a file may be sealed, its
// names too. What else is known stays so, but for pieces that stand in the name.
func (r *Redactor) Public(names ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		if r.public[name] {
			continue
		}
		lower := strings.ToLower(name)
		r.public[name], r.public[lower] = true, true
		for _, source := range []string{name, lower, name + "\n", lower + "\n"} {
			r.forget(source)
		}
		if len(name) < pieceBytes {
			continue
		}
		r.names = append(append(r.names, '\n'), name...)
		for at := 0; at+shortest <= len(name); at++ {
			for size := pieceBytes - utf8.UTFMax + 1; size <= pieceBytes && at+size <= len(name); size++ {
				r.dropPiece(name[at : at+size])
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
	r.full = r.full || len(r.leaves) > r.most
	if r.usual(trimmed) {
		return
	}
	r.learn(text, true)
	r.learn(trimmed, true)
	for line := range linesOf(text) {
		if !r.usual(line) {
			r.learn(line, false)
		}
	}
}

// AddDocument makes the whole of a file known, whatever the key under which it is
// put into an object.
func (r *Redactor) AddDocument(content []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text := string(content)
	trimmed := strings.TrimSpace(text)
	if r.usual(trimmed) { // other fields may say the same
		return
	}
	for _, text := range []string{text, trimmed, base64.StdEncoding.EncodeToString(content)} {
		r.documents[maphash.String(r.seed, text)] = struct{}{}
	}
}

// Full is true when more was added than a Redactor knows. What was added last is
// known by its key alone, so nothing of the run may be shown: it has to fail.
func (r *Redactor) Full() bool {
	if r == nil {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.full
}

// learn knows the forms of a text, and of its pieces.
func (r *Redactor) learn(text string, pieces bool) {
	source := maphash.String(r.seed, text)
	if _, done := r.sources[source]; done || r.full {
		return
	}
	r.sources[source] = struct{}{}
	for _, p := range cut(text) {
		for _, w := range p.forms() {
			r.know(w, form{uses: 1})
		}
	}
	if !pieces {
		return
	}
	for _, p := range piecesIn(text) {
		if r.usual(p.text) || bytes.Contains(r.names, []byte(p.text)) {
			continue
		}
		for _, w := range p.forms() {
			r.know(w, form{pieces: 1})
		}
	}
}

// forget unlearns the forms of a text that aren't those of another too.
func (r *Redactor) forget(text string) {
	source := maphash.String(r.seed, text)
	if _, known := r.sources[source]; !known {
		return
	}
	delete(r.sources, source)
	for _, p := range cut(text) {
		for _, w := range p.forms() {
			r.unuse(w.text, func(f *form) *uint16 { return &f.uses })
		}
	}
	for _, p := range piecesIn(text) {
		for _, w := range p.forms() {
			r.unuse(w.text, func(f *form) *uint16 { return &f.pieces })
		}
	}
}

// unuse counts a use less. What was used more often than is counted stays.
func (r *Redactor) unuse(text string, which func(*form) *uint16) {
	sum := maphash.String(r.seed, text)
	f, known := r.forms[sum]
	if count := which(&f); known && *count > 0 && *count < math.MaxUint16 {
		*count--
		r.keep(sum, f)
	}
}

// dropPiece makes a text no piece any more.
func (r *Redactor) dropPiece(text string) {
	sum := maphash.String(r.seed, text)
	if f, known := r.forms[sum]; known && f.pieces > 0 {
		f.pieces = 0
		r.keep(sum, f)
	}
}

func (r *Redactor) keep(sum uint64, f form) {
	if f.uses == 0 && f.pieces == 0 {
		delete(r.forms, sum)
		return
	}
	r.forms[sum] = f
}

// usual is true of what can't be masked wherever it occurs.
func (r *Redactor) usual(text string) bool {
	return len(text) < shortest || common[strings.ToLower(text)] || r.public[strings.ToLower(text)] || strings.Contains(Mask, text)
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

// Leaf is true when a value in an object, under this last key of its path, is or
// holds one that was opened.
func (r *Redactor) Leaf(key string, value any) bool {
	if r == nil || value == nil {
		return false
	}
	text, isText := value.(string)
	if !isText {
		text = fmt.Sprint(value)
	}
	r.mu.RLock()
	_, known := r.leaves[r.leaf(key, text)]
	if !known && len(r.documents) > 0 {
		_, known = r.documents[maphash.String(r.seed, text)]
	}
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
