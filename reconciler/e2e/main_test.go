// Package e2e holds scenarios for the whole of Plumbline: the real daemon as a
// process of its own, real Git over HTTP, and a real API server.
//
// Most are scripts in testdata, whose words script_test.go defines; what a
// script can't say well is a Go test.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/plumbline-dev/plumbline/lab"
)

var (
	binary    string // plumbline
	labBinary string // plumbline-lab
	shared    *lab.Plane
	git       *lab.Git
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "plumbline-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := build(); err != nil {
		return 1, err
	}
	if shared, err = lab.StartPlane(context.Background(), labBinary, lab.PlaneOptions{Nodes: 3, Log: os.Stderr}); err != nil {
		return 1, err
	}
	defer func() { _ = shared.Stop() }()
	repos := filepath.Join(dir, "git")
	if err := os.Mkdir(repos, 0o755); err != nil {
		return 1, err
	}
	if git, err = lab.ServeGit(repos); err != nil {
		return 1, err
	}
	defer func() { _ = git.Close() }()
	return m.Run(), nil
}

// build leaves the binaries where the next run finds them: linking takes longer
// than the tests, and what is up to date is left alone. With -race, the daemon
// looks for races too.
func build() error {
	cache, err := filepath.Abs("../../.cache")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	labBinary = filepath.Join(cache, "plumbline-lab")
	lock, err := os.Create(labBinary + ".lock") // other packages' tests build it too
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if err := run("../../cmd/plumbline-lab/build.sh", labBinary); err != nil {
		return err
	}
	binary = filepath.Join(cache, "plumbline-e2e")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		binary += "-race"
		args = []string{"build", "-race", "-o", binary}
	}
	return run("go", append(args, "../../cmd/plumbline")...)
}

func run(name string, args ...string) error {
	if out, err := exec.CommandContext(context.Background(), name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
