// Promql reads expressions, a line of JSON each, parses them with Prometheus' own parser, and prints what each one asks
// for, a line of JSON each: the metrics with the labels that go with them.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/prometheus/promql/parser"
)

// An answer is about one expression.
type answer struct {
	Error   string   `json:"error,omitempty"`
	Type    string   `json:"type,omitempty"` // vector, scalar, ...
	Metrics []metric `json:"metrics,omitempty"`
	// Groupings are the labels after by, without, on, ignoring, group_left and group_right, each time with the metrics
	// below: at least one of them has to have the label.
	Groupings []grouping `json:"groupings,omitempty"`
}

type metric struct {
	Name   string   `json:"name"`
	Labels []string `json:"labels,omitempty"` // in its selector
}

type grouping struct {
	Labels  []string `json:"labels"`
	Metrics []string `json:"metrics"`
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var expression string
		if err := in.Decode(&expression); err == io.EOF {
			return
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "promql: read an expression:", err)
			os.Exit(1)
		}
		if err := out.Encode(parse(expression)); err != nil {
			fmt.Fprintln(os.Stderr, "promql:", err)
			os.Exit(1)
		}
	}
}

func parse(expression string) (a answer) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return answer{Error: err.Error()}
	}
	a.Type = string(expr.Type())
	for _, s := range selectors(expr) {
		m := metric{Name: s.Name}
		for _, matcher := range s.LabelMatchers {
			if matcher.Name == "__name__" {
				m.Name = matcher.Value
			} else {
				m.Labels = append(m.Labels, matcher.Name)
			}
		}
		a.Metrics = append(a.Metrics, m)
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		var labels []string
		switch node := node.(type) {
		case *parser.AggregateExpr:
			labels = node.Grouping
		case *parser.BinaryExpr:
			if node.VectorMatching != nil {
				labels = append(append(labels, node.VectorMatching.MatchingLabels...), node.VectorMatching.Include...)
			}
		}
		if len(labels) > 0 {
			g := grouping{Labels: labels}
			for _, s := range selectors(node) {
				g.Metrics = append(g.Metrics, s.Name)
			}
			a.Groupings = append(a.Groupings, g)
		}
		return nil
	})
	return a
}

func selectors(node parser.Node) (found []*parser.VectorSelector) {
	parser.Inspect(node, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			found = append(found, s)
		}
		return nil
	})
	return found
}
