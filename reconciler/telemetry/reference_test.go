package telemetry

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write generated files anew")

// TestReference holds the page of telemetry to the tables.
func TestReference(t *testing.T) {
	var page strings.Builder
	page.WriteString("# Telemetry\n\nGenerated from the tables in `reconciler/telemetry` by `make generate`. docs/operating.md says how it is switched on.\n")
	page.WriteString("\n## Metrics\n\nOn `/metrics`, and over OTLP by the name with dots.\n\n| `/metrics` | OTLP | kind | labels | |\n|---|---|---|---|---|\n")
	for _, m := range Metrics() {
		labels := []string{}
		for _, key := range m.Attributes {
			labels = append(labels, "`"+PrometheusLabel(key)+"`")
		}
		fmt.Fprintf(&page, "| `%s` | `%s` | %s | %s | %s |\n", m.Prometheus(), m.Name, m.Kind, strings.Join(labels, ", "), m.Text)
	}
	fmt.Fprintf(&page, "\nA label has at most %d values, and one of stacks or sources %d, for as long as the process lives; what is more counts as `%s`.\nGauges follow the stacks that there are.\n",
		mostValues, mostStacks, other)
	page.WriteString("\n## Spans\n\n| span | below | |\n|---|---|---|\n")
	for _, s := range Spans() {
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", s.Name, code(s.Parent), s.Text)
	}
	page.WriteString("\n## Log records\n\nThe same fields in the JSON of stdout and over OTLP; within a span, also `trace_id` and `span_id`.\n\n| message | fields | |\n|---|---|---|\n")
	for _, r := range Records() {
		fmt.Fprintf(&page, "| %s | %s | %s |\n", r.Message, code(r.Fields...), r.Text)
	}
	file := filepath.Join("..", "..", "docs", "reference", "telemetry.md")
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(have)); diff != "" {
		t.Errorf("%s is not what the tables say; make generate writes it anew:\n%s", file, diff)
	}
}

func code(names ...string) string {
	out := []string{}
	for _, name := range names {
		if name != "" {
			out = append(out, "`"+name+"`")
		}
	}
	return strings.Join(out, ", ")
}
