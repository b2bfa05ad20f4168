package secrets_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/secrets"
)

func sealedTree(t testing.TB) (*secrets.SOPS, fstest.MapFS) {
	t.Helper()
	id, to := ageKey(t)
	return ours(id), fstest.MapFS{
		"apps/secret.yaml": {Data: []byte(sealFor(to).seal(t, "secret.yaml", password))},
		"apps/plain.yaml":  {Data: []byte("a: b\n")},
		"apps/x.env":       {Data: []byte(sealFor(to).seal(t, "x.env", "A=correct-horse\n"))},
		"link.yaml":        {Data: []byte("apps/secret.yaml"), Mode: fs.ModeSymlink},
		"empty":            {Data: nil},
	}
}

func TestIsAFileSystem(t *testing.T) {
	s, all := sealedTree(t)
	if err := fstest.TestFS(s.Files(t.Context(), all, newRedactor()), "apps/secret.yaml", "apps/plain.yaml", "apps/x.env", "empty"); err != nil {
		t.Error(err)
	}
	if err := fstest.TestFS(secrets.Closed(all), "apps/secret.yaml", "apps/plain.yaml"); err != nil {
		t.Error(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, fstest.MapFS{"apps/secret.yaml": all["apps/secret.yaml"], "plain.yaml": all["apps/plain.yaml"]}); err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(s.Files(t.Context(), os.DirFS(dir), newRedactor()), "apps/secret.yaml", "plain.yaml"); err != nil {
		t.Error(err)
	}
}

func TestSizesAgree(t *testing.T) {
	s, all := sealedTree(t)
	files := s.Files(t.Context(), all, newRedactor())
	want := int64(len(password))
	sizes := map[string]int64{}
	info, err := fs.Stat(files, "apps/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sizes["Stat"] = info.Size()
	file, err := files.Open("apps/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		t.Fatal(err)
	}
	sizes["File.Stat"] = info.Size()
	entries, err := fs.ReadDir(files, "apps")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.Name() == "secret.yaml" {
			sizes["DirEntry.Info"] = info.Size()
		}
	}
	if info, err = files.Stat("link.yaml"); err != nil {
		t.Fatal(err)
	}
	sizes["Stat of a link"] = info.Size()
	if diff := cmp.Diff(map[string]int64{"Stat": want, "File.Stat": want, "DirEntry.Info": want, "Stat of a link": want}, sizes); diff != "" {
		t.Error(diff)
	}
}

// What a name is can be asked without any key.
func TestStatOpensNothing(t *testing.T) {
	_, all := sealedTree(t)
	files := (&secrets.SOPS{}).Files(t.Context(), all, newRedactor())
	info, err := files.Stat("apps/secret.yaml")
	if err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
	if len(files.Opened()) != 0 {
		t.Error(files.Opened())
	}
	if _, err := files.ReadFile("apps/secret.yaml"); err == nil {
		t.Error("no error")
	}
}

// hashed is a tree that knows its hashes, as one from Git does.
type hashed struct{ fstest.MapFS }

func (hashed) Hash(name string) (string, error) { return "hash of " + name, nil }

func TestHashIsOfWhatGitHolds(t *testing.T) {
	s, all := sealedTree(t)
	all["known"] = &fstest.MapFile{Data: []byte("test content\n")}
	files := s.Files(t.Context(), all, newRedactor())
	before, err := files.Hash("apps/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.ReadFile("apps/secret.yaml"); err != nil {
		t.Fatal(err)
	}
	after, err := files.Hash("apps/secret.yaml")
	if err != nil || after != before {
		t.Errorf("%s, then %s, %v", before, after, err)
	}
	plain := s.Files(t.Context(), tree("apps/secret.yaml", password), newRedactor())
	if sum, _ := plain.Hash("apps/secret.yaml"); sum == after {
		t.Error("it is the hash of what was opened")
	}
	if sum, err := files.Hash("known"); err != nil || sum != "d670460b4b4aece5915caf5c68d12f560a9fe3e4" {
		t.Errorf("%s, %v: not git's", sum, err)
	}
	if sum, err := files.Hash("apps"); err == nil {
		t.Errorf("a directory has %s", sum)
	}
	if sum, err := s.Files(t.Context(), hashed{all}, newRedactor()).Hash("apps/secret.yaml"); err != nil || sum != "hash of apps/secret.yaml" {
		t.Errorf("%s, %v: not the tree's", sum, err)
	}
}

func TestLinks(t *testing.T) {
	s, all := sealedTree(t)
	files := s.Files(t.Context(), all, newRedactor())
	target, err := fs.ReadLink(files, "link.yaml")
	if err != nil || target != "apps/secret.yaml" {
		t.Errorf("%q, %v", target, err)
	}
	info, err := fs.Lstat(files, "link.yaml")
	if err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("%v, %v", info, err)
	}
	if data, err := files.ReadFile("link.yaml"); err != nil || string(data) != password {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := fs.ReadLink(s.Files(t.Context(), noLinks{all}, newRedactor()), "link.yaml"); err == nil {
		t.Error("a tree without links has one")
	}
}

type noLinks struct{ fsys fs.FS }

func (n noLinks) Open(name string) (fs.File, error) { return n.fsys.Open(name) }

// A reader may write into what it got.
func TestEachReaderHasItsOwn(t *testing.T) {
	s, all := sealedTree(t)
	files := s.Files(t.Context(), all, newRedactor())
	first, err := files.ReadFile("apps/secret.yaml")
	if err != nil {
		t.Fatal(err)
	}
	clear(first)
	second, err := files.ReadFile("apps/secret.yaml")
	if err != nil || string(second) != password {
		t.Errorf("%q, %v", second, err)
	}
}

func TestErrorsOfTheTreeComeThrough(t *testing.T) {
	s, all := sealedTree(t)
	files := s.Files(t.Context(), all, newRedactor())
	for _, name := range []string{"none", "../x", "apps/none.yaml"} {
		if _, err := files.ReadFile(name); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := files.Stat(name); err == nil {
			t.Errorf("%s: no error of Stat", name)
		}
	}
	if _, err := files.ReadFile("apps"); err == nil {
		t.Error("a directory was read")
	}
}

// A run may see what a device or a pipe is; reading one might never end.
func TestPipesAreNotRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "zero.yaml")); err != nil {
		t.Fatal(err)
	}
	file, err := (&secrets.SOPS{}).Files(t.Context(), os.DirFS(dir), nil).Open("zero.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
}
