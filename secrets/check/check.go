package check

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// FindingKind is what is wrong.
type FindingKind string

// The kinds of findings.
const (
	FindingNotSealed       FindingKind = "NotSealed"       // a creation rule says to seal it, and it is in clear
	FindingStaleRecipients FindingKind = "StaleRecipients" // sealed for others than the creation rule says
	FindingCredential      FindingKind = "Credential"      // in clear, and looks like one
	FindingPrivateKey      FindingKind = "PrivateKey"      // an age or PGP key that opens sealed files
	FindingDamaged         FindingKind = "Damaged"         // sealed, and can't be opened with any key
	FindingRules           FindingKind = "Rules"           // .sops.yaml doesn't say what it should
	FindingUnread          FindingKind = "Unread"          // nobody knows what is in it
)

// Finding is something in a repository that is not as secrets should be kept. It
// holds no part of a value.
type Finding struct {
	Kind  FindingKind `json:"kind"`
	File  string      `json:"file"`
	Line  int         `json:"line,omitempty"`
	Field string      `json:"field,omitempty"`
	What  string      `json:"what"`
	Fix   string      `json:"fix"`
}

// Bounds on what is read of a tree.
const (
	checkBytes     = 8 << 20 // of a file
	checkYAMLBytes = 2 << 20 // of a file whose structure is looked at: nodes take fifty times that
	checkFindings  = 100     // in a file
)

// Tree looks over a repository's files for secrets that aren't kept as they
// should be. It opens nothing, follows no symlink, and leaves out what .gitignore
// does. The error is ctx's, or says that the tree can't be read at all.
//
// A comment "plumbline:allow-secret REASON" on a line or on the one above makes an
// exception of it.
func Tree(ctx context.Context, tree fs.FS) ([]Finding, error) {
	c := checker{tree: tree}
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	if err := c.dir(ctx, ".", entries, nil, nil); err != nil {
		return nil, err
	}
	c.start()
	slices.SortStableFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
	return c.found, nil
}

type checker struct {
	tree     fs.FS
	found    []Finding
	anyRules bool
}

// dir looks over a directory, with the creation rules and the ignored patterns of
// those above it.
func (c *checker) dir(ctx context.Context, dir string, entries []fs.DirEntry, rules *checkRules, ignored checkIgnores) error {
	for _, entry := range entries {
		switch name := path.Join(dir, entry.Name()); entry.Name() {
		case ".sops.yaml":
			c.anyRules = true
			rules = c.rules(name)
		case ".sops.yml":
			c.found = append(c.found, Finding{Kind: FindingRules, File: name, What: "is not read by SOPS", Fix: "call it .sops.yaml"})
		case ".gitignore":
			text, _, _ := c.read(name) // one that can't be read is said to be so as any other file
			ignored = ignored.with(dir, text)
		}
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(dir, entry.Name())
		if checkSkips(entry) || ignored.match(name, entry.IsDir()) {
			continue
		}
		if !entry.IsDir() {
			c.file(name, rules)
			continue
		}
		below, err := fs.ReadDir(c.tree, name)
		if err != nil {
			c.unread(name, err)
			continue
		}
		if err := c.dir(ctx, name, below, rules, ignored); err != nil {
			return err
		}
	}
	return nil
}

// checkSkips is true of what holds no text that somebody wrote. A symlink's target
// is looked at where it is, or is no part of the repository.
func checkSkips(entry fs.DirEntry) bool {
	name := strings.ToLower(entry.Name())
	if entry.IsDir() {
		return name == ".git" || name == "node_modules" || name == ".terraform"
	}
	switch {
	case !entry.Type().IsRegular(), name == ".git": // a file in worktrees and submodules
		return true
	case name == "go.sum", strings.Contains(name, "-lock."), strings.HasSuffix(name, ".lock"), strings.HasPrefix(name, ".terraform.lock"):
		return true
	}
	switch path.Ext(name) {
	case ".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".svg", ".pdf", ".woff", ".woff2", ".ttf",
		".tgz", ".gz", ".zip", ".xz", ".zst", ".bz2", ".tar", ".jar", ".wasm":
		return true
	}
	return false
}

// read returns the beginning of a file, and whether that is all of it.
func (c *checker) read(name string) (content string, whole bool, err error) {
	f, err := c.tree.Open(name)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, checkBytes+1))
	if err != nil {
		return "", false, err
	}
	if len(raw) > checkBytes {
		return string(raw[:checkBytes]), false, nil
	}
	return string(raw), true, nil
}

func (c *checker) unread(name string, err error) {
	why := err
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		why = failed.Err
	}
	c.found = append(c.found, Finding{Kind: FindingUnread, File: name, What: "can't be read: " + why.Error(), Fix: "make it readable, or take it out"})
}

func (c *checker) file(name string, rules *checkRules) {
	text, whole, err := c.read(name)
	if err != nil {
		c.unread(name, err)
		return
	}
	if strings.IndexByte(text[:min(len(text), 8<<10)], 0) >= 0 {
		c.found = append(c.found, checkBinary(name, text, rules)...)
		return
	}
	f := checkParse(name, text)
	if !whole {
		f.add(Finding{Kind: FindingUnread, What: fmt.Sprintf("is larger than %d MiB: only its beginning was looked at", checkBytes>>20),
			Fix: "look at it by hand, or keep it elsewhere"})
	}
	f.damaged()
	f.rules(rules)
	f.shapes()
	f.secretManifests()
	f.named()
	c.found = append(c.found, f.result()...)
}

// checkBinary knows of a file that isn't text what its first byte says.
func checkBinary(name, text string, rules *checkRules) []Finding {
	f := &checkFile{name: name}
	const oldSecretKey, newSecretKey = 0x94, 0xC5 // RFC 9580, 4.2: a packet's type in either format
	if first := text[0]; first&0xFC == oldSecretKey || first == newSecretKey {
		switch path.Ext(name) {
		case ".gpg", ".pgp", ".key", ".asc":
			f.add(checkPrivateKey(0, "a PGP private key"))
		}
	}
	if rule := rules.rule(name); rule != nil && rule.path != nil {
		f.add(Finding{Kind: FindingNotSealed, What: rule.says() + " to seal it", Fix: checkEncrypt(name)})
	}
	return f.found
}

// start says how to begin where there is something to seal and nobody to seal it for.
func (c *checker) start() {
	if c.anyRules || !slices.ContainsFunc(c.found, func(f Finding) bool { return f.Kind == FindingCredential }) {
		return
	}
	c.found = append(c.found, Finding{Kind: FindingRules, File: ".sops.yaml", What: "there is none: SOPS doesn't know for whom to seal what",
		Fix: `make a key with "age-keygen -o age.txt", keep it out of the repository, and write to .sops.yaml: ` +
			`creation_rules: [{path_regex: \.sops\.ya?ml$, encrypted_regex: ^(data|stringData)$, age: age1…}]`})
}

// checkQuote is a file's name as a shell takes it.
func checkQuote(name string) string {
	if bytes.ContainsAny([]byte(name), " \t\n'\"\\$`!*?[](){}<>|&;#~") || strings.HasPrefix(name, "-") {
		return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return name
}

func checkEncrypt(name string) string { return "sops encrypt --in-place " + checkQuote(name) }
