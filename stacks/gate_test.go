package stacks_test

import (
	"os"
	"testing"

	"github.com/plumbline-dev/plumbline/reconciler"
	rendering "github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/stacks"
)

// TestPassTheGate: every stack passes at LOW. What Trivy has against it all the same
// is an exception with a reason, and none of these is for anything worse than MEDIUM.
func TestPassTheGate(t *testing.T) {
	declared, broken, err := reconciler.Discover(stacks.FS, reconciler.SourceConfig{Name: "shipped"})
	if err != nil || len(broken) > 0 || len(declared) != 5 {
		t.Fatal(len(declared), broken, err)
	}
	scan.Quiet(os.Stderr)
	gate := &scan.Gate{Operator: scan.Operator{FailOn: scan.SeverityLow}}
	for _, d := range declared {
		t.Run(d.Name, func(t *testing.T) {
			output, err := rendering.Kustomize(t.Context(), d.Render(stacks.FS))
			if err != nil {
				t.Fatal(err)
			}
			verdict, err := gate.Scan(t.Context(), d.Scan(stacks.FS, output.Objects, nil))
			if err != nil {
				t.Fatal(err)
			}
			if err := verdict.Err(); err != nil {
				t.Error(err)
			}
			for _, w := range verdict.Warnings {
				t.Error(w)
			}
			used := map[string]bool{}
			for _, f := range verdict.Findings {
				if f.Severity == scan.SeverityCritical || f.Severity == scan.SeverityHigh {
					t.Errorf("an exception for what is %s: %s", f.Severity, f)
				}
				used[f.ID] = true
			}
			if len(used) == 0 || len(used) != len(verdict.Exceptions) {
				t.Errorf("findings of %d checks, %d exceptions in use", len(used), len(verdict.Exceptions))
			}
		})
	}
}
