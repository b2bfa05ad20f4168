package render

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"
)

// goldenConfig is the file request.yaml of a case; all fields may be absent.
type goldenConfig struct {
	Path       string            `json:"path"`
	Namespace  string            `json:"namespace"`
	Vars       map[string]string `json:"vars"`
	VarsInData bool              `json:"varsInData"`
}

// TestGolden renders each testdata/*.txtar and compares with the files in it that start
// with want/: objects.yaml, origins.txt, inputs.txt, error.txt. Run with -update to write them.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(testName(file), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	input := &txtar.Archive{Comment: archive.Comment}
	want := map[string]string{}
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "want/") {
			want[f.Name] = string(f.Data)
			continue
		}
		input.Files = append(input.Files, f)
	}
	have := goldenRender(t, input)
	if *update {
		for _, name := range []string{"want/error.txt", "want/objects.yaml", "want/origins.txt", "want/inputs.txt"} {
			if text, ok := have[name]; ok {
				input.Files = append(input.Files, txtar.File{Name: name, Data: []byte(text)})
			}
		}
		if err := os.WriteFile(file, txtar.Format(input), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +have)\n%s", diff)
	}
}

func goldenRender(t *testing.T, input *txtar.Archive) map[string]string {
	fsys := treeOf(input)
	var cfg goldenConfig
	if f, ok := fsys["request.yaml"]; ok {
		if err := yaml.UnmarshalStrict(f.Data, &cfg); err != nil {
			t.Fatal(err)
		}
	}
	req := request(fsys)
	req.Namespace, req.Vars, req.VarsInData = cfg.Namespace, cfg.Vars, cfg.VarsInData
	if cfg.Path != "" {
		req.Path = cfg.Path
	}
	out, err := Kustomize(context.Background(), req)
	have := map[string]string{"want/inputs.txt": inputsText(out.Inputs)}
	if err != nil {
		have["want/error.txt"] = err.Error() + "\n"
		return have
	}
	have["want/objects.yaml"] = yamlOf(t, out)
	var origins strings.Builder
	for _, o := range out.Objects {
		fmt.Fprintf(&origins, "%s: %s\n", label(o), o.Origin)
	}
	have["want/origins.txt"] = origins.String()
	return have
}

func inputsText(in Inputs) string {
	var b strings.Builder
	for _, name := range in.paths() {
		switch {
		case in.Files[name] != "":
			fmt.Fprintf(&b, "read %s\n", name)
		case in.Lists[name] != "":
			fmt.Fprintf(&b, "listed %s\n", name)
		default:
			fmt.Fprintf(&b, "asked %s\n", name)
		}
	}
	return b.String()
}
