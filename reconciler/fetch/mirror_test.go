package fetch_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// one returns the only file that matches below the only mirror of m.
func one(t *testing.T, m *fetch.Mirrors, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(m.Dir, "*.git", pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v, want one file", pattern, found, err)
	}
	return found[0]
}

func change(t *testing.T, file string, how func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, how(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedMirrorIsClonedAnew(t *testing.T) {
	half := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(b []byte) []byte { b[len(b)/2] ^= 0xff; return b }
	zero := func(b []byte) []byte { clear(b[len(b)/2:]); return b }
	none := func([]byte) []byte { return nil }
	pack, idx := "objects/pack/*.pack", "objects/pack/*.idx"
	for name, damage := range map[string]func(*testing.T, *fetch.Mirrors){
		"pack cut short":         func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, pack), half) },
		"pack with a wrong bit":  func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, pack), flip) },
		"pack of zeros":          func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, pack), zero) },
		"pack is empty":          func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, pack), none) },
		"pack is gone":           func(t *testing.T, m *fetch.Mirrors) { _ = os.Remove(one(t, m, pack)) },
		"index cut short":        func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, idx), half) },
		"index with a wrong bit": func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, idx), flip) },
		"index is empty":         func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, idx), none) },
		"index is gone":          func(t *testing.T, m *fetch.Mirrors) { _ = os.Remove(one(t, m, idx)) },
		"record is garbage":      func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, "accepted.json"), half) },
		"record is empty":        func(t *testing.T, m *fetch.Mirrors) { change(t, one(t, m, "accepted.json"), none) },
		"HEAD is gone":           func(t *testing.T, m *fetch.Mirrors) { _ = os.Remove(one(t, m, "HEAD")) },
		"no objects at all":      func(t *testing.T, m *fetch.Mirrors) { _ = os.RemoveAll(one(t, m, "objects")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			noise := make([]byte, 3000) // fills the middle of the pack, so that a blob is hit and no tree
			_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
			want := r.commit("first", "a", "1", "d/b", string(noise))
			src, m := r.source(r.serve(nil)), newMirrors(t)
			mustFetch(t, m, src)
			damage(t, m)
			after := &fetch.Mirrors{Dir: m.Dir} // a restart
			if snap, err := after.Last(src); err == nil {
				if _, err := fs.ReadFile(snap.FS, "d/b"); err != nil {
					t.Errorf("Last gave a snapshot that cannot be read: %v", err)
				}
			}
			snap := mustFetch(t, after, src)
			if snap.Commit != want {
				t.Errorf("commit %s, want %s", snap.Commit, want)
			}
			if err := fstest.TestFS(snap.FS, "a", "d/b"); err != nil {
				t.Error(err)
			}
			want = r.commit("second", "a", "2")
			if snap := mustFetch(t, after, src); snap.Commit != want {
				t.Errorf("commit %s, want %s", snap.Commit, want)
			}
			if left, _ := os.ReadDir(m.Dir); len(left) != 1 {
				t.Errorf("%v left, want one mirror", left)
			}
		})
	}
}

// Packs that are intact do not help if one of them is missing.
func TestLostPackIsNoticed(t *testing.T) {
	for name, lose := range map[string]func(newest, oldest string) string{
		"with the commit":  func(newest, _ string) string { return newest },
		"with older files": func(_, oldest string) string { return oldest },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			src, m := r.source(r.serve(nil)), newMirrors(t)
			r.commit("1", "old/a", "1")
			mustFetch(t, m, src)
			oldest := one(t, m, "objects/pack/*.idx")
			want := r.commit("2", "new/b", "2")
			mustFetch(t, m, src)
			all, _ := filepath.Glob(filepath.Join(filepath.Dir(oldest), "*.idx"))
			newest := all[0]
			if newest == oldest {
				newest = all[1]
			}
			if err := os.Remove(lose(newest, oldest)); err != nil {
				t.Fatal(err)
			}
			snap := mustFetch(t, &fetch.Mirrors{Dir: m.Dir}, src)
			if err := fstest.TestFS(snap.FS, "old/a", "new/b"); err != nil || snap.Commit != want {
				t.Errorf("%s, %v, want %s", snap.Commit, err, want)
			}
		})
	}
}

