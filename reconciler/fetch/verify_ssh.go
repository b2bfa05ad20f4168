package fetch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// allowedSigners are the lines of an allowed signers file. Format: ssh-keygen(1), ALLOWED SIGNERS.
type allowedSigners struct{ list []allowedSigner }

type allowedSigner struct {
	principals    string
	key           ssh.PublicKey
	namespaces    []string // patterns; nil: any
	after, before time.Time
}

// parseAllowedSigners is strict: a line that is not understood is an error, never a key less.
func parseAllowedSigners(data []byte) (*allowedSigners, error) {
	var all allowedSigners
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 256<<10)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s, err := parseAllowedSigner(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all.list = append(all.list, s)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all.list) == 0 {
		return nil, errors.New("holds no key")
	}
	return &all, nil
}

func parseAllowedSigner(line string) (s allowedSigner, err error) {
	principals, rest, err := cutField(line)
	if err != nil {
		return s, err
	}
	if strings.Trim(principals, ", \t") == "" {
		return s, errors.New("names no principal")
	}
	s.principals = printable(principals, 200)
	key, _, options, more, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return s, errors.New("holds no public key behind the principals; write: name@example.org ssh-ed25519 AAAA…")
	}
	if len(more) > 0 {
		return s, errors.New("holds more than one line")
	}
	s.key = key
	if _, isCert := key.(*ssh.Certificate); isCert {
		return s, errors.New("holds a certificate; list the key itself")
	}
	for _, o := range options {
		if err := s.option(o); err != nil {
			return s, err
		}
	}
	return s, nil
}

// cutField takes the first field, which may be quoted.
func cutField(line string) (field, rest string, err error) {
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		field, rest, ok = strings.Cut(quoted, `"`)
		if !ok {
			return "", "", errors.New("has a quote that is not closed")
		}
	} else if i := strings.IndexAny(line, " \t"); i >= 0 {
		field, rest = line[:i], line[i:]
	} else {
		field = line
	}
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return "", "", errors.New("has text behind a closing quote")
	}
	return field, strings.TrimSpace(rest), nil
}

func (s *allowedSigner) option(o string) (err error) {
	name, value, _ := strings.Cut(o, "=")
	value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
	switch strings.ToLower(name) {
	case "namespaces":
		s.namespaces = strings.Split(value, ",")
	case "valid-after":
		s.after, err = parseSignerTime(value)
	case "valid-before":
		s.before, err = parseSignerTime(value)
	case "cert-authority":
		err = errors.New("cert-authority is not supported; list the keys of the people themselves")
	default:
		err = fmt.Errorf("has the unknown option %q", printable(name, 50))
	}
	return err
}

// parseSignerTime reads YYYYMMDD[HHMM[SS]] with an optional Z; without it the time is local, as for ssh-keygen.
func parseSignerTime(v string) (time.Time, error) {
	zone := time.Local
	digits, utc := strings.CutSuffix(v, "Z")
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) != len(layout) {
			continue
		}
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("has the time %q; write YYYYMMDD[HHMM[SS]][Z]", printable(v, 50))
}

const gitNamespace = "git"

func (s allowedSigner) allows(when time.Time) error {
	switch {
	case s.namespaces != nil && !matchesAny(s.namespaces, gitNamespace):
		return errors.New("is not allowed to sign in the namespace git")
	case !s.after.IsZero() && when.Before(s.after):
		return fmt.Errorf("is not valid before %s", s.after.UTC().Format(time.RFC3339))
	case !s.before.IsZero() && !when.Before(s.before):
		return fmt.Errorf("is not valid from %s on", s.before.UTC().Format(time.RFC3339))
	}
	return nil
}

// matchesAny follows ssh_config(5), PATTERNS: * and ?, a negated match wins.
func matchesAny(patterns []string, s string) (ok bool) {
	for _, p := range patterns {
		p, not := strings.CutPrefix(strings.TrimSpace(p), "!")
		if m, err := path.Match(strings.ReplaceAll(strings.ReplaceAll(p, `\`, `\\`), "[", `\[`), s); err == nil && m {
			if not {
				return false
			}
			ok = true
		}
	}
	return ok
}

func (a *allowedSigners) verify(payload, signature string, when time.Time) (string, error) {
	sig, err := sshsig.Unarmor([]byte(signature))
	if err != nil {
		return "", fmt.Errorf("its SSH signature is malformed: %s", printable(err.Error(), 200))
	}
	print := ssh.FingerprintSHA256(sig.PublicKey)
	if sig.Namespace != gitNamespace {
		return "", fmt.Errorf("its SSH signature was made for the namespace %q, not git", printable(sig.Namespace, 50))
	}
	if err := sshsig.Verify(strings.NewReader(payload), sig, sig.PublicKey, sig.HashAlgorithm, gitNamespace); err != nil {
		return "", errors.New("its SSH signature is wrong: it was changed after signing")
	}
	why := fmt.Errorf("its SSH key %s is not among the allowed signers", print)
	for _, s := range a.list {
		if !bytes.Equal(s.key.Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		if err := s.allows(when); err != nil {
			why = fmt.Errorf("its SSH key %s (%s) %w", print, s.principals, err)
			continue
		}
		return s.principals + " " + print, nil
	}
	return "", why
}
