package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// leftManager owns, by Apply, the values that an ignored field had when Git gave it
// up and nobody else owned it: without an owner it would fall back to its default.
// Whoever writes the field next takes it over.
const leftManager = Manager + "-left"

// handOff is an apply as leftManager: all that it is to own. An apply with less
// gives the rest up.
type handOff struct {
	fields           []keptField
	apiVersion, kind string
	name             string
	uid              types.UID // of another object, or of none, it is refused
}

type keptField struct {
	path  fieldpath.Path
	value any
}

func newHandOff(u *unstructured.Unstructured, fields []keptField) *handOff {
	return &handOff{fields, u.GetAPIVersion(), u.GetKind(), u.GetName(), u.GetUID()}
}

// body is the object as it is applied.
func (h *handOff) body() ([]byte, error) {
	var object any = map[string]any{"apiVersion": h.apiVersion, "kind": h.kind, "metadata": map[string]any{"name": h.name, "uid": string(h.uid)}}
	for _, field := range h.fields {
		object = put(object, field.path, field.value)
	}
	return json.Marshal(object)
}

// put sets a value at a path, with the items of lists that lead there.
func put(at any, path fieldpath.Path, value any) any {
	if len(path) == 0 {
		return value
	}
	element, rest := path[0], path[1:]
	if element.FieldName != nil {
		m, ok := at.(map[string]any)
		if !ok {
			m = map[string]any{}
		}
		m[*element.FieldName] = put(m[*element.FieldName], rest, value)
		return m
	}
	list, _ := at.([]any)
	switch item := itemAt(list, element); {
	case item != nil:
		put(item, rest, value) // a map, which is changed in place
	case element.Key != nil:
		keyed := map[string]any{}
		for _, key := range *element.Key {
			keyed[key.Name] = key.Value.Unstructured()
		}
		list = append(list, put(keyed, rest, value))
	case element.Value != nil:
		list = append(list, (*element.Value).Unstructured())
	}
	return list
}

// drop leaves out the fields that have an owner now, as a conflict says.
func (h *handOff) drop(conflict error) bool {
	var status apierrors.APIStatus
	if !errors.As(conflict, &status) || status.Status().Details == nil {
		return false
	}
	n := len(h.fields)
	h.fields = slices.DeleteFunc(slices.Clone(h.fields), func(field keptField) bool {
		return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
			path := field.path.String()
			return c.Type == metav1.CauseTypeFieldManagerConflict && (strings.HasPrefix(path, c.Field) || strings.HasPrefix(c.Field, path))
		})
	})
	return len(h.fields) < n
}

// handOver applies what is handed off. It takes nothing from anybody.
func (e *Engine) handOver(ctx context.Context, p prepared, h *handOff) (*unstructured.Unstructured, error) {
	for {
		body, err := h.body()
		if err != nil {
			return nil, fmt.Errorf("encode the ignored fields of %s: %w", p.ID, err)
		}
		obj, _, err := e.client.applyAs(ctx, leftManager, p.Resource, p.ID, body, applyUnforced)
		if !apierrors.IsConflict(err) || !h.drop(err) {
			return obj, err
		}
	}
}

// handOff is what leftManager is to own before we apply; nil: what it owns is right.
// What Git has again is given back only afterwards, by giveBack: it would be reset.
func (p prepared) handOff(before, answer *unstructured.Unstructured) *handOff {
	kept, stale := p.left(before)
	lost := p.lost(before, answer)
	if len(lost)+len(stale) == 0 {
		return nil
	}
	for _, field := range stale {
		if !isItemKey(field.path) && !p.itemGone(field.path) {
			kept = append(kept, field)
		}
	}
	return newHandOff(before, append(kept, lost...))
}

// giveBack is what leftManager is to own after we applied; nil: what it owns is right.
func (p prepared) giveBack(u *unstructured.Unstructured) *handOff {
	kept, stale := p.left(u)
	if len(stale) == 0 {
		return nil
	}
	return newHandOff(u, kept)
}