func TestDamageWhileRunningIsRepaired(t *testing.T) {
	r := newRepo(t)
	first := r.commit("first", "a", strings.Repeat("x", 5000), "b", "1")
	src, m := r.source(r.serve(nil)), newMirrors(t)
	snap := mustFetch(t, m, src)
	pack := one(t, m, "objects/pack/*.pack")
	if err := errors.Join(os.Chmod(pack, 0o600), os.Truncate(pack, 20)); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReadFile(snap.FS, "a"); !errors.Is(err, fetch.ErrCorrupt) || !fetch.Retryable(err) {
		t.Errorf("error %v, want ErrCorrupt, retryable", err)
	}
	snap = mustFetch(t, m, src)
	if snap.Commit != first {
		t.Errorf("commit %s, want %s", snap.Commit, first)
	}
	if _, err := fs.ReadFile(snap.FS, "a"); err != nil {
		t.Error(err)
	}
}

// A damaged mirror forgets neither what was accepted, nor that going back from there is a rollback.
func TestRollbackIsNoticedAfterDamage(t *testing.T) {
	r := newRepo(t)
	r.commit("1", "f", "1")
	second := r.commit("2", "f", "2")
	r.git("push", "-q", "origin", "HEAD:other") // so that the remote still has it
	src, m := r.source(r.serve(nil)), newMirrors(t)
	mustFetch(t, m, src)
	change(t, one(t, m, "objects/pack/*.pack"), func(b []byte) []byte { return b[:40] })
	third := r.commit("3", "f", "3")
	after := &fetch.Mirrors{Dir: m.Dir}
	mustFetch(t, after, src)
	r.git("push", "-q", "--force", "origin", second+":main")
	if _, err := after.Fetch(context.Background(), src); !errors.Is(err, fetch.ErrRollback) {
		t.Errorf("error %v, want ErrRollback", err)
	}
	if snap, err := after.Last(src); err != nil || snap.Commit != third {
		t.Errorf("Last: %s, %v, want %s", snap.Commit, err, third)
	}
}

func TestCollect(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	m := newMirrors(t)
	keep, drop := r.fileSource(), r.fileSource()
	drop.Name = "old"
	mustFetch(t, m, keep)
	mustFetch(t, m, drop)
	for _, name := range []string{"tmp-mirror-123/objects/pack/tmp_pack_1", "moved-0123456789abcdef.git/HEAD", "somebody.git/HEAD", "notes.txt"} {
		file := filepath.Join(m.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	after := &fetch.Mirrors{Dir: m.Dir}
	if err := after.Collect([]fetch.Source{keep}); err != nil {
		t.Fatal(err)
	}
	var got []string
	left, _ := os.ReadDir(m.Dir)
	for _, e := range left {
		got = append(got, e.Name()[:4])
	}
	if diff := cmp.Diff([]string{"apps", "note", "some"}, got); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if _, err := after.Last(keep); err != nil {
		t.Error(err)
	}
	if err := (&fetch.Mirrors{Dir: filepath.Join(m.Dir, "not-yet")}).Collect(nil); err != nil {
		t.Errorf("nothing to collect: %v", err)
	}
}

// TestKilledProcess is killed with SIGKILL while a pack arrives: once in the first clone, once in a later fetch.
func TestKilledProcess(t *testing.T) {
	if dir := os.Getenv("FETCH_TEST_VICTIM"); dir != "" {
		src := fetch.Source{Name: "apps", URL: os.Getenv("FETCH_TEST_URL"), Ref: fetch.Ref{Branch: "main"}}
		_, _ = (&fetch.Mirrors{Dir: dir}).Fetch(context.Background(), src)
		return
	}
	r := newRepo(t)
	first := r.commit("first", "a", strings.Repeat("x", 5000))
	var stall atomic.Bool
	reached := make(chan struct{}, 10)
	srv := r.serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Method != http.MethodPost || !stall.Load() {
				h.ServeHTTP(w, req)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()-30])
			w.(http.Flusher).Flush()
			reached <- struct{}{}
			<-req.Context().Done()
		})
	})
	src, m := r.source(srv), newMirrors(t)
	kill := func() {
		t.Helper()
		stall.Store(true)
		defer stall.Store(false)
		victim := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$")
		victim.Env = append(os.Environ(), "FETCH_TEST_VICTIM="+m.Dir, "FETCH_TEST_URL="+src.URL)
		if err := victim.Start(); err != nil {
			t.Fatal(err)
		}
		<-reached
		_ = victim.Process.Kill()
		_ = victim.Wait()
	}
	kill()
	if left, _ := os.ReadDir(m.Dir); len(left) != 1 || !strings.HasPrefix(left[0].Name(), "tmp-mirror-") {
		t.Errorf("%v left by the killed clone, want its temporary directory", left)
	}
	after := &fetch.Mirrors{Dir: m.Dir}
	if err := after.Collect([]fetch.Source{src}); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(m.Dir); len(left) != 0 {
		t.Errorf("%v left after Collect", left)
	}
	mustFetch(t, after, src)
	second := r.commit("second", "a", "2")
	kill()
	after = &fetch.Mirrors{Dir: m.Dir}
	if snap, err := after.Last(src); err != nil || snap.Commit != first {
		t.Errorf("Last: %s, %v, want %s", snap.Commit, err, first)
	}
	if snap := mustFetch(t, after, src); snap.Commit != second {
		t.Errorf("commit %s, want %s", snap.Commit, second)
	}
	if tmp, _ := filepath.Glob(filepath.Join(m.Dir, "*.git", "objects", "pack", "tmp_*")); len(tmp) != 0 {
		t.Errorf("%v left", tmp)
	}
}

