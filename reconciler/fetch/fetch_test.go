package fetch_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// counting counts listings and packs.
type counting struct{ lists, packs atomic.Int64 }

func (c *counting) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			c.packs.Add(1)
		} else {
			c.lists.Add(1)
		}
		h.ServeHTTP(w, r)
	})
}

func TestFetchFollowsABranch(t *testing.T) {
	for _, scheme := range []string{"http", "file"} {
		t.Run(scheme, func(t *testing.T) {
			r := newRepo(t)
			first := r.commit("first\n\nbody", "a.yaml", "a: 1\n", "dir/b.yaml", "b: 1\n")
			src := r.fileSource()
			if scheme == "http" {
				src = r.source(r.serve(nil))
			}
			m := newMirrors(t)
			one := mustFetch(t, m, src)
			got := one
			got.FS = nil
			want := fetch.Snapshot{Source: "apps", Ref: "refs/heads/main", Commit: first, Author: "Ada <ada@example.org>", Subject: "first", Time: one.Time}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("snapshot (-want +got):\n%s", diff)
			}
			second := r.commit("second", "dir/c.yaml", "c: 1\n")
			two := mustFetch(t, m, src)
			if two.Commit != second {
				t.Errorf("commit %s, want %s", two.Commit, second)
			}
			if err := fstest.TestFS(two.FS, "a.yaml", "dir/b.yaml", "dir/c.yaml"); err != nil {
				t.Error(err)
			}
			if err := fstest.TestFS(one.FS, "a.yaml", "dir/b.yaml"); err != nil {
				t.Error("the older snapshot is no longer readable:", err)
			}
			if _, err := fs.Stat(one.FS, "dir/c.yaml"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the older snapshot sees a newer file: %v", err)
			}
		})
	}
}

func TestUnmovedRefTransfersNothing(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	var n counting
	src, m := r.source(r.serve(n.wrap)), newMirrors(t)
	one := mustFetch(t, m, src)
	for range 3 {
		if two := mustFetch(t, m, src); two != one {
			t.Fatalf("got another snapshot: %+v, want %+v", two, one)
		}
	}
	if n.lists.Load() != 4 || n.packs.Load() != 1 {
		t.Errorf("%d listings and %d packs, want 4 and 1", n.lists.Load(), n.packs.Load())
	}
}

func TestOneTransferBringsOnlyWhatIsNew(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "big", strings.Repeat("0123456789abcdef", 1<<16))
	var size atomic.Int64
	src, m := r.source(r.serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			size.Store(int64(rec.Body.Len()))
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			_, _ = w.Write(rec.Body.Bytes())
		})
	})), newMirrors(t)
	mustFetch(t, m, src)
	whole := size.Load()
	r.commit("second", "small", "x")
	mustFetch(t, m, src)
	if got := size.Load(); got > 1000 || got >= whole {
		t.Errorf("second fetch transferred %d bytes, the first %d", got, whole)
	}
}

