package secrets

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reference is a value in OpenBao, as it is written in a file:
//
//	${bao:PATH#KEY}            the newest
//	${bao:PATH#KEY?version=3}  of KV v2, that version
//	${bao:pki/issue/ROLE#certificate?common_name=grafana.lan&ttl=72h}
//	$${bao:…}                  the text ${bao:…} itself
//
// PATH is as in bao kv get: the mount and what is below it, without data/.
type Reference struct {
	Path, Key string
	Version   int    // of KV v2; 0: the newest
	Params    string // of PKI: name=value&…, by name
}

const (
	opening = "${bao:"
	escaped = "$" + opening

	longestReference = 2 << 10
	longestQuote     = 256
)

// pkiParams are what may be asked of a certificate.
var pkiParams = []string{"alt_names", "common_name", "exclude_cn_from_sans", "format", "ip_sans", "not_after", "other_sans",
	"private_key_format", "remove_roots_from_chain", "ttl", "uri_sans", "user_ids"}

func parseInner(inner string) (Reference, error) {
	if err := checkCharacters(inner); err != nil {
		return Reference{}, err
	}
	path, rest, ok := strings.Cut(inner, "#")
	switch {
	case !ok:
		return Reference{}, errors.New("it names no key: write ${bao:PATH#KEY}")
	case strings.Contains(path, "?"):
		return Reference{}, errors.New("its parameters stand before the key: write ${bao:PATH#KEY?version=3}")
	}
	if err := checkPath(path); err != nil {
		return Reference{}, err
	}
	key, query, asked := strings.Cut(rest, "?")
	switch {
	case key == "":
		return Reference{}, errors.New("its key is empty: write ${bao:PATH#KEY}")
	case strings.Contains(rest, "#"):
		return Reference{}, errors.New("it has more than one #")
	case strings.TrimSpace(key) != key:
		return Reference{}, errors.New("there is a space around its key")
	}
	r := Reference{Path: path, Key: key}
	if asked {
		return r, r.setParams(query)
	}
	return r, nil
}

func checkCharacters(inner string) error {
	switch {
	case len(inner) > longestReference:
		return fmt.Errorf("it is longer than %d bytes", longestReference)
	case !utf8.ValidString(inner):
		return errors.New("it is not UTF-8")
	case strings.Contains(inner, "%"):
		return errors.New("it holds a %: nothing is escaped in a reference, write it as it is")
	case strings.ContainsAny(inner, "${\\"):
		return errors.New("it holds one of $ { \\: references are not put together from others")
	case strings.ContainsFunc(inner, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("it holds a line break, or a character that can't be seen")
	}
	return nil
}

// checkPath refuses what is no path of a secrets engine.
func checkPath(path string) error {
	if err := checkSegments(path); err != nil {
		return err
	}
	first, _, _ := strings.Cut(path, "/")
	if slices.Contains([]string{"sys", "auth", "identity", "cubbyhole"}, first) {
		return fmt.Errorf("%s/ is no secrets engine", first)
	}
	return nil
}

// checkSegments refuses what OpenBao, or a proxy, would take for another path.
func checkSegments(path string) error {
	if path == "" {
		return errors.New("its path is empty")
	}
	if checkCharacters(path) != nil || strings.ContainsAny(path, "?#") {
		return errors.New("its path holds a character that no path has")
	}
	for segment := range strings.SplitSeq(path, "/") {
		switch {
		case segment == "":
			return errors.New("its path begins or ends with a slash, or has two in a row")
		case segment == "." || segment == "..":
			return fmt.Errorf("its path holds %q", segment)
		case strings.TrimSpace(segment) != segment:
			return errors.New("there is a space beside a slash in its path")
		}
	}
	return nil
}

func (r *Reference) setParams(query string) error {
	params := map[string]string{}
	for _, param := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(param, "=")
		_, twice := params[name]
		switch {
		case name != "version" && !slices.Contains(pkiParams, name):
			return fmt.Errorf("it has an unknown parameter: there is version, for KV v2, and for certificates %s", strings.Join(pkiParams, ", "))
		case twice:
			return fmt.Errorf("it has the parameter %s twice", name)
		case value == "" || strings.TrimSpace(value) != value:
			return fmt.Errorf("its parameter %s has no value, or a space around it", name)
		}
		params[name] = value
	}
	if version, ok := params["version"]; ok {
		n, err := strconv.Atoi(version)
		if err != nil || n < 1 || strconv.Itoa(n) != version {
			return errors.New("its version is none: versions are numbers from 1 on")
		}
		if len(params) > 1 {
			return errors.New("it has a version, which is for KV v2, and parameters of certificates")
		}
		r.Version = n
		return nil
	}
	r.Params = joinParams(params)
	return nil
}

