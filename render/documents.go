package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// document is one object as a file spells it.
type document struct {
	file                              string
	line                              int
	apiVersion, kind, namespace, name string
}

func (d document) place() string { return fmt.Sprintf("%s:%d", d.file, d.line) }

// parseYAML gives the documents of a file, having checked that nothing in them makes kustomize
// explode or exit: bombs of aliases, depth, keys that occur twice or are empty, numbers that
// JSON has no words for.
func parseYAML(file string, data []byte, budget Budget) ([]*yaml.Node, error) {
	roots, _, err := parseCounted(file, data, budget)
	return roots, err
}

// parseCounted says too how many nodes the file has, aliases expanded.
func parseCounted(file string, data []byte, budget Budget) ([]*yaml.Node, int, error) {
	if err := boundNodes(file, data, budget); err != nil {
		return nil, 0, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var roots []*yaml.Node
	total := 0
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return roots, total, nil
		}
		if err != nil {
			return nil, 0, syntaxError(file, err)
		}
		if len(doc.Content) != 1 {
			continue
		}
		c := nodeCheck{file: file, budget: budget, sizes: map[*yaml.Node]int{}}
		size, err := c.size(doc.Content[0], 0)
		if err != nil {
			return nil, 0, err
		}
		if total += size; total > budget.Nodes {
			return nil, 0, inputError(file, doc.Content[0].Line, overBudget("YAML nodes in one file", budget.Nodes))
		}
		roots = append(roots, doc.Content[0])
	}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntaxError moves the line out of the YAML library's message.
func syntaxError(file string, err error) error {
	text := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	text = strings.TrimPrefix(text, "yaml: ")
	return inputErrorf(file, line, "not YAML: %s", text)
}

type nodeCheck struct {
	file   string
	budget Budget
	sizes  map[*yaml.Node]int // of anchored nodes; 0 while being measured
}

// size counts the nodes below n, aliases expanded.
func (c *nodeCheck) size(n *yaml.Node, depth int) (int, error) {
	if depth > c.budget.Depth {
		return 0, inputError(c.file, n.Line, overBudget("levels of nesting", c.budget.Depth))
	}
	if n.Kind == yaml.AliasNode {
		return c.aliasSize(n, depth)
	}
	if n.Anchor != "" {
		c.sizes[n] = 0
	}
	if err := c.node(n); err != nil {
		return 0, err
	}
	total := 1
	for _, child := range n.Content {
		size, err := c.size(child, depth+1)
		if err != nil {
			return 0, err
		}
		if total += size; total > c.budget.Nodes {
			return 0, inputError(c.file, n.Line, overBudget("YAML nodes once aliases are expanded", c.budget.Nodes))
		}
	}
	if n.Anchor != "" {
		c.sizes[n] = total
	}
	return total, nil
}

func (c *nodeCheck) aliasSize(n *yaml.Node, depth int) (int, error) {
	size, ok := c.sizes[n.Alias]
	if !ok { // anchored in what was not walked yet: YAML forbids it
		return c.size(n.Alias, depth+1)
	}
	if size == 0 {
		return 0, inputErrorf(c.file, n.Line, "*%s contains itself", n.Value)
	}
	return size, nil
}

func (c *nodeCheck) node(n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		return c.keys(n)
	case yaml.ScalarNode:
		if n.Style == 0 && n.ShortTag() == "!!float" && strings.ContainsAny(n.Value, "nN") {
			return inputErrorf(c.file, n.Line, "%s is not a number that Kubernetes knows: quote it if it is text", n.Value)
		}
	}
	return nil
}

func (c *nodeCheck) keys(n *yaml.Node) error {
	if len(n.Content)/2 > c.budget.Keys {
		return inputError(c.file, n.Line, overBudget("keys in one mapping", c.budget.Keys))
	}
	seen := make(map[string]struct{}, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return inputErrorf(c.file, key.Line, "a key must be a word, not a mapping or a sequence")
		}
		if key.Value == "" {
			return inputErrorf(c.file, key.Line, "a key is empty")
		}
		if _, twice := seen[key.Value]; twice {
			return inputErrorf(c.file, key.Line, "key %q occurs twice", key.Value)
		}
		seen[key.Value] = struct{}{}
	}
	return nil
}

// documentsOf lists the objects of a file, those of Lists included.
func documentsOf(file string, roots []*yaml.Node) ([]document, []error) {
	var docs []document
	var problems []error
	for _, root := range roots {
		if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
			continue
		}
		if items, ok := listItems(root); ok {
			some, errs := documentsOf(file, items)
			docs, problems = append(docs, some...), append(problems, errs...)
			continue
		}
		doc, err := documentOf(file, root)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		docs = append(docs, doc)
	}
	return docs, problems
}

func documentOf(file string, root *yaml.Node) (document, error) {
	if root.Kind != yaml.MappingNode {
		return document{}, inputErrorf(file, root.Line, "not a Kubernetes object: a mapping with apiVersion, kind and metadata is expected")
	}
	metadata := field(root, "metadata")
	doc := document{
		file: file, line: root.Line,
		apiVersion: text(field(root, "apiVersion")), kind: text(field(root, "kind")),
		namespace: text(field(metadata, "namespace")), name: text(field(metadata, "name")),
	}
	switch {
	case doc.kind == "":
		return doc, inputErrorf(file, root.Line, "the object has no kind")
	case doc.apiVersion == "":
		return doc, inputErrorf(file, root.Line, "%s has no apiVersion", doc.kind)
	case doc.name == "" && field(metadata, "generateName") != nil:
		return doc, inputErrorf(file, root.Line, "%s has metadata.generateName: give it a fixed metadata.name, "+
			"or every apply would create another one", doc.kind)
	case doc.name == "":
		return doc, inputErrorf(file, root.Line, "%s has no metadata.name", doc.kind)
	}
	return doc, nil
}

// listItems tells a list of objects from an object whose kind happens to end in List, as
// kustomize does: by its items.
func listItems(root *yaml.Node) ([]*yaml.Node, bool) {
	if !strings.HasSuffix(text(field(root, "kind")), "List") {
		return nil, false
	}
	items := field(root, "items")
	if items == nil || items.Kind != yaml.SequenceNode {
		return nil, items != nil && items.ShortTag() == "!!null"
	}
	return items.Content, true
}

// field gives the value of a key; nil where there is none.
func field(n *yaml.Node, key string) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml.Node) string {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ""
	}
	return n.Value
}

func longestText(nodes []*yaml.Node) int64 {
	longest := int64(0)
	for _, n := range nodes {
		longest = max(longest, int64(len(n.Value)), longestText(n.Content))
	}
	return longest
}
