package scan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/aquasecurity/trivy/pkg/purl"
	"github.com/bmatcuk/doublestar/v4"
	"go.yaml.in/yaml/v3"
)

// IgnoreFile is where Trivy, and we, look for exceptions.
const IgnoreFile = ".trivyignore.yaml"

const (
	ignoreBytes = 256 << 10
	// expiresSoon is how long before its end an exception is a warning.
	expiresSoon = 14 * 24 * time.Hour
)

// Exceptions are what a .trivyignore.yaml holds.
type Exceptions struct{ entries []entry }

type entry struct {
	Exception
	kinds []Kind
	paths []string
	purls []*purl.PackageURL
	why   string // it does not count; "": it does
}

// ignoreFile is Trivy's own format. Unknown fields are mistakes: one in expired_at
// would make an exception that never ends.
type ignoreFile struct {
	Vulnerabilities   []ignored `yaml:"vulnerabilities"`
	Misconfigurations []ignored `yaml:"misconfigurations"`
	Secrets           []ignored `yaml:"secrets"`
	Licenses          []ignored `yaml:"licenses"`
}

type ignored struct {
	ID        string   `yaml:"id"`
	Paths     []string `yaml:"paths"`
	PURLs     []string `yaml:"purls"`
	ExpiredAt string   `yaml:"expired_at"`
	Statement string   `yaml:"statement"`

	line int
}

// UnmarshalYAML notes the line, and refuses unknown fields below it.
func (i *ignored) UnmarshalYAML(node *yaml.Node) error {
	type plain ignored
	known := []string{"id", "paths", "purls", "expired_at", "statement"}
	for n := 0; node.Kind == yaml.MappingNode && n < len(node.Content); n += 2 {
		if key := node.Content[n]; !slices.Contains(known, key.Value) {
			return fmt.Errorf("line %d: unknown field %q: there are %s", key.Line, key.Value, strings.Join(known, ", "))
		}
	}
	if err := node.Decode((*plain)(i)); err != nil {
		return err
	}
	i.line = node.Line
	return nil
}

// ParseExceptions reads a .trivyignore.yaml. Every mistake is told with its line.
func ParseExceptions(file string, data []byte) (Exceptions, error) {
	var parsed ignoreFile
	if len(data) > ignoreBytes {
		return Exceptions{}, fmt.Errorf("%s: %d bytes: at most %d", file, len(data), ignoreBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&parsed); err != nil && !errors.Is(err, io.EOF) {
		return Exceptions{}, atLine(file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Exceptions{}, fmt.Errorf("%s: holds more than one YAML document: the second would not count", file)
	}
	var all Exceptions
	var errs []error
	for _, part := range []struct {
		list  []ignored
		kinds []Kind
	}{{parsed.Vulnerabilities, []Kind{KindVulnerability}}, {parsed.Misconfigurations, []Kind{KindMisconfiguration, KindImage}}, {parsed.Secrets, []Kind{KindSecret}}} {
		for _, i := range part.list {
			e, err := i.entry(file)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w", file, i.line, err))
				continue
			}
			e.kinds = part.kinds
			all.entries = append(all.entries, e)
		}
	}
	patterns := 0
	for _, e := range all.entries {
		patterns += len(e.paths)
	}
	if patterns > patternsMost {
		errs = append(errs, fmt.Errorf("%s: %d paths: at most %d", file, patterns, patternsMost))
	}
	return all, errors.Join(errs...)
}

// atLine is a mistake in YAML as file:line: what.
func atLine(file string, err error) error {
	var several *yaml.TypeError
	texts := []string{err.Error()}
	if errors.As(err, &several) {
		texts = several.Errors
	}
	for i, text := range texts {
		text = strings.NewReplacer(" into []scan.ignored", ": want a list of exceptions", " into scan.plain", ": want id, paths, statement and expired_at",
			" into scan.ignoreFile", ": want misconfigurations, secrets and vulnerabilities", " not found in type scan.ignoreFile", ": there are misconfigurations, secrets and vulnerabilities").Replace(strings.TrimPrefix(text, "yaml: "))
		if rest, ok := strings.CutPrefix(text, "line "); ok {
			texts[i] = file + ":" + rest
		} else {
			texts[i] = file + ": " + text
		}
	}
	return errors.New(strings.Join(texts, "\n"))
}

// Bounds of patterns: each pair of braces multiplies what is tried.
const (
	patternBytes  = 500
	patternBraces = 3
	patternTries  = 32
	patternsMost  = 1000 // in a file
)

// tries is how many patterns one with braces stands for.
func tries(pattern string) int {
	n := 1
	for _, group := range strings.Split(pattern, "{")[1:] {
		n *= strings.Count(group, ",") + 1
	}
	return n
}

func (i ignored) entry(file string) (entry, error) {
	e := entry{Exception: Exception{ID: i.ID, Statement: strings.TrimSpace(i.Statement), File: fmt.Sprintf("%s:%d", file, i.line)}, paths: i.Paths}
	if i.ID == "" {
		return e, errors.New("id: missing: which finding is meant?")
	}
	if i.ExpiredAt != "" {
		var err error
		if e.Expires, err = parseDay(i.ExpiredAt); err != nil {
			return e, fmt.Errorf("expired_at: %q: want a date such as 2027-01-31", i.ExpiredAt)
		}
	}
	for _, p := range i.Paths {
		if len(p) > patternBytes || strings.Count(p, "{") > patternBraces || tries(p) > patternTries {
			return e, fmt.Errorf("paths: %s: at most %d bytes, %d braces, and %d alternatives in all", cut(p, 80), patternBytes, patternBraces, patternTries)
		}
		if !doublestar.ValidatePattern(p) {
			return e, fmt.Errorf("paths: %q is not a pattern", p)
		}
	}
	for _, text := range i.PURLs {
		parsed, err := purl.FromString(text)
		if err != nil {
			return e, fmt.Errorf("purls: %q: %v", text, err)
		}
		e.purls = append(e.purls, parsed)
	}
	if e.Statement == "" {
		e.why = "has no statement: an exception needs a reason"
	}
	return e, nil
}

func parseDay(text string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, text)
}

