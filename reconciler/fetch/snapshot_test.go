package fetch_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

type hashFS interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
	fs.ReadLinkFS
	Hash(name string) (string, error)
}

func (r *repo) link(target, name string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(r.dir, name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(r.dir, name)); err != nil {
		r.t.Fatal(err)
	}
}

func snapshotOf(t *testing.T, r *repo) hashFS {
	t.Helper()
	return mustFetch(t, newMirrors(t), r.fileSource()).FS.(hashFS)
}

func TestPaths(t *testing.T) {
	r := newRepo(t)
	r.write("base/app.yaml", "app", "base/deep/x.yaml", "x", "script.sh", "#!/bin/sh\n", "lfs.bin",
		"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12345\n", "large", strings.Repeat("x", 2000))
	if err := os.Chmod(filepath.Join(r.dir, "script.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.link("base/app.yaml", "file-link")
	r.link("../base", "overlay/base-link")
	r.link("base-link/deep/../app.yaml", "overlay/through")
	r.link("./overlay//base-link/", "twice")
	r.link("loop-b", "loop-a")
	r.link("loop-a", "loop-b")
	r.link("self/x", "self")
	r.link("../../etc/passwd", "overlay/escape")
	r.link("../x", "escape")
	r.link("/etc/passwd", "absolute")
	r.link("nowhere", "dangling")
	r.link("base/app.yaml/..", "through-file")
	r.write("vendor/own.yaml", "own")
	r.git("add", "-A")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",vendor/sub")
	r.git("commit", "-q", "-m", "first")
	r.git("push", "-q", "origin", "HEAD")
	m := newMirrors(t)
	m.MaxFileBytes = 1000
	fsys := mustFetch(t, m, r.fileSource()).FS.(hashFS)

	for name, tc := range map[string]struct {
		content string
		err     error
		says    string
	}{
		"base/app.yaml":              {content: "app"},
		"base/deep/x.yaml":           {content: "x"},
		"script.sh":                  {content: "#!/bin/sh\n"},
		"file-link":                  {content: "app"},
		"overlay/base-link/app.yaml": {content: "app"},
		"overlay/through":            {content: "app"},
		"twice/deep/x.yaml":          {content: "x"},
		"vendor/own.yaml":            {content: "own"},
		"missing":                    {err: fs.ErrNotExist},
		"base/app.yaml/x":            {err: fs.ErrNotExist},
		"missing/x":                  {err: fs.ErrNotExist},
		"dangling":                   {err: fs.ErrNotExist},
		"through-file":               {err: fs.ErrNotExist},
		"../x":                       {err: fs.ErrInvalid},
		"/base/app.yaml":             {err: fs.ErrInvalid},
		"base/":                      {err: fs.ErrInvalid},
		"":                           {err: fs.ErrInvalid},
		"loop-a":                     {err: fetch.ErrLink, says: "loop"},
		"self":                       {err: fetch.ErrLink, says: "loop"},
		"overlay/escape":             {err: fetch.ErrLink, says: "leads out"},
		"escape":                     {err: fetch.ErrLink, says: "leads out"},
		"absolute":                   {err: fetch.ErrLink, says: "leads out"},
		"vendor/sub":                 {err: fetch.ErrSubmodule, says: "vendor the files"},
		"vendor/sub/a.yaml":          {err: fetch.ErrSubmodule},
		"lfs.bin":                    {err: fetch.ErrLFS},
		"large":                      {err: fetch.ErrTooLarge, says: "1.953 KiB, and at most 1000 bytes"},
		"base":                       {err: errAny, says: "directory"},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(how string, data []byte, err error) {
				t.Helper()
				var pe *fs.PathError
				switch {
				case tc.err == nil && (err != nil || string(data) != tc.content):
					t.Errorf("%s: %q, %v, want %q", how, data, err, tc.content)
				case tc.err != nil && (err == nil || !errors.Is(tc.err, errAny) && !errors.Is(err, tc.err)):
					t.Errorf("%s: %v, want %v", how, err, tc.err)
				case tc.err != nil && (!errors.As(err, &pe) || pe.Path != name || !strings.Contains(err.Error(), tc.says)):
					t.Errorf("%s: %#v does not name the path and say %q", how, err, tc.says)
				}
			}
			data, err := fsys.ReadFile(name)
			check("ReadFile", data, err)
			f, err := fsys.Open(name)
			if err == nil {
				data, err = io.ReadAll(f)
				f.Close()
			}
			check("Open", data, err)
		})
	}

	t.Run("listing", func(t *testing.T) {
		got := map[string]string{}
		for _, dir := range []string{".", "vendor", "overlay/base-link"} {
			list, err := fsys.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				if strings.HasPrefix(e.Name(), "loop") {
					continue
				}
				got[dir] += e.Name() + e.Type().String()[:1] + " "
			}
		}
		want := map[string]string{
			".": "absoluteL based danglingL escapeL file-linkL large- lfs.bin- overlayd script.sh- selfL through-fileL twiceL vendord ", "vendor": "own.yaml- sub? ",
			"overlay/base-link": "app.yaml- deepd ",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("hash", func(t *testing.T) {
		for name, spec := range map[string]string{
			".": "HEAD^{tree}", "base": "HEAD:base", "base/app.yaml": "HEAD:base/app.yaml", "file-link": "HEAD:base/app.yaml",
			"overlay/base-link": "HEAD:base", "lfs.bin": "HEAD:lfs.bin", "large": "HEAD:large",
		} {
			if got, err := fsys.Hash(name); err != nil || got != r.git("rev-parse", spec) {
				t.Errorf("Hash(%q) = %s, %v, want %s", name, got, err, r.git("rev-parse", spec))
			}
		}
		if _, err := fsys.Hash("missing"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Hash(missing): %v, want ErrNotExist", err)
		}
	})
	t.Run("stat", func(t *testing.T) {
		for name, want := range map[string]string{
			".": "dr-xr-xr-x 0", "script.sh": "-r--r--r-- 10", "large": "-r--r--r-- 2000", "file-link": "-r--r--r-- 3", "twice": "dr-xr-xr-x 0",
		} {
			info, err := fsys.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Fields(fs.FormatFileInfo(info)); got[0]+" "+got[1] != want {
				t.Errorf("Stat(%q): %v, want %s", name, got, want)
			}
		}
		if target, err := fsys.ReadLink("dangling"); err != nil || target != "nowhere" {
			t.Errorf("ReadLink: %q, %v", target, err)
		}
	})
}

var errAny = errors.New("any error")

func TestFSIsAFileSystem(t *testing.T) {
	r := newRepo(t)
	r.link("dir/sub", "link-to-dir")
	r.link("dir/b.yaml", "link-to-file")
	r.commit("first", "a.yaml", "a", "dir.yaml", "sorted by git before dir", "dir/b.yaml", "b", "dir/sub/c.yaml", strings.Repeat("c", 5000), "dir-x/d", "")
	if err := fstest.TestFS(snapshotOf(t, r), "a.yaml", "dir.yaml", "dir/b.yaml", "dir/sub/c.yaml", "dir-x/d", "link-to-dir", "link-to-file"); err != nil {
		t.Error(err)
	}
}

func TestHashFollowsContent(t *testing.T) {
	r := newRepo(t)
	src, m := r.fileSource(), newMirrors(t)
	r.commit("1", "app/a", "1", "other/b", "1")
	one := mustFetch(t, m, src).FS.(hashFS)
	r.commit("2", "app/a", "2")
	two := mustFetch(t, m, src).FS.(hashFS)
	for name, same := range map[string]bool{".": false, "app": false, "app/a": false, "other": true, "other/b": true} {
		a, errA := one.Hash(name)
		b, errB := two.Hash(name)
		if errA != nil || errB != nil || (a == b) != same {
			t.Errorf("%s: %s, %s (%v, %v), want the same: %t", name, a, b, errA, errB, same)
		}
	}
	r.commit("3: no change")
	if three := mustFetch(t, m, src); three.FS != fs.FS(two) {
		t.Error("a commit with the same tree has another FS")
	}
}

func TestHostileTrees(t *testing.T) {
	entry := func(mode, name, id string) string {
		raw := make([]byte, 20)
		for i := range raw {
			raw[i] = unhex(id[2*i])<<4 | unhex(id[2*i+1])
		}
		return mode + " " + name + "\x00" + string(raw)
	}
	for name, tc := range map[string]struct {
		tree func(blob string, put func(data string) string) string
		err  error
	}{
		"fine":      {func(b string, _ func(string) string) string { return entry("100644", "a", b) }, nil},
		"dot dot":   {func(b string, _ func(string) string) string { return entry("100644", "..", b) }, fetch.ErrProtocol},
		"slash":     {func(b string, _ func(string) string) string { return entry("100644", "a/b", b) }, fetch.ErrProtocol},
		"no name":   {func(b string, _ func(string) string) string { return entry("100644", "", b) }, fetch.ErrUnavailable},
		".git":      {func(b string, _ func(string) string) string { return entry("100644", ".GIT", b) }, fetch.ErrProtocol},
		"same name": {func(b string, _ func(string) string) string { return entry("100644", "a", b) + entry("100755", "a", b) }, fetch.ErrProtocol},
		"device":    {func(b string, _ func(string) string) string { return entry("60644", "a", b) }, fetch.ErrProtocol},
		"escape":    {func(b string, _ func(string) string) string { return entry("100644", "a\x1b[2J", b) }, fetch.ErrProtocol},
		"escape in a directory": {func(b string, put func(string) string) string {
			return entry("40000", "a\r\n", put(entry("100644", "f", b)))
		}, fetch.ErrProtocol},
		"8 bit escape": {func(b string, _ func(string) string) string { return entry("100644", "a\u009b2J", b) }, fetch.ErrProtocol},
		"not UTF-8":    {func(b string, _ func(string) string) string { return entry("100644", "a\x9b2J", b) }, fetch.ErrProtocol},
		"long name":    {func(b string, _ func(string) string) string { return entry("100644", strings.Repeat("a", 256), b) }, fetch.ErrProtocol},
		"unusual, but fine": {func(b string, _ func(string) string) string {
			return entry("100644", "a", b) + entry("100644", "b \\\"ü✓", b) + entry("100644", strings.Repeat("c", 255), b)
		}, nil},
		"cut short": {func(b string, _ func(string) string) string { return entry("100644", "a", b)[:20] }, fetch.ErrUnavailable},
		"bomb of 10^10": {func(b string, put func(string) string) string {
			tree := put(entry("100644", "f", b))
			for range 10 {
				next := ""
				for _, n := range "0123456789" {
					next += entry("40000", string(n), tree)
				}
				tree = put(next)
			}
			return entry("40000", "d", tree)
		}, fetch.ErrTooLarge},
		"nested 300 deep": {func(b string, put func(string) string) string {
			tree := put(entry("100644", "f", b))
			for range 300 {
				tree = put(entry("40000", "d", tree))
			}
			return entry("40000", "d", tree)
		}, fetch.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			blob := r.git("hash-object", "-w", writeFile(t, "blob", "content"))
			put := func(data string) string {
				return r.git("hash-object", "-t", "tree", "-w", "--literally", writeFile(t, "tree", data))
			}
			commit := r.git("commit-tree", "-m", "hostile", put(tc.tree(blob, put)))
			// git would not push it: give it to the remote as an object
			copyDir(t, filepath.Join(r.dir, ".git/objects"), filepath.Join(r.bare, "objects"))
			r.run(r.bare, "update-ref", "refs/heads/main", commit)
			m := newMirrors(t)
			snap, err := m.Fetch(t.Context(), r.source(r.serve(nil)))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err == nil {
				if _, err := fs.ReadFile(snap.FS, "a"); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Names in history are not used by anybody.
func TestOldNamesDoNotMatter(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1", "caf\xe9", "1")
	r.git("rm", "-q", "--", "caf\xe9")
	r.commit("second")
	for _, src := range []fetch.Source{r.fileSource(), r.source(r.serve(nil))} {
		mustFetch(t, newMirrors(t), src)
	}
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-r", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
