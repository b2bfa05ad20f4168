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
	"sync"
	"unicode"
	"unicode/utf8"
)

// mask takes what must not be seen of an object out of a text: servers and
// policies quote values in their errors. It is nil where there is nothing to hide.
// What is to be hidden is looked up when there is something to say.
func (p prepared) mask() func(string) string {
	if p.masks == nil && !p.holdsSecrets() {
		return nil
	}
	own := sync.OnceValue(func() *hidden { return hide(p.secrets()) })
	return func(said string) string {
		if p.masks != nil {
			said = p.masks.Text(said)
		}
		return own().mask(said)
	}
}

func (p prepared) holdsSecrets() bool {
	return isSecret(p.ID) || bytes.Contains(p.body, []byte(SealedAnnotation))
}

// longestMessage is how much of what a server says is read, in bytes. Behind it,
// some more is masked and dropped: no secret that is cut there is seen.
const (
	longestMessage = 64 << 10
	cutMargin      = 1 << 10
)

// masked masks what a server says, as much of it as is read.
func masked(said string, mask func(string) string) string {
	if len(said) <= longestMessage+cutMargin {
		return mask(said)
	}
	said = mask(said[:longestMessage+cutMargin])
	return strings.ToValidUTF8(said[:max(0, len(said)-cutMargin)], "") + "…"
}

// secrets are the values of an object that must not be seen, as they are written,
// encoded and decoded: those of a Secret, and those that its
// annotation says were sealed. It is nil where there are none.
func (p prepared) secrets() []string {
	var body map[string]any
	decoder := json.NewDecoder(bytes.NewReader(p.body))
	decoder.UseNumber()
	if !p.holdsSecrets() || decoder.Decode(&body) != nil {
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
	return out
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
// words, and masked where it is a word of its own. Of a longer one, knownBeginning
// bytes are enough: what a server cut off is a part of it still.
const (
	shortestSecret = 4
	knownBeginning = 12
)

// Where servers quote a value, whatever it is: the schema, and the validation. The
// end of a quote may have been cut off.
var (
	gotValue    = regexp.MustCompile(`, got .*`)
	quotedValue = regexp.MustCompile(`((?:Invalid|Unsupported|Duplicate) value: )("(?:[^"\\]|\\.)*(?:"|\\?$)|\{.*(?:\}|$)|\S*\[.*(?:\]|$)|[^:\s]+)`)
)

// hidden finds secrets in texts. What it costs grows with the text, and hardly with
// the secrets. A nil one finds none.
type hidden struct {
	sorted []string // those that are masked anywhere
	begins map[[shortestSecret]byte]bool
	exact  map[string]bool // those that are no longer than a known beginning
}

func hide(secrets []string) *hidden {
	if secrets == nil {
		return nil
	}
	h := &hidden{begins: map[[shortestSecret]byte]bool{}, exact: map[string]bool{}}
	for _, secret := range secrets {
		if len(secret) <= knownBeginning {
			h.exact[secret] = true
		}
		if len(secret) >= shortestSecret {
			h.sorted = append(h.sorted, secret)
			h.begins[[shortestSecret]byte([]byte(secret))] = true
		}
	}
	slices.Sort(h.sorted)
	return h
}

// mask masks them in what a server says about an object that has some.
func (h *hidden) mask(text string) string {
	if h == nil {
		return text
	}
	text = gotValue.ReplaceAllString(text, "")
	if strings.Contains(text, " value: ") { // the expression is slow
		text = quotedValue.ReplaceAllString(text, "${1}REDACTED")
	}
	var b strings.Builder
	shown := 0
	for i := 0; i < len(text); {
		n := cmp.Or(h.at(text[i:]), h.word(text, i))
		if n == 0 {
			i++
			continue
		}
		b.WriteString(text[shown:i])
		b.WriteString("REDACTED")
		i += n
		shown = i
	}
	b.WriteString(text[shown:])
	return b.String()
}

// at is how much of a text's beginning is a secret, or begins one; 0: nothing. What
// a text has most in common with stands next to it in order.
func (h *hidden) at(text string) int {
	if len(text) < shortestSecret || !h.begins[[shortestSecret]byte([]byte(text[:shortestSecret]))] {
		return 0
	}
	next, _ := slices.BinarySearch(h.sorted, text)
	same := 0
	for _, secret := range h.sorted[max(0, next-1):min(next+1, len(h.sorted))] {
		same = max(same, inCommon(text, secret))
	}
	if same >= knownBeginning {
		return same
	}
	for ; same >= shortestSecret; same-- {
		if h.exact[text[:same]] {
			return same
		}
	}
	return 0
}

func inCommon(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// word is the length of a short secret that stands there as a word of its own.
func (h *hidden) word(text string, i int) int {
	if before, _ := utf8.DecodeLastRuneInString(text[:i]); isWord(before) {
		return 0
	}
	for n := min(shortestSecret-1, len(text)-i); n > 0; n-- {
		if after, _ := utf8.DecodeRuneInString(text[i+n:]); h.exact[text[i:i+n]] && !isWord(after) {
			return n
		}
	}
	return 0
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }
