package reconciler

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decodeStrict decodes exactly one YAML document. An error names the file and
// the line, and an unknown field is one.
func decodeStrict(file string, data []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: is empty", file)
	}
	if err != nil {
		return located(file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: holds more than one YAML document: give each its own file", file)
	}
	return nil
}

var (
	atLine       = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	badValue     = regexp.MustCompile("^cannot unmarshal !!(\\w+) (`.*` )?into (\\S+)$")
)

// located rewrites the YAML library's messages to file:line: what is wrong.
func located(file string, err error) error {
	lines := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	var several *yaml.TypeError
	if errors.As(err, &several) {
		lines = slices.Clone(several.Errors)
	}
	for i, line := range lines {
		at, text := file, line
		if m := atLine.FindStringSubmatch(line); m != nil {
			at, text = file+":"+m[1], m[2]
		}
		if m := unknownField.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("unknown field %q", m[1])
		}
		if m := badValue.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("got a %s %swhere a %s belongs", m[1], m[2], plainType(m[3]))
		}
		lines[i] = at + ": " + text
	}
	return errors.New(strings.Join(lines, "\n"))
}

func plainType(name string) string {
	switch {
	case strings.HasPrefix(name, "[]"):
		return "list"
	case strings.HasPrefix(name, "reconciler."), strings.HasPrefix(name, "map["):
		return "map"
	default:
		return name
	}
}

// Duration is a time.Duration that is written as Go writes it: 90s, 5m, 1h30m.
type Duration time.Duration

// UnmarshalYAML refuses numbers without a unit, and what is not positive.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	if err != nil || parsed <= 0 {
		return fmt.Errorf("line %d: %q is not a duration such as 30s, 5m or 1h30m", node.Line, node.Value)
	}
	*d = Duration(parsed)
	return nil
}

// String is the duration as it is written.
func (d Duration) String() string { return time.Duration(d).String() }

func (d Duration) or(fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return time.Duration(d)
}
