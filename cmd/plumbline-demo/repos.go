package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
)

//go:embed team
var teamFiles embed.FS

// create makes a repository that holds these files, as its first commit.
func create(git *lab.Git, name string, files fs.FS, message string) (*lab.Repo, error) {
	repo, err := git.Create(name)
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(repo.Dir, files); err != nil {
		return nil, fmt.Errorf("fill the repository %s: %w", name, err)
	}
	for key, value := range map[string]string{ // so that "git commit" and "git push" just work in it
		"user.name": "You", "user.email": "you@example.org", "commit.gpgsign": "false",
		"branch.main.remote": "origin", "branch.main.merge": "refs/heads/main",
	} {
		if _, err := repo.Git("config", key, value); err != nil {
			return nil, err
		}
	}
	_, err = repo.Push(message)
	return repo, err
}

// edit is one change to a file of a working tree.
type edit struct{ file, from, to string }

func change(repo *lab.Repo, edits ...edit) error {
	for _, e := range edits {
		name := filepath.Join(repo.Dir, filepath.FromSlash(e.file))
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if strings.Count(string(data), e.from) != 1 {
			return fmt.Errorf("%s: %q is not in it exactly once", e.file, e.from)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(string(data), e.from, e.to, 1)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// received is when the server took the last push: when its branch moved. It is
// not later than now, where the branch is no file of its own.
func received(repo *lab.Repo) time.Time {
	info, err := os.Stat(filepath.Join(repo.Bare, "refs", "heads", "main"))
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// configuration is the plumbline.yaml of the demo's daemon.
func configuration(kubeconfig, state string, repos ...*lab.Repo) string {
	var b strings.Builder
	b.WriteString("sources:\n")
	for _, r := range repos {
		fmt.Fprintf(&b, "  - name: %s\n    url: %s\n    ref: {branch: main}\n    interval: %s\n", r.Name, r.URL, pollInterval)
	}
	fmt.Fprintf(&b, "cluster: {kubeconfig: %q}\nstateDir: %q\nlisten: \"off\"\n", kubeconfig, state)
	return b.String()
}

// pollInterval is how often the daemon asks by itself whether a branch moved. It
// is told sooner, by the hook.
const pollInterval = 10 * time.Second

// hook lets the Git server tell the daemon of each push, as a forge's webhook does.
func hook(repo *lab.Repo, plumbline, kubeconfig string) error {
	script := fmt.Sprintf("#!/bin/sh\n# After a push: the daemon looks now, not at its next interval.\nexec %s reconcile source/%s --wait=false --kubeconfig %s\n",
		quoted(plumbline), repo.Name, quoted(kubeconfig))
	file := filepath.Join(repo.Bare, "hooks", "post-receive")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(script), 0o755)
}

// quoted is a word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
