package secrets

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
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

	mu     sync.RWMutex
	filter [1 << 13]byte       // of prefixes: most places in a text are passed by here
	forms  map[uint64][]form   // by the hash of their first bytes
	leaves map[uint64]struct{} // of values that go by their key
	public map[string]bool
	opened bool
}

// form is one way to write a value down.
type form struct {
	size int
	sum  uint64
}

// shortest is how long a value has to be to be masked wherever it occurs.
const shortest = 6

// NewRedactor returns a Redactor that knows nothing yet. key makes its hashes
// comparable with those of other runs.
func NewRedactor(key HashKey) *Redactor {
	return &Redactor{key: key, seed: maphash.MakeSeed(), forms: map[uint64][]form{}, leaves: map[uint64]struct{}{}, public: map[string]bool{}}
}

// Public names something that stands in Git for everybody to read. A value that
// says the same can't be hidden by hiding that name everywhere; it goes by its key.
func (r *Redactor) Public(names ...string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		r.public[strings.ToLower(name)] = true
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
	if len(trimmed) < shortest || common[strings.ToLower(trimmed)] || r.public[strings.ToLower(trimmed)] {
		return
	}
	for _, f := range formsOf(text) {
		r.know(f)
	}
}

func (r *Redactor) know(text string) {
	if len(text) < shortest {
		return
	}
	prefix := maphash.String(r.seed, text[:shortest])
	f := form{len(text), maphash.String(r.seed, text)}
	if slices.Contains(r.forms[prefix], f) {
		return
	}
	r.forms[prefix] = append(r.forms[prefix], f)
	r.filter[prefix>>3&(1<<13-1)] |= 1 << (prefix & 7)
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
	for i := 0; i+shortest <= len(s); i++ {
		prefix := maphash.String(r.seed, s[i:i+shortest])
		if r.filter[prefix>>3&(1<<13-1)]&(1<<(prefix&7)) == 0 {
			continue
		}
		end := 0
		for _, f := range r.forms[prefix] {
			if f.size <= len(s)-i && i+f.size > end && maphash.String(r.seed, s[i:i+f.size]) == f.sum {
				end = i + f.size
			}
		}
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
	return maphash.String(r.seed, key+"\x00"+value)
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
	var done *redacted
	if err == nil || r == nil || (errors.As(err, &done) && done.by == r) {
		return err
	}
	return &redacted{err, r.Text(err.Error()), r}
}

type redacted struct {
	err  error
	text string
	by   *Redactor
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
