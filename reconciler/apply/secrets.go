package apply

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// mask takes what must not be seen of an object out of a text: servers and
// policies quote values in their errors. It is nil where there is nothing to hide.
func (p prepared) mask() func(string) string {
	secrets := p.secrets()
	if p.masks == nil && secrets == nil {
		return nil
	}
	return func(said string) string {
		if p.masks != nil {
			said = p.masks.Text(said)
		}
		return withoutSecrets(said, secrets)
	}
}

// secrets are the values of an object that must not be seen, the longest first, as
// they are written, encoded and decoded: those of a Secret, and those that its
// annotation says were sealed. It is nil where there are none.
func (p prepared) secrets() []string {
	var body map[string]any
	decoder := json.NewDecoder(bytes.NewReader(p.body))
	decoder.UseNumber()
	if (!isSecret(p.ID) && !bytes.Contains(p.body, []byte(SealedAnnotation))) || decoder.Decode(&body) != nil {
		return nil
	}
	sealed := map[string]bool{"data": true, "stringData": true}
	if !isSecret(p.ID) {
		sealed = sealedPaths(nil, body)
	}
	out := []string{}
	atPaths("", body, sealed, func(text string) {
		out = append(out, text)
		if len(text) >= shortestSecret {
			out = append(out, base64.StdEncoding.EncodeToString([]byte(text)))
		}
		if plain, err := base64.StdEncoding.DecodeString(text); err == nil && len(plain) > 0 {
			out = append(out, string(plain))
		}
	})
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(out)
}

// atPaths gives every leaf at or below some paths.
func atPaths(path string, value any, paths map[string]bool, add func(string)) {
	if paths[path] {
		leaves(value, add)
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for k, child := range v {
			atPaths(join(path, k), child, paths, add)
		}
	case []any:
		for _, child := range v {
			atPaths(path, child, paths, add)
		}
	}
}

func leaves(value any, add func(string)) {
	switch v := value.(type) {
	case map[string]any:
		for _, child := range v {
			leaves(child, add)
		}
	case []any:
		for _, child := range v {
			leaves(child, add)
		}
	case nil:
	default:
		add(fmt.Sprint(v))
	}
}

// shortestSecret is masked anywhere in a text; a shorter one is part of other
// words, and masked where it is a word of its own.
const shortestSecret = 4

// Where servers quote a value, whatever it is: the schema, and the validation.
var (
	gotValue    = regexp.MustCompile(`, got .*`)
	quotedValue = regexp.MustCompile(`((?:Invalid|Unsupported|Duplicate) value: )("(?:[^"\\]|\\.)*"|\{.*\}|\S*\[.*\]|[^:\s]+)`)
)

// withoutSecrets masks them in what a server says about an object that has some.
func withoutSecrets(text string, secrets []string) string {
	if secrets == nil {
		return text
	}
	text = quotedValue.ReplaceAllString(gotValue.ReplaceAllString(text, ""), "${1}REDACTED")
	var pairs []string
	for _, secret := range secrets {
		if len(secret) >= shortestSecret {
			pairs = append(pairs, secret, "REDACTED")
			continue
		}
		word := regexp.MustCompile(`(^|[^\pL\pN])` + regexp.QuoteMeta(secret) + `([^\pL\pN]|$)`)
		text = word.ReplaceAllString(text, "${1}REDACTED${2}")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
