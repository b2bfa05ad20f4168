package render

import (
	"errors"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"
)

// operation checks one step of a JSON patch.
func (c *check) operation(file string, line int, op *yaml.Node) error {
	pointer := text(field(op, "path"))
	if strings.HasSuffix(pointer, "/") || strings.Contains(pointer, "//") {
		return inputErrorf(file, line+op.Line, "patch path %q has an empty key", pointer)
	}
	if text(field(op, "op")) == "copy" {
		c.doublings++ // a field copied below itself doubles
	}
	return nil
}

// replacements notes which fields are copied to which.
func (c *check) replacements(all []types.Replacement) error {
	for _, r := range all {
		source := types.DefaultReplacementFieldPath
		if r.Source != nil && r.Source.FieldPath != "" {
			source = r.Source.FieldPath
		}
		c.sources = append(c.sources, source)
		for _, t := range r.Targets {
			if t == nil || t.Select == nil {
				return errors.New("a target selects nothing")
			}
			for _, p := range t.FieldPaths {
				if strings.HasSuffix(p, ".") || strings.Contains(p, "..") || p == "" {
					return errors.New("field path " + p + " has an empty key")
				}
				c.targets = append(c.targets, copied{source: source, target: p, part: t.Options != nil && t.Options.Delimiter != ""})
			}
		}
	}
	return nil
}

// copied is one field that a replacement writes.
type copied struct {
	source, target string
	part           bool // only a part of the target is replaced, so it can grow
}

// feedsItself says whether a replacement can grow what a replacement reads: then a few of them
// double it again and again.
func (c *check) feedsItself(r copied) bool {
	if strings.HasPrefix(r.target, r.source+".") || strings.Contains(r.target, "*") {
		return r.part || !strings.Contains(r.target, "*")
	}
	for _, s := range c.sources {
		if r.part && lastSegment(s) == lastSegment(r.target) {
			return true
		}
	}
	return false
}

func lastSegment(fieldPath string) string {
	return fieldPath[strings.LastIndexAny(fieldPath, ".]")+1:]
}

// spreading adds what the text of a kustomization and its patches can come to on all objects.
func (c *check) spreading(k kustomization, objects int) {
	size := int64(len(c.served[k.file]))
	for _, e := range k.fileEntries() {
		if name, err := within(k.dir, e.path); err == nil && e.is == usePatch {
			size += int64(len(c.served[name]))
		}
	}
	c.spread += size * int64(objects)
}

// bounded says whether what kustomize makes of the tree fits the memory that it may use.
// Kustomize has no limits of its own, and cannot be stopped.
func (c *check) bounded() error {
	limit := 4 * c.budget.TotalBytes
	doublings := c.doublings
	for _, r := range c.targets {
		if c.feedsItself(r) {
			doublings++
		}
	}
	switch {
	case c.spread > limit:
		return inputError(c.entryFile, 0, overBudget("bytes of patches times the objects they look at", limit))
	case doublings > 20 || doublings > 0 && c.largest<<doublings > limit:
		return inputErrorf(c.entryFile, 0, "over budget: %d copies and replacements that feed themselves could grow "+
			"an object beyond %d bytes", doublings, limit)
	case c.vars && c.references*c.longest > limit:
		return inputError(c.entryFile, 0, overBudget("bytes that vars could put in place of $(…)", limit))
	}
	return nil
}

// configuration checks a file of replacements or of field specs: an empty key in a path would
// end the process, kustomize exits when it cannot set one.
func (c *check) configuration(file string, roots []*yaml.Node) error {
	for _, root := range roots {
		if err := emptyKeyIn(file, root); err != nil {
			return err
		}
	}
	return nil
}

func emptyKeyIn(file string, n *yaml.Node) error {
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if strings.EqualFold(key.Value, "path") && value.Kind == yaml.ScalarNode && hasEmptyKey(value.Value) {
				return inputErrorf(file, value.Line, "path %q has an empty key", value.Value)
			}
		}
	}
	for _, child := range n.Content {
		if err := emptyKeyIn(file, child); err != nil {
			return err
		}
	}
	return nil
}

func hasEmptyKey(fieldSpec string) bool {
	return strings.HasSuffix(fieldSpec, "/") || strings.Contains(fieldSpec, "//")
}
