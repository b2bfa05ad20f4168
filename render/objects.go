package render

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// finish makes objects of what kustomize built: variables, types, namespaces, identity, order.
func finish(req Request, c *check, all []built) ([]Object, error) {
	if len(all) > c.budget.Objects {
		return nil, inputError(c.entryFile, 0, overBudget("objects", c.budget.Objects))
	}
	vars := newSubstitution(req, c)
	conv := converter{left: c.budget.TotalBytes}
	objects := make([]Object, 0, len(all))
	var problems []error
	for _, b := range all {
		vars.object(b)
		o, err := conv.object(b)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		objects = append(objects, o)
	}
	if problems = append(vars.problems, problems...); len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	newScopes(req.Scope, objects).place(objects, req.Namespace)
	slices.SortStableFunc(objects, compareObjects)
	if err := c.duplicates(objects); err != nil {
		return nil, err
	}
	return objects, nil
}

func compareObjects(a, b Object) int {
	x, y := identity(a), identity(b)
	return cmp.Or(
		cmp.Compare(x.group, y.group), cmp.Compare(x.kind, y.kind),
		cmp.Compare(x.namespace, y.namespace), cmp.Compare(x.name, y.name),
		cmp.Compare(a.GetAPIVersion(), b.GetAPIVersion()), cmp.Compare(a.Origin, b.Origin),
	)
}

// converter turns YAML nodes into JSON types, as going through JSON text would.
type converter struct {
	left int64 // bytes that may still be made
}

func (c *converter) object(b built) (Object, error) {
	value, err := c.value(b.node)
	if err != nil {
		return Object{}, inputErrorf(b.origin, 0, "%s %s: %w", text(field(b.node, "kind")),
			text(field(field(b.node, "metadata"), "name")), err)
	}
	content, ok := value.(map[string]any)
	if !ok {
		return Object{}, inputErrorf(b.origin, 0, "an object is no mapping")
	}
	o := Object{Unstructured: &unstructured.Unstructured{Object: content}, Origin: b.origin}
	return o, identified(o)
}

// identified refuses an object that the cluster could not tell from others.
func identified(o Object) error {
	for _, f := range [][]string{{"apiVersion"}, {"kind"}, {"metadata", "name"}} {
		if value, _, err := unstructured.NestedString(o.Object, f...); err != nil || value == "" {
			return inputErrorf(o.Origin, 0, "%s %s: %s is missing or not text", o.GetKind(), o.GetName(), strings.Join(f, "."))
		}
	}
	if _, _, err := unstructured.NestedString(o.Object, "metadata", "namespace"); err != nil {
		return inputErrorf(o.Origin, 0, "%s %s: metadata.namespace is not text", o.GetKind(), o.GetName())
	}
	return nil
}

func (c *converter) value(n *yaml.Node) (any, error) {
	if c.left -= int64(len(n.Value)) + 1; c.left < 0 {
		return nil, errors.New("over budget: too many bytes in all objects")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias)
	case yaml.DocumentNode:
		return c.value(n.Content[0])
	case yaml.MappingNode:
		return c.mapping(n)
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, child := range n.Content {
			v, err := c.value(child)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	}
	return scalar(n)
}

func (c *converter) mapping(n *yaml.Node) (map[string]any, error) {
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return nil, fmt.Errorf("key %q is not a word", key.Value)
		}
		v, err := c.value(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		out[key.Value] = v
	}
	return out, nil
}

func scalar(n *yaml.Node) (any, error) {
	switch n.ShortTag() {
	case "!!null":
		return nil, nil //nolint:nilnil // null is a value
	case "!!bool":
		var b bool
		err := decodeScalar(n, &b)
		return b, err
	case "!!int", "!!float":
		return number(n)
	}
	return n.Value, nil // text, and what JSON writes as text: dates, binary
}

func decodeScalar(n *yaml.Node, into any) error {
	if err := n.Decode(into); err != nil {
		return fmt.Errorf("%q: %w", n.Value, err)
	}
	return nil
}

// number gives an int64 where the value is a whole number that fits, as JSON text would.
func number(n *yaml.Node) (any, error) {
	var v any
	if err := decodeScalar(n, &v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case uint64:
		return float64(v), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%s is not a number that Kubernetes knows", n.Value)
		}
		return wholeOrNot(v), nil
	}
	return nil, fmt.Errorf("%q is not a number", n.Value)
}

func wholeOrNot(v float64) any {
	if data, err := json.Marshal(v); err == nil && !strings.ContainsAny(string(data), ".eE") {
		var i int64
		if json.Unmarshal(data, &i) == nil {
			return i
		}
	}
	return v
}
