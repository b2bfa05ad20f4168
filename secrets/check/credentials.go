package check

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// secretManifests looks for Secrets in clear, and for what a kustomization makes
// Secrets of. Where it is said already that the file is to be sealed, that is all.
func (f *checkFile) secretManifests() {
	if slices.ContainsFunc(f.found, func(other Finding) bool { return other.Kind == FindingNotSealed }) {
		return
	}
	for _, doc := range f.docs {
		f.manifest(doc, nil)
	}
}

func (f *checkFile) manifest(n *yaml.Node, at []string) {
	if checkText(n, "kind") == "Secret" {
		f.secretData(checkChild(n, "data"), append(at[:len(at):len(at)], "data"), true)
		f.secretData(checkChild(n, "stringData"), append(at[:len(at):len(at)], "stringData"), false)
	}
	for i, item := range checkContent(checkChild(n, "items")) {
		if item.Kind == yaml.MappingNode && strings.HasSuffix(checkText(n, "kind"), "List") && checkText(item, "kind") == "Secret" {
			f.manifest(item, append(at[:len(at):len(at)], "items", fmt.Sprintf("[%d]", i)))
		}
	}
	for i, generator := range checkContent(checkChild(n, "secretGenerator")) {
		for j, literal := range checkContent(checkChild(generator, "literals")) {
			if _, value, ok := strings.Cut(literal.Value, "="); ok && checkGiven(value) {
				f.add(checkCredential(literal.Line, fmt.Sprintf("secretGenerator[%d].literals[%d]", i, j), "a Secret's value"))
			}
		}
	}
}

func (f *checkFile) secretData(data *yaml.Node, at []string, encoded bool) {
	if data == nil || data.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(data.Content); i += 2 {
		name, value := data.Content[i].Value, data.Content[i+1]
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
			continue
		}
		text := value.Value
		if encoded && !checkReference(text) && !strings.HasPrefix(text, checkSealedPrefix) {
			raw, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
			if err == nil {
				text = string(raw)
			}
		}
		if checkGiven(text) && !checkPublicText(text) {
			f.add(checkCredential(value.Line, checkPath(append(at[:len(at):len(at)], name)), "a Secret's value"))
		}
	}
}

// checkGiven is true of what stands there itself, and not for something else.
func checkGiven(value string) bool {
	return strings.TrimSpace(value) != "" && !strings.HasPrefix(value, checkSealedPrefix) && !checkReference(value) && !checkPlaceholder(value)
}

// checkPublicText is true of certificates and public keys, and nothing else.
func checkPublicText(text string) bool {
	text = strings.TrimSpace(text)
	return (strings.HasPrefix(text, "-----BEGIN CERTIFICATE") || strings.HasPrefix(text, "-----BEGIN PUBLIC KEY")) && !strings.Contains(text, "PRIVATE KEY") ||
		strings.HasPrefix(text, "ssh-ed25519 ") || strings.HasPrefix(text, "ssh-rsa ") || strings.HasPrefix(text, "ecdsa-sha2-")
}

// named looks for values under names such as password, in files that have names.
func (f *checkFile) named() {
	for i, field := range f.fields {
		if len(field.path) == 0 || f.inMeta(field) || slices.Contains(field.path, "encryptedData") { // a SealedSecret's
			continue
		}
		if field.block && strings.Contains(field.value, "\n") {
			for _, within := range checkLines(field.path, field.value, field.line+1) {
				f.namedField(within, within.key())
			}
			continue
		}
		name := field.key()
		if name == "value" {
			if named := f.siblingName(i); named != "" {
				name = named
			}
		}
		f.namedField(field, name)
	}
}

func (f *checkFile) namedField(field checkField, name string) {
	if !field.text || !checkNamesCredential(name) || !checkLiteral(field.value) || !checkTelling(field.value) || checkPublicText(field.value) {
		return
	}
	if len(f.found) == checkFindings {
		f.more++ // and spare the path
	} else {
		f.add(checkCredential(field.line, checkPath(field.path), "what its name says to be a credential"))
	}
}

// siblingName is NAME in {name: NAME, value: …}, as containers' variables have it.
func (f *checkFile) siblingName(i int) string {
	above := func(field checkField) []string { return field.path[:max(len(field.path)-1, 0)] }
	for _, j := range []int{i - 1, i + 1} {
		if j >= 0 && j < len(f.fields) && f.fields[j].key() == "name" && f.fields[j].root == f.fields[i].root &&
			slices.Equal(above(f.fields[j]), above(f.fields[i])) {
			return f.fields[j].value
		}
	}
	return ""
}

