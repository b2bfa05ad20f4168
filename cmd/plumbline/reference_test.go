package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write generated files anew")

// TestReference holds the page of commands to what the commands say.
func TestReference(t *testing.T) {
	var page strings.Builder
	page.WriteString("# plumbline\n\nGenerated from `--help` by `make generate`.\n")
	for _, name := range []string{"", "run", "plan", "apply", "render", "scan", "drift", "status", "reconcile", "suspend", "resume", "secrets", "secrets check", "schema", "version"} {
		var out bytes.Buffer
		if code := execute(context.Background(), append(strings.Fields(name), "--help"), streams{nil, &out, &out}); code != 0 {
			t.Fatalf("plumbline %s --help: exit %d: %s", name, code, out.String())
		}
		fmt.Fprintf(&page, "\n## %s\n\n```\n%s\n```\n", strings.TrimSpace("plumbline "+name), strings.TrimSpace(out.String()))
	}
	file := filepath.Join("..", "..", "docs", "reference", "cli.md")
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
		t.Errorf("%s is not what the commands say; make generate writes it anew:\n%s", file, diff)
	}
}

// TestGateDocs holds the examples of docs/gate.md to what the scripts show to be true.
func TestGateDocs(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "gate.md"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := txtar.ParseFile(filepath.Join("testdata", "script", "scan.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, f := range script.Files {
		switch f.Name {
		case "documented.txt", "home-ops/policies/owner.rego", "home-ops/apps/grafana/.trivyignore.yaml":
			shown++
			if !bytes.Contains(page, f.Data) {
				t.Errorf("docs/gate.md doesn't show %s of scan.txtar:\n%s", f.Name, f.Data)
			}
		}
	}
	if shown != 3 {
		t.Errorf("%d examples, want 3", shown)
	}
}
