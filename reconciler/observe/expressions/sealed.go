package expressions

import (
	"strconv"
	"strings"
)

// sealedAnnotation names the fields of an object that hold what was sealed in Git; reconciler/apply writes it.
const sealedAnnotation = "plumbline.dev/sealed"

const masked = "***"

// unsealed is an object without what was sealed: an expression may say anything of what it reads, where everybody
// sees it. The object itself is left alone.
func unsealed(object map[string]any) map[string]any {
	meta, _ := object["metadata"].(map[string]any)
	annotations, _ := meta["annotations"].(map[string]any)
	noted, _ := annotations[sealedAnnotation].(string)
	if noted == "" {
		return object
	}
	sealed := map[string]bool{}
	for path := range strings.SplitSeq(noted, ",") {
		sealed[path] = true
	}
	return mask("", object, sealed).(map[string]any)
}

// mask copies a value without what is sealed of it. Items of a list have the path of the list.
func mask(path string, value any, sealed map[string]bool) any {
	if path != "" && sealed[path] {
		return masked
	}
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = mask(below(path, key), item, sealed)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = mask(path, item, sealed)
		}
		return out
	}
	return value
}

// below is the path of a field, as the annotation has it.
func below(path, key string) string {
	switch {
	case key == "" || strings.ContainsAny(key, ".[]\" \n"):
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}
