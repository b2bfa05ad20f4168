package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/stores"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	sopsyaml "github.com/getsops/sops/v3/stores/yaml"
	yaml "go.yaml.in/yaml/v3"
)

// Bounds on a sealed file. sops follows aliases without end, is quadratic in keys, and
// compiles a rule's expression for every part of every path.
const (
	maxNodes      = 20_000
	maxDepth      = 100
	maxLines      = 10_000
	maxKeys       = 100  // recipients, and key groups
	maxRule       = 2000 // instructions of a rule's expression
	maxRuleLength = 1000
)

// storeFor is the part of a format that comes from sops. It can be had from sops'
// cmd/sops/common as well, which links its command line.
func storeFor(format formats.Format) sops.Store {
	switch format {
	case formats.Yaml:
		return sopsyaml.NewStore(&config.YAMLStoreConfig{})
	case formats.Dotenv:
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case formats.Ini:
		return ini.NewStore(&config.INIStoreConfig{})
	case formats.Json, formats.Binary: // a binary file is JSON while it is sealed
	}
	return sopsjson.NewStore(&config.JSONStoreConfig{Indent: -1})
}

func loadSealed(format formats.Format, data []byte) (sops.Tree, error) {
	if err := checkBounds(format, data); err != nil {
		return sops.Tree{}, err
	}
	tree, err := storeFor(format).LoadEncryptedFile(data)
	if err != nil {
		return sops.Tree{}, fault("its sops block can't be read%s: restore the file from Git, or seal it anew", atLine(err))
	}
	m := tree.Metadata
	if m.MessageAuthenticationCode == "" {
		return sops.Tree{}, fault("it has no MAC, so nobody can tell whether it was changed: restore it from Git, or seal it anew")
	}
	if len(m.KeyGroups) > maxKeys || m.MasterKeyCount() > maxKeys {
		return sops.Tree{}, fault("it is sealed for more than %d keys", maxKeys)
	}
	for _, rule := range []string{m.EncryptedRegex, m.UnencryptedRegex, m.EncryptedCommentRegex, m.UnencryptedCommentRegex} {
		if !isRule(rule) {
			return sops.Tree{}, fault("a regular expression of its sops block is wrong, or longer than %d characters", maxRuleLength)
		}
	}
	return tree, nil
}

