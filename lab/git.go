package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Git serves repositories over HTTP, by git's own http-backend.
type Git struct {
	Dir string
	URL string // http://127.0.0.1:port

	server *http.Server
}

// ServeGit serves the repositories below a directory.
func ServeGit(dir string) (*Git, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("git is needed: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	backend := &cgi.Handler{
		Path: git, Args: []string{"http-backend"},
		Env: append([]string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=lab"}, quiet...),
	}
	g := &Git{Dir: dir, URL: "http://" + listener.Addr().String(),
		server: &http.Server{Handler: backend, ReadHeaderTimeout: 10 * time.Second}}
	go func() { _ = g.server.Serve(listener) }() // ends with Close
	return g, nil
}

// Close stops serving.
func (g *Git) Close() error { return g.server.Close() }

// quiet keeps the configuration of whoever runs this out of the lab.
var quiet = []string{"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
	"GIT_AUTHOR_NAME=Lab", "GIT_AUTHOR_EMAIL=lab@example.org", "GIT_COMMITTER_NAME=Lab", "GIT_COMMITTER_EMAIL=lab@example.org"}

// Repo is a repository and a working tree of it.
type Repo struct {
	Name string
	URL  string // for the daemon
	Dir  string // working tree
	Bare string // the repository that is served
}

// Create makes an empty repository with the branch main.
func (g *Git) Create(name string) (*Repo, error) {
	r := &Repo{Name: name, URL: g.URL + "/" + name + ".git", Dir: filepath.Join(g.Dir, name), Bare: filepath.Join(g.Dir, name+".git")}
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", r.Bare},
		{"--git-dir", r.Bare, "config", "http.receivepack", "true"},
		{"init", "-q", "-b", "main", r.Dir},
		{"-C", r.Dir, "remote", "add", "origin", r.URL},
	} {
		if _, err := git(args...); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Write writes files into the working tree; empty content removes one.
func (r *Repo) Write(files map[string]string) error {
	for name, content := range files {
		file := filepath.Join(r.Dir, filepath.FromSlash(name))
		if content == "" {
			if err := os.RemoveAll(file); err != nil {
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Push commits the working tree as it is, pushes it, and returns the commit.
func (r *Repo) Push(message string, flags ...string) (string, error) {
	if _, err := r.Git("add", "-A"); err != nil {
		return "", err
	}
	if _, err := r.Git("commit", "-q", "--allow-empty", "-m", message); err != nil {
		return "", err
	}
	if _, err := r.Git(append([]string{"push", "-q", "origin", "HEAD:main"}, flags...)...); err != nil {
		return "", err
	}
	return r.Git("rev-parse", "HEAD")
}

// Git runs git in the working tree.
func (r *Repo) Git(args ...string) (string, error) {
	return git(append([]string{"-C", r.Dir}, args...)...)
}

func git(args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Env = append(os.Environ(), quiet...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}