func TestRefs(t *testing.T) {
	r := newRepo(t)
	r.commit("one", "v", "1")
	r.git("tag", "v1.0.0")
	r.git("tag", "-a", "-m", "annotated", "v1.1.0")
	two := r.commit("two", "v", "2")
	r.git("tag", "1.2.0")
	r.git("tag", "v2.0.0-rc.1")
	r.git("tag", "nightly")
	r.git("tag", "v1.9") // not a full version
	one := r.git("rev-parse", "v1.0.0")
	r.git("push", "-q", "--tags", "origin")
	r.git("branch", "feature/x", one)
	r.git("push", "-q", "origin", "feature/x")
	srv := r.serve(nil)

	for name, tc := range map[string]struct {
		ref        fetch.Ref
		name, want string
		err        error
		says       []string
	}{
		"HEAD":                {ref: fetch.Ref{}, name: "refs/heads/main", want: two},
		"branch with a slash": {ref: fetch.Ref{Branch: "feature/x"}, name: "refs/heads/feature/x", want: one},
		"light tag":           {ref: fetch.Ref{Tag: "v1.0.0"}, name: "refs/tags/v1.0.0", want: one},
		"annotated tag":       {ref: fetch.Ref{Tag: "v1.1.0"}, name: "refs/tags/v1.1.0", want: one},
		"highest in range":    {ref: fetch.Ref{Semver: "1.x"}, name: "refs/tags/1.2.0", want: two},
		"range below":         {ref: fetch.Ref{Semver: "~1.1"}, name: "refs/tags/v1.1.0", want: one},
		"no pre-release":      {ref: fetch.Ref{Semver: ">=1"}, name: "refs/tags/1.2.0", want: two},
		"pre-release asked":   {ref: fetch.Ref{Semver: ">=2.0.0-0"}, name: "refs/tags/v2.0.0-rc.1", want: two},
		"missing branch":      {ref: fetch.Ref{Branch: "prod"}, err: fetch.ErrRefNotFound, says: []string{"refs/heads/prod", "feature/x, main"}},
		"missing tag":         {ref: fetch.Ref{Tag: "v3"}, err: fetch.ErrRefNotFound, says: []string{"refs/tags/v3", "nightly"}},
		"nothing in range":    {ref: fetch.Ref{Semver: "^7"}, err: fetch.ErrRefNotFound, says: []string{"^7", "v2.0.0-rc.1, 1.2.0, v1.1.0, v1.0.0"}},
	} {
		for _, scheme := range []string{"http", "file"} {
			t.Run(name+" over "+scheme, func(t *testing.T) {
				src := r.source(srv)
				if scheme == "file" {
					src = r.fileSource()
				}
				src.Ref = tc.ref
				snap, err := newMirrors(t).Fetch(context.Background(), src)
				if !errors.Is(err, tc.err) {
					t.Fatalf("error %v, want %v", err, tc.err)
				}
				for _, s := range tc.says {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("error %q does not say %q", err, s)
					}
				}
				if snap.Ref != tc.name || snap.Commit != tc.want {
					t.Errorf("got %s at %s, want %s at %s", snap.Ref, snap.Commit, tc.name, tc.want)
				}
			})
		}
	}
}

func TestRewrites(t *testing.T) {
	for name, tc := range map[string]struct {
		allow   bool
		rewrite func(r *repo)
		err     error
	}{
		"amended": {rewrite: func(r *repo) { r.git("commit", "-q", "--amend", "-m", "amended") }},
		"rebased": {rewrite: func(r *repo) { r.git("reset", "-q", "--hard", "HEAD~2"); r.commit("other", "o", "1") }},
		"unrelated": {rewrite: func(r *repo) {
			r.git("checkout", "-q", "--orphan", "x")
			r.commit("o", "o", "1")
			r.git("branch", "-M", "main")
		}},
		"back to the parent": {rewrite: func(r *repo) { r.git("reset", "-q", "--hard", "HEAD~1") }, err: fetch.ErrRollback},
		"back to the root":   {rewrite: func(r *repo) { r.git("reset", "-q", "--hard", "HEAD~2") }, err: fetch.ErrRollback},
		"back, and allowed":  {allow: true, rewrite: func(r *repo) { r.git("reset", "-q", "--hard", "HEAD~1") }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.commit("1", "f", "1")
			r.commit("2", "f", "2")
			third := r.commit("3", "f", "3")
			src, m := r.source(r.serve(nil)), newMirrors(t)
			src.AllowRewrite = tc.allow
			mustFetch(t, m, src)
			tc.rewrite(r)
			r.git("push", "-q", "--force", "origin", "HEAD:main")
			next := r.git("rev-parse", "HEAD")

			snap, err := m.Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			want := next
			if tc.err != nil {
				want = third
				for _, s := range []string{third, next, "allowRewrite"} {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("error %q does not say %q", err, s)
					}
				}
				if fetch.Retryable(err) {
					t.Error("a rollback does not go away by trying again")
				}
				// The good commit stays in force, after a restart too.
				if snap, err = (&fetch.Mirrors{Dir: m.Dir}).Last(src); err != nil {
					t.Fatal(err)
				}
			}
			if snap.Commit != want {
				t.Errorf("commit %s in force, want %s", snap.Commit, want)
			}
		})
	}
}