var (
	checkWord  = regexp.MustCompile(`[A-Z]+(?:[a-z]+|\b|_|[0-9])|[A-Z]?[a-z]+|[A-Z]+`)
	checkNames = strings.Fields(`password passwd passphrase pass pwd token secret credential credentials apikey accesskey secretkey
		privatekey psk apitoken authtoken clientsecret adminpassword rootpassword api-key access-key secret-key private-key encryption-key
		signing-key auth-key session-key master-key shared-key storage-key account-key`)
)

// checkNamesCredential is true of names whose last word says so: passwordFile,
// secretName and tokenURL don't.
func checkNamesCredential(name string) bool {
	var words []string
	for _, word := range checkWord.FindAllString(name, -1) {
		words = append(words, strings.ToLower(strings.TrimRight(word, "_0123456789")))
	}
	n := len(words)
	if n == 0 {
		return false
	}
	for _, word := range words {
		if word == "existing" || word == "pull" || word == "tls" || word == "public" || word == "hash" { // names of Secrets, and what isn't one
			return false
		}
	}
	return slices.Contains(checkNames, words[n-1]) || n > 1 && slices.Contains(checkNames, words[n-2]+"-"+words[n-1])
}

var (
	checkVariable     = regexp.MustCompile(`\$\{|\$\(|\{\{|^\$[A-Za-z_]|^%[A-Za-z_]|^<.*>$|^(?:ref\+|op://|vault:|bao:|env:|file:|secret://|ENC\[)`)
	checkPlaceholders = regexp.MustCompile(`(?i)change.?(?:me|it|this)|replace|example|placeholder|dummy|redacted|\byour|todo|fixme|xxxx|\*\*\*|\.\.\.|…|insert|<[a-z _-]+>|not.?a.?(?:real|secret)`)
)

// checkReference is true of a text that names a value kept elsewhere.
func checkReference(value string) bool { return checkVariable.MatchString(value) }

// checkPlaceholder is true of a text that asks for a value.
func checkPlaceholder(value string) bool {
	if len(value) > 200 { // somewhere in a long one, any word stands
		return false
	}
	lower := strings.ToLower(strings.TrimSpace(value))
	switch lower {
	case "", "password", "passwd", "pass", "pw", "secret", "token", "none", "null", "true", "false", "admin", "user", "test", "foo", "bar":
		return true
	}
	return checkPlaceholders.MatchString(lower) || strings.Trim(lower, lower[:1]) == ""
}

// checkLiteral is true of a value that could be a credential: no reference, no
// placeholder, no path and no URL.
func checkLiteral(value string) bool {
	return checkGiven(value) && !strings.Contains(value, "://") && !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "./") &&
		!strings.HasPrefix(value, "~/") && !strings.HasPrefix(value, "age1") && !strings.ContainsAny(value, " \t\n")
}

// checkTelling is true of a text that nobody would call a thing: of two kinds of
// characters at least, of six different ones, and not words put together.
func checkTelling(value string) bool {
	if len(value) < 8 {
		return false
	}
	seen, kinds := map[rune]bool{}, map[string]bool{}
	for _, r := range value {
		seen[r] = true
		switch {
		case unicode.IsLower(r):
			kinds["lower"] = true
		case unicode.IsUpper(r):
			kinds["upper"] = true
		case unicode.IsDigit(r):
			kinds["digit"] = true
		case !strings.ContainsRune("-_./:", r):
			kinds["other"] = true
		}
	}
	if len(seen) < 6 || checkCalled(value) {
		return false
	}
	return len(kinds) > 1 || len(value) >= 20 && !strings.ContainsAny(value, "-_./:")
}

var (
	checkSeparator = regexp.MustCompile(`[-_./:]+`)
	checkNoun      = regexp.MustCompile(`^(?:[a-z]{1,20}|[A-Z]{1,16}|[A-Z]?[a-z]{2,16}(?:[A-Z][a-z]{2,16})*|[a-z]{2,12}\d{1,2}|[vV]?\d{1,4})$`)
)

// checkCalled is true of names: grafana-admin-v2, kv/data/grafana, AdminPassword.
// A single word with a number is none: people choose such passwords.
func checkCalled(value string) bool {
	parts := checkSeparator.Split(value, -1)
	for _, part := range parts {
		if part != "" && !checkNoun.MatchString(part) {
			return false
		}
	}
	return len(parts) > 1 || !strings.ContainsAny(value, "0123456789")
}
