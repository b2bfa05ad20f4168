package checks

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// nesting bounds how deep an object may be.
const nesting = 200

// inputOf is an object as OPA reads it. Trivy's checks carry lines from their input to
// their results. A rendered object has no lines, so here each map has a number in that
// place, which leads to the path of its field.
func inputOf(object map[string]any) (ast.Value, []string, error) {
	n := numbering{fields: []string{""}}
	value, err := n.value(object, "", 0)
	return value, n.fields, err
}

type numbering struct{ fields []string }

// pathBytes bounds the paths of all fields of an object together: long keys, nested deep, with
// much below them come to more than any memory holds.
const pathBytes = 32 << 20

// Judgeable refuses an object that would take too much memory to judge.
func Judgeable(object map[string]any) error {
	sum := 0
	return measure(object, 0, 0, &sum)
}

func measure(v any, path, depth int, sum *int) error {
	if depth > nesting {
		return fmt.Errorf("nested more than %d deep", nesting)
	}
	if *sum += path; *sum > pathBytes {
		return fmt.Errorf("the paths of its fields come to more than %d MiB", pathBytes>>20)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if err := measure(child, path+len(key)+1, depth+1, sum); err != nil {
				return err
			}
		}
	case []any:
		for _, child := range v {
			if err := measure(child, path+4, depth+1, sum); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *numbering) value(v any, field string, depth int) (ast.Value, error) {
	if depth > nesting {
		return nil, fmt.Errorf("%.200s: nested more than %d deep", field, nesting)
	}
	switch v := v.(type) {
	case map[string]any:
		return n.object(v, field, depth)
	case []any:
		items := make([]*ast.Term, len(v))
		for i, item := range v {
			value, err := n.value(item, field+"["+strconv.Itoa(i)+"]", depth+1)
			if err != nil {
				return nil, err
			}
			items[i] = ast.NewTerm(value)
		}
		return ast.NewArray(items...), nil
	case string:
		return ast.String(v), nil
	case bool:
		return ast.Boolean(v), nil
	case nil:
		return ast.Null{}, nil
	case int64:
		return ast.Number(strconv.FormatInt(v, 10)), nil
	case float64:
		raw, err := json.Marshal(v)
		return ast.Number(raw), err
	}
	return ast.InterfaceToValue(v)
}

func (n *numbering) object(m map[string]any, field string, depth int) (ast.Value, error) {
	number := len(n.fields)
	n.fields = append(n.fields, field)
	pairs := make([][2]*ast.Term, 0, len(m)+1)
	for key, item := range m {
		value, err := n.value(item, join(field, key), depth+1)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, [2]*ast.Term{ast.StringTerm(key), ast.NewTerm(value)})
	}
	line := ast.IntNumberTerm(number)
	metadata := ast.ObjectTerm([2]*ast.Term{ast.StringTerm("startline"), line}, [2]*ast.Term{ast.StringTerm("endline"), line},
		[2]*ast.Term{ast.StringTerm("filepath"), ast.StringTerm("")}, [2]*ast.Term{ast.StringTerm("offset"), ast.IntNumberTerm(0)})
	pairs = append(pairs, [2]*ast.Term{ast.StringTerm("__defsec_metadata"), metadata})
	return ast.NewObject(pairs...), nil
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}
