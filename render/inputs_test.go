package render

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const inputsTree = `
-- kubernetes/app/kustomization.yaml --
resources: [deploy.yaml, ../../base, dir]
configMapGenerator: [{name: a, files: [x.txt]}]
-- kubernetes/app/deploy.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
-- kubernetes/app/x.txt --
x
-- kubernetes/app/dir/kustomization.yaml --
resources: [two.yaml]
-- kubernetes/app/dir/two.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: two}
-- kubernetes/app/neighbour.yaml --
not read
-- base/kustomization.yaml --
resources: [three.yaml]
-- base/three.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: three}
`

// without copies a tree, with one file or directory taken out or put in.
func edited(fsys fstest.MapFS, edit func(fstest.MapFS)) fstest.MapFS {
	out := maps.Clone(fsys)
	edit(out)
	return out
}

func put(name, text string) func(fstest.MapFS) {
	return func(f fstest.MapFS) { f[name] = &fstest.MapFile{Data: []byte(text)} }
}

func drop(names ...string) func(fstest.MapFS) {
	return func(f fstest.MapFS) {
		for _, n := range names {
			maps.DeleteFunc(f, func(k string, _ *fstest.MapFile) bool { return k == n || strings.HasPrefix(k, n+"/") })
		}
	}
}

// TestChanged edits a tree and asks whether that matters. It must be said exactly when the
// render tells another story.
func TestChanged(t *testing.T) {
	good := tree(inputsTree)
	cm := string(good["base/three.yaml"].Data)
	broken := edited(good, drop("base/three.yaml", "kubernetes/app/x.txt"))
	for _, tc := range []struct {
		name string
		from fstest.MapFS
		edit func(fstest.MapFS)
		want string // the path that Changed gives
	}{
		{"nothing", good, func(fstest.MapFS) {}, ""},
		{"a file", good, put("kubernetes/app/deploy.yaml", cm+"data: {a: b}\n"), "kubernetes/app/deploy.yaml"},
		{"a file of a generator", good, put("kubernetes/app/x.txt", "y"), "kubernetes/app/x.txt"},
		{"a file of a base", good, put("base/three.yaml", cm+"data: {a: b}\n"), "base/three.yaml"},
		{"a neighbour that is not read", good, put("kubernetes/app/neighbour.yaml", "other"), ""},
		{"a new neighbour", good, put("kubernetes/app/new.yaml", "a: b"), ""},
		{"a neighbour gone", good, drop("kubernetes/app/neighbour.yaml"), ""},
		{"another stack", good, put("kubernetes/other/kustomization.yaml", "a: b"), ""},
		{"its own stack.yaml", good, put("kubernetes/stack.yaml", "a: b"), ""},
		{"a file gone", good, drop("base/three.yaml"), "base/three.yaml"},
		{"a second kustomization", good, put("base/Kustomization", "namePrefix: x-"), "base/Kustomization"},
		{"a kustomization renamed", good, func(f fstest.MapFS) {
			put("base/kustomization.yml", "namePrefix: x-\n"+string(f["base/kustomization.yaml"].Data))(f)
			drop("base/kustomization.yaml")(f)
		}, "base/kustomization.yaml"},
		{"a base gone", good, drop("base"), "base"},
		{"a base is a file", good, func(f fstest.MapFS) { drop("base")(f); put("base", cm+"data: {a: b}\n")(f) }, "base"},
		{"a file is a base", good, func(f fstest.MapFS) {
			drop("kubernetes/app/deploy.yaml")(f)
			put("kubernetes/app/deploy.yaml/kustomization.yaml", "namePrefix: x")(f)
		}, "kubernetes/app/deploy.yaml"},
		{"broken: nothing", broken, func(fstest.MapFS) {}, ""},
		{"broken: one of two is back", broken, put("base/three.yaml", cm), "base"},
		{"broken: the other is back", broken, put("kubernetes/app/x.txt", "x"), "kubernetes/app"},
		{"broken: a neighbour that is hinted at", broken, put("base/three.yml", cm), "base"},
		{"broken: a far file", broken, put("kubernetes/other/x", cm), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, errBefore := Kustomize(context.Background(), request(tc.from))
			to := edited(tc.from, tc.edit)
			for name, fsys := range map[string]fs.FS{"unhashed": to, "hashed": hashed{to}} {
				if have, err := before.Inputs.Changed(fsys); err != nil || have != tc.want {
					t.Errorf("%s: Changed gives %q, %v, want %q", name, have, err, tc.want)
				}
			}
			after, errAfter := Kustomize(context.Background(), request(to))
			same := cmp.Equal(story(t, before, errBefore), story(t, after, errAfter))
			if same != (tc.want == "") {
				t.Errorf("the story is the same: %t", same)
			}
		})
	}
}

func story(t *testing.T, out Output, err error) string {
	if err != nil {
		return err.Error()
	}
	return yamlOf(t, out)
}