// exceptionsOf reads the exceptions of a stack. A named file has to be there.
func exceptionsOf(fsys fs.FS, dir, named string) (Exceptions, error) {
	var all Exceptions
	for _, file := range ignoreFiles(dir, named) {
		data, err := readBounded(fsys, file)
		if errors.Is(err, fs.ErrNotExist) && named == "" {
			continue
		}
		if err != nil {
			return Exceptions{}, fmt.Errorf("read the exceptions: %w", plain(file, err))
		}
		some, err := ParseExceptions(file, data)
		if err != nil {
			return Exceptions{}, err
		}
		all.entries = append(all.entries, some.entries...)
	}
	return all, nil
}

func ignoreFiles(dir, named string) []string {
	if named != "" {
		return []string{path.Join(dir, named)}
	}
	files := []string{path.Join(dir, IgnoreFile)}
	if dir != "." {
		files = append(files, IgnoreFile)
	}
	return files
}

func readBounded(fsys fs.FS, file string) ([]byte, error) {
	f, err := fsys.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, ignoreBytes+1))
}

// expired is true for one whose day has come.
func (e entry) expired(now time.Time) bool { return !e.Expires.IsZero() && !now.Before(e.Expires) }

// find is the first exception that lets a finding pass now.
func (x Exceptions) find(f Finding, now time.Time) *Exception {
	for i := range x.entries {
		if e := &x.entries[i]; e.why == "" && !e.expired(now) && e.matches(f) {
			return &e.Exception
		}
	}
	return nil
}

func (e entry) matches(f Finding) bool {
	if !slices.Contains(e.kinds, f.Kind) || (e.ID != f.ID && !slices.Contains(f.aliases, e.ID)) {
		return false
	}
	if len(e.paths) > 0 && !slices.ContainsFunc(e.paths, func(p string) bool {
		return doublestar.MatchUnvalidated(p, f.File) || (f.path != "" && doublestar.MatchUnvalidated(p, f.path))
	}) {
		return false
	}
	if len(e.purls) == 0 {
		return true
	}
	of, err := purl.FromString(f.purl)
	return err == nil && slices.ContainsFunc(e.purls, func(p *purl.PackageURL) bool { return p.Match(of.Unwrap()) })
}

// warnings are about exceptions that don't count, or not for long. next is when one
// of them ends.
func (x Exceptions) warnings(now time.Time) (lines []string, next time.Time) {
	for _, e := range x.entries {
		switch {
		case e.why != "":
			lines = append(lines, fmt.Sprintf("%s: %s: does not count: it %s", e.File, e.ID, e.why))
		case e.expired(now):
			lines = append(lines, fmt.Sprintf("%s: %s: does not count: it expired at %s", e.File, e.ID, e.Expires.Format(time.DateOnly)))
		case e.Expires.IsZero():
		case e.Expires.Sub(now) < expiresSoon:
			lines = append(lines, fmt.Sprintf("%s: %s: expires at %s", e.File, e.ID, e.Expires.Format(time.DateOnly)))
			next = sooner(next, e.Expires)
		default:
			next = sooner(next, e.Expires.Add(-expiresSoon).Add(time.Second))
		}
	}
	return lines, next
}