// left lists what leftManager owns: what is to be its own, and what no longer is.
func (p prepared) left(u *unstructured.Unstructured) (kept, stale []keptField) {
	set := ownedBy(u, func(entry metav1.ManagedFieldsEntry) bool { return appliedBy(entry, leftManager) })
	if set == nil {
		return nil, nil
	}
	var keys []fieldpath.Path
	set.Leaves().Iterate(func(path fieldpath.Path) {
		field := keptField{path.Copy(), valueAt(u.Object, path)}
		switch {
		case isItemKey(path):
			keys = append(keys, field.path)
		case field.value != nil && p.leaves(u.Object, path) && !p.itemGone(path):
			kept = append(kept, field)
		default:
			stale = append(stale, field)
		}
	})
	for _, key := range keys { // an item of which it has nothing else would stay for ever
		item := key[:len(key)-1]
		if !slices.ContainsFunc(kept, func(f keptField) bool { return len(f.path) > len(item) && f.path[:len(item)].Equals(item) }) {
			stale = append(stale, keptField{key, valueAt(u.Object, key)})
		}
	}
	return kept, stale
}

// lost lists the ignored fields that our apply gives up, and nobody else keeps.
func (p prepared) lost(before, answer *unstructured.Unstructured) []keptField {
	if len(p.ignored) == 0 {
		return nil
	}
	mine, after := owned(before), owned(answer)
	if mine == nil {
		mine = &fieldpath.Set{}
	}
	theirs := &fieldpath.Set{}
	if before.GetLabels()[PartOfLabel] == "" { // to be adopted: what these have becomes ours
		theirs = ownedBy(before, func(entry metav1.ManagedFieldsEntry) bool {
			return entry.Subresource == "" && slices.Contains(predecessors, entry.Manager)
		})
	}
	if theirs == nil {
		theirs = &fieldpath.Set{}
	}
	var lost []keptField
	mine.Union(theirs).Leaves().Iterate(func(path fieldpath.Path) {
		value := valueAt(before.Object, path)
		if value == nil || isItemKey(path) || (after != nil && after.Has(path)) || !p.leaves(before.Object, path) || p.itemGone(path) {
			return
		}
		if theirs.Has(path) || !reflect.DeepEqual(value, valueAt(answer.Object, path)) {
			lost = append(lost, keptField{path.Copy(), value})
		}
	})
	return lost
}

// isItemKey is true for a field by which a list's item is known.
func isItemKey(path fieldpath.Path) bool {
	n := len(path)
	if n < 2 || path[n-1].FieldName == nil || path[n-2].Key == nil {
		return false
	}
	for _, key := range *path[n-2].Key {
		if key.Name == *path[n-1].FieldName {
			return true
		}
	}
	return false
}

// leaves is true for what a rule leaves to others: as the object is, or as Git has it.
func (p prepared) leaves(object map[string]any, path fieldpath.Path) bool {
	return slices.ContainsFunc(p.ignored, func(pointer pointer) bool { return pointer.covers(object, path) }) ||
		(valueAt(p.whole, path) != nil && valueAt(p.reduced, path) == nil)
}

// covers is true for what the pointer names, and what is below.
func (p pointer) covers(at any, path fieldpath.Path) bool {
	if len(path) < len(p) {
		return false
	}
	for i, part := range p {
		switch element := path[i]; v := at.(type) {
		case map[string]any:
			if element.FieldName == nil || (part != "*" && part != *element.FieldName) {
				return false
			}
			at = v[*element.FieldName]
		case []any:
			item := itemAt(v, element)
			place := slices.IndexFunc(v, func(other any) bool { return reflect.DeepEqual(other, item) })
			if item == nil || !itemMatches(part, place, item) {
				return false
			}
			at = item
		default:
			return false
		}
	}
	return true
}

// itemGone is true for what is below a list's item that Git no longer has: nothing
// of it may stay.
func (p prepared) itemGone(path fieldpath.Path) bool {
	for i, element := range path[:len(path)-1] {
		if element.Key != nil && valueAt(p.sent(), path[:i+1]) == nil {
			return true
		}
	}
	return false
}

// sent is the object as it is applied.
func (p prepared) sent() any {
	if p.reduced != nil {
		return p.reduced
	}
	var object map[string]any
	_ = json.Unmarshal(p.body, &object) // of what was JSON
	return object
}

// withoutIgnored drops the changes of ignored fields, which are kept.
func (p prepared) withoutIgnored(before, answer *unstructured.Unstructured) *unstructured.Unstructured {
	lost := p.lost(before, answer)
	if len(lost) == 0 {
		return answer
	}
	answer = answer.DeepCopy()
	for _, field := range lost {
		put(answer.Object, field.path, field.value)
	}
	return answer
}
