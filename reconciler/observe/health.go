package observe

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plumbline-dev/plumbline/reconciler/observe/expressions"
)

// messageLimit bounds what is shown of a status message: other people's controllers write them. More of it is kept, so
// that a secret at its end is still known as one.
const (
	messageLimit  = 256
	messageMargin = 128
)

// Rules are a stack's own expressions, by kind. They are not to be changed.
type Rules map[schema.GroupKind]*expressions.Program

// A judge says how objects are doing: by the expressions of their stack, by those that are shipped, or by kstatus.
type judge struct {
	shipped *expressions.Library
	mu      sync.Mutex                       // of those who change rules
	rules   atomic.Pointer[map[string]Rules] // by stack; replaced, never changed
}

func newJudge() *judge {
	j := &judge{shipped: expressions.NewLibrary()}
	j.rules.Store(&map[string]Rules{})
	return j
}

// learn takes the rules of a stack, and returns the kinds that are judged otherwise than before.
func (j *judge) learn(stack string, rules Rules) (moved []schema.GroupKind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	old := *j.rules.Load()
	for gk, p := range rules {
		if before := old[stack][gk]; before == nil || before.Expression != p.Expression {
			moved = append(moved, gk)
		}
	}
	for gk := range old[stack] {
		if rules[gk] == nil {
			moved = append(moved, gk)
		}
	}
	if len(moved) == 0 {
		return nil
	}
	all := maps.Clone(old)
	if all[stack] = rules; len(rules) == 0 {
		delete(all, stack)
	}
	j.rules.Store(&all)
	return moved
}

// program is the expression for an object, if there is one.
func (j *judge) program(stack string, kind schema.GroupKind) (*expressions.Program, error) {
	if p := (*j.rules.Load())[stack][kind]; p != nil {
		return p, nil
	}
	return j.shipped.For(kind)
}

// healthOf says how an object is doing, with a message unless it is Current. What can't be read is Unknown.
func (j *judge) healthOf(obj *unstructured.Unstructured, stack string) (health status.Status, message string) {
	defer func() {
		if r := recover(); r != nil { // kstatus asserts types that a custom resource need not have
			health, message = status.UnknownStatus, bounded(fmt.Sprintf("compute status: %v", r))
		}
	}()
	if obj.GetDeletionTimestamp() != nil {
		return status.TerminatingStatus, "Resource scheduled for deletion"
	}
	program, err := j.program(stack, obj.GroupVersionKind().GroupKind())
	if program != nil {
		health, message = program.Judge(obj)
		return health, bounded(message)
	}
	if err != nil { // a shipped expression that doesn't compile: tests would have told
		return status.UnknownStatus, bounded(err.Error())
	}
	result, err := status.Compute(obj)
	switch {
	case err != nil:
		return status.UnknownStatus, bounded(fmt.Sprintf("compute status: %v", err))
	case result.Status == status.CurrentStatus:
		return result.Status, ""
	default:
		return result.Status, bounded(result.Message)
	}
}

// bounded cuts a message at what is kept of it. The result shares no memory with a longer one.
func bounded(message string) string { return cut(message, messageLimit+messageMargin) }

const ellipsis = "…"

// cut cuts a text at so many bytes, between characters.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	return before(text, most-len(ellipsis)) + ellipsis
}

// before is what of a text is before a byte, in whole characters.
func before(text string, end int) string {
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:max(0, end)]
}

// Shown is what may be shown of a message: masked first and cut then. Where it was cut before, its end may be half a
// secret, and goes.
func Shown(message string, mask func(string) string) string {
	kept, masked := len(message), mask(message)
	if kept <= messageLimit {
		return masked
	}
	if strings.HasSuffix(message, ellipsis) {
		text := strings.TrimSuffix(masked, ellipsis)
		masked = before(text+ellipsis, len(text)-messageMargin) + ellipsis
	}
	return cut(masked, messageLimit)
}
