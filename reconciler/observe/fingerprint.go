package observe

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A Fingerprint stands for the values of the fields that a manager owns. It is zero if the manager owns nothing.
//
// It is kept in the cluster, so it is the same in each process and version. It is a cryptographic hash (SHA-256,
// cut to 16 bytes), since who can edit an object must not be able to craft a value that looks unchanged. The
// object's UID goes into it as a salt: who can read fingerprints but not the objects cannot try values of a Secret.
type Fingerprint [16]byte

// String returns the fingerprint in hex.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// FingerprintOf hashes what manager owns in an object by Apply: the paths that managedFields lists for it
// (FieldsV1, https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management) and the values
// found there. A path without a value counts as such. What others own, what nobody owns, and the object's metadata
// that the server writes don't count; a field that another manager took does, as it leaves the listed paths.
//
// One thing counts that need not: what the server defaults inside an empty map that we applied ("strategy: {}"), as
// managedFields don't tell such a map from an atomic one. And a path is of the version that was applied: an object
// that is read in another version may have another fingerprint.
func FingerprintOf(obj *unstructured.Unstructured, manager string) Fingerprint {
	ours, others := ownership(obj, manager)
	if len(ours) == 0 {
		return Fingerprint{}
	}
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	sums := make([][sha256.Size]byte, 0, 1)
	for _, fields := range ours {
		h.reset(string(obj.GetUID()))
		h.node(fields, obj.Object, others)
		sums = append(sums, sha256.Sum256(h.out))
	}
	if len(sums) == 1 {
		return Fingerprint(sums[0][:16])
	}
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	h.out = h.out[:0]
	for _, sum := range sums {
		h.out = append(h.out, sum[:]...)
	}
	sum := sha256.Sum256(h.out)
	return Fingerprint(sum[:16])
}

// fields is a node of FieldsV1: its keys are "f:name", "k:{…}", "v:…", "i:0" or ".", its values nodes.
type fields = map[string]any

// ownership returns the trees of the fields that manager owns by Apply, and those of the fields that others own.
func ownership(obj *unstructured.Unstructured, manager string) (ours, others []fields) {
	metadata, _ := obj.Object["metadata"].(map[string]any)
	entries, _ := metadata["managedFields"].([]any)
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		tree, _ := entry["fieldsV1"].(fields)
		if len(tree) == 0 {
			continue
		}
		subresource, _ := entry["subresource"].(string)
		if entry["manager"] == manager && entry["operation"] == "Apply" && subresource == "" {
			ours = append(ours, tree)
		} else {
			others = append(others, tree)
		}
	}
	return ours, others
}

// absent is the value at a path that isn't there.
type absent struct{}

// A hasher writes down, without ambiguity, what is to be hashed: each part has a tag, and a length where it varies.
type hasher struct {
	out  []byte
	keys []string // a stack of keys being sorted
}

var hashers = sync.Pool{New: func() any { return &hasher{} }}

func (h *hasher) reset(salt string) {
	h.out, h.keys = h.out[:0], h.keys[:0]
	h.text('U', salt)
}

func (h *hasher) text(tag byte, s string) {
	h.out = append(h.out, tag)
	h.out = binary.AppendUvarint(h.out, uint64(len(s)))
	h.out = append(h.out, s...)
}

// sorted calls f for each key in order. The keys lie on a stack that is shared by all levels.
func (h *hasher) sorted(m map[string]any, f func(key string)) {
	from := len(h.keys)
	for key := range m {
		h.keys = append(h.keys, key)
	}
	to := len(h.keys)
	slices.Sort(h.keys[from:to])
	for i := from; i < to; i++ {
		f(h.keys[i])
	}
	h.keys = h.keys[:from]
}

// node writes what is owned at and below a place: tree lists it, value is what is there, and others are the trees
// of the other managers at the same place.
func (h *hasher) node(tree fields, value any, others []fields) {
	if leaf(tree) {
		h.value(value, others)
		return
	}
	list, _ := value.([]any)
	items := finder{list: list}
	h.out = append(h.out, '{')
	h.sorted(tree, func(key string) {
		h.text('p', key)
		if key == "." { // the thing itself, whatever is in it
			h.shape(value)
			return
		}
		below, _ := tree[key].(fields)
		theirs, _ := descend(others, key)
		h.children(key, below, value, &items, theirs)
	})
	h.out = append(h.out, '}')
}

