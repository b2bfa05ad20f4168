package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// build makes the binaries that were not given, in the repository's .cache.
func build(ctx context.Context, o *options) error {
	if o.plumbline != "" && o.lab != "" {
		return nil
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/plumbline-dev/plumbline").Output()
	if err != nil {
		return fmt.Errorf("find the repository (or give -plumbline and -lab): %w", err)
	}
	dir := strings.TrimSpace(string(root))
	cache := filepath.Join(dir, ".cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	if o.plumbline == "" {
		o.plumbline = filepath.Join(cache, "plumbline-bench-daemon")
		if err := locked(ctx, dir, o.plumbline, "go", "build", "-o", o.plumbline, "./cmd/plumbline"); err != nil {
			return err
		}
	}
	if o.lab == "" {
		o.lab = filepath.Join(cache, "plumbline-lab")
		return locked(ctx, dir, o.lab, "cmd/plumbline-lab/build.sh", o.lab)
	}
	return nil
}

// locked runs a build that others may want to run too.
func locked(ctx context.Context, dir, out, name string, args ...string) error {
	lock, err := os.Create(out + ".lock")
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", filepath.Base(out), err, said)
	}
	return nil
}
