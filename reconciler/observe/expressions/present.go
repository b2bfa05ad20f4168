package expressions

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// present is the object as it is now: a condition that was set for an older generation counts as Unknown in it, so
// that neither success nor failure of the past is read from it. behind is why nothing can be read from it at all.
// The object itself is left alone.
func present(obj *unstructured.Unstructured) (fresh map[string]any, behind string) {
	generation := obj.GetGeneration()
	held, ok := obj.Object["status"].(map[string]any)
	if !ok || generation == 0 {
		return obj.Object, ""
	}
	if seen, ok := integer(held["observedGeneration"]); ok && seen < generation {
		return nil, notSeen(generation, seen)
	}
	renewed, changed := renew(held, generation)
	if !changed {
		return obj.Object, ""
	}
	fresh = make(map[string]any, len(obj.Object))
	for key, value := range obj.Object {
		fresh[key] = value
	}
	fresh["status"] = renewed
	return fresh, ""
}

func notSeen(generation, seen int64) string {
	return fmt.Sprintf("its controller has seen generation %d, not yet %d", seen, generation)
}

// renew copies what has to be changed at and below a value.
func renew(value any, generation int64) (out any, changed bool) {
	switch v := value.(type) {
	case map[string]any:
		copied := v
		for key, item := range v {
			if renewed, differs := renew(item, generation); differs {
				if !changed {
					copied, changed = clone(v), true
				}
				copied[key] = renewed
			}
		}
		if seen, ok := integer(v["observedGeneration"]); ok && seen < generation && isCondition(v) {
			copied, changed = clone(copied), true
			copied["status"], copied["reason"], copied["message"] = "Unknown", "NotObserved", notSeen(generation, seen)
		}
		return copied, changed
	case []any:
		copied := v
		for i, item := range v {
			if renewed, differs := renew(item, generation); differs {
				if !changed {
					copied, changed = append([]any{}, v...), true
				}
				copied[i] = renewed
			}
		}
		return copied, changed
	}
	return value, false
}

func isCondition(m map[string]any) bool {
	_, typed := m["type"].(string)
	_, stated := m["status"].(string)
	return typed && stated
}

func clone(m map[string]any) map[string]any {
	out := make(map[string]any, len(m)+2)
	for key, value := range m {
		out[key] = value
	}
	return out
}

func integer(value any) (int64, bool) {
	switch n := value.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), true
	}
	return 0, false
}

// said is what the object's conditions say: the one called Ready, or else the first that is not True.
func said(object map[string]any) string {
	held, ok := object["status"].(map[string]any)
	if !ok {
		return "no status yet"
	}
	list, _ := held["conditions"].([]any)
	var chosen map[string]any
	for _, item := range list {
		condition, _ := item.(map[string]any)
		if condition["status"] == "True" || condition["status"] == nil {
			continue
		}
		if chosen == nil || condition["type"] == "Ready" {
			chosen = condition
		}
	}
	kind, _ := chosen["type"].(string)
	reason, _ := chosen["reason"].(string)
	message, _ := chosen["message"].(string)
	switch {
	case message != "":
		return message
	case reason != "":
		return kind + ": " + reason
	case kind != "":
		return kind + " is not True"
	}
	return "not ready yet"
}
