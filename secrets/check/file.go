package check

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkFile is a text file with what is understood of it.
type checkFile struct {
	name, text string
	starts     []int // of its lines
	docs       []*yaml.Node
	broken     bool // it should be YAML or JSON, and isn't
	flat       bool // it has keys and values, by lines
	fields     []checkField
	meta       *checkMeta   // nil: not sealed
	allow      map[int]bool // the lines with an exception, and whether it says why
	found      []Finding
	more       int
}

// checkField is a value that isn't made of others.
type checkField struct {
	path  []string
	line  int
	value string
	text  bool // not a number or the like
	block bool // begins on the next line
	root  *yaml.Node
}

func (f checkField) key() string {
	for _, name := range slices.Backward(f.path) {
		if !strings.HasPrefix(name, "[") {
			return name
		}
	}
	return ""
}

func checkParse(name, text string) *checkFile {
	f := &checkFile{name: name, text: text, starts: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			f.starts = append(f.starts, i+1)
		}
	}
	f.findAllowed()
	switch ext := path.Ext(name); {
	case ext == ".yaml" || ext == ".yml" || ext == ".json":
		f.parseYAML()
	case ext == ".env" || strings.HasPrefix(path.Base(name), ".env"), ext == ".ini", ext == ".conf", ext == ".cfg", ext == ".toml",
		ext == ".properties", ext == ".tfvars":
		f.flat = true
	}
	if f.flat {
		f.fields = checkLines(nil, text, 1)
	}
	f.findMeta()
	return f
}

func (f *checkFile) parseYAML() {
	f.flat = len(f.text) > checkYAMLBytes
	if f.flat {
		return
	}
	docs, err := checkYAML(f.text)
	if err != nil {
		f.flat, f.broken = true, true
		return
	}
	f.docs = docs
	for _, doc := range docs {
		f.walk(doc, doc, nil)
	}
}

// checkYAML reads all documents. What a parser says of a text may quote it: no one
// shall pass that on.
func checkYAML(text string) (docs []*yaml.Node, err error) {
	defer func() {
		if recover() != nil { // from a parser of what anybody may have written
			err = errors.New("isn't YAML")
		}
	}()
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		switch err := decoder.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return docs, nil
		case err != nil:
			return nil, err
		case len(doc.Content) == 1:
			docs = append(docs, doc.Content[0])
		}
	}
}

func (f *checkFile) walk(root, n *yaml.Node, at []string) {
	at = at[:len(at):len(at)]
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			f.walk(root, n.Content[i+1], append(at, n.Content[i].Value))
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			f.walk(root, item, append(at, fmt.Sprintf("[%d]", i)))
		}
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return
		}
		f.fields = append(f.fields, checkField{path: at, line: n.Line, value: n.Value, text: n.Tag == "!!str" || n.Tag == "!!binary",
			block: n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0, root: root})
	}
}

var (
	checkSection = regexp.MustCompile(`^\s*\[+([^\[\]]+)\]+\s*$`)
	checkPair    = regexp.MustCompile(`^\s*(?:-\s+|export\s+)?["']?([A-Za-z_][\w.-]*)["']?\s*[:=]\s*(\S.*?)?\s*$`)
)

// checkLines reads keys and values as env and ini files have them, and most of
// what only looks like YAML or JSON.
func checkLines(above []string, text string, first int) (out []checkField) {
	at, n := above[:len(above):len(above)], first
	for line := range strings.Lines(text) {
		if section := checkSection.FindStringSubmatch(line); section != nil {
			at = append(above[:len(above):len(above)], section[1])
		} else if pair := checkPair.FindStringSubmatch(strings.TrimRight(line, "\r\n")); pair != nil {
			value, literal := checkUnquote(pair[2])
			out = append(out, checkField{path: append(at[:len(at):len(at)], pair[1]), line: n, value: value, text: literal})
		}
		n++
	}
	return out
}

// checkUnquote is a value without quotes and what follows it. One that goes on
// behind its quotes, or has some within, is no literal.
func checkUnquote(value string) (string, bool) {
	value = strings.TrimSuffix(value, ",")
	if value == "" {
		return "", false
	}
	if quote := value[:1]; quote == `"` || quote == "'" {
		inner, rest, ok := strings.Cut(value[1:], quote)
		rest = strings.TrimSpace(rest)
		return inner, ok && (rest == "" || strings.HasPrefix(rest, "#") || strings.HasPrefix(rest, ";"))
	}
	value, _, _ = strings.Cut(value, " #")
	value, _, _ = strings.Cut(value, " ;")
	value = strings.TrimSpace(value)
	return value, !strings.ContainsAny(value, "\"'`()[] \t")
}

func (f *checkFile) line(offset int) int {
	return sort.Search(len(f.starts), func(i int) bool { return f.starts[i] > offset })
}

var checkAllow = regexp.MustCompile(`plumbline:allow-secret(?:[ \t]+(\S[^\n]*))?`)

func (f *checkFile) findAllowed() {
	f.allow = map[int]bool{}
	for _, at := range checkAllow.FindAllStringSubmatchIndex(f.text, -1) {
		reason := at[2] >= 0 && strings.Trim(f.text[at[2]:at[3]], " \t\r*/->#") != ""
		f.allow[f.line(at[0])] = reason
	}
}

// allowed is true of a line with an exception; noReason of one that says none.
func (f *checkFile) allowed(n int) (allowed, noReason bool) {
	here, isHere := f.allow[n]
	above, isAbove := f.allow[n-1]
	return here || above, isHere && !here || isAbove && !above
}

// add notes a finding, unless there is an exception or one for the same value.
func (f *checkFile) add(found Finding) {
	found.File = f.name
	if len(f.found) == checkFindings {
		f.more++
		return
	}
	if found.Line > 0 {
		allowed, noReason := f.allowed(found.Line)
		if allowed {
			return
		}
		if noReason {
			found.Fix = "say why it may stay, behind plumbline:allow-secret; or: " + found.Fix
		}
	}
	for _, other := range f.found {
		same := other.Field == found.Field && (found.Field != "" || other.Line == found.Line) || other.Line == found.Line && (other.Field == "" || found.Field == "")
		if same && checkInClear(other.Kind) && checkInClear(found.Kind) {
			return
		}
	}
	f.found = append(f.found, found)
}

func checkInClear(kind FindingKind) bool {
	return kind == FindingCredential || kind == FindingPrivateKey
}

// fieldAt is the path of the value that holds this text of a line.
func (f *checkFile) fieldAt(n int, text string) string {
	at := sort.Search(len(f.fields), func(i int) bool { return f.fields[i].line > n })
	for i := at - 1; i >= 0 && (i == at-1 || f.fields[i].line == f.fields[at-1].line); i-- {
		if field := f.fields[i]; (field.line == n || field.block) && strings.Contains(field.value, text) {
			return checkPath(field.path)
		}
	}
	return ""
}

// checkPath leaves out names that might themselves be values.
func checkPath(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if len(name) > 64 || checkShapeIn(name) || checkTelling(name) && len(name) >= 20 {
			name = "…"
		}
		if i > 0 && !strings.HasPrefix(name, "[") {
			b.WriteByte('.')
		}
		b.WriteString(name)
	}
	return b.String()
}

func (f *checkFile) result() []Finding {
	if f.more == 0 {
		return f.found
	}
	return append(f.found, Finding{Kind: FindingUnread, File: f.name, What: fmt.Sprintf("has some %d findings more", f.more), Fix: "see to the first, and look again"})
}