func TestMovedTagIsARollbackToo(t *testing.T) {
	r := newRepo(t)
	r.commit("1", "f", "1")
	r.git("tag", "v1.0.0")
	r.commit("2", "f", "2")
	r.git("tag", "v1.1.0")
	r.git("push", "-q", "--tags", "origin")
	src, m := r.source(r.serve(nil)), newMirrors(t)
	src.Ref = fetch.Ref{Semver: "1.x"}
	mustFetch(t, m, src)
	r.git("push", "-q", "origin", ":refs/tags/v1.1.0")
	if _, err := m.Fetch(context.Background(), src); !errors.Is(err, fetch.ErrRollback) {
		t.Errorf("the highest tag vanished: error %v, want ErrRollback", err)
	}
	src.Ref = fetch.Ref{Tag: "v1.0.0"} // a person chose this one
	if snap := mustFetch(t, m, src); snap.Ref != "refs/tags/v1.0.0" {
		t.Errorf("got %s", snap.Ref)
	}
}

func TestRemoteThatIsNotThere(t *testing.T) {
	r := newRepo(t)
	first := r.commit("first", "a", "1")
	srv := r.serve(nil)
	src, m := r.source(srv), newMirrors(t)
	mustFetch(t, m, src)
	empty := newRepo(t)

	gone := src
	gone.URL = srv.URL + "/other.git"
	emptySrc := empty.source(empty.serve(nil))
	emptyFile := empty.fileSource()
	noFile := src
	noFile.URL = "file:///does/not/exist"
	for name, tc := range map[string]struct {
		src       fetch.Source
		err       error
		retryable bool
	}{
		"404":             {gone, fetch.ErrNotFound, false},
		"empty over http": {emptySrc, fetch.ErrEmpty, false},
		"empty file":      {emptyFile, fetch.ErrEmpty, false},
		"no file":         {noFile, fetch.ErrNotFound, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.Fetch(context.Background(), tc.src)
			if !errors.Is(err, tc.err) || fetch.Retryable(err) != tc.retryable {
				t.Errorf("error %v (retryable %t), want %v (%t)", err, fetch.Retryable(err), tc.err, tc.retryable)
			}
		})
	}
	srv.Close()
	_, err := m.Fetch(context.Background(), src)
	if !errors.Is(err, fetch.ErrUnavailable) || !fetch.Retryable(err) {
		t.Errorf("server down: %v, want ErrUnavailable, retryable", err)
	}
	for _, m := range []*fetch.Mirrors{m, {Dir: m.Dir}} {
		snap, err := m.Last(src)
		if err != nil || snap.Commit != first {
			t.Errorf("Last: %v, %v, want %s", snap.Commit, err, first)
		}
	}
	src.Ref.Branch = "other"
	if _, err := m.Last(src); !errors.Is(err, fetch.ErrNoSnapshot) {
		t.Errorf("Last of another branch: %v, want ErrNoSnapshot", err)
	}
	if _, err := newMirrors(t).Last(src); !errors.Is(err, fetch.ErrNoSnapshot) {
		t.Errorf("Last before any fetch: %v, want ErrNoSnapshot", err)
	}
}

func TestMirrorIsAGitRepository(t *testing.T) {
	r := newRepo(t)
	src, m := r.source(r.serve(nil)), newMirrors(t)
	m.MaxPacks = 3
	var last string
	for i := range 12 {
		last = r.commit("next", "f", strings.Repeat("line\n", i*50), "g/"+string(rune('a'+i)), "x")
		mustFetch(t, m, src)
	}
	dirs, err := os.ReadDir(m.Dir)
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v %v, want one mirror", dirs, err)
	}
	mirror := m.Dir + "/" + dirs[0].Name()
	if got := r.run(mirror, "rev-parse", "refs/plumbline/accepted"); got != last {
		t.Errorf("accepted ref is %s, want %s", got, last)
	}
	if out, err := exec.Command("git", "--git-dir", mirror, "fsck", "--full", "--strict").CombinedOutput(); err != nil {
		t.Errorf("git fsck: %v\n%s", err, out)
	}
	packs, _ := os.ReadDir(mirror + "/objects/pack")
	if len(packs) > 2*4 {
		t.Errorf("%d files in objects/pack, packs are not merged", len(packs))
	}
	snap := mustFetch(t, m, src)
	if err := fstest.TestFS(snap.FS, "f", "g/a", "g/l"); err != nil {
		t.Error(err)
	}
}
