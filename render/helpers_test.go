package render

import (
	"context"
	"flag"
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is rendered into testdata")

// tree makes a file system of a txtar text.
func tree(archive string) fstest.MapFS {
	return treeOf(txtar.Parse([]byte(archive)))
}

func treeOf(a *txtar.Archive) fstest.MapFS {
	fsys := fstest.MapFS{}
	for _, f := range a.Files {
		fsys[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	return fsys
}

// request renders the directory app beside kubernetes/stack.yaml.
func request(fsys fs.FS) Request {
	return Request{FS: fsys, Stack: "web", File: "kubernetes/stack.yaml", Path: "app"}
}

func mustRender(t testing.TB, req Request) Output {
	t.Helper()
	out, err := Kustomize(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func yamlOf(t testing.TB, out Output) string {
	t.Helper()
	data, err := YAML(out.Objects)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func testName(file string) string { return strings.TrimSuffix(path.Base(file), path.Ext(file)) }
