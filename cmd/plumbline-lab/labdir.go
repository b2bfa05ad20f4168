package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Names of the files in a lab's directory.
const (
	adminKubeconfig     = "kubeconfig"
	plumblineKubeconfig = "plumbline.kubeconfig"
	logName             = "lab.log"
	lockName            = "lab.lock"
)

// A labDir is the locked home of one cluster.
type labDir struct {
	path      string
	lock      *os.File
	temporary bool
}

// openLabDir creates and locks the directory and makes it the working directory,
// so that etcd's sockets have short relative names: the path of a socket is
// limited to about 100 bytes, the path of a directory is not.
func openLabDir(path string) (*labDir, error) {
	dir := &labDir{path: path}
	var err error
	if path == "" {
		dir.temporary = true
		dir.path, err = os.MkdirTemp("", "plumbline-lab-")
	} else {
		err = os.MkdirAll(path, 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	if dir.path, err = filepath.Abs(dir.path); err != nil {
		return nil, err
	}
	if err := dir.acquire(); err != nil {
		return nil, err
	}
	if err := os.Chdir(dir.path); err != nil {
		dir.close()
		return nil, err
	}
	return dir, nil
}

// acquire locks the directory. The kernel drops the lock with the process, so a
// killed lab does not stand in the way of the next one.
func (d *labDir) acquire() error {
	lock, err := os.OpenFile(d.file(lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		_ = lock.Close()
		return fmt.Errorf("directory %s is in use by another plumbline-lab", d.path)
	}
	if err != nil {
		_ = lock.Close()
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	d.lock = lock
	return nil
}

func (d *labDir) file(name string) string { return filepath.Join(d.path, name) }

// close removes a temporary directory, and unlocks.
func (d *labDir) close() {
	if d.temporary {
		_ = os.RemoveAll(d.path)
	}
	_ = d.lock.Close()
}

// logTail returns the end of the log, for the error message of a lab whose
// directory, and log with it, is about to be removed.
func (d *labDir) logTail(lines int) string {
	data, err := os.ReadFile(d.file(logName))
	if err != nil {
		return ""
	}
	all := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
