package observe

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A garden grows objects of which each leaf is ours, another manager's, both's or nobody's.
type garden struct {
	*rand.Rand
	ours, rest [][]any  // the paths of leaves
	lists      []string // the paths, as %v, of lists whose order means nothing
}

// An owner of a leaf lists it in the trees of fields that are not nil.
func (g *garden) leaf(key string, at []any, ours, theirs fields) {
	switch g.IntN(4) {
	case 0:
		ours[key] = fields{}
		g.ours = append(g.ours, at)
	case 1:
		ours[key], theirs[key] = fields{}, fields{}
		g.ours = append(g.ours, at)
	case 2:
		theirs[key] = fields{}
		g.rest = append(g.rest, at)
	case 3:
		g.rest = append(g.rest, at)
	}
}

// below grows something with fields of its own and hangs its trees under key.
func (g *garden) below(key string, ours, theirs fields, grow func(ours, theirs fields) any) any {
	o, t := fields{}, fields{}
	value := grow(o, t)
	for _, side := range []struct{ tree, below fields }{{ours, o}, {theirs, t}} {
		if len(side.below) > 0 {
			if g.IntN(2) == 0 {
				side.below["."] = fields{}
			}
			side.tree[key] = side.below
		}
	}
	return value
}

func (g *garden) scalar() any {
	return []any{g.Int64(), g.NormFloat64(), fmt.Sprint(g.Int64()), ""}[g.IntN(4)]
}

func (g *garden) atomic() any {
	switch g.IntN(4) {
	case 0:
		return list(g.scalar(), object("x", g.scalar()))
	case 1:
		return object("x", g.scalar(), "y", object("z", list()))
	default:
		return g.scalar()
	}
}

func (g *garden) object(depth int, at []any, ours, theirs fields) map[string]any {
	out := map[string]any{}
	for i := range 1 + g.IntN(4) {
		name := fmt.Sprintf("field%d", i)
		key, path := "f:"+name, append(slices.Clone(at), name)
		switch sort := g.IntN(6); {
		case depth == 0 || sort < 2:
			out[name] = g.atomic()
			g.leaf(key, path, ours, theirs)
		case sort < 4:
			out[name] = g.below(key, ours, theirs, func(o, t fields) any { return g.object(depth-1, path, o, t) })
		case sort == 4:
			out[name] = g.below(key, ours, theirs, func(o, t fields) any { return g.keyed(depth-1, path, o, t) })
		default:
			out[name] = g.below(key, ours, theirs, func(o, t fields) any { return g.set(path, o, t) })
		}
	}
	return out
}

func (g *garden) keyed(depth int, at []any, ours, theirs fields) (items []any) {
	g.lists = append(g.lists, fmt.Sprint(at))
	for i := range g.IntN(4) {
		key := fmt.Sprintf(`k:{"name":"item %d","port":%d}`, i, i)
		item := g.below(key, ours, theirs, func(o, t fields) any { return g.object(depth, append(slices.Clone(at), i), o, t) })
		item.(map[string]any)["name"], item.(map[string]any)["port"] = fmt.Sprintf("item %d", i), int64(i)
		items = append(items, item)
	}
	return items
}

func (g *garden) set(at []any, ours, theirs fields) (items []any) {
	g.lists = append(g.lists, fmt.Sprint(at))
	for i := range g.IntN(4) {
		items = append(items, fmt.Sprintf("member \"%d\"", i))
		key, _ := json.Marshal(items[i])
		g.leaf("v:"+string(key), append(slices.Clone(at), i), ours, theirs)
	}
	return items
}

// shuffled copies a value: its maps are made anew, and the lists whose order means nothing are in another order.
func (g *garden) shuffled(value any, at []any) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, v := range value {
			out[key] = g.shuffled(v, append(slices.Clone(at), key))
		}
		return out
	case []any:
		out := []any{}
		for i, v := range value {
			out = append(out, g.shuffled(v, append(slices.Clone(at), i)))
		}
		if slices.Contains(g.lists, fmt.Sprint(at)) {
			g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		}
		return out
	}
	return value
}

func TestFingerprintProperties(t *testing.T) {
	touched := 0
	for seed := range uint64(400) {
		g := &garden{Rand: rand.New(rand.NewPCG(seed, 1))}
		ours, theirs := fields{}, fields{}
		spec := g.below("f:spec", ours, theirs, func(o, t fields) any { return g.object(3, list("spec"), o, t) })
		obj := &unstructured.Unstructured{Object: object("spec", spec, "metadata", object("managedFields", list(
			object("manager", "plumbline", "operation", "Apply", "fieldsV1", ours),
			object("manager", "other", "operation", "Update", "fieldsV1", theirs))))}
		want := FingerprintOf(obj, "plumbline")
		if got := want != (Fingerprint{}); got != (len(g.ours) > 0) {
			t.Fatalf("seed %d: owns something: %v, want %v", seed, got, !got)
		}
		shuffled := &unstructured.Unstructured{Object: g.shuffled(obj.Object, nil).(map[string]any)}
		if FingerprintOf(shuffled, "plumbline") != want {
			t.Errorf("seed %d: another order alters the fingerprint", seed)
		}
		all := obj.DeepCopy()
		for _, path := range g.rest {
			touched++
			edit(t, all, "touched", path...)
			if FingerprintOf(all, "plumbline") != want {
				t.Fatalf("seed %d: touching %v, which isn't ours, alters the fingerprint", seed, path)
			}
		}
		for _, path := range g.ours {
			touched++
			one := obj.DeepCopy()
			edit(t, one, "touched", path...)
			if FingerprintOf(one, "plumbline") == want {
				t.Fatalf("seed %d: touching %v, which is ours, does not alter the fingerprint", seed, path)
			}
		}
	}
	if touched < 1000 {
		t.Errorf("touched %d leaves only", touched)
	}
}
