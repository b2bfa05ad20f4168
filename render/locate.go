package render

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// locate finds where a ${…} of a rendered value was written: in the same field of the object's
// document, else anywhere in its file, else anywhere in what was read (a patch).
func (s *substitution) locate(at position, value string, m mistake) (string, int) {
	if n := s.source(at); n != nil {
		before, _, ok := strings.Cut(n.Value, m.token)
		if n.Value == value {
			before = value[:m.offset]
		}
		if ok {
			line := n.Line
			if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
				line += 1 + strings.Count(before, "\n")
			}
			return at.origin, line
		}
	}
	files := slices.Sorted(maps.Keys(s.check.served))
	for _, file := range append([]string{at.origin}, files...) {
		if before, _, ok := bytes.Cut(s.check.served[file], []byte(m.token)); ok {
			return file, 1 + bytes.Count(before, []byte("\n"))
		}
	}
	return at.origin, 0
}

// source finds the field of a rendered object in the document that it was written as; nil
// where there is no telling.
func (s *substitution) source(at position) *yaml.Node {
	var found *yaml.Node
	for _, root := range s.objectsIn(at.origin) {
		if text(field(root, "kind")) != at.kind || text(field(root, "apiVersion")) != at.apiVersion {
			continue
		}
		name := text(field(field(root, "metadata"), "name"))
		if name == at.name {
			return follow(root, at.path)
		}
		if strings.Contains(at.name, name) || strings.Contains(name, "${") {
			if found != nil {
				return nil
			}
			found = root
		}
	}
	return follow(found, at.path)
}

// objectsIn parses an origin file again, the first time it is asked about: only a few are.
func (s *substitution) objectsIn(file string) []*yaml.Node {
	roots, ok := s.roots[file]
	if !ok {
		parsed, err := parseYAML(file, s.check.served[file], s.check.budget)
		if err == nil {
			roots = inlined(parsed)
		}
		s.roots[file] = roots
	}
	return roots
}

func inlined(roots []*yaml.Node) []*yaml.Node {
	var all []*yaml.Node
	for _, root := range roots {
		if items, ok := listItems(root); ok {
			all = append(all, inlined(items)...)
			continue
		}
		all = append(all, root)
	}
	return all
}

func follow(n *yaml.Node, path []string) *yaml.Node {
	for _, step := range path {
		if n != nil && n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if index, ok := strings.CutPrefix(step, "["); ok && n != nil && n.Kind == yaml.SequenceNode {
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil || i >= len(n.Content) {
				return nil
			}
			n = n.Content[i]
			continue
		}
		n = field(n, step)
	}
	if n == nil || n.Kind != yaml.ScalarNode {
		return nil
	}
	return n
}
