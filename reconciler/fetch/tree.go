package fetch

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
)

const maxTree = 16 << 20 // bytes of one tree object: some 400,000 entries

// node is one entry of a tree.
type node struct {
	name string
	kind kind
	id   plumbing.Hash
}

type kind uint8

const (
	kindFile kind = iota
	kindDir
	kindLink
	kindSubmodule
)

// mode is what io/fs shows: nothing in a snapshot is writable, and whether it is executable does not matter.
func (k kind) mode() fs.FileMode {
	switch k {
	case kindDir:
		return fs.ModeDir | 0o555
	case kindLink:
		return fs.ModeSymlink | 0o777
	case kindSubmodule:
		return fs.ModeIrregular
	}
	return 0o444
}

// tree is a decoded tree object, sorted by name as io/fs wants it (Git sorts directories as if they ended in a slash).
type tree struct {
	nodes []node
	size  int64 // of it in memory
}

func (t *tree) lookup(name string) (node, bool) {
	i, ok := slices.BinarySearchFunc(t.nodes, name, func(n node, name string) int { return strings.Compare(n.name, name) })
	if !ok {
		return node{}, false
	}
	return t.nodes[i], true
}

// decodeTree refuses what could not be named by a valid path, could be named twice, or does harm where it is printed.
func decodeTree(data []byte) (*tree, error) {
	t := &tree{size: int64(len(data))}
	var err error
	if t.nodes, err = parseTree(data); err != nil {
		return nil, err
	}
	for _, n := range t.nodes {
		if err := checkName(n.name); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(t.nodes, func(a, b node) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(t.nodes); i++ {
		if t.nodes[i].name == t.nodes[i-1].name {
			return nil, fmt.Errorf("tree holds two entries named %q", t.nodes[i].name)
		}
	}
	t.size += int64(len(t.nodes)) * 40
	return t, nil
}

// parseTree takes names as they are.
func parseTree(data []byte) ([]node, error) {
	raw := string(data) // the names share it
	nodes := make([]node, 0, len(raw)/32)
	for len(raw) > 0 {
		mode, rest, ok := strings.Cut(raw, " ")
		name, rest, ok2 := strings.Cut(rest, "\x00")
		if !ok || !ok2 || len(rest) < hashSize {
			return nil, errors.New("malformed tree")
		}
		k, err := parseKind(mode)
		if err != nil {
			return nil, err
		}
		n := node{name: name, kind: k}
		copy(n.id[:], rest)
		nodes = append(nodes, n)
		raw = rest[hashSize:]
	}
	return slices.Clip(nodes), nil
}

const maxName = 255 // bytes, as in file systems

// checkName keeps control characters out of errors, logs and terminals, which all show paths. What is not UTF-8 is no
// valid path for io/fs, and holds control characters for terminals of 8 bits.
func checkName(name string) error {
	switch {
	case name == "" || name == "." || name == ".." || strings.Contains(name, "/") || strings.EqualFold(name, ".git"):
		return fmt.Errorf("tree holds an entry named %q", name)
	case len(name) > maxName:
		return fmt.Errorf("tree holds an entry with a name of %d bytes, limit %d: %q", len(name), maxName, printable(name, 50))
	case !utf8.ValidString(name):
		return fmt.Errorf("tree holds an entry named %q, which is not UTF-8; rename it", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("tree holds an entry named %q, with control characters; rename it", name)
	}
	return nil
}

func parseKind(mode string) (kind, error) {
	mode = strings.TrimLeft(mode, "0")
	if len(mode) == 6 && strings.HasPrefix(mode, "100") {
		return kindFile, nil // old Gits wrote more permissions than 644 and 755
	}
	switch mode {
	case "40000":
		return kindDir, nil
	case "120000":
		return kindLink, nil
	case "160000":
		return kindSubmodule, nil
	}
	return 0, fmt.Errorf("tree holds an entry of mode %q", printable(mode, 12))
}

// tree returns a decoded tree, from the cache if it is there.
func (st *store) tree(id plumbing.Hash) (*tree, error) {
	if t, ok := st.trees.get(id); ok {
		return t, nil
	}
	kind, data, err := st.object(id, maxTree)
	if err != nil {
		return nil, err
	}
	if kind != plumbing.TreeObject {
		return nil, fmt.Errorf("%w: %s is a %s, not a tree", ErrCorrupt, id, kind)
	}
	t, err := decodeTree(data)
	if err != nil {
		return nil, fmt.Errorf("%w: tree %s: %v", ErrProtocol, id, err)
	}
	st.trees.put(id, t)
	return t, nil
}

// treeCache keeps the trees that were used last, up to a number of bytes. All snapshots of a source share it.
type treeCache struct {
	mu    sync.Mutex
	room  int64
	byID  map[plumbing.Hash]*list.Element
	order list.List // of *cachedTree, most recent first
}

type cachedTree struct {
	id plumbing.Hash
	*tree
}

func newTreeCache(room int64) *treeCache {
	return &treeCache{room: room, byID: map[plumbing.Hash]*list.Element{}}
}

func (c *treeCache) get(id plumbing.Hash) (*tree, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byID[id]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*cachedTree).tree, true
}

func (c *treeCache) put(id plumbing.Hash, t *tree) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byID[id]; ok {
		return
	}
	c.byID[id] = c.order.PushFront(&cachedTree{id, t})
	c.room -= t.size
	for c.room < 0 && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(*cachedTree)
		delete(c.byID, old.id)
		c.room += old.size
	}
}
