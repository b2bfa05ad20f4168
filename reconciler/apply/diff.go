package apply

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FieldChange is one field that would change. Values are JSON, shortened; those
// of a Secret are keyed hashes: a change is visible, the value is not.
type FieldChange struct {
	Path string `json:"path"`           // spec.template.spec.containers[name=app].image
	Have string `json:"have,omitempty"` // "": not there
	Want string `json:"want,omitempty"` // "": goes away
}

// String is "path: have → want".
func (f FieldChange) String() string {
	show := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	return fmt.Sprintf("%s: %s → %s", f.Path, show(f.Have), show(f.Want))
}

const (
	shownValue  = 256 // bytes of a value
	shownFields = 200 // changes of an object
)

// diff lists the fields in which two states of an object differ, but for those
// that only a server writes.
func (h hasher) diff(stack string, have, want *unstructured.Unstructured, masks Masks) []FieldChange {
	d := differ{}
	p := h.of(stack, want)
	before, after := p.desirable(have), p.desirable(want)
	if sealed := sealedPaths(masks, before, after); len(sealed) > 0 {
		d.walk("", p.hide("", before, sealed), p.hide("", after, sealed))
	} else {
		d.walk("", before, after)
	}
	if len(d.changes) > shownFields {
		rest := len(d.changes) - shownFields
		d.changes = append(d.changes[:shownFields], FieldChange{Path: fmt.Sprintf("… and %d more fields", rest)})
	}
	return d.changes
}

// desirable is the part of an object that somebody may want, with secret values
// replaced before anything is compared or shown.
func (p place) desirable(u *unstructured.Unstructured) map[string]any {
	out := maps.Clone(u.Object)
	delete(out, "status")
	if meta, ok := out["metadata"].(map[string]any); ok {
		meta = maps.Clone(meta)
		for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
			delete(meta, field)
		}
		if annotations, ok := meta["annotations"].(map[string]any); ok {
			annotations = maps.Clone(annotations)
			delete(annotations, "kubectl.kubernetes.io/last-applied-configuration") // repeats it all, secrets too
			meta["annotations"] = annotations
			if len(annotations) == 0 {
				delete(meta, "annotations")
			}
		}
		out["metadata"] = meta
		if len(meta) == 0 {
			delete(out, "metadata")
		}
	}
	if u.GetKind() == "Secret" && u.GroupVersionKind().Group == "" {
		for _, field := range []string{"data", "stringData"} {
			if data, ok := out[field].(map[string]any); ok {
				out[field] = p.masked(field, data)
			}
		}
	}
	return out
}

// wholeReference says where a value is, and not what.
var wholeReference = regexp.MustCompile(`^\$\{bao:[^${}\s]+\}$`)

func (p place) masked(field string, data map[string]any) map[string]any {
	out := make(map[string]any, len(data))
	for k, v := range data {
		out[k] = p.shown(join(field, k), v)
		if text, ok := v.(string); ok && wholeReference.MatchString(text) {
			out[k] = text
		}
	}
	return out
}

type differ struct{ changes []FieldChange }

func (d *differ) walk(path string, have, want any) {
	if reflect.DeepEqual(have, want) {
		return
	}
	switch h := have.(type) {
	case map[string]any:
		if w, ok := want.(map[string]any); ok {
			d.maps(path, h, w)
			return
		}
	case []any:
		if w, ok := want.([]any); ok {
			d.lists(path, h, w)
			return
		}
	}
	d.changes = append(d.changes, change(path, have, want))
}

func (d *differ) maps(path string, have, want map[string]any) {
	keys := slices.Sorted(maps.Keys(have))
	for k := range want {
		if _, ok := have[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		d.walk(join(path, k), have[k], want[k])
	}
}

// lists compares by name where the items have one, by place where not.
func (d *differ) lists(path string, have, want []any) {
	haveBy, ok1 := byName(have)
	wantBy, ok2 := byName(want)
	if ok1 && ok2 {
		names := slices.Sorted(maps.Keys(haveBy))
		for name := range wantBy {
			if _, ok := haveBy[name]; !ok {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			d.walk(fmt.Sprintf("%s[name=%s]", path, name), haveBy[name], wantBy[name])
		}
		return
	}
	for i := range max(len(have), len(want)) {
		d.walk(path+"["+strconv.Itoa(i)+"]", at(have, i), at(want, i))
	}
}

func byName(list []any) (map[string]any, bool) {
	out := make(map[string]any, len(list))
	for _, item := range list {
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = item
	}
	return out, true
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// join appends a key to a path; keys that hold dots or brackets are quoted.
func join(path, key string) string {
	if key == "" || strings.ContainsAny(key, ".[]\" \n") {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// sameShown is how much of what two long values have in common stands before
// what differs, in bytes.
const sameShown = 32

// change shows two values; of long ones, the part from where they differ.
func change(path string, have, want any) FieldChange {
	h, w := text(have), text(want)
	if len(h) > shownValue || len(w) > shownValue {
		same := 0
		for same < min(len(h), len(w)) && h[same] == w[same] {
			same++
		}
		if from := same - sameShown; from > 0 {
			h, w = "…"+strings.ToValidUTF8(h[from:], ""), "…"+strings.ToValidUTF8(w[from:], "")
		}
	}
	return FieldChange{Path: path, Have: bounded(h, shownValue), Want: bounded(w, shownValue)}
}

func text(v any) string {
	if v == nil {
		return ""
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("(%T)", v)
	}
	return string(raw)
}
