package render

import (
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// spelling is how a ${NAME} that is a whole value is written: one way, or both.
type spelling int

const (
	asPlain spelling = 1 << iota
	asQuoted
)

// spelled looks through everything that was read, patches inside kustomizations too.
func (s *substitution) spelled(value string) spelling {
	if s.styles == nil {
		s.styles = map[string]spelling{}
		for file := range s.check.served {
			for _, root := range s.objectsIn(file) {
				s.spell(root)
			}
		}
	}
	return s.styles[value]
}

func (s *substitution) spell(n *yaml.Node) {
	for _, child := range n.Content {
		s.spell(child)
	}
	switch {
	case n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${"):
	case wholeVariable.MatchString(n.Value) && n.Style == 0:
		s.styles[n.Value] |= asPlain
	case wholeVariable.MatchString(n.Value):
		s.styles[n.Value] |= asQuoted
	case strings.ContainsAny(n.Value, "\n{"):
		roots, err := parseYAML("", []byte(n.Value), s.check.budget)
		if err != nil {
			return
		}
		for _, root := range roots {
			if root.Kind != yaml.ScalarNode {
				s.spell(root)
			}
		}
	}
}