var lineNumber = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s+)?(line \d+)`)

// atLine is the only part of a parser's error that quotes nothing.
func atLine(err error) string {
	if found := lineNumber.FindStringSubmatch(err.Error()); found != nil {
		return " (" + found[1] + ")"
	}
	return ""
}

func isRule(expression string) bool {
	if len(expression) > maxRuleLength {
		return false
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return false
	}
	program, err := syntax.Compile(parsed.Simplify())
	return err == nil && len(program.Inst) <= maxRule
}

// checkBounds refuses what would keep sops busy for long.
func checkBounds(format formats.Format, data []byte) error {
	b := &bounds{nodes: maxNodes, bytes: 2 * len(data)}
	fine := true
	switch format {
	case formats.Yaml:
		docs, parsed := documents(data)
		fine = parsed
		for _, doc := range docs {
			fine = fine && b.yaml(doc, 0)
		}
	case formats.Json, formats.Binary:
		fine = json.Valid(data) && b.json(data) // sops takes half an object for a whole one
	case formats.Dotenv, formats.Ini:
		fine = bytes.Count(data, []byte("\n")) < maxLines
	}
	if !fine {
		return fault("it is damaged, or larger than what is opened: %d values, %d levels deep, %d lines of env and INI; aliases count as what they stand for", maxNodes, maxDepth, maxLines)
	}
	return nil
}

type bounds struct{ nodes, bytes int }

func (b *bounds) yaml(n *yaml.Node, depth int) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	b.nodes--
	b.bytes -= len(n.Value)
	if b.nodes < 0 || b.bytes < 0 || depth > maxDepth {
		return false
	}
	for _, child := range n.Content {
		if !b.yaml(child, depth+1) {
			return false
		}
	}
	return true
}

func (b *bounds) json(data []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return true
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if b.nodes--; err != nil || b.nodes < 0 || depth > maxDepth {
			return false
		}
	}
}

// emitPlain writes a tree the way that sops does.
func emitPlain(format formats.Format, branches sops.TreeBranches) ([]byte, error) {
	var out []byte
	err := error(nil)
	switch format {
	case formats.Json:
		out, err = emitJSON(branches)
	case formats.Binary:
		out, err = emitBinary(branches)
	case formats.Yaml, formats.Dotenv, formats.Ini:
		out, err = storeFor(format).EmitPlainFile(branches)
	}
	if err != nil { // it quotes values
		return nil, fault("what it holds can't be written in its format: seal it anew")
	}
	return out, nil
}

func emitBinary(branches sops.TreeBranches) ([]byte, error) {
	if len(branches) == 1 && len(branches[0]) == 1 && branches[0][0].Key == "data" {
		if text, ok := branches[0][0].Value.(string); ok {
			return []byte(text), nil
		}
	}
	return nil, errors.New("not one text named data")
}

// emitJSON does what sops' does, which is quadratic.
func emitJSON(branches sops.TreeBranches) ([]byte, error) {
	if len(branches) != 1 {
		return nil, errors.New("not one object")
	}
	var compact, out bytes.Buffer
	if err := writeJSON(&compact, branches[0]); err != nil {
		return nil, err
	}
	err := json.Indent(&out, compact.Bytes(), "", "\t")
	out.WriteByte('\n')
	return out.Bytes(), err
}

func writeJSON(b *bytes.Buffer, value any) error {
	switch value := value.(type) {
	case sops.TreeBranch:
		return writeJSONList(b, "{}", len(value), func(i int) error {
			if err := writeJSON(b, value[i].Key); err != nil {
				return err
			}
			b.WriteByte(':')
			return writeJSON(b, value[i].Value)
		})
	case []any:
		return writeJSONList(b, "[]", len(value), func(i int) error { return writeJSON(b, value[i]) })
	case sops.Comment: // JSON has none: its type was tampered with
		return errors.New("comment")
	}
	text, err := json.Marshal(value)
	b.Write(text)
	return err
}

func writeJSONList(b *bytes.Buffer, brackets string, n int, write func(int) error) error {
	b.WriteByte(brackets[0])
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := write(i); err != nil {
			return err
		}
	}
	b.WriteByte(brackets[1])
	return nil
}

// treeLeaf is a value or a comment of a tree; path are the keys that lead to it.
type treeLeaf struct {
	path  []string
	value any
}

// leavesOf lists them in an order that opening them does not change.
func leavesOf(branches sops.TreeBranches) []treeLeaf {
	var all []treeLeaf
	for _, branch := range branches {
		all = appendLeaves(all, nil, branch)
	}
	return all
}

func appendLeaves(all []treeLeaf, path []string, value any) []treeLeaf {
	switch value := value.(type) {
	case sops.TreeBranch:
		for _, item := range value {
			if comment, ok := item.Key.(sops.Comment); ok {
				all = append(all, treeLeaf{path, comment})
				continue
			}
			below := append(path[:len(path):len(path)], fmt.Sprint(item.Key))
			all = appendLeaves(all, below, item.Value)
		}
	case []any:
		for _, item := range value {
			all = appendLeaves(all, path, item)
		}
	default:
		all = append(all, treeLeaf{path, value})
	}
	return all
}

// last is the key n before the last of the path.
func (l treeLeaf) last(n int) string {
	if n >= len(l.path) {
		return ""
	}
	return l.path[len(l.path)-1-n]
}

func (l treeLeaf) text() (string, bool) {
	switch value := l.value.(type) {
	case string:
		return value, true
	case sops.Comment:
		return value.Value, true
	}
	return "", false
}

func (l treeLeaf) place() string {
	if _, ok := l.value.(sops.Comment); ok {
		return "a comment in " + legible("/"+strings.Join(l.path, "/"))
	}
	return legible(strings.Join(l.path, "."))
}

// writtenAs are the ways in which a value is written: in the file, and in an object made of it.
func writtenAs(value any) []string {
	switch value := value.(type) {
	case string:
		return []string{value}
	case []byte:
		return []string{string(value)}
	case sops.Comment:
		return []string{value.Value}
	case time.Time:
		return []string{value.Format(time.RFC3339Nano), value.Format(time.RFC3339)}
	}
	return []string{fmt.Sprint(value), stores.ValToString(value)}
}
