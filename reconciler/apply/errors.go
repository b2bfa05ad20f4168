package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// ObjectError says which object failed, where it was written, and what to do.
type ObjectError struct {
	ID       ID
	Origin   string // source file
	Hint     string // what to do, where we know it
	Terminal bool   // the same input will fail again
	Err      error

	said func() string // Err without what must not be printed; nil: as it is
}

// Error is one line: file, object, reason, hint.
func (e *ObjectError) Error() string {
	var b strings.Builder
	if e.Origin != "" {
		fmt.Fprintf(&b, "%s: ", e.Origin)
	}
	if e.said != nil {
		fmt.Fprintf(&b, "%s: %s", e.ID, e.said())
	} else {
		fmt.Fprintf(&b, "%s: %s", e.ID, reason(e.Err, nil))
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Unwrap gives the API server's error.
func (e *ObjectError) Unwrap() error { return e.Err }

// Errors is every object that failed, sorted: not only the first.
type Errors []*ObjectError

// Error lists all of them, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	if len(lines) == 1 {
		return lines[0]
	}
	return fmt.Sprintf("%d objects failed:\n  %s", len(lines), strings.Join(lines, "\n  "))
}

// Unwrap lets errors.Is and errors.As look into each.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}

func (e Errors) sorted() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortFunc(e, func(a, b *ObjectError) int {
		if order := a.ID.Compare(b.ID); order != 0 {
			return order
		}
		return cmp.Compare(a.Error(), b.Error())
	})
	return e
}

// ErrClaimed is wrapped where two stacks want the same object.
var ErrClaimed = errors.New("claimed by two stacks")

// Terminal is true when the same input will fail again: nothing but a change,
// or a hand, can help.
func Terminal(err error) bool {
	var all Errors
	if errors.As(err, &all) {
		return slices.ContainsFunc(all, func(e *ObjectError) bool { return e.Terminal }) &&
			!slices.ContainsFunc(all, func(e *ObjectError) bool { return !e.Terminal })
	}
	var one *ObjectError
	return errors.As(err, &one) && one.Terminal
}

// UnknownKind is true when an object's kind is not served: a CRD is missing.
func UnknownKind(err error) bool {
	var all Errors
	return errors.As(err, &all) && slices.ContainsFunc(all, func(e *ObjectError) bool { return isUnknownKind(e.Err) })
}

// classify makes an ObjectError of what the server said about one object.
func classify(p prepared, err error) *ObjectError {
	e := &ObjectError{ID: p.ID, Origin: p.Origin, Err: err}
	e.said = sync.OnceValue(func() string { return reason(err, p.mask()) })
	switch {
	case errors.Is(err, ErrClaimed):
		e.Terminal = true
	case isImmutable(err):
		e.Terminal = true
		e.Hint = fmt.Sprintf("the field can't be changed in place: undo the change, or annotate the object %s: \"true\" to have it deleted and created again", ReplaceAnnotation)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		e.Hint = "the namespace is being deleted; the object is applied when that has ended: kubectl describe namespace " + p.Namespace
	case isSecret(p.ID) && strings.Contains(err.Error(), "illegal base64"):
		e.Terminal, e.Hint = true, "data holds base64; stringData is for plain text"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		e.Hint = "free some of the namespace's ResourceQuota, or raise it"
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "custom resource definition is terminating"):
		e.Hint = "its CRD is being deleted; the object is applied when the CRD is there again"
	case apierrors.IsForbidden(err):
		e.Terminal = true
		e.Hint = "grant Plumbline's user this permission, or see which admission policy refused it"
	case isUnknownKind(err):
		e.Hint = "the cluster doesn't serve this kind: install its CRD, or let the stack depend on the one that brings it"
	case apierrors.IsNotFound(err) && missingNamespace(err) != "":
		e.Hint = "the namespace doesn't exist: declare it in this stack, or depend on the stack that brings it"
	case isMistyped(err):
		e.Terminal = scheme.Scheme.IsGroupRegistered(p.Group) // a CRD may still learn the field
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		e.Terminal = true
	}
	return e
}

