package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
)

// recorder reads a tree once, within a budget, and remembers what it was asked and answered.
// It serves one render, so it needs no lock.
type recorder struct {
	ctx    context.Context //nolint:containedctx // kustomize has none: it stops where files are read
	fsys   fs.FS
	budget Budget

	content map[string][]byte
	kinds   map[string]pathKind
	files   map[string]string
	lists   map[string]string
	bytes   int64
}

func newRecorder(ctx context.Context, fsys fs.FS, budget Budget) *recorder {
	return &recorder{
		ctx: ctx, fsys: fsys, budget: budget,
		content: map[string][]byte{}, kinds: map[string]pathKind{},
		files: map[string]string{}, lists: map[string]string{},
	}
}

// inputs is what was asked so far.
func (r *recorder) inputs() Inputs {
	in := Inputs{Files: maps.Clone(r.files), Lists: maps.Clone(r.lists)}
	for _, name := range slices.Sorted(maps.Keys(r.kinds)) {
		switch r.kinds[name] {
		case isMissing, isOther:
			in.Missing = append(in.Missing, name)
		case isDir:
			in.Dirs = append(in.Dirs, name)
		case isFile: // counts once it is read
		}
	}
	return in
}

// kind says what a path is, and records the question.
func (r *recorder) kind(name string) (pathKind, error) {
	if k, ok := r.kinds[name]; ok {
		return k, nil
	}
	if err := context.Cause(r.ctx); err != nil {
		return isMissing, err
	}
	k, err := kindOf(r.fsys, name)
	if err != nil {
		return isMissing, fmt.Errorf("look up %s: %w", name, err)
	}
	r.kinds[name] = k
	return k, nil
}

// read returns a regular file's content, the same one however often it is asked.
func (r *recorder) read(name string) ([]byte, error) {
	if data, ok := r.content[name]; ok {
		return data, nil
	}
	if err := context.Cause(r.ctx); err != nil {
		return nil, err
	}
	if len(r.content) >= r.budget.Files {
		return nil, inputError(name, 0, overBudget("files", r.budget.Files))
	}
	data, err := r.readBounded(name)
	if err != nil {
		return nil, err
	}
	if err := r.recordFile(name, data); err != nil {
		return nil, err
	}
	if r.bytes += int64(len(data)); r.bytes > r.budget.TotalBytes {
		return nil, inputError(name, 0, overBudget("bytes in all files", r.budget.TotalBytes))
	}
	r.content[name] = data
	return data, nil
}

func (r *recorder) readBounded(name string) ([]byte, error) {
	f, err := r.fsys.Open(name)
	if err != nil {
		return nil, r.unreadable(name, fmt.Errorf("open %s: %w", name, err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", name, err)
	}
	limit := r.budget.FileBytes
	if info.Size() > limit {
		return nil, r.refuse(name, info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, r.unreadable(name, fmt.Errorf("read %s: %w", name, err))
	}
	if int64(len(data)) > limit { // it said less than it has
		return nil, r.refuse(name, info.Size(), limit)
	}
	return data, nil
}

// faulty is an error of a tree that knows whether the file itself is to blame, such
// as a sealed one that can't be opened.
type faulty interface {
	error
	InputFault() bool
}

// unreadable tells a file that is to blame from a tree that can't be read now. The
// first is an input all the same: it is looked at again when it has changed.
func (r *recorder) unreadable(name string, err error) error {
	var fault faulty
	if !errors.As(err, &fault) {
		return err
	}
	if idErr := r.recordFile(name, nil); idErr != nil {
		return err
	}
	if !fault.InputFault() {
		return fault
	}
	return Problem{Err: fault} // it names the file
}

// recordFile notes the id of a file that was read. A tree that can hash says it itself:
// what it hands out may be opened (decrypted), what it hashes is what Git holds.
func (r *recorder) recordFile(name string, data []byte) error {
	if _, ok := r.fsys.(hasher); !ok {
		r.files[name] = blobIDOf(data)
		return nil
	}
	id, err := blobID(r.fsys, name)
	if err != nil {
		return fmt.Errorf("hash %s: %w", name, err)
	}
	r.files[name] = id
	return nil
}

// refuse records the size of a file that is not read, so that a smaller one is noticed.
func (r *recorder) refuse(name string, size, limit int64) error {
	r.files[name] = sizeAnswer(size)
	return inputError(name, 0, overBudget("bytes in one file", limit))
}

// names lists a directory, and records the question. It gives nothing where there is none.
func (r *recorder) names(dir string) []string {
	if k, err := r.kind(dir); err != nil || k != isDir {
		return nil
	}
	hash, names, err := list(r.fsys, dir)
	if err != nil {
		return nil
	}
	r.lists[dir] = hash
	return names
}
