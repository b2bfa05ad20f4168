package apply

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
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

// shown is what stands for a value where a change is to be seen and the value not.
func (h hasher) shown(value any) string {
	return "secret:" + hex.EncodeToString(h.sum([]byte(text(value))))[:12]
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
	for _, public := range []string{"apiVersion", "kind", "metadata.name", "metadata.namespace"} {
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
func (h hasher) hide(path string, value any, sealed map[string]bool) any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = h.hide(path, child, sealed)
		}
		return out
	case map[string]any:
		if sealed[path] {
			return h.shown(v)
		}
		out := make(map[string]any, len(v))
		for k, child := range v {
			out[k] = h.hide(join(path, k), child, sealed)
		}
		return out
	}
	if sealed[path] {
		return h.shown(value)
	}
	return value
}

// Shown is an object for people to see: with hashes for what was sealed, and for
// the data of a Secret.
func Shown(u *unstructured.Unstructured, masks Masks, key []byte) *unstructured.Unstructured {
	h := newHasher(key)
	object := h.desirable(u)
	out, _ := h.hide("", object, sealedPaths(masks, object)).(map[string]any)
	return &unstructured.Unstructured{Object: out}
}

// noteSealed makes the object remember which of its fields hold what was sealed.
// The names of fields can't hold a comma and be told apart: then the field above
// stands for them.
func noteSealed(u *unstructured.Unstructured, masks Masks) {
	paths := sealedPaths(masks, u.Object)
	if len(paths) == 0 || isSecret(IDOf(u)) {
		return
	}
	var list []string
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if before, _, odd := strings.Cut(path, ","); odd {
			path = before[:max(0, strings.LastIndexAny(before, ".["))]
		}
		if path != "" {
			list = append(list, path)
		}
	}
	annotations := maps.Clone(u.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[SealedAnnotation] = strings.Join(slices.Compact(list), ",")
	u.SetAnnotations(annotations)
}