func TestOldSnapshotsOutliveTheirMirror(t *testing.T) {
	r := newRepo(t)
	src, m := r.fileSource(), newMirrors(t)
	m.MaxPacks = 1
	r.commit("first", "a", "1")
	old := mustFetch(t, m, src)
	for range 5 {
		r.commit("next", "b", r.git("rev-parse", "HEAD"))
		mustFetch(t, m, src)
	}
	if err := os.RemoveAll(m.Dir); err != nil {
		t.Fatal(err)
	}
	if data, err := fs.ReadFile(old.FS, "a"); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestValidate(t *testing.T) {
	ok := fetch.Source{Name: "apps", URL: "https://example.org/x.git"}
	for name, tc := range map[string]struct {
		change func(*fetch.Source)
		says   []string // nothing: it is valid
	}{
		"https":                 {change: func(*fetch.Source) {}},
		"https with a port":     {change: func(s *fetch.Source) { s.URL = "https://example.org:8443/x.git" }},
		"file":                  {change: func(s *fetch.Source) { s.URL = "file:///srv/x.git" }},
		"http":                  {change: func(s *fetch.Source) { s.URL = "http://nas.lan/x.git" }},
		"http, loopback, token": {change: func(s *fetch.Source) { s.URL, s.Auth.TokenFile = "http://[::1]:80/x", "t" }},
		"ssh": {change: func(s *fetch.Source) {
			s.URL, s.Auth = "ssh://git@example.org/x.git", fetch.Auth{SSHKeyFile: "k", KnownHostsFile: "h"}
		}},
		"scp": {change: func(s *fetch.Source) {
			s.URL, s.Auth = "git@example.org:me/x.git", fetch.Auth{SSHKeyFile: "k", KnownHostsFile: "h"}
		}},
		"everything at once": {change: func(s *fetch.Source) {
			*s = fetch.Source{Name: "Apps", URL: "https://me:" + canary + "@example.org/x.git", Ref: fetch.Ref{Branch: "a..b", Tag: "v1"}, MaxBytes: -1, Timeout: -1}
		}, says: []string{`name "Apps"`, "url:", "maxBytes", "timeout", "exclude", "ref.branch"}},
		"token in the url":     {change: func(s *fetch.Source) { s.URL = "https://c4n4ry@example.org/x.git" }, says: []string{"holds credentials", "REDACTED"}},
		"odd token in the url": {change: func(s *fetch.Source) { s.URL = "https://" + canary + "@example.org/x.git" }, says: []string{"REDACTED"}},
		"token in the query":   {change: func(s *fetch.Source) { s.URL = "https://example.org/x.git?private_token=c4n4ry" }, says: []string{"query"}},
		"token in a fragment":  {change: func(s *fetch.Source) { s.URL = "https://example.org/x.git#c4n4ry" }, says: []string{"fragment"}},
		"password with a /":    {change: func(s *fetch.Source) { s.URL = "https://me:c4n4ry/x@example.org/x.git" }, says: []string{"url:"}},
		"not a URL":            {change: func(s *fetch.Source) { s.URL = "https://me:c4n4ry\x7f@example.org/x.git" }, says: []string{"not a URL"}},
		"ssh password":         {change: func(s *fetch.Source) { s.URL = "ssh://me:c4n4ry@example.org/x.git" }, says: []string{"password", "sshKeyFile"}},
		"scp password":         {change: func(s *fetch.Source) { s.URL = "me:c4n4ry@example.org:x.git" }, says: []string{"url:"}},
		"option as a host":     {change: func(s *fetch.Source) { s.URL = "ssh://-oProxyCommand=x/y" }, says: []string{"begin with -"}},
		"ext transport":        {change: func(s *fetch.Source) { s.URL = "ext::sh -c touch% /tmp/x" }, says: []string{"url:"}},
		"git protocol":         {change: func(s *fetch.Source) { s.URL = "git://example.org/x" }, says: []string{`"git" is not supported`}},
		"local path":           {change: func(s *fetch.Source) { s.URL = "/srv/x.git" }, says: []string{"file:///"}},
		"file on a host":       {change: func(s *fetch.Source) { s.URL = "file://nas/x.git" }, says: []string{"file:///"}},
		"fragment in a path":   {change: func(s *fetch.Source) { s.URL = "file:///srv/x#1.git" }, says: []string{"fragment"}},
		"no url":               {change: func(s *fetch.Source) { s.URL = "" }, says: []string{"url: is missing"}},
		"no path":              {change: func(s *fetch.Source) { s.URL = "https://example.org/" }, says: []string{"no path"}},
		"token over http":      {change: func(s *fetch.Source) { s.URL, s.Auth.TokenFile = "http://nas.lan/x", "t" }, says: []string{"clear text", "https://"}},
		"ssh without files":    {change: func(s *fetch.Source) { s.URL = "git@example.org:x.git" }, says: []string{"sshKeyFile: is required", "knownHostsFile: is required"}},
		"two secrets":          {change: func(s *fetch.Source) { s.Auth = fetch.Auth{TokenFile: "t", PasswordFile: "p"} }, says: []string{"exclude", "username: is missing"}},
		"user alone":           {change: func(s *fetch.Source) { s.Auth.Username = "me" }, says: []string{"needs passwordFile"}},
		"ssh key over https":   {change: func(s *fetch.Source) { s.Auth.SSHKeyFile = "k" }, says: []string{"only for ssh"}},
		"bad range":            {change: func(s *fetch.Source) { s.Ref.Semver = "latest!" }, says: []string{"ref.semver", "^1.2"}},
		"full name of a tag":   {change: func(s *fetch.Source) { s.Ref.Tag = "v1/../../x" }, says: []string{"ref.tag"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := ok
			tc.change(&s)
			err := s.Validate()
			if (err != nil) != (tc.says != nil) {
				t.Fatalf("error %v", err)
			}
			for _, say := range tc.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("error %q does not say %q", err, say)
				}
			}
			assertNoSecret(t, err)
			if err == nil {
				return
			}
			if _, err := newMirrors(t).Fetch(context.Background(), s); !errors.Is(err, fetch.ErrInvalid) || fetch.Retryable(err) {
				t.Errorf("Fetch: %v, want ErrInvalid", err)
			} else {
				assertNoSecret(t, err)
			}
		})
	}
}
