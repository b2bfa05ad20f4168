package fetch_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// repo is a real Git repository that tests push to: a bare one, and a clone to work in.
type repo struct {
	t         testing.TB
	bare, dir string
	env       []string
	clock     int
}

func newRepo(t testing.TB) *repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal("needs git on the PATH: the tests of this package run against the real one")
	}
	root := t.TempDir()
	r := &repo{t: t, bare: filepath.Join(root, "remote.git"), dir: filepath.Join(root, "work")}
	r.run(root, "init", "-q", "--bare", "-b", "main", r.bare)
	r.run(r.bare, "config", "http.receivepack", "false")
	r.run(root, "init", "-q", "-b", "main", r.dir)
	r.git("remote", "add", "origin", r.bare)
	r.git("config", "commit.gpgsign", "false")
	return r
}

func (r *repo) run(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	r.clock++
	when := fmt.Sprintf("%d +0000", 1_750_000_000+r.clock)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(r.bare), "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
		"GIT_AUTHOR_DATE=" + when, "GIT_COMMITTER_DATE=" + when,
	}, r.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	return r.run(r.dir, args...)
}

// write puts files (path, content, path, content, …) into the working tree.
func (r *repo) write(files ...string) {
	r.t.Helper()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(r.dir, filepath.FromSlash(files[i]))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// commit commits files on the current branch, pushes it, and returns the commit's id.
func (r *repo) commit(message string, files ...string) string {
	r.t.Helper()
	r.write(files...)
	r.git("add", "-A")
	r.git("commit", "-q", "--allow-empty", "-m", message)
	r.git("push", "-q", "--force", "origin", "HEAD")
	return r.git("rev-parse", "HEAD")
}

// handler serves the bare repository as /repo.git, as git does it.
func (r *repo) handler() http.Handler {
	r.t.Helper()
	backend := filepath.Join(r.run(r.bare, "--exec-path"), "git-http-backend")
	return &cgi.Handler{
		Path: backend, Root: "/",
		Env:    []string{"GIT_PROJECT_ROOT=" + filepath.Dir(r.bare), "GIT_HTTP_EXPORT_ALL=1", "HOME=" + filepath.Dir(r.bare), "GIT_CONFIG_NOSYSTEM=1"},
		Stderr: &bytes.Buffer{},
	}
}

// serve starts an HTTP server before the repository; wrap may change its answers.
func (r *repo) serve(wrap func(http.Handler) http.Handler) *httptest.Server {
	r.t.Helper()
	h := r.handler()
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	r.t.Cleanup(srv.Close)
	return srv
}

func (r *repo) source(srv *httptest.Server) fetch.Source {
	return fetch.Source{Name: "apps", URL: srv.URL + "/remote.git", Ref: fetch.Ref{Branch: "main"}}
}

func (r *repo) fileSource() fetch.Source {
	return fetch.Source{Name: "apps", URL: "file://" + filepath.ToSlash(r.bare), Ref: fetch.Ref{Branch: "main"}}
}

func newMirrors(t testing.TB) *fetch.Mirrors {
	t.Helper()
	return &fetch.Mirrors{Dir: t.TempDir(), RetryWait: time.Millisecond, MaxRetryWait: 10 * time.Millisecond}
}

func mustFetch(t testing.TB, m *fetch.Mirrors, s fetch.Source) fetch.Snapshot {
	t.Helper()
	snap, err := m.Fetch(context.Background(), s)
	if err != nil {
		t.Fatalf("Fetch: %v", err)
	}
	return snap
}
