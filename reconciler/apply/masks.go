package apply

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Masks keeps what was sealed in Git out of what people see.
type Masks interface {
	// Text masks sealed values wherever they stand in it.
	Text(string) string
	// Leaf is true for a sealed value in an object, under this last key of its path.
	Leaf(key string, value any) bool
}

// SealedAnnotation names the fields of an object that hold what was sealed in Git,
// so that they are known as such when the values no longer are. Secrets don't have
// it: all of their data is.
const SealedAnnotation = "plumbline.dev/sealed"

// hasher makes hashes of values comparable for those who have the key, and useless
// for everybody else.
type hasher []byte

func newHasher(key []byte) hasher {
	if len(key) == 0 {
		key = make([]byte, 32)
		_, _ = rand.Read(key) // never fails, says crypto/rand
	}
	return key
}

func (h hasher) sum(data []byte) []byte {
	mac := hmac.New(sha256.New, h)
	mac.Write(data)
	return mac.Sum(nil)
}

// place makes hashes for one object of one stack. The same value elsewhere has
// another: who may see both must not learn that they are the same.
type place struct {
	hasher
	stack string
	id    ID
}

func (h hasher) of(stack string, u *unstructured.Unstructured) place { return place{h, stack, IDOf(u)} }

// shown is what stands for a value where a change is to be seen and the value not.
func (p place) shown(path string, value any) string {
	var b []byte
	for _, part := range []string{"shown", p.stack, p.id.Group, p.id.Kind, p.id.Namespace, p.id.Name, path, text(value)} {
		b = fmt.Appendf(b, "%d:%s", len(part), part)
	}
	return "secret:" + hex.EncodeToString(p.sum(b))[:12]
}

// sealedPaths lists the fields of some states of an object that hold what was
// sealed. Items of lists go without their places: those move.
func sealedPaths(masks Masks, states ...map[string]any) map[string]bool {
	sealed := map[string]bool{}
	for _, state := range states {
		noted, _, _ := unstructured.NestedString(state, "metadata", "annotations", SealedAnnotation)
		for _, path := range split(noted) {
			sealed[path] = true
		}
		if masks != nil {
			sealedBelow(masks, "", "", state, sealed)
		}
	}
	for _, public := range []string{"", "apiVersion", "kind", "metadata", "metadata.name", "metadata.namespace"} {
		delete(sealed, public)
	}
	return sealed
}

func sealedBelow(masks Masks, path, key string, value any, sealed map[string]bool) {
	switch v := value.(type) {
	case map[string]any:
		for k, child := range v {
			sealedBelow(masks, join(path, k), k, child, sealed)
		}
	case []any:
		for _, child := range v {
			sealedBelow(masks, path, key, child, sealed)
		}
	default:
		if !sealed[path] && masks.Leaf(key, v) {
			sealed[path] = true
		}
	}
}

// hide replaces what is sealed by its hash.
func (p place) hide(path string, value any, sealed map[string]bool) any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = p.hide(path, child, sealed)
		}
		return out
	case map[string]any:
		if sealed[path] {
			return p.shown(path, v)
		}
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = p.hide(join(path, k), child, sealed)
		}
		return out
	}
	if sealed[path] {
		return p.shown(path, value)
	}
	return value
}

// Shown is an object of a stack for people to see: with hashes for what was
// sealed, and for the data of a Secret.
func Shown(stack string, u *unstructured.Unstructured, masks Masks, key []byte) *unstructured.Unstructured {
	u = unnoted(u)
	p := newHasher(key).of(stack, u)
	object := p.desirable(u)
	out, _ := p.hide("", object, sealedPaths(masks, object)).(map[string]any)
	return &unstructured.Unstructured{Object: out}
}

// unnoted is an object without a note of what was sealed: from Git, it could hide
// what somebody else is to see.
func unnoted(u *unstructured.Unstructured) *unstructured.Unstructured {
	if _, noted, _ := unstructured.NestedFieldNoCopy(u.Object, "metadata", "annotations", SealedAnnotation); !noted {
		return u
	}
	u = u.DeepCopy()
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", SealedAnnotation)
	if len(u.GetAnnotations()) == 0 {
		unstructured.RemoveNestedField(u.Object, "metadata", "annotations")
	}
	return u
}

// longestNote is how long the note of an object's sealed fields gets, in bytes: all
// annotations together may have 256 KiB.
const longestNote = 8 << 10

// noteSealed makes the object remember which of its fields hold what was sealed.
// The names of fields can't hold a comma and be told apart: then the field above
// stands for them. So it does where there are too many.
func noteSealed(u *unstructured.Unstructured, masks Masks) {
	paths := sealedPaths(masks, u.Object)
	if len(paths) == 0 || isSecret(IDOf(u)) {
		return
	}
	var list []string
	for path := range paths {
		before, _, _ := strings.Cut(path, ",")
		list = append(list, above(path, len(before)))
	}
	note := joinPaths(list)
	for depth := most(list, depthOf) - 1; len(note) > longestNote && depth > 0; depth-- {
		for i, path := range list {
			list[i] = upTo(path, depth)
		}
		note = joinPaths(list)
	}
	if len(note) > longestNote { // of fields that have none above
		note = note[:max(0, strings.LastIndexByte(note[:longestNote+1], ','))]
	}
	if note == "" {
		return
	}
	annotations := maps.Clone(u.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[SealedAnnotation] = note
	u.SetAnnotations(annotations)
}

func joinPaths(list []string) string {
	slices.Sort(list)
	list = slices.Compact(list)
	return strings.Trim(strings.Join(list, ","), ",") // one of them may be empty
}

func most(list []string, count func(string) int) int {
	n := 0
	for _, text := range list {
		n = max(n, count(text))
	}
	return n
}

// ends lists where the keys of a path end, as join wrote them.
func ends(path string) []int {
	var out []int
	for i := 0; i < len(path); {
		switch quoted, err := strconv.QuotedPrefix(path[i+1:]); {
		case path[i] == '[' && err == nil:
			i += len(quoted) + 2
		default:
			next := strings.IndexAny(path[i+1:], ".[")
			if next < 0 {
				next = len(path) - i - 1
			}
			i += 1 + next
		}
		out = append(out, min(i, len(path)))
	}
	return out
}

func depthOf(path string) int { return len(ends(path)) }

// above is a path without the key at which a byte of it stands, and those below.
func above(path string, at int) string {
	if at >= len(path) {
		return path
	}
	end := 0
	for _, next := range ends(path) {
		if next > at {
			break
		}
		end = next
	}
	return path[:end]
}

// upTo is a path with so many keys at most; of metadata, which is no field that can
// be noted, with one more.
func upTo(path string, depth int) string {
	all := ends(path)
	if len(all) > 0 && path[:all[0]] == "metadata" {
		depth = max(depth, 2)
	}
	if len(all) <= depth {
		return path
	}
	return path[:all[depth-1]]
}
