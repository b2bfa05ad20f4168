package secrets

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // git names its blobs with it
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
)

// Files is a tree in which sealed files read as plain ones. Plaintext is in memory
// only, for as long as Files is. It is safe for concurrent use where the tree is.
//
// A file is opened when it is read, and when somebody asks for its size. What is wrong
// with it comes as a [*SealedError].
type Files struct {
	ctx   context.Context // io/fs has none
	tree  fs.FS
	limit int64 // of a sealed file
	open  func(ctx context.Context, name string, sealed []byte) ([]byte, error)

	mu     sync.Mutex
	opened map[string][]byte
}

var (
	_ fs.ReadFileFS = (*Files)(nil)
	_ fs.StatFS     = (*Files)(nil)
	_ fs.ReadDirFS  = (*Files)(nil)
	_ fs.ReadLinkFS = (*Files)(nil)
)

// Opened lists the sealed files that were read so far, sorted.
func (f *Files) Opened() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.opened))
}

// Open implements fs.FS.
func (f *Files) Open(name string) (fs.File, error) {
	file, err := f.tree.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	if dir, ok := file.(fs.ReadDirFile); ok && info.IsDir() {
		return &openDir{dir, f, name}, nil
	}
	if !info.Mode().IsRegular() {
		return file, nil
	}
	defer file.Close()
	data, small, err := f.content(name, file)
	switch {
	case err != nil:
		return nil, err
	case !small:
		return f.tree.Open(name)
	}
	return &openFile{bytes.NewReader(data), sized{info, int64(len(data))}}, nil
}

// content is what a file reads as. One that is larger than a sealed file may be, and
// isn't sealed, is not small, and stays where it is.
func (f *Files) content(name string, file io.Reader) (data []byte, small bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if plain, ok := f.opened[name]; ok {
		return plain, true, nil
	}
	data, err = io.ReadAll(io.LimitReader(file, f.limit+1))
	if err != nil {
		return nil, false, err
	}
	if int64(len(data)) > f.limit {
		return nil, false, f.refuseSealed(name, io.MultiReader(bytes.NewReader(data), file))
	}
	sealed, err := unpanicked(name, func() (bool, error) { return sniff(name, data) })
	if err != nil || !sealed {
		return data, true, err
	}
	plain, err := unpanicked(name, func() ([]byte, error) {
		if err := context.Cause(f.ctx); err != nil {
			return nil, err
		}
		return f.open(f.ctx, name, data)
	})
	if err != nil {
		return nil, false, err
	}
	f.opened[name] = plain
	return plain, true, nil
}

// refuseSealed is the error for a large file that is sealed. It looks at a part at a
// time, and so knows a sops block by its MAC alone.
func (f *Files) refuseSealed(name string, file io.Reader) error {
	const overlap = 256
	window := make([]byte, 64<<10)
	kept := 0
	for {
		n, err := io.ReadFull(file, window[kept:])
		if anyMAC.Match(window[:kept+n]) {
			return &SealedError{name, fault("it is sealed, and larger than the %d bytes that are opened: split it, or move what is no secret elsewhere", f.limit)}
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return err
		}
		kept = copy(window, window[kept+n-overlap:kept+n])
	}
}

// ReadFile implements fs.ReadFileFS.
func (f *Files) ReadFile(name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(file)
}

// Stat implements fs.StatFS. It reads nothing until somebody asks for the size.
func (f *Files) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(f.tree, name)
	return f.info(name, info), err
}

// Lstat implements fs.ReadLinkFS.
func (f *Files) Lstat(name string) (fs.FileInfo, error) {
	info, err := fs.Lstat(f.tree, name)
	return f.info(name, info), err
}

// ReadLink implements fs.ReadLinkFS.
func (f *Files) ReadLink(name string) (string, error) { return fs.ReadLink(f.tree, name) }

// ReadDir implements fs.ReadDirFS.
func (f *Files) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(f.tree, name)
	return f.entries(name, entries), err
}

// Hash is the id that Git gives the file as it is in the tree: sealed.
func (f *Files) Hash(name string) (string, error) {
	if tree, ok := f.tree.(interface{ Hash(string) (string, error) }); ok {
		return tree.Hash(name)
	}
	file, err := f.tree.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", &fs.PathError{Op: "hash", Path: name, Err: fs.ErrInvalid}
	}
	sum := sha1.New() //nolint:gosec // git names its blobs with it
	fmt.Fprintf(sum, "blob %d\x00", info.Size())
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// size is that of what Read gives; as it is in the tree where the file can't be read.
func (f *Files) size(name string, sealed int64) int64 {
	file, err := f.Open(name)
	if err != nil {
		return sealed
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return sealed
	}
	return info.Size()
}

func (f *Files) info(name string, info fs.FileInfo) fs.FileInfo {
	if info == nil || !info.Mode().IsRegular() {
		return info
	}
	return lazyInfo{info, f, name}
}

func (f *Files) entries(dir string, entries []fs.DirEntry) []fs.DirEntry {
	out := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		out[i] = fileEntry{e, f, path.Join(dir, e.Name())}
	}
	return out
}

type lazyInfo struct {
	fs.FileInfo
	files *Files
	name  string
}

func (i lazyInfo) Size() int64    { return i.files.size(i.name, i.FileInfo.Size()) }
func (i lazyInfo) String() string { return fs.FormatFileInfo(i) }

type fileEntry struct {
	fs.DirEntry
	files *Files
	name  string
}

func (e fileEntry) Info() (fs.FileInfo, error) {
	info, err := e.DirEntry.Info()
	return e.files.info(e.name, info), err
}

func (e fileEntry) String() string { return fs.FormatDirEntry(e) }

type openDir struct {
	fs.ReadDirFile
	files *Files
	name  string
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	entries, err := d.ReadDirFile.ReadDir(n)
	return d.files.entries(d.name, entries), err
}

// openFile is a file that was read whole.
type openFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (o *openFile) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *openFile) Close() error               { return nil }

type sized struct {
	fs.FileInfo
	size int64
}

func (s sized) Size() int64    { return s.size }
func (s sized) String() string { return fs.FormatFileInfo(s) }