func joinParams(params map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		parts = append(parts, name+"="+params[name])
	}
	return strings.Join(parts, "&")
}

// splitParams undoes joinParams.
func splitParams(text string) map[string]any {
	params := map[string]any{}
	for _, param := range strings.Split(text, "&") {
		if name, value, ok := strings.Cut(param, "="); ok {
			params[name] = value
		}
	}
	return params
}

// String writes the reference as it is read.
func (r Reference) String() string {
	switch {
	case r.Version > 0:
		return fmt.Sprintf("%s%s#%s?version=%d}", opening, r.Path, r.Key, r.Version)
	case r.Params != "":
		return opening + r.Path + "#" + r.Key + "?" + r.Params + "}"
	}
	return opening + r.Path + "#" + r.Key + "}"
}

func (r Reference) query() url.Values {
	if r.Version > 0 {
		return url.Values{"version": {strconv.Itoa(r.Version)}}
	}
	return nil
}

// piece is a part of a text: a reference, or what stands between two.
type piece struct {
	text      string // as written in a reference; else as it is meant
	reference *Reference
	err       error // of what begins as a reference, and is none
}

// piecesOf takes a text apart. It returns nil where there is nothing to do.
func piecesOf(text string) []piece {
	if !strings.Contains(text, opening) {
		return nil
	}
	var pieces []piece
	var plain strings.Builder
	for text != "" {
		i := strings.Index(text, opening)
		if i < 0 {
			plain.WriteString(text)
			break
		}
		if i > 0 && text[i-1] == '$' {
			plain.WriteString(text[:i-1] + opening)
			text = text[i+len(opening):]
			continue
		}
		plain.WriteString(text[:i])
		if plain.Len() > 0 {
			pieces = append(pieces, piece{text: plain.String()})
			plain.Reset()
		}
		var p piece
		p, text = cutReference(text[i:])
		pieces = append(pieces, p)
	}
	if plain.Len() > 0 {
		pieces = append(pieces, piece{text: plain.String()})
	}
	return pieces
}

// cutReference takes the reference with which a text begins.
func cutReference(text string) (piece, string) {
	end := strings.IndexByte(text, '}')
	if end < 0 {
		return piece{text: quoted(text), err: errors.New("it has no } at its end")}, ""
	}
	p := piece{text: text[:end+1]}
	r, err := parseInner(text[len(opening):end])
	if err != nil {
		p.text, p.err = quoted(p.text), err
	} else {
		p.reference = &r
	}
	return p, text[end+1:]
}

// quoted is what a message may say of a text that holds the beginning of a
// reference: the path, if it is one. The rest may be anything that was sealed.
func quoted(text string) string {
	_, inner, _ := strings.Cut(text, opening)
	path, _, ok := strings.Cut(inner, "#")
	if !ok || len(path) > longestQuote || checkPath(path) != nil {
		return opening + "…"
	}
	return opening + path + "#…"
}

// hasReference is true where pieces are not all text.
func hasReference(pieces []piece) bool {
	return slices.ContainsFunc(pieces, func(p piece) bool { return p.reference != nil || p.err != nil })
}
