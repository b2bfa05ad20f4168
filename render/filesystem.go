package render

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// mount is where kustomize finds the tree. A path that climbs above the tree's root leaves it,
// and so is refused: kustomize itself would clamp it to the root and find another file.
const mount = "/tree"

// filesystem is the tree as kustomize sees it: read-only, and only what the check let pass.
type filesystem struct {
	checked *check
	failed  error // the first failure that is not about a missing file
}

func (f *filesystem) name(p string) (string, error) {
	p = path.Clean(filepath.ToSlash(p))
	if p == mount {
		return ".", nil
	}
	name, ok := strings.CutPrefix(p, mount+"/")
	if !ok {
		return "", &fs.PathError{Op: "open", Path: path.Base(p), Err: fs.ErrNotExist}
	}
	return name, nil
}

// ReadFile implements filesys.FileSystem.
func (f *filesystem) ReadFile(p string) ([]byte, error) {
	name, err := f.name(p)
	if err != nil {
		return nil, err
	}
	if err := f.checked.rec.ctx.Err(); err != nil {
		return nil, f.fail(err)
	}
	data, ok := f.checked.served[name]
	if !ok {
		return nil, f.notServed(name)
	}
	if name == f.checked.entryFile {
		return f.checked.withOrigins, nil
	}
	if other, ok := f.checked.rewritten[name]; ok {
		return other, nil
	}
	return data, nil
}

// notServed tells a file that is not there from one that is and was not checked, which would
// be a hole in the check.
func (f *filesystem) notServed(name string) error {
	kind, err := f.checked.rec.kind(name)
	if err != nil {
		return f.fail(err)
	}
	if kind == isFile {
		return f.fail(inputErrorf(name, 0, "kustomize reads it although nothing names it: please report"))
	}
	return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (f *filesystem) fail(err error) error {
	if f.failed == nil {
		f.failed = err
	}
	return err
}

// CleanedAbs implements filesys.FileSystem.
func (f *filesystem) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	name, err := f.name(p)
	if err != nil {
		return "", "", err
	}
	kind, err := f.checked.rec.kind(name)
	if err != nil {
		return "", "", f.fail(err)
	}
	full := path.Join(mount, name)
	switch kind {
	case isDir:
		return filesys.ConfirmedDir(full), "", nil
	case isFile:
		return filesys.ConfirmedDir(path.Dir(full)), path.Base(full), nil
	}
	return "", "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// IsDir implements filesys.FileSystem.
func (f *filesystem) IsDir(p string) bool { return f.is(p, isDir) }

// Exists implements filesys.FileSystem.
func (f *filesystem) Exists(p string) bool { return f.is(p, isDir) || f.is(p, isFile) }

func (f *filesystem) is(p string, want pathKind) bool {
	name, err := f.name(p)
	if err != nil {
		return false
	}
	kind, err := f.checked.rec.kind(name)
	if err != nil {
		_ = f.fail(err) // kept for the end: kustomize asks a yes-or-no question here
		return false
	}
	return kind == want
}

// The rest of filesys.FileSystem. A build needs none of it, and it changes nothing.

func (f *filesystem) refuse(op, p string) error {
	return fmt.Errorf("%s %s: %w", op, path.Base(p), fs.ErrPermission)
}

func (f *filesystem) Create(p string) (filesys.File, error)    { return nil, f.refuse("create", p) }
func (f *filesystem) Mkdir(p string) error                     { return f.refuse("mkdir", p) }
func (f *filesystem) MkdirAll(p string) error                  { return f.refuse("mkdir", p) }
func (f *filesystem) RemoveAll(p string) error                 { return f.refuse("remove", p) }
func (f *filesystem) WriteFile(p string, _ []byte) error       { return f.refuse("write", p) }
func (f *filesystem) Open(p string) (filesys.File, error)      { return nil, f.refuse("open", p) }
func (f *filesystem) ReadDir(p string) ([]string, error)       { return nil, f.refuse("list", p) }
func (f *filesystem) Glob(p string) ([]string, error)          { return nil, f.refuse("list", p) }
func (f *filesystem) Walk(p string, _ filepath.WalkFunc) error { return f.refuse("list", p) }
