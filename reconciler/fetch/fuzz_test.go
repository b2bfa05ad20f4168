package fetch_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

const someKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINNwMHM8lLcve+HMdKmjaanRnkdOE0Sm3ZUxkjv5LTgg"

func TestAllowedSigners(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		want []string
		says string
	}{
		"plain":               {file: "a@x " + someKey, want: []string{"a@x"}},
		"comment behind":      {file: "a@x " + someKey + " laptop of a", want: []string{"a@x"}},
		"several principals":  {file: "a@x,b@x,!c@x " + someKey, want: []string{"a@x,b@x,!c@x"}},
		"quoted principals":   {file: `"a b,c" ` + someKey, want: []string{"a b,c"}},
		"tabs and windows":    {file: "a@x\t" + someKey + "\r\n# c\r\n\r\nb@x " + someKey + "\r\n", want: []string{"a@x", "b@x"}},
		"quoted comma":        {file: `a@x namespaces="git,file",valid-before="20300101" ` + someKey, want: []string{"a@x"}},
		"upper case option":   {file: `a@x NAMESPACES="git" ` + someKey, want: []string{"a@x"}},
		"empty":               {file: "", says: "no key"},
		"no key":              {file: "a@x", says: "line 1"},
		"no principal":        {file: `"" ` + someKey, says: "no principal"},
		"key only":            {file: someKey, says: "line 1"},
		"third line is wrong": {file: "a " + someKey + "\n\nb ssh-ed25519 AAAA", says: "line 3"},
		"open quote":          {file: `"a ` + someKey, says: "not closed"},
		"glued quote":         {file: `"a"b ` + someKey, says: "closing quote"},
		"month 13":            {file: `a valid-after="20241301" ` + someKey, says: "YYYYMMDD"},
		"time of day wrong":   {file: `a valid-after="2024010112" ` + someKey, says: "YYYYMMDD"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fetch.ParseAllowedSigners([]byte(tc.file))
			if (err != nil) != (tc.says != "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("error %v, want one saying %q", err, tc.says)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzAllowedSigners(f *testing.F) {
	f.Add([]byte(`a@x namespaces="git",valid-after="20240101Z" ` + someKey + " c"))
	f.Add([]byte("\"a b\" " + someKey + "\n# x\n\n*@x cert-authority " + someKey))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := fetch.ParseAllowedSigners(data)
		if err != nil {
			return
		}
		lines := 0
		for l := range strings.Lines(string(data)) {
			if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
				lines++
			}
		}
		if len(got) != lines {
			t.Errorf("%d keys from %d lines: no line may be skipped", len(got), lines)
		}
	})
}

// FuzzLinks compares with os.Root, which resolves links inside of a directory, too.
func FuzzLinks(f *testing.F) {
	f.Add("d/e/f", "../x", "d", "l/../m/f")
	f.Add("f", "l", "m/../l", "l")
	f.Add("d/f", "../../d/f", ".", "m/d/f")
	f.Add("d/f", "d/f/..", "./d//", "d/m/f")
	f.Fuzz(func(t *testing.T, file, target1, target2, name string) {
		for _, s := range []string{file, target1, target2, name} {
			if len(s) > 60 || strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("defglmx./", r) }) {
				t.Skip()
			}
		}
		if !fs.ValidPath(file) || !fs.ValidPath(name) || file == "." || target1 == "" || target2 == "" {
			t.Skip()
		}
		if strings.HasPrefix(file+"/", "l/") || strings.HasPrefix(file+"/", "d/m/") {
			t.Skip()
		}
		dir, err := os.MkdirTemp("", "links") // t.TempDir has the name of the seed, with a #
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "d"), 0o755), os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755)); err != nil {
			t.Skip()
		}
		if errors.Join(os.WriteFile(filepath.Join(dir, file), []byte("content"), 0o644),
			os.Symlink(target1, filepath.Join(dir, "l")), os.Symlink(target2, filepath.Join(dir, "d", "m"))) != nil {
			t.Skip()
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		want, wantErr := root.ReadFile(name)
		got, gotErr := fs.ReadFile(snapshotOfDir(t, dir), name)
		if errors.Is(gotErr, fetch.ErrLink) && wantErr != nil {
			return
		}
		if wantErr != nil && strings.Contains(wantErr.Error(), "too many") {
			return // os.Root follows fewer links
		}
		if (wantErr == nil) != (gotErr == nil) || string(want) != string(got) {
			t.Errorf("file %q, l → %q, d/m → %q: read %q: %q, %v; os.Root: %q, %v", file, target1, target2, name, got, gotErr, want, wantErr)
		}
	})
}

func snapshotOfDir(t *testing.T, dir string) fs.FS {
	t.Helper()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=a", "-c", "user.email=a", "commit", "-q", "-m", "x"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return mustFetch(t, newMirrors(t), fetch.Source{Name: "apps", URL: "file://" + dir}).FS
}

func FuzzDelta(f *testing.F) {
	f.Add([]byte("hello world"), []byte{11, 5, 0x90, 5})
	f.Add([]byte("hello"), []byte{5, 8, 3, 'a', 'b', 'c', 0x90, 5})
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		out, err := fetch.ApplyDelta(base, delta, 1000)
		if err == nil && len(out) > 1000 {
			t.Errorf("%d bytes, limit 1000", len(out))
		}
	})
}

func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x00" + strings.Repeat("x", 20) + "40000 b\x00" + strings.Repeat("y", 20)))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = fetch.DecodeTree(data) })
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0x95, 0x0a, 0x78}, int64(12))
	f.Add([]byte{0xe5, 0x80, 0x01}, int64(100000))
	f.Fuzz(func(t *testing.T, data []byte, offset int64) {
		if offset < 12 {
			t.Skip()
		}
		h, used, err := fetch.ParseHeader(data, offset)
		if err == nil && used > len(data) {
			t.Errorf("%v took %d of %d bytes", h, used, len(data))
		}
	})
}

func FuzzSplitSignature(f *testing.F) {
	f.Add([]byte("tree x\nparent y\ngpgsig -----BEGIN\n a\n b\nencoding z\n\nmessage"))
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, signature, err := fetch.SplitSignature(data)
		if err == nil && signature == "" && len(payload) != len(data) && !strings.Contains(string(data), "gpgsig-sha256") {
			t.Errorf("payload differs from an unsigned commit: %q", payload)
		}
	})
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://example.org/x":           "https://example.org/x",
		"https://me:pw@example.org/x":     "https://REDACTED@example.org/x",
		"https://me:p@w@example.org/x":    "https://REDACTED@example.org/x",
		"https://me:p/w?x@example.org/x":  "https://REDACTED@example.org/x",
		"https://me:p#w@example.org/x?t=": "https://REDACTED@example.org/x?REDACTED",
		"me:pw@example.org:x":             "REDACTED@example.org:x",
		"https://example.org/x?token=pw":  "https://example.org/x?REDACTED",
	} {
		if got := fetch.RedactURL(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}
