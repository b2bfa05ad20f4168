package checks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Why a check was stopped.
var (
	ErrBudget = errors.New("took too long")
	ErrMemory = errors.New("took too much memory")
)

// Run judges one object: plain JSON types, which are not changed. What it finds is
// sorted. It is stopped when the context ends, and then says nothing of what is left.
func (s *Set) Run(ctx context.Context, object map[string]any) []Found {
	kind, _ := object["kind"].(string)
	input, fields, err := inputOf(object)
	if err != nil {
		return []Found{{Check: &Check{ID: "input"}, Err: err}}
	}
	found := s.together(ctx, kind, input, fields)
	for _, c := range s.checks {
		if c.alone && c.concerns(kind) {
			found = append(found, s.alone(ctx, c, input, fields)...)
		}
	}
	slices.SortFunc(found, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return found
}

// together evaluates all checks at once, so that what they share is computed once.
// If that fails, each is asked by itself: one that crashes is to be told by its name.
func (s *Set) together(ctx context.Context, kind string, input ast.Value, fields []string) []Found {
	p, err := s.prepared(ctx, kind)
	if err != nil {
		return []Found{{Check: &Check{ID: "all"}, Err: err}}
	}
	if len(p.checks) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, objectBudget)
	defer cancel()
	results, err := evaluate(limited, p.query, input)
	if err != nil || len(results) != 1 {
		return s.each(ctx, p.checks, input, fields)
	}
	var found []Found
	for i, c := range p.checks {
		for j := range c.rules {
			found = append(found, c.found(results[0].Bindings[variable(i, j)], fields)...)
		}
	}
	return found
}

// each evaluates checks by themselves. What the budget doesn't suffice for is told.
func (s *Set) each(ctx context.Context, checks []*Check, input ast.Value, fields []string) (found []Found) {
	ctx, cancel := context.WithTimeoutCause(ctx, objectBudget, overBudget(objectBudget))
	defer cancel()
	for _, c := range checks {
		found = append(found, s.alone(ctx, c, input, fields)...)
	}
	return found
}

func overBudget(most time.Duration) error {
	return fmt.Errorf("%w: more than %s on one object", ErrBudget, most)
}

// alone evaluates one check. A repository's that took too long is not asked again.
func (s *Set) alone(ctx context.Context, c *Check, input ast.Value, fields []string) []Found {
	if err := c.broken(); err != nil {
		return []Found{{Check: c, Err: err, Again: true}}
	}
	budget := cmp.Or(c.budget, objectBudget)
	limited, cancel := context.WithTimeoutCause(ctx, budget, overBudget(budget))
	defer cancel()
	var found []Found
	for _, rule := range c.rules {
		query, err := rego.New(rego.Query(rule), rego.Compiler(s.compiler), rego.Store(s.store)).PrepareForEval(limited)
		var results rego.ResultSet
		if err == nil {
			results, err = evaluate(limited, query, input)
		}
		if err != nil {
			return append(found, c.breaks(ctx, limited, err))
		}
		for _, r := range results {
			for _, e := range r.Expressions {
				found = append(found, c.found(e.Value, fields)...)
			}
		}
	}
	return found
}

func (c *Check) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// breaks is an evaluation's error for people. That a repository's check used up what it
// has is remembered: there may be a thousand objects more. Of Trivy's, it is the object's
// fault, and no other's.
func (c *Check) breaks(ctx, limited context.Context, err error) Found {
	why := context.Cause(limited)
	if !errors.Is(why, ErrBudget) {
		return Found{Check: c, Err: err}
	}
	if c.File != "" && ctx.Err() == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed = fmt.Errorf("not asked: on an object before, it %w", why)
	}
	return Found{Check: c, Err: why, Again: true}
}

// evaluate answers a query. A panic in a builtin is an error.
func evaluate(ctx context.Context, query rego.PreparedEvalQuery, input ast.Value) (results rego.ResultSet, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return query.Eval(ctx, rego.EvalParsedInput(input))
}

// found reads what a rule came to, as Trivy does: texts, or maps that result.new made.
func (c *Check) found(value any, fields []string) []Found {
	list, several := value.([]any)
	if !several {
		list = []any{value}
	}
	var out []Found
	for _, item := range list {
		f := Found{Check: c}
		switch item := item.(type) {
		case nil:
			continue
		case bool:
			if !item {
				continue
			}
		case string:
			f.Message = item
		case map[string]any:
			f.Message, _ = item["msg"].(string)
			f.Field = fieldOf(item["startline"], fields)
		}
		f.Message = cmp.Or(f.Message, c.Title)
		out = append(out, f)
	}
	return out
}

// fieldOf is the field whose number stands where Trivy has a line.
func fieldOf(number any, fields []string) string {
	digits, ok := number.(json.Number)
	if !ok {
		return ""
	}
	n, err := digits.Int64()
	if err != nil || n < 0 || n >= int64(len(fields)) {
		return ""
	}
	return fields[n]
}
