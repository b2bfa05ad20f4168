package render

import (
	"errors"
	"fmt"
	"strings"
)

// InputError says that the files of a stack cannot be rendered as they are: trying again
// gives the same until they change. Any other error is of reading them or of time.
type InputError struct {
	Stack    string
	Problems []Problem // at least one; those of files in the order they were reached
}

// Problem is one thing to mend.
type Problem struct {
	File string // in the tree; "" where no single file is to blame
	Line int    // 0: unknown
	Err  error
}

func (e *InputError) Error() string {
	texts := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		texts = append(texts, p.Error())
	}
	if len(texts) == 1 {
		return fmt.Sprintf("stack %q: %s", e.Stack, texts[0])
	}
	return fmt.Sprintf("stack %q: %d problems:\n  %s", e.Stack, len(texts), strings.Join(texts, "\n  "))
}

// Unwrap gives the problems to errors.Is and errors.As.
func (e *InputError) Unwrap() []error {
	errs := make([]error, 0, len(e.Problems))
	for _, p := range e.Problems {
		errs = append(errs, p)
	}
	return errs
}

func (p Problem) Error() string { return p.place() + p.Err.Error() }

// Unwrap gives the cause.
func (p Problem) Unwrap() error { return p.Err }

func (p Problem) place() string {
	switch {
	case p.File == "":
		return ""
	case p.Line > 0:
		return fmt.Sprintf("%s:%d: ", p.File, p.Line)
	}
	return p.File + ": "
}

// PanicError is a panic of kustomize, or of this package. Its stack is for a bug report, and so
// not in its message.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("kustomize panicked (%v): it often does where a field that it needs is empty", e.Value)
}

func inputError(file string, line int, err error) error {
	return Problem{File: file, Line: line, Err: err}
}

func inputErrorf(file string, line int, format string, args ...any) error {
	return Problem{File: file, Line: line, Err: fmt.Errorf(format, args...)}
}

// atStack puts the stack's name before an error. What is not about the files stays what it is.
func atStack(stack string, err error) error {
	if problems := problemsOf(err); len(problems) > 0 {
		return &InputError{Stack: stack, Problems: problems}
	}
	return fmt.Errorf("stack %q: %w", stack, err)
}

// problemsOf flattens joined problems, each once; nil where any part is of another kind.
func problemsOf(err error) []Problem {
	var p Problem
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Problem
		for _, e := range joined.Unwrap() {
			some := problemsOf(e)
			if some == nil {
				return nil
			}
			all = append(all, some...)
		}
		return unique(all)
	}
	if errors.As(err, &p) {
		return []Problem{p}
	}
	return nil
}

func unique(problems []Problem) []Problem {
	seen := map[string]bool{}
	var out []Problem
	for _, p := range problems {
		if text := p.Error(); !seen[text] {
			seen[text] = true
			out = append(out, p)
		}
	}
	return out
}