// mistyped is how a server-side apply complains of unknown fields and of values
// of the wrong type: in a status of code 500 without a reason or causes.
var mistyped = regexp.MustCompile(`(?s)^failed to (?:create typed patch object|convert new object) \(.*?\)(?: to proper version)?: (.*)$`)

var mistypedField = regexp.MustCompile(`(?m)^(?:errors:\n)?\s*\.?(.*?): (field not declared in schema|expected .*|.*cannot unmarshal .*)$`)

func isMistyped(err error) bool {
	return mistypedFields(err, func(s string) string { return s }) != ""
}

// mistypedFields is "spec.prots: unknown field; spec.replicas: expected numeric…".
func mistypedFields(err error, mask func(string) string) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return ""
	}
	message := status.Status().Message
	long := len(message) > longestMessage
	if long {
		message = message[:longestMessage]
	}
	m := mistyped.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	var lines []string
	fields := mistypedField.FindAllStringSubmatch(m[1], -1)
	for i, f := range fields {
		if i == shownCauses {
			return strings.Join(lines, "; ") + more(len(fields)-i)
		}
		line := mask(f[1] + ": " + strings.Replace(f[2], "field not declared in schema", "unknown field", 1))
		if long && i == len(fields)-1 { // it may end in half a secret
			line = line[:max(0, len(line)-cutMargin)]
		}
		lines = append(lines, bounded(line, 512))
	}
	return strings.Join(lines, "; ")
}

// shownCauses is how many of a server's complaints about one object are shown.
const shownCauses = 50

func more(n int) string { return fmt.Sprintf("; and %d more", n) }

var immutable = regexp.MustCompile(`(?i)immutable|may not (change|be (changed|updated))|cannot be (changed|updated)|updates to .* are forbidden|updates to .* forbidden`)

func isImmutable(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Reason != metav1.StatusReasonInvalid || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
		return immutable.MatchString(c.Message)
	})
}

// missingNamespace is the namespace that a NotFound error complains of.
func missingNamespace(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || status.Status().Details.Kind != "namespaces" {
		return ""
	}
	return status.Status().Details.Name
}

// reason shortens a server's error to its causes, field by field; the object's
// name, which the server repeats, is in the ObjectError already.
//
// Masking comes before shortening: half a secret would not be known as one.
func reason(err error, mask func(string) string) string {
	if mask == nil {
		mask = func(s string) string { return s }
	}
	if fields := mistypedFields(err, mask); fields != "" {
		return fields
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil || len(status.Status().Details.Causes) == 0 ||
		status.Status().Reason != metav1.StatusReasonInvalid {
		return masked(err.Error(), mask)
	}
	causes := slices.Clone(status.Status().Details.Causes) // in an order that differs from time to time
	slices.SortFunc(causes, func(a, b metav1.StatusCause) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	causes = slices.CompactFunc(causes, func(a, b metav1.StatusCause) bool { return a.Field == b.Field && a.Message == b.Message })
	rest := ""
	if len(causes) > shownCauses {
		rest = more(len(causes) - shownCauses)
		causes = causes[:shownCauses]
	}
	var lines []string
	for _, c := range causes {
		line := masked(c.Message, mask)
		if c.Field != "" && !strings.HasPrefix(line, c.Field) {
			line = c.Field + ": " + line
		}
		lines = append(lines, squeezed(line, 512))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "; ") + rest
}

// squeezed takes out the middle: a server's message ends with what is wrong, after
// a value that may be long.
func squeezed(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return bounded(s, most/2) + strings.ToValidUTF8(s[len(s)-most/2:], "")
}

func bounded(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// collect turns a per-object error into part of a report, except for a
// cancelled context, which is nobody's fault.
func (e Errors) collect(p prepared, err error) Errors {
	if err == nil || errors.Is(err, context.Canceled) {
		return e
	}
	var one *ObjectError
	if errors.As(err, &one) {
		return append(e, one)
	}
	return append(e, classify(p, err))
}
