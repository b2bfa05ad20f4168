package render

import (
	"bytes"

	yaml "go.yaml.in/yaml/v3"
)

// boundNodes refuses a document that could have far too many nodes, before it is decoded: that
// takes some 200 bytes for each of them, and a node can be written in two. What could be a node
// is counted, text too that only looks like it, and so it may be twice as many as nodes may be.
func boundNodes(file string, data []byte, budget Budget) error {
	limit, line := 2*budget.Nodes, 1
	for len(data) > 0 {
		doc, rest := cutDocument(data)
		if possibleNodes(doc) > limit {
			return inputError(file, line, overBudget("YAML nodes, or what could be some, in one document", limit))
		}
		line += bytes.Count(doc, []byte("\n"))
		data = rest
	}
	return nil
}

// cutDocument cuts at the next line that begins with ---. In YAML that is nothing but the
// beginning of a document or a mistake, whatever it is in.
func cutDocument(data []byte) (doc, rest []byte) {
	for from := 0; ; {
		i := bytes.Index(data[from:], []byte("\n---"))
		if i < 0 {
			return data, nil
		}
		from += i + 1
		if from+3 >= len(data) || isBlank(data[from+3]) {
			return data[:from], data[from:]
		}
	}
}

// possibleNodes is how many nodes a text may have at most: a colon makes a key and a value of
// what is around it; a dash, a comma, a bracket or a brace one item.
func possibleNodes(doc []byte) int {
	n := 1
	for i, b := range doc {
		switch b {
		case ',', '[', '{':
			n++
		case ':':
			if !isWord(doc, i-1) || !isWord(doc, i+1) { // else as in 12:30
				n += 2
			}
		case '?':
			if !isWord(doc, i+1) {
				n += 2
			}
		case '-', '.': // an item, the end of a document
			if !isWord(doc, i+1) {
				n++
			}
		}
	}
	return n
}

// isWord says whether a byte is one that goes on in a plain scalar.
func isWord(doc []byte, i int) bool {
	return i >= 0 && i < len(doc) && !isBlank(doc[i]) && !bytes.ContainsRune([]byte(`,:?[]{}"'`), rune(doc[i]))
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// parse is parseYAML for what kustomize will hold in memory with all else.
func (c *check) parse(file string, data []byte) ([]*yaml.Node, error) {
	roots, nodes, err := parseCounted(file, data, c.budget)
	if err != nil {
		return nil, err
	}
	return roots, c.addNodes(file, nodes)
}

func (c *check) addNodes(file string, nodes int) error {
	if c.nodes += nodes; c.nodes > c.budget.TotalNodes {
		return inputError(file, 0, overBudget("YAML nodes in all files, counting repeats", c.budget.TotalNodes))
	}
	return nil
}

// countNodes counts those of a tree that was measured, aliases not expanded.
func countNodes(n *yaml.Node) int {
	if n == nil {
		return 0
	}
	total := 1
	for _, child := range n.Content {
		total += countNodes(child)
	}
	return total
}
