package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unmasked are the places at which plaintext is kept back, and each without it.
var unmasked = []struct{ name, file, with, without string }{
	{"a value in a text", "secrets/redactor.go", "spans := r.find(s, false)", `spans := r.find("", false)`},
	{"an error of a render", "reconciler/unseal.go", "return out, trip.Secrets.Redactor.Error(err)", "return out, err"},
	{"the data of a Secret in a plan", "reconciler/apply/diff.go", "out[field] = p.masked(field, data)", "out[field] = data"},
	{"a sealed field in a plan", "reconciler/apply/diff.go", "len(sealed) > 0 {", "len(sealed) > 1<<20 {"},
	{"an object that is printed", "cmd/plumbline/render.go", "o.Unstructured = apply.Shown(", "_ = apply.Shown("},
}

// TestCanaryCatches shows that TestCanary fails where one masking is taken out. It
// builds and drives Plumbline once for each, and so is for whoever changes those.
func TestCanaryCatches(t *testing.T) {
	if os.Getenv("PLUMBLINE_TEST_UNMASK") == "" {
		t.Skip("PLUMBLINE_TEST_UNMASK is not set: make test-canary")
	}
	masked := binary
	defer func() { binary = masked }()
	for _, u := range unmasked {
		t.Run(u.name, func(t *testing.T) {
			binary = buildWithout(t, u.file, u.with, u.without)
			leaks := driveCanary(t)
			if len(leaks) == 0 {
				t.Errorf("%s is not masked in %s any more, and nothing is found", u.name, u.file)
			}
			for _, leak := range leaks[:min(3, len(leaks))] {
				first, _, _ := strings.Cut(leak, "\n")
				t.Log(first)
			}
		})
	}
}

// buildWithout builds the daemon with one piece of code replaced.
func buildWithout(t *testing.T, file, with, without string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	source, err := os.ReadFile(filepath.Join(root, file))
	must(t, err)
	if strings.Count(string(source), with) != 1 {
		t.Fatalf("%s has no longer exactly one %q", file, with)
	}
	dir := t.TempDir()
	changed, overlay, program := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "plumbline")
	must(t, os.WriteFile(changed, []byte(strings.Replace(string(source), with, without, 1)), 0o600))
	raw, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, file): changed}})
	must(t, err)
	must(t, os.WriteFile(overlay, raw, 0o600))
	must(t, run("go", "build", "-overlay", overlay, "-o", program, "../../cmd/plumbline"))
	return program
}
