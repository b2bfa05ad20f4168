package fetch

import (
	"fmt"
	"io/fs"
	"strings"
)

const (
	maxLinks = 40       // links followed for one name, as in Linux
	maxRest  = 64 << 10 // bytes of path that links may unfold to
)

// walk finds the node that name leads to. Links are followed inside of the tree; the last one only if follow is set.
// ".." in the target of a link is resolved against the directories that were really walked through.
func (f *treeFS) walk(op, name string, follow bool) (node, error) {
	if !fs.ValidPath(name) {
		return node{}, pathError(op, name, fs.ErrInvalid)
	}
	n, linked, err := f.direct(name)
	if linked {
		w := walker{fs: f, dirs: []node{f.top()}, rest: name}
		n, err = w.run(follow)
	}
	if err != nil {
		return node{}, pathError(op, name, err)
	}
	return n, nil
}

func (f *treeFS) top() node { return node{name: ".", kind: kindDir, id: f.root} }

// direct is the usual walk: thousands of recorded paths are looked up after each commit. It gives up at a link.
func (f *treeFS) direct(name string) (n node, linked bool, err error) {
	n = f.top()
	if name == "." {
		return n, false, nil
	}
	for more := true; more; {
		if n.kind != kindDir {
			if n.kind == kindSubmodule {
				return n, false, ErrSubmodule
			}
			return n, false, fs.ErrNotExist
		}
		here, err := f.st.tree(n.id)
		if err != nil {
			return n, false, err
		}
		var part string
		part, name, more = strings.Cut(name, "/")
		var ok bool
		if n, ok = here.lookup(part); !ok {
			return n, false, fs.ErrNotExist
		}
		if n.kind == kindLink {
			return n, true, nil
		}
	}
	if n.kind == kindSubmodule {
		return n, false, ErrSubmodule
	}
	return n, false, nil
}

// walker is the walk with links.
type walker struct {
	fs    *treeFS
	dirs  []node // from the root to where we are
	rest  string // what is still to be walked
	links int
}

func (w *walker) run(follow bool) (node, error) {
	for w.rest != "" {
		var part string
		part, w.rest, _ = strings.Cut(w.rest, "/")
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if len(w.dirs) == 1 {
				return node{}, fmt.Errorf("%w: it leads out of the repository", ErrLink)
			}
			w.dirs = w.dirs[:len(w.dirs)-1]
			continue
		}
		here, err := w.fs.st.tree(w.dirs[len(w.dirs)-1].id)
		if err != nil {
			return node{}, err
		}
		n, ok := here.lookup(part)
		if !ok {
			return node{}, fs.ErrNotExist
		}
		done, err := w.step(n, follow)
		if done || err != nil {
			return n, err
		}
	}
	return w.dirs[len(w.dirs)-1], nil
}

// step goes into n, or reports that n is where the walk ends.
func (w *walker) step(n node, follow bool) (done bool, err error) {
	switch n.kind {
	case kindDir:
		w.dirs = append(w.dirs, n)
		return false, nil
	case kindLink:
		if w.rest == "" && !follow {
			return true, nil
		}
		return false, w.follow(n)
	case kindSubmodule:
		return true, ErrSubmodule
	}
	if strings.Trim(w.rest, "/") != "" {
		return true, fs.ErrNotExist // a file is not a directory
	}
	return true, nil
}

func (w *walker) follow(n node) error {
	if w.links++; w.links > maxLinks {
		return fmt.Errorf("%w: more than %d links in a row; do they form a loop?", ErrLink, maxLinks)
	}
	target, err := w.fs.target(n)
	if err != nil {
		return err
	}
	switch {
	case target == "" || strings.ContainsRune(target, 0):
		return fmt.Errorf("%w: its target %q is not a path", ErrLink, target)
	case strings.HasPrefix(target, "/"):
		return fmt.Errorf("%w: its target %q is absolute, and so leads out of the repository", ErrLink, printable(target, 200))
	}
	if w.rest != "" {
		target += "/" + w.rest
	}
	if len(target) > maxRest {
		return fmt.Errorf("%w: links unfold to a path of %d bytes", ErrLink, len(target))
	}
	w.rest = target
	return nil
}

func (f *treeFS) target(n node) (string, error) {
	data, err := f.blob(n.id, 4096)
	return string(data), err
}
