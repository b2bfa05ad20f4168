package telemetry

import (
	"strings"
	"sync"
	"unicode"

	"go.opentelemetry.io/otel/attribute"
)

// other stands for every value that came after the first so many.
const other = "other"

// valueBytes bounds one value: a name in Kubernetes has at most 253.
const valueBytes = 256

// Most values of an attribute that become series of their own. What counts stacks
// and sources is bounded by those; these bounds are for what is removed and made
// anew under another name, for as long as the process lives.
const (
	mostStacks = 2000
	mostValues = 50
)

// values remembers which values of each attribute were seen. It is safe for
// concurrent use.
type values struct {
	mu   sync.RWMutex
	seen map[attribute.Key]map[string]string
}

// bounded is value, or "other" once there were too many.
func (v *values) bounded(key attribute.Key, value string) string {
	if len(value) > valueBytes {
		value = strings.ToValidUTF8(value[:valueBytes], "")
	}
	v.mu.RLock()
	known, ok := v.seen[key][value]
	v.mu.RUnlock()
	if ok {
		return known
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen == nil {
		v.seen = map[attribute.Key]map[string]string{}
	}
	set := v.seen[key]
	if set == nil {
		set = map[string]string{}
		v.seen[key] = set
	}
	if len(set) >= most(key) {
		return other
	}
	clean := printable(value)
	set[strings.Clone(value)] = clean
	return clean
}

func most(key attribute.Key) int {
	switch key {
	case AttrStack, AttrPipeline, AttrSource:
		return mostStacks
	}
	return mostValues
}

// printable is a name as it may stand in a label: people choose managers' names.
// Control characters, and those that turn the order of text around, may not.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '_'
		}
		return r
	}, strings.ToValidUTF8(s, "_"))
}