// hashed is a tree that knows its blobs, and must not be opened to compare.
type hashed struct{ fstest.MapFS }

func (h hashed) Hash(name string) (string, error) { return blobIDOf(h.MapFS[name].Data), nil }

func (h hashed) Open(name string) (fs.File, error) {
	f, err := h.MapFS.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && !info.IsDir() {
		panic("opened " + name)
	}
	return f, nil
}

func (h hashed) Stat(name string) (fs.FileInfo, error) { return h.MapFS.Stat(name) }

// TestBlobID is what `git hash-object` gives for "x\n".
func TestBlobID(t *testing.T) {
	const want = "587be6b4c3f93f93c489c0111bba5596147a26cb"
	out := mustRender(t, request(tree(inputsTree)))
	if have := out.Inputs.Files["kubernetes/app/x.txt"]; have != want {
		t.Errorf("have %s, want %s", have, want)
	}
}

// TestHashOfTheTree takes the tree's word for a file: what it hands out may be opened, as
// sealed files are.
func TestHashOfTheTree(t *testing.T) {
	out := mustRender(t, request(sealed{tree(inputsTree)}))
	if have := out.Inputs.Files["kubernetes/app/x.txt"]; have != "sealed kubernetes/app/x.txt" {
		t.Errorf("have %s", have)
	}
}

// TestTooLarge notices that a file which was refused unread got another size.
func TestTooLarge(t *testing.T) {
	fsys := tree(inputsTree)
	req := request(fsys)
	req.Budget.FileBytes = 100
	put("kubernetes/app/x.txt", strings.Repeat("x", 101))(fsys)
	out, err := Kustomize(context.Background(), req)
	if err == nil {
		t.Fatal("no error")
	}
	if name, err := out.Inputs.Changed(fsys); name != "" || err != nil {
		t.Errorf("nothing changed: have %q, %v", name, err)
	}
	if name, _ := out.Inputs.Changed(edited(fsys, put("kubernetes/app/x.txt", "x"))); name != "kubernetes/app/x.txt" {
		t.Errorf("it shrank: have %q", name)
	}
}

type sealed struct{ fstest.MapFS }

func (s sealed) Hash(name string) (string, error) { return "sealed " + name, nil }

// TestFileAsDirectory asks a disk for something below a file, which it answers in its own way.
func TestFileAsDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, tree(app("cm.yaml/x")+oneConfigMap)); err != nil {
		t.Fatal(err)
	}
	_, err := Kustomize(context.Background(), request(os.DirFS(dir)))
	const want = `stack "web": kubernetes/app/kustomization.yaml:2: resources: cm.yaml/x: not found`
	if err == nil || err.Error() != want {
		t.Errorf("have %v\nwant %s", err, want)
	}
}

// failing is a tree fails with that cannot be read.
type failing struct {
	fs.FS
	name string
}

func (f failing) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

// TestUnreadable keeps a tree that cannot be read apart from files that are wrong: it is tried again.
func TestUnreadable(t *testing.T) {
	for _, name := range []string{"kubernetes/app", "kubernetes/app/deploy.yaml", "base/kustomization.yml", "base", "kubernetes/app/dir/two.yaml"} {
		_, err := Kustomize(context.Background(), request(failing{tree(inputsTree), name}))
		var input *InputError
		if err == nil || !strings.Contains(err.Error(), "permission denied") || errors.As(err, &input) {
			t.Errorf("%s: have %v", name, err)
		}
	}
}

//go:embed testdata/tree
var embedded embed.FS

// TestSameEverywhere renders one tree from memory, from disk and from the binary, to the byte.
func TestSameEverywhere(t *testing.T) {
	tree := tree(inputsTree)
	dir := t.TempDir()
	if err := os.CopyFS(dir, tree); err != nil {
		t.Fatal(err)
	}
	want := mustRender(t, request(tree))
	have := mustRender(t, request(os.DirFS(dir)))
	if diff := cmp.Diff(yamlOf(t, want), yamlOf(t, have)); diff != "" {
		t.Errorf("from disk (-memory +disk)\n%s", diff)
	}
	if diff := cmp.Diff(want.Inputs, have.Inputs); diff != "" {
		t.Errorf("inputs (-memory +disk)\n%s", diff)
	}
	fromBinary, err := fs.Sub(embedded, "testdata/tree")
	if err != nil {
		t.Fatal(err)
	}
	a := mustRender(t, request(fromBinary))
	b := mustRender(t, request(os.DirFS("testdata/tree")))
	if yamlOf(t, a) != yamlOf(t, b) || !cmp.Equal(a.Inputs, b.Inputs) || len(a.Objects) == 0 {
		t.Error("the binary renders other objects than the disk")
	}
	if !slices.IsSorted(a.Inputs.Missing) {
		t.Error("Missing is not sorted")
	}
}
