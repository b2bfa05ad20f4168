package templates_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// program gives the path of a real program. The first run compiles it.
func program(t *testing.T, name string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), filepath.Join("..", "testdata", "servers", "build.sh"), name)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// run runs a program that ends by itself, and gives its output and whether it was content.
func run(t *testing.T, program string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s %v did not end", filepath.Base(program), args)
	}
	return string(out), err == nil
}

// parsed is what testdata/servers/promql says of an expression.
type parsed struct {
	Error, Type string
	Metrics     []struct {
		Name   string
		Labels []string
	}
	Groupings []struct{ Labels, Metrics []string }
}

func parsePromQL(t *testing.T, exprs []asked) (all []parsed) {
	t.Helper()
	var in bytes.Buffer
	for _, e := range exprs {
		if err := json.NewEncoder(&in).Encode(chosen.Replace(e.expr)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), program(t, "promql"))
	cmd.Stdin = &in
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var p parsed
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) != len(exprs) {
		t.Fatalf("%d answers about %d expressions", len(all), len(exprs))
	}
	return all
}

// wrong lists what is not as the tables have it. A label to group by has to be one of a metric below.
func (p parsed) wrong(known map[string][]string) (wrong []string) {
	if p.Error != "" {
		return []string{p.Error}
	}
	if p.Type != "vector" {
		wrong = append(wrong, "it is a "+p.Type+", not a vector")
	}
	for _, m := range p.Metrics {
		labels, ok := known[m.Name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("there is no metric %s", m.Name))
		}
		for _, label := range m.Labels {
			if !slices.Contains(labels, label) {
				wrong = append(wrong, fmt.Sprintf("%s has no label %s", m.Name, label))
			}
		}
	}
	for _, g := range p.Groupings {
		for _, label := range g.Labels {
			if !slices.ContainsFunc(g.Metrics, func(metric string) bool { return slices.Contains(known[metric], label) }) {
				wrong = append(wrong, fmt.Sprintf("none of %v has a label %s", g.Metrics, label))
			}
		}
	}
	return wrong
}