// children writes what is owned below a path element. It is one value as a rule, none if it is absent, and several
// where a list has the same key twice (which Kubernetes allows for env, to name one).
func (h *hasher) children(key string, below fields, value any, items *finder, others []fields) {
	if name, ok := strings.CutPrefix(key, "f:"); ok {
		object, _ := value.(map[string]any)
		child, ok := object[name]
		if !ok {
			child = absent{}
		}
		h.node(below, child, others)
		return
	}
	if items.all(key, func(_ int, item any) { h.node(below, item, others) }) == 0 {
		h.node(below, absent{}, others)
	}
}

// leaf tells whether a tree ends here: the thing is owned as a whole.
func leaf(tree fields) bool {
	_, self := tree["."]
	return len(tree) == 0 || self && len(tree) == 1
}

// descend returns the trees below a path element, and whether one of them ends there.
func descend(trees []fields, key string) (below []fields, whole bool) {
	for _, tree := range trees {
		switch child, ok := tree[key].(fields); {
		case !ok:
		case leaf(child):
			whole = true
		default:
			below = append(below, child)
		}
	}
	return below, whole
}

// shape writes that something is there, and of what sort.
func (h *hasher) shape(value any) {
	switch value.(type) {
	case absent:
		h.out = append(h.out, 'a')
	case map[string]any:
		h.out = append(h.out, 'm')
	case []any:
		h.out = append(h.out, 'l')
	default:
		h.out = append(h.out, 's')
	}
}

// value writes a value that is owned as a whole. Whoever applies an empty map ("data: {}") owns it just like an atomic
// one, and others may still own all that is in it: then it counts as empty. Where they own a part, the whole counts:
// managedFields can be made up, and an item or a field that is ours must not be hidden by that.
func (h *hasher) value(value any, others []fields) {
	switch v := value.(type) {
	case map[string]any:
		h.object(v, others)
	case []any:
		h.list(v)
	case string:
		h.text('s', v)
	case bool:
		if v {
			h.out = append(h.out, 't')
		} else {
			h.out = append(h.out, 'f')
		}
	case nil:
		h.out = append(h.out, '0')
	case absent:
		h.out = append(h.out, 'a')
	default:
		h.number(v)
	}
}

func (h *hasher) object(object map[string]any, others []fields) {
	for key := range object {
		if theirs, whole := descend(others, "f:"+key); !whole && len(theirs) == 0 {
			others = nil // it is not the empty map that we applied: all of it counts
			break
		}
	}
	h.out = append(h.out, 'm')
	h.sorted(object, func(key string) {
		theirs, whole := descend(others, "f:"+key)
		if whole {
			return
		}
		from := len(h.out)
		h.text('k', key)
		at := len(h.out)
		h.value(object[key], theirs)
		if len(theirs) > 0 && len(h.out) == at+2 { // an empty map or list: all that is in it is theirs, so is it
			h.out = h.out[:from]
		}
	})
	h.out = append(h.out, 'e')
}

// list hashes every item: nobody else owns one of a list that is ours, but by an entry that somebody made up.
func (h *hasher) list(list []any) {
	h.out = append(h.out, 'l')
	for _, item := range list {
		h.value(item, nil)
	}
	h.out = append(h.out, 'e')
}

// number writes a number so that 1 and 1.0 are the same: JSON doesn't tell them apart.
func (h *hasher) number(n any) {
	var f float64
	switch n := n.(type) {
	case int64:
		h.integer(n)
		return
	case int:
		h.integer(int64(n))
		return
	case int32:
		h.integer(int64(n))
		return
	case float64:
		f = n
	case float32:
		f = float64(n)
	default:
		h.out = append(h.out, '?')
		return
	}
	if i := int64(f); float64(i) == f && math.Abs(f) < 1<<53 {
		h.integer(i)
		return
	}
	h.out = append(h.out, 'd')
	h.out = binary.BigEndian.AppendUint64(h.out, math.Float64bits(f))
}

func (h *hasher) integer(i int64) {
	h.out = append(h.out, 'i')
	h.out = binary.AppendVarint(h.out, i)
}
