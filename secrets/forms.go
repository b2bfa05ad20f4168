package secrets

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// Bounds on what is remembered of a long value: errors and diffs quote its
// beginning, or a line of it.
const (
	chunk        = 32
	chunkedBytes = 4 << 10
	knownLines   = 200
	shortestLine = 16
)

// formsOf lists the ways in which a value may be written down: itself, its parts
// where it is long, and what encoders make of it.
func formsOf(text string) []string {
	var out []string
	for _, part := range partsOf(text) {
		out = append(out, part, hex.EncodeToString([]byte(part)), url.QueryEscape(part), url.PathEscape(part),
			strings.ReplaceAll(part, "'", "''"))
		out = append(out, base64Forms(part)...)
		quoted := strconv.Quote(part)
		plain, escaped := jsonForms(part)
		again, _ := jsonForms(plain) // JSON within JSON
		out = append(out, quoted[1:len(quoted)-1], plain, escaped, again)
	}
	return out
}

func partsOf(text string) []string {
	parts := []string{text}
	if trimmed := strings.TrimSpace(text); trimmed != text {
		parts = append(parts, trimmed)
	}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); i < knownLines && len(line) >= shortestLine && len(line) < len(text) && !strings.HasPrefix(line, "-----") {
			parts = append(parts, line)
		}
	}
	if len(text) > 2*chunk {
		for i := 0; i+chunk <= min(len(text), chunkedBytes); i += chunk {
			parts = append(parts, text[i:i+chunk])
		}
	}
	return parts
}

// base64Forms are what is the same in every base64 text that holds the value, for
// each of the three places at which it may begin there.
func base64Forms(text string) []string {
	var out []string
	for shift := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			encoded := encoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + text))
			from := []int{0, 2, 3}[shift]
			to := (shift + len(text)) * 8 / 6
			if from < to {
				out = append(out, encoded[from:to])
			}
		}
	}
	return append(out, base64.StdEncoding.EncodeToString([]byte(text)), base64.URLEncoding.EncodeToString([]byte(text)))
}

// jsonForms are a text within the quotes of JSON, as most write it and as Go does.
func jsonForms(text string) (plain, escaped string) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // of a string into a buffer: can't fail
	plain = strings.TrimSuffix(b.String(), "\n")
	full, _ := json.Marshal(text)
	return plain[1 : len(plain)-1], string(full[1 : len(full)-1])
}
