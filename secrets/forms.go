package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"iter"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A long value is known by its chunks: errors and diffs quote its beginning, or a
// line of it, and what is compared at one place of a text stays small. A short one is
// known whole, and by its pieces: somebody may have cut it.
const (
	chunk        = 32
	chunkedBytes = 4 << 10
	linedBytes   = 16 << 10
	knownLines   = 256
	pieceBytes   = 12
	piecedBytes  = 128
)

// written is one way to write a fragment of a value down, and how long what follows
// it is, written so.
type written struct {
	text string
	rest int
}

// fragment is a part of a text by which it is known. last is set on the one that
// ends it, rest on the one behind which no others are known; next is the byte
// behind one that another follows.
type fragment struct {
	text, rest, next string
	last             bool
}

// linesOf gives the lines of a text that has some, without what surrounds them:
// whoever indents a text writes them so.
func linesOf(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		read, found := 0, 0
		for line := range strings.Lines(text) {
			if read += len(line); read > linedBytes {
				return
			}
			line = strings.TrimSpace(line)
			if len(line) < shortest || len(line) == len(text) || ordinary(line) {
				continue
			}
			if found++; found > knownLines || !yield(line) {
				return
			}
		}
	}
}

// heading is a line that holds no value.
var heading = regexp.MustCompile(`^[A-Za-z_.-]+[ \t]*[:=][ \t]*["']?([A-Za-z]*)["']?,?$`)

// ordinary is true of lines that are in many files, and in none a secret: those
// around a key, rulers, and names without a value or with a common one.
func ordinary(line string) bool {
	if strings.HasPrefix(line, "-----") || dull(line) {
		return true
	}
	named := heading.FindStringSubmatch(line)
	return named != nil && (named[1] == "" || common[strings.ToLower(named[1])])
}

// piecesIn cuts a text so that whatever part of it somebody shows, it holds a piece but
// for the first and the last bytes: less than there are in a piece.
func piecesIn(text string) []fragment {
	if len(text) <= pieceBytes || len(text) > piecedBytes {
		return nil
	}
	var out []fragment
	add := func(p fragment) {
		if !dull(p.text) {
			out = append(out, p)
		}
	}
	for i := 0; i+pieceBytes < len(text); {
		end := runeStart(text, i+pieceBytes)
		add(fragment{text: text[i:end], next: text[end : end+1]})
		i = end
	}
	if len(text) >= 2*pieceBytes {
		add(fragment{text: text[runeStart(text, len(text)-pieceBytes):], last: true})
	}
	return out
}

// cut is the whole of a short text; of a long one, chunks without a gap between
// them, but for those that say nothing.
func cut(text string) []fragment {
	if len(text) <= 2*chunk {
		return []fragment{{text: text, last: true}}
	}
	var all, telling []fragment
	for i := 0; i < len(text); {
		p := fragment{text: text[i:runeStart(text, i+chunk)]}
		if i+chunk >= len(text) {
			p = fragment{text: text[runeStart(text, len(text)-chunk):], last: true}
		}
		i += len(p.text)
		if !p.last {
			p.next = text[i : i+1]
		}
		if !p.last && i >= chunkedBytes {
			p.rest = text[i:]
		}
		all = append(all, p)
		if p.rest != "" || !dull(p.text) {
			telling = append(telling, p)
		}
		if p.last || p.rest != "" {
			break
		}
	}
	if len(telling) == 0 {
		return all
	}
	return telling
}

// runeStart is where the character begins that holds the byte at i: an encoder
// wouldn't know half of one.
func runeStart(text string, i int) int {
	i = min(i, len(text))
	for back := i; back > i-utf8.UTFMax && back > 0; back-- {
		if back == len(text) || utf8.RuneStart(text[back]) {
			return back
		}
	}
	return i
}

// dull is true of rulers, indentation and padding.
func dull(text string) bool {
	var seen []byte
	for i := range len(text) {
		if bytes.IndexByte(seen, text[i]) < 0 {
			if seen = append(seen, text[i]); len(seen) > 3 {
				return false
			}
		}
	}
	return true
}

// encoders write each character by itself, so a chunk is written the same within
// the whole.
var encoders = []func(string) string{
	func(s string) string { return s },
	func(s string) string { return hex.EncodeToString([]byte(s)) },
	url.QueryEscape,
	url.PathEscape,
	func(s string) string { return strings.ReplaceAll(s, "'", "''") },
	func(s string) string { q := strconv.Quote(s); return q[1 : len(q)-1] },
	plainJSON,
	escapedJSON,
	func(s string) string { return plainJSON(plainJSON(s)) },
	func(s string) string { return plainJSON(escapedJSON(s)) },
}

func (p fragment) forms() []written {
	var out []written
	for _, encode := range encoders {
		out = append(out, written{encode(p.text), len(encode(p.rest))})
	}
	for _, text := range p.base64() {
		out = append(out, written{text, base64.StdEncoding.EncodedLen(len(p.rest))})
	}
	return out
}

// base64 is what is the same in every base64 text that holds the fragment, for each
// of the three places at which it may begin there. The next byte closes the gap
// between two pieces, where one letter is of both.
func (p fragment) base64() []string {
	var out []string
	for shift := range 3 {
		bytes, from := []byte("\x00\x00"[:shift]+p.text+p.next), []int{0, 2, 3}[shift]
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			encoded := encoding.EncodeToString(bytes)
			out = append(out, encoded[from:len(bytes)*8/6])
			if p.last { // where the text ends too, its last letter is known, and padding
				out = append(out, encoded[from:], encoding.WithPadding(base64.StdPadding).EncodeToString(bytes)[from:])
			}
		}
	}
	return out
}

// plainJSON is a text within the quotes of JSON, as most write it.
func plainJSON(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // of a string into a buffer: can't fail
	return b.String()[1 : b.Len()-2]
}

// escapedJSON is plainJSON as Go writes it.
func escapedJSON(text string) string {
	full, _ := json.Marshal(text)
	return string(full[1 : len(full)-1])
}
