package render

import (
	"crypto/sha1" //nolint:gosec // git names its blobs with it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Inputs is everything that a render read, found or missed. Same inputs, same output.
// Paths are slash-separated and relative to the root of the tree.
type Inputs struct {
	Files   map[string]string // read: path → git blob id, in hex; its size where that was too large to read
	Lists   map[string]string // listed directories: path → hash of the names and types in it
	Dirs    []string          // found to be directories, sorted
	Missing []string          // asked for and not there, or neither file nor directory; sorted
}

// hasher is what a Git tree can do that a directory cannot: name a file's content unread.
type hasher interface {
	Hash(name string) (string, error)
}

// Changed returns the first path, in sorted order, whose answer differs in fsys from the one
// that the render got, and "" when none does. It reads no file where fsys has a
// Hash(name string) (string, error) method that gives git blob ids.
func (in Inputs) Changed(fsys fs.FS) (string, error) {
	for _, name := range in.paths() {
		changed, err := in.differs(fsys, name)
		if err != nil {
			return "", fmt.Errorf("compare %s: %w", name, err)
		}
		if changed {
			return name, nil
		}
	}
	return "", nil
}

// And adds files, and directories with all that is below them, that somebody reads
// besides. What is not there is an input too.
func (in Inputs) And(fsys fs.FS, names ...string) (Inputs, error) {
	out := Inputs{Files: cloned(in.Files), Lists: cloned(in.Lists), Dirs: slices.Clone(in.Dirs), Missing: slices.Clone(in.Missing)}
	for _, name := range names {
		if err := out.add(fsys, name); err != nil {
			return in, fmt.Errorf("look up %s: %w", name, err)
		}
	}
	for _, list := range []*[]string{&out.Dirs, &out.Missing} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return out, nil
}

func (in *Inputs) add(fsys fs.FS, name string) error {
	kind, err := kindOf(fsys, name)
	switch {
	case err != nil:
		return err
	case kind == isFile:
		in.Files[name], err = blobID(fsys, name)
		return err
	case kind != isDir:
		in.Missing = append(in.Missing, name)
		return nil
	}
	hash, names, err := list(fsys, name)
	if err != nil {
		return err
	}
	in.Lists[name] = hash
	for _, below := range names {
		if err := in.add(fsys, path.Join(name, below)); err != nil {
			return err
		}
	}
	return nil
}

func (in Inputs) paths() []string {
	all := slices.Concat(in.Dirs, in.Missing)
	all = slices.AppendSeq(all, maps.Keys(in.Files))
	all = slices.AppendSeq(all, maps.Keys(in.Lists))
	slices.Sort(all)
	return slices.Compact(all)
}

func (in Inputs) differs(fsys fs.FS, name string) (bool, error) {
	is, err := kindOf(fsys, name)
	if err != nil {
		return false, err
	}
	if want, ok := in.Files[name]; ok {
		if is != isFile {
			return true, nil
		}
		have, err := answer(fsys, name, want)
		return have != want, err
	}
	if want, ok := in.Lists[name]; ok {
		if is != isDir {
			return true, nil
		}
		have, _, err := list(fsys, name)
		return have != want, err
	}
	if _, ok := slices.BinarySearch(in.Missing, name); ok {
		return is == isFile || is == isDir, nil
	}
	return is != isDir, nil
}

// tooLarge is the answer of a file that a render refused to read, with its size.
const tooLarge = "too large: "

func sizeAnswer(size int64) string { return tooLarge + strconv.FormatInt(size, 10) }

// answer gives a file's answer in the terms of an earlier one.
func answer(fsys fs.FS, name, like string) (string, error) {
	if !strings.HasPrefix(like, tooLarge) {
		return blobID(fsys, name)
	}
	info, err := stat(fsys, name)
	if err != nil {
		return "", err
	}
	return sizeAnswer(info.Size()), nil
}

// What a path is.
type pathKind int

const (
	isMissing pathKind = iota
	isFile
	isDir
	isOther // a device, a pipe, a socket
)

func kindOf(fsys fs.FS, name string) (pathKind, error) {
	info, err := stat(fsys, name)
	switch {
	case err != nil && isNotThere(err):
		return isMissing, nil
	case err != nil:
		return isMissing, err
	case info.IsDir():
		return isDir, nil
	case info.Mode().IsRegular():
		return isFile, nil
	}
	return isOther, nil
}

func stat(fsys fs.FS, name string) (fs.FileInfo, error) {
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return fs.Stat(fsys, name)
}

// isNotThere is true too where a parent is a file, or the name is longer than names can be.
func isNotThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENAMETOOLONG)
}

// blobID names the content of a file the way git does.
func blobID(fsys fs.FS, name string) (string, error) {
	if h, ok := fsys.(hasher); ok {
		return h.Hash(name)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	sum := sha1.New() //nolint:gosec // git names its blobs with it
	fmt.Fprintf(sum, "blob %d\x00", info.Size())
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func blobIDOf(content []byte) string {
	sum := sha1.New() //nolint:gosec // git names its blobs with it
	fmt.Fprintf(sum, "blob %d\x00", len(content))
	sum.Write(content)
	return hex.EncodeToString(sum.Sum(nil))
}

// list gives the hash of a directory's names and types, and the names.
func list(fsys fs.FS, name string) (string, []string, error) {
	entries, err := fs.ReadDir(fsys, name)
	if err != nil {
		return "", nil, err
	}
	sum := sha1.New() //nolint:gosec // a change detector, not a signature
	names := make([]string, 0, len(entries))
	for _, e := range entries { // fs.ReadDir sorts
		fmt.Fprintf(sum, "%s\x00%t\n", e.Name(), e.IsDir())
		names = append(names, e.Name())
	}
	return hex.EncodeToString(sum.Sum(nil)), names, nil
}

func cloned(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
