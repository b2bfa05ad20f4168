package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// Snapshot is one commit of a Source: immutable, and safe for concurrent use. It stays readable when newer commits are
// fetched, packs are merged, or the mirror is replaced.
type Snapshot struct {
	Source  string    // Source.Name
	Ref     string    // such as refs/heads/main or refs/tags/v1.2.3
	Commit  string    // 40 hex digits
	Author  string    // Name <address>; printable, as all text here, but chosen by whoever made the commit
	Subject string    // first line of the message
	Time    time.Time // committer time
	Signer  string    // whose signature was accepted; empty when Source.Verify is not set
	// FS is the tree of the commit. It implements fs.ReadDirFS, fs.ReadFileFS, fs.StatFS, fs.ReadLinkFS and
	//
	//	Hash(name string) (string, error)
	//
	// which returns the id (40 hex digits) of the blob or tree that name leads to: two names with the same Hash have
	// the same content. Links are followed inside of the tree. A directory's Hash covers the links in it, not what
	// they lead to. Snapshots of a source with the same tree have the same FS.
	FS fs.FS
}

// What is wrong with a file of a snapshot; errors.Is finds them in its *fs.PathError. A budget is ErrTooLarge.
var (
	ErrSubmodule = errors.New("is in a submodule, which is not supported; vendor the files, or remove it")
	ErrLFS       = errors.New("is a Git LFS pointer, not the file, which is not supported; commit the file itself")
	ErrLink      = errors.New("bad symbolic link")
)

// treeFS is a tree of a store as a file system.
type treeFS struct {
	st      *store
	root    plumbing.Hash
	maxFile int64
}

var (
	_ fs.ReadDirFS  = (*treeFS)(nil)
	_ fs.ReadFileFS = (*treeFS)(nil)
	_ fs.StatFS     = (*treeFS)(nil)
	_ fs.ReadLinkFS = (*treeFS)(nil)
)

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Hash returns the id of the blob or tree that name leads to.
func (f *treeFS) Hash(name string) (string, error) {
	n, err := f.walk("hash", name, true)
	if err != nil {
		return "", err
	}
	return n.id.String(), nil
}

func (f *treeFS) Open(name string) (fs.File, error) {
	n, err := f.walk("open", name, true)
	if err != nil {
		return nil, err
	}
	info, err := f.info("open", name, n)
	if err != nil {
		return nil, err
	}
	if n.kind == kindDir {
		return &openDir{fs: f, path: name, info: info, id: n.id}, nil
	}
	return &openFile{fs: f, path: name, info: info, id: n.id}, nil
}

func (f *treeFS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.walk("stat", name, true)
	if err != nil {
		return nil, err
	}
	return f.info("stat", name, n)
}

// Lstat is Stat of a link itself.
func (f *treeFS) Lstat(name string) (fs.FileInfo, error) {
	n, err := f.walk("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return f.info("lstat", name, n)
}

// ReadLink returns the target as it was committed; it may lead nowhere.
func (f *treeFS) ReadLink(name string) (string, error) {
	n, err := f.walk("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.kind != kindLink {
		return "", pathError("readlink", name, fs.ErrInvalid)
	}
	target, err := f.target(n)
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return target, nil
}

func (f *treeFS) ReadFile(name string) ([]byte, error) {
	n, err := f.walk("read", name, true)
	if err != nil {
		return nil, err
	}
	if n.kind == kindDir {
		return nil, pathError("read", name, errors.New("is a directory"))
	}
	return f.content(name, n.id)
}

func (f *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.walk("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if n.kind != kindDir {
		return nil, pathError("readdir", name, errors.New("is not a directory"))
	}
	return f.list(name, n.id)
}

func (f *treeFS) list(name string, id plumbing.Hash) ([]fs.DirEntry, error) {
	t, err := f.st.tree(id)
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	list := make([]fs.DirEntry, len(t.nodes))
	for i, n := range t.nodes {
		list[i] = dirEntry{fs: f, path: path.Join(name, n.name), node: n}
	}
	return list, nil
}

// content reads a whole file; its size is known before anything is loaded.
func (f *treeFS) content(name string, id plumbing.Hash) ([]byte, error) {
	data, err := f.blob(id, f.maxFile)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	if isLFSPointer(data) {
		return nil, pathError("read", name, ErrLFS)
	}
	return data, nil
}

func (f *treeFS) blob(id plumbing.Hash, limit int64) ([]byte, error) {
	_, size, err := f.st.stat(id)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("%w: %s, and at most %s are read", ErrTooLarge, formatBytes(size), formatBytes(limit))
	}
	kind, data, err := f.st.object(id, limit)
	if err == nil && kind != plumbing.BlobObject {
		err = fmt.Errorf("%w: %s is a %s, not a blob", ErrCorrupt, id, kind)
	}
	return data, err
}

