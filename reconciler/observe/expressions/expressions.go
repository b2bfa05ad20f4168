// Package expressions turns a live object into how it is doing, by CEL expressions for its kind: those that are
// shipped for the operators of an observability pipeline, and those that a stack brings.
//
// It promises that an expression is compiled once and when it is first needed; that none runs longer, or costs more,
// than it may; that what a controller said of an older generation is not taken for the present; and that an object of
// any shape gets an answer.
package expressions

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Bounds of an expression: it comes from a repository, and is evaluated at every event of an object.
const (
	mostCost = 100_000               // of one part of it, some ten milliseconds: a status with a hundred conditions takes a fiftieth
	mostTime = 50 * time.Millisecond // of its parts together
)

// Expression says in CEL when an object of a kind is ready. The variable object is the object.
type Expression struct {
	Kind    schema.GroupKind
	Ready   string // true when it does what it is there for
	Failed  string // true when its controller has given up, or says so; may be empty
	Message string // why it is not ready; may be empty
}

// Error says which part of an expression can't be used, and why.
type Error struct {
	Part string // kind, ready, failed or message
	Err  error
}

func (e *Error) Error() string { return e.Part + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

var kindShape = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)

// ParseKind reads a kind such as Certificate.cert-manager.io or, without a group, Service.
func ParseKind(text string) (schema.GroupKind, error) {
	gk := schema.ParseGroupKind(text)
	if !kindShape.MatchString(gk.Kind) || (gk.Group != "" && len(validation.IsDNS1123Subdomain(gk.Group)) > 0) {
		return gk, &Error{"kind", fmt.Errorf("%q: want KIND.GROUP, for example Certificate.cert-manager.io", text)}
	}
	return gk, nil
}

// A Program is an Expression that was compiled. It may be used concurrently.
type Program struct {
	Expression
	ready, failed, message cel.Program // failed and message may be nil
}

// Compile checks an expression. Errors are of the type Error, and joined.
func Compile(e Expression) (*Program, error) {
	p := &Program{Expression: e}
	var errs []error
	for _, part := range []struct {
		name, text string
		kind       *cel.Type
		into       *cel.Program
	}{{"ready", e.Ready, cel.BoolType, &p.ready}, {"failed", e.Failed, cel.BoolType, &p.failed}, {"message", e.Message, cel.StringType, &p.message}} {
		if part.text == "" && part.name != "ready" {
			continue
		}
		program, err := compile(part.text, part.kind)
		if err != nil {
			errs = append(errs, &Error{part.name, err})
		}
		*part.into = program
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// Judge says how an object is doing, and why unless it is Current.
func (p *Program) Judge(obj *unstructured.Unstructured) (status.Status, string) {
	fresh, behind := present(obj)
	if behind != "" {
		return status.InProgressStatus, behind
	}
	ctx, cancel := context.WithTimeout(context.Background(), mostTime)
	defer cancel()
	e := evaluation{p, ctx, unsealed(fresh)}
	failed, err := e.truth(p.failed)
	switch _, absent := missing(err); {
	case err != nil && !absent: // what isn't there has not failed
		return status.InProgressStatus, "failed: " + told(err)
	case failed:
		return status.FailedStatus, e.why(said(e.object))
	}
	ready, err := e.truth(p.ready)
	field, absent := missing(err)
	switch {
	case absent:
		return status.InProgressStatus, e.why(p.lacks(field))
	case err != nil:
		return status.InProgressStatus, "ready: " + told(err)
	case ready:
		return status.CurrentStatus, ""
	}
	return status.InProgressStatus, e.why(said(e.object))
}

// An evaluation is of one object.
type evaluation struct {
	*Program
	ctx    context.Context
	object map[string]any
}

// why is the message of an object that is not ready.
func (e evaluation) why(otherwise string) string {
	if e.message != nil {
		if said, err := evaluate[string](e.ctx, e.message, e.object); err == nil && said != "" {
			return said
		}
	}
	return otherwise
}

func (e evaluation) truth(p cel.Program) (bool, error) {
	if p == nil {
		return false, nil
	}
	return evaluate[bool](e.ctx, p, e.object)
}

func evaluate[T bool | string](ctx context.Context, p cel.Program, object map[string]any) (out T, err error) {
	defer func() {
		if r := recover(); r != nil { // a library's fault is no reason to stop watching
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	value, _, err := p.ContextEval(ctx, map[string]any{"object": object})
	if err != nil {
		return out, err
	}
	out, ok := value.Value().(T)
	if !ok {
		return out, fmt.Errorf("is a %s, want a %T", value.Type().TypeName(), out)
	}
	return out, nil
}

// missing tells which field an expression asked for in vain.
func missing(err error) (field string, ok bool) {
	if err == nil {
		return "", false
	}
	return strings.CutPrefix(err.Error(), "no such key: ")
}

// lacks says which field isn't there, unless the name was read from the object: that may be anything.
func (p *Program) lacks(field string) string {
	if field == "" || !strings.Contains(p.Ready, field) {
		return "it lacks a field yet"
	}
	return "no " + field + " yet"
}

// told is what may be said of an error: some repeat what they were about.
func told(err error) string {
	text := err.Error()
	for _, known := range []string{"no such overload", "index out of bounds", "operation cancelled", "operation interrupted", "is a ", "divi", "modulus by zero"} {
		if strings.HasPrefix(text, known) {
			return text
		}
	}
	return "can't be evaluated"
}
