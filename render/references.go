package render

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/kube-openapi/pkg/validation/spec"
	sigsyaml "sigs.k8s.io/yaml"
)

// Kustomize follows the references of crds: and openapi: files without looking for circles: the
// one overflows the stack, which ends the process, the other never returns. Both are followed
// here first, by the same library.

// crdReferences checks a file of crds:, the definitions of types by name.
// Source: kustomize api/internal/accumulator/loadconfigfromcrds.go, v0.21.
func (c *check) crdReferences(file string, data []byte) error {
	var types map[string]struct{ Schema spec.Schema }
	if err := sigsyaml.Unmarshal(data, &types); err != nil {
		return inputErrorf(file, 0, "not a map of type names to OpenAPI definitions: %s", plain(err))
	}
	paths := map[string]int{} // from a type downwards; 0 while they are counted
	var count func(name string) (int, error)
	count = func(name string) (int, error) {
		if n, ok := paths[name]; ok && n == 0 {
			return 0, inputErrorf(file, 0, "%s refers to itself: kustomize cannot follow it", name)
		} else if ok {
			return n, nil
		}
		paths[name] = 0
		total := 1
		for _, property := range slices.Sorted(maps.Keys(types[name].Schema.Properties)) {
			ref := types[name].Schema.Properties[property].Ref
			n, err := count(ref.String())
			if err != nil {
				return 0, err
			}
			if total += n; total > c.budget.Nodes {
				return 0, inputError(file, 0, overBudget("properties once references are expanded", c.budget.Nodes))
			}
		}
		paths[name] = total
		return total, nil
	}
	paths[""] = 1
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if _, err := count(name); err != nil {
			return err
		}
	}
	return nil
}

// schemaReferences checks a file of openapi:. A reference whose target is nothing but another
// must lead somewhere in the end. Source: kustomize kyaml/openapi/openapi.go, v0.21.
func (c *check) schemaReferences(file string, data []byte) error {
	asJSON, err := sigsyaml.YAMLToJSON(data)
	if err != nil {
		return inputErrorf(file, 0, "not an OpenAPI schema: %s", plain(err))
	}
	var swagger spec.Swagger
	if err := swagger.UnmarshalJSON(asJSON); err != nil {
		return inputErrorf(file, 0, "not an OpenAPI schema: %s", plain(err))
	}
	var tree any
	if err := json.Unmarshal(asJSON, &tree); err != nil {
		return inputErrorf(file, 0, "not an OpenAPI schema: %s", plain(err))
	}
	root := &spec.Schema{SchemaProps: spec.SchemaProps{Definitions: swagger.Definitions}}
	for _, ref := range references(tree) {
		if err := ends(root, ref); err != nil {
			return inputError(file, 0, err)
		}
	}
	return nil
}

// references lists every $ref below v.
func references(v any) []string {
	var all []string
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if ref, ok := v[key].(string); ok && key == "$ref" {
				all = append(all, ref)
			}
			all = append(all, references(v[key])...)
		}
	case []any:
		for _, child := range v {
			all = append(all, references(child)...)
		}
	}
	return all
}

const maxHops = 100

func ends(root *spec.Schema, name string) error {
	ref, err := spec.NewRef(name)
	if err != nil {
		return nil //nolint:nilerr // kustomize stops at it too
	}
	for range maxHops {
		found, _, err := ref.GetPointer().Get(root)
		if err != nil {
			return nil //nolint:nilerr // kustomize stops at it too
		}
		var next spec.Schema
		switch s := found.(type) {
		case spec.Schema:
			next = s
		case *spec.Schema:
			next = *s
		default:
			return nil
		}
		if next.Ref.String() == "" {
			return nil
		}
		ref = next.Ref
	}
	return fmt.Errorf("the reference %s leads nowhere", name)
}