// isLFSPointer follows git-lfs/docs/spec.md: the version comes first, and pointers are shorter than 1 KiB.
func isLFSPointer(data []byte) bool {
	return len(data) < 1024 && bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/"))
}

func (f *treeFS) info(op, name string, n node) (fs.FileInfo, error) {
	i := fileInfo{name: path.Base(name), mode: n.kind.mode()}
	if n.kind == kindFile || n.kind == kindLink {
		_, size, err := f.st.stat(n.id)
		if err != nil {
			return nil, pathError(op, name, err)
		}
		i.size = size
	}
	return i, nil
}

type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return time.Time{} } // Git records none
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

type dirEntry struct {
	fs   *treeFS
	path string
	node node
}

func (e dirEntry) Name() string               { return e.node.name }
func (e dirEntry) IsDir() bool                { return e.node.kind == kindDir }
func (e dirEntry) Type() fs.FileMode          { return e.node.kind.mode().Type() }
func (e dirEntry) Info() (fs.FileInfo, error) { return e.fs.info("stat", e.path, e.node) }
func (e dirEntry) String() string             { return fs.FormatDirEntry(e) }

// openFile loads its content at the first read.
type openFile struct {
	fs   *treeFS
	path string
	info fs.FileInfo
	id   plumbing.Hash
	r    *bytes.Reader
	done bool
}

func (o *openFile) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openFile) Close() error               { o.r, o.done = nil, true; return nil }

func (o *openFile) load() error {
	if o.done {
		return pathError("read", o.path, fs.ErrClosed)
	}
	if o.r != nil {
		return nil
	}
	data, err := o.fs.content(o.path, o.id)
	if err == nil {
		o.r = bytes.NewReader(data)
	}
	return err
}

func (o *openFile) Read(b []byte) (int, error) {
	if err := o.load(); err != nil {
		return 0, err
	}
	return o.r.Read(b)
}

func (o *openFile) Seek(offset int64, whence int) (int64, error) {
	if err := o.load(); err != nil {
		return 0, err
	}
	return o.r.Seek(offset, whence)
}

func (o *openFile) ReadAt(b []byte, offset int64) (int, error) {
	if err := o.load(); err != nil {
		return 0, err
	}
	return o.r.ReadAt(b, offset)
}

type openDir struct {
	fs   *treeFS
	path string
	info fs.FileInfo
	id   plumbing.Hash
	at   int
	done bool
}

func (o *openDir) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openDir) Close() error               { o.done = true; return nil }

func (o *openDir) Read([]byte) (int, error) {
	return 0, pathError("read", o.path, errors.New("is a directory"))
}

func (o *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if o.done {
		return nil, pathError("readdir", o.path, fs.ErrClosed)
	}
	list, err := o.fs.list(o.path, o.id)
	if err != nil {
		return nil, err
	}
	list = list[min(o.at, len(list)):]
	if n > 0 {
		if len(list) == 0 {
			return nil, io.EOF
		}
		list = list[:min(n, len(list))]
	}
	o.at += len(list)
	return list, nil
}
