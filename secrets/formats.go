package secrets

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"

	"github.com/getsops/sops/v3/cmd/sops/formats"
	yaml "go.yaml.in/yaml/v3"
)

// encPrefix begins every sealed value.
const encPrefix = "ENC[AES256_GCM,data:"

var (
	// A sealed value; one that is cut off too, but not one with dots in it, as manuals have.
	sealedValue = regexp.MustCompile(`^ENC\[AES256_GCM,data:[A-Za-z0-9+/=,:]+\]?$`)
	// The same where a text can't be parsed: after a colon, a dash or an equals sign.
	sealedInYAML = regexp.MustCompile(`(?m)^[^#\n]*[:-][ \t]+["']?ENC\[AES256_GCM,data:[A-Za-z0-9+/=]`)
	sealedInEnv  = regexp.MustCompile(`(?m)^[^#;\s][^=\n]*=\s*["']?ENC\[AES256_GCM,data:[A-Za-z0-9+/=]`)
	// A sealed comment. YAML that is nothing else has no nodes that it could belong to.
	sealedComment = regexp.MustCompile(`(?m)^\s*[#;]\s*ENC\[AES256_GCM,data:[A-Za-z0-9+/=,:]+\]?\s*$`)
	sealedInJSON  = []byte(`"` + encPrefix)

	envBlock  = regexp.MustCompile(`(?m)^sops_(mac|lastmodified)=`)
	iniBlock  = regexp.MustCompile(`(?m)^\[sops\]\s*$`)
	iniSealed = regexp.MustCompile(`(?m)^(mac|lastmodified)\s*=`)
	// A sops block's MAC in any format, where a file is too large to be parsed.
	anyMAC = regexp.MustCompile(`mac["']?\s*[:=]\s*["']?ENC\[AES256_GCM,`)
)

func isSealed(text string) bool { return sealedValue.MatchString(text) }

// shape is how a content is sealed.
type shape int

const (
	shapePlain shape = iota
	shapeYAML
	shapeJSON
	shapeBinary // {"data": "ENC[…]", "sops": {…}}: it may be JSON as well
	shapeEnv
	shapeINI
)

var shapes = map[shape]struct {
	name string
	fix  string
	fits []formats.Format
}{
	shapeYAML:   {"a sealed YAML file", "name it .yaml", []formats.Format{formats.Yaml}},
	shapeJSON:   {"a sealed JSON file", "name it .json", []formats.Format{formats.Json, formats.Yaml}},
	shapeBinary: {"a sealed binary file", "name it after what it holds, without .yaml, .env or .ini, or seal it anew with --input-type", []formats.Format{formats.Binary, formats.Json}},
	shapeEnv:    {"a sealed env file", "name it .env", []formats.Format{formats.Dotenv}},
	shapeINI:    {"a sealed INI file", "name it .ini", []formats.Format{formats.Ini}},
}

// sniff is true for a sealed file. An error is for one that was sealed and is not whole,
// or is not what its name says: read as plain, its ciphertext would pass for the value.
func sniff(name string, data []byte) (bool, error) {
	if !mayBeSealed(data) {
		return false, nil
	}
	format := formats.FormatForPath(name)
	docs, parsed := documents(data)
	found := shapeOf(data, docs, parsed)
	if found == shapePlain {
		return false, damaged(format, data, docs, parsed)
	}
	for _, fits := range shapes[found].fits {
		if fits == format {
			return true, nil
		}
	}
	return false, fault("it is %s, which its name doesn't say, so sops would misread it: %s", shapes[found].name, shapes[found].fix)
}

// mayBeSealed is all that is asked of nearly every file.
func mayBeSealed(data []byte) bool {
	return bytes.Contains(data, []byte(encPrefix)) ||
		bytes.Contains(data, []byte("sops")) && (bytes.Contains(data, []byte("lastmodified")) || bytes.Contains(data, []byte("mac")))
}

func shapeOf(data []byte, docs []*yaml.Node, parsed bool) shape {
	if looksJSON(data) {
		if found, ok := shapeOfJSON(data); ok {
			return found
		}
	}
	if parsed && len(docs) > 0 && docs[0].Kind != yaml.ScalarNode {
		if hasBlock(docs[0]) {
			return shapeYAML
		}
		return shapePlain // what follows can be in a text in it
	}
	switch {
	case envBlock.Match(data):
		return shapeEnv
	case iniBlock.Match(data) && iniSealed.Match(data):
		return shapeINI
	}
	return shapePlain
}

func looksJSON(data []byte) bool {
	start := bytes.TrimLeft(data, " \t\r\n")
	return len(start) > 0 && start[0] == '{'
}

// shapeOfJSON is not ok for what is no JSON.
func shapeOfJSON(data []byte) (found shape, ok bool) {
	var top map[string]json.RawMessage
	if json.Unmarshal(data, &top) != nil {
		return shapePlain, false
	}
	var block map[string]json.RawMessage
	if json.Unmarshal(top["sops"], &block) != nil || block["mac"] == nil && block["lastmodified"] == nil {
		return shapePlain, true
	}
	var text string
	if len(top) == 2 && json.Unmarshal(top["data"], &text) == nil {
		return shapeBinary, true
	}
	return shapeJSON, true
}

// documents are the roots of a YAML stream, and false for what is no YAML.
func documents(data []byte) ([]*yaml.Node, bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var docs []*yaml.Node
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs, true
		}
		if err != nil {
			return nil, false
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			docs = append(docs, doc.Content[0])
		}
	}
}

// hasBlock is true for a mapping with a sops block. Without a MAC it still is one: it
// is refused later. A "sops" of another program has neither MAC nor time.
func hasBlock(root *yaml.Node) bool {
	block := yamlField(root, "sops")
	return yamlField(block, "mac") != nil || yamlField(block, "lastmodified") != nil
}

func yamlField(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// damaged is the error for sealed values without a sops block.
func damaged(format formats.Format, data []byte, docs []*yaml.Node, parsed bool) error {
	sealed := false
	switch format {
	case formats.Yaml:
		sealed = !parsed && sealedInYAML.Match(data) || len(docs) == 0 && sealedComment.Match(data)
		for _, doc := range docs {
			sealed = sealed || holdsSealed(doc)
		}
	case formats.Json, formats.Binary:
		sealed = looksJSON(data) && bytes.Contains(data, sealedInJSON) && !quotesOnly(data, docs, parsed)
	case formats.Dotenv, formats.Ini:
		sealed = sealedInEnv.Match(data) || sealedComment.Match(data)
	}
	if sealed {
		return fault("it holds sealed values, and no whole sops block before its first document's end: it was cut off or edited; restore it from Git, or seal it anew")
	}
	return nil
}

// quotesOnly is true for JSON, which is YAML too, whose sealed values stand within texts.
func quotesOnly(data []byte, docs []*yaml.Node, parsed bool) bool {
	return parsed && json.Valid(data) && len(docs) == 1 && !holdsSealed(docs[0])
}

func holdsSealed(n *yaml.Node) bool {
	for _, comments := range []string{n.HeadComment, n.LineComment, n.FootComment} {
		for line := range strings.Lines(comments) {
			if isSealed(strings.TrimSpace(strings.TrimLeft(line, "#"))) {
				return true
			}
		}
	}
	if n.Kind == yaml.ScalarNode && isSealed(strings.TrimSpace(n.Value)) {
		return true
	}
	for _, child := range n.Content { // of an alias it is empty: what it stands for is seen where it stands
		if holdsSealed(child) {
			return true
		}
	}
	return false
}
