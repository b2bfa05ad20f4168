// Package plumbline_test holds the layout of docs/layout.md to what the code
// imports.
package plumbline_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/plumbline-dev/plumbline"

// rooms may import what is listed, and nothing else of ours.
var rooms = map[string]struct {
	imports []string
	why     string
}{
	"render":                         {nil, "it turns text into objects: whoever reads it needs to know nothing else of ours"},
	"secrets":                        {nil, "it opens what is sealed, for whoever asks: what it is opened for is none of its business"},
	"secrets/check":                  {nil, "it looks at files without any key: what is opened, and how, is none of its business"},
	"scan":                           {[]string{"scan/checks", "scan/images"}, "it judges objects before anything is opened or applied: what they are for, and whose they are, is none of its business"},
	"scan/checks":                    {nil, "it judges objects by Rego, a repository's in a process of its own: what comes of it is none of its business"},
	"scan/images":                    {nil, "it finds out what images are: what comes of it is none of its business"},
	"reconciler/fetch":               {nil, "a room on the road is a library, and rooms don't import each other"},
	"reconciler/apply":               {nil, "a room on the road is a library, and rooms don't import each other"},
	"reconciler/observe":             {[]string{"reconciler/observe/expressions"}, "a room on the road is a library, and rooms don't import each other"},
	"reconciler/observe/expressions": {nil, "it judges one object by what stands in it: where that comes from, and who asks, is none of its business"},
	"reconciler/telemetry":           {nil, "it names what is recorded: who records it, and why, is none of its business"},
	"reconciler": {[]string{"render", "scan", "secrets", "reconciler/fetch", "reconciler/apply", "reconciler/observe", "reconciler/observe/expressions", "reconciler/telemetry"},
		"it says when and in which order, and knows the rooms; never the commands above it"},
	"stacks":              {nil, "it is data"},
	"templates":           {nil, "it is data"},
	"lab":                 {nil, "it starts programs from outside, as a user would"},
	"reconciler/e2e":      {[]string{"lab", "reconciler", "reconciler/apply", "reconciler/observe"}, "it tests the programs from outside"},
	"cmd/plumbline":       {[]string{"reconciler", "reconciler/fetch", "reconciler/apply", "reconciler/observe", "reconciler/telemetry", "render", "scan", "scan/images", "secrets", "secrets/check", "stacks", "templates"}, "wire.go puts the rooms together"},
	"cmd/plumbline-demo":  {[]string{"lab", "stacks", "reconciler"}, "it uses the programs as a user would, and knows the names in their output"},
	"cmd/plumbline-bench": {[]string{"lab", "reconciler", "scan"}, "it measures the programs from outside, and knows the names in their output; the gate it measures by itself"},
	".":                   {nil, "only tests of the whole are here"},
}

// onlyIn names packages from elsewhere that belong to one place.
var onlyIn = map[string][]string{
	"os/exec":                                {"lab", "cmd/plumbline-demo", "cmd/plumbline-bench", "scan/checks"}, // the daemon never runs another program than itself: docs/decisions/0015
	"sigs.k8s.io/kustomize":                  {"render"},
	"github.com/go-git/go-git":               {"reconciler/fetch"},
	"github.com/spf13/cobra":                 {"cmd/plumbline"},
	"github.com/getsops/sops":                {"secrets"},
	"filippo.io/age":                         {"secrets"},
	"github.com/openbao/openbao":             {"secrets"},
	"github.com/aquasecurity":                {"scan", "scan/checks", "scan/images"},
	"github.com/google/go-containerregistry": {"scan/images"},
	"github.com/docker/cli":                  {"scan/images"},
	"github.com/klauspost/compress":          {"scan/images"},
	"go.etcd.io/bbolt":                       {"scan/images"},
	"github.com/open-policy-agent/opa":       {"scan/checks"},
	"github.com/distribution/reference":      {"scan"},
	"github.com/fluxcd/cli-utils":            {"reconciler", "reconciler/observe", "reconciler/observe/expressions"},
	"github.com/google/cel-go":               {"reconciler/observe/expressions"},
	"go.opentelemetry.io/otel":               {"reconciler/telemetry", "cmd/plumbline"}, // who wants to record something gets a verb in reconciler/telemetry
	"go.opentelemetry.io/otel/sdk":           {"cmd/plumbline"},                         // what is exported, and where to, is decided in one place
	"go.opentelemetry.io/otel/exporters":     {"cmd/plumbline"},
	"github.com/prometheus":                  {"cmd/plumbline"},
	"github.com/go-logr":                     {"cmd/plumbline"},
	"go.opentelemetry.io/proto":              {}, // tests receive OTLP with it
	"google.golang.org/grpc":                 {},
	"github.com/rogpeppe/go-internal":        {},
	"github.com/invopop/jsonschema":          {},
	"github.com/grafana":                     {}, // tests hold dashboards to its types
}

func TestImportsPointDown(t *testing.T) {
	for dir, files := range packages(t) {
		room, ok := rooms[dir]
		if !ok {
			t.Errorf("%s is a room that the layout doesn't know: put its code where it belongs, or draw the room in docs/layout.md and in this test", dir)
			continue
		}
		for file, imports := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, imported := range imports {
				checkOurs(t, dir, file, imported, room.imports, room.why)
				checkTheirs(t, dir, file, imported)
			}
		}
	}
}

func checkOurs(t *testing.T, dir, file, imported string, allowed []string, why string) {
	t.Helper()
	ours, ok := strings.CutPrefix(imported, module+"/")
	if ok && !slices.Contains(allowed, ours) {
		t.Errorf("%s imports %s, and must not: %s. Pass what it needs in, as a value or a function; cmd/plumbline/wire.go is where rooms meet",
			path.Join(dir, file), ours, why)
	}
}

func checkTheirs(t *testing.T, dir, file, imported string) {
	t.Helper()
	for prefix, places := range onlyIn {
		if (imported == prefix || strings.HasPrefix(imported, prefix+"/")) && !slices.Contains(places, dir) {
			t.Errorf("%s imports %s, which belongs to %v alone", path.Join(dir, file), imported, places)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for dir, files := range packages(t) {
		docs, sources := []string{}, 0
		for file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			sources++
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(filepath.FromSlash(dir), file), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil {
				docs = append(docs, file)
			}
		}
		if sources > 0 && len(docs) != 1 {
			t.Errorf("%s has %d package comments %v: one says what the package turns into what, and what it promises", dir, len(docs), docs)
		}
	}
}

func TestForbiddenNames(t *testing.T) {
	for dir := range packages(t) {
		for _, part := range strings.Split(dir, "/") {
			if slices.Contains([]string{"internal", "pkg", "util", "utils", "common", "manager", "helpers", "misc"}, part) {
				t.Errorf("%s: %q says nothing about what is in it", dir, part)
			}
		}
	}
}

// packages lists the imports of each file of each directory with Go files, but
// for modules of their own.
func packages(t *testing.T) map[string]map[string][]string {
	t.Helper()
	all := map[string]map[string][]string{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, err := os.Stat(filepath.Join(file, "go.mod"))
			if file != "." && (err == nil || strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(file))
		if all[dir] == nil {
			all[dir] = map[string][]string{}
		}
		imports := []string{}
		for _, spec := range parsed.Imports {
			imports = append(imports, strings.Trim(spec.Path.Value, `"`))
		}
		all[dir][filepath.Base(file)] = imports
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
