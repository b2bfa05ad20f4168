package main

import (
	"bytes"
	"io"
	"unicode"
)

// printable keeps control characters from the terminal, and those that turn the
// order of text around. Names and messages come from repositories and clusters, and
// a terminal obeys what it is shown.
type printable struct{ to io.Writer }

func (p printable) Write(text []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	if _, err := p.to.Write(clean); err != nil {
		return 0, err
	}
	return len(text), nil
}
