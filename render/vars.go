package render

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// substitution puts the variables of a stack into its objects: into values, never into keys,
// and after kustomize, so that a value cannot become structure.
//
//	${NAME}   the variable; undefined is an error
//	$${NAME}  the text ${NAME}
//	${bao:…}  stays: it refers to a secret
//	${N:-x}   and everything else after ${ is an error
//
// A value that is nothing but one ${NAME} may become a number or a boolean. Kustomize keeps no
// promise about quotes (a JSON patch drops all of its object), so Kubernetes' schema decides
// where it knows the field: replicas becomes a number however it is quoted, a label stays text.
// Where it does not, ${NAME} becomes what it looks like and "${NAME}" stays text, as written in
// that field of the origin file; else as all files agree to write it; else as kustomize has it.
// Only true, false and JSON's numbers count: 010, yes and null stay text.
type substitution struct {
	vars     map[string]string
	inData   bool
	check    *check
	size     int64 // of all values made
	problems []error
	roots    map[string][]*yaml.Node // of origin files, parsed when they are asked about
	styles   map[string]spelling     // how all files write each ${NAME} that stands alone
}

func newSubstitution(req Request, c *check) *substitution {
	return &substitution{vars: req.Vars, inData: req.VarsInData, check: c, roots: map[string][]*yaml.Node{}}
}

// object substitutes in one object.
func (s *substitution) object(b built) {
	if s.vars == nil {
		return
	}
	at := position{built: b, kind: text(field(b.node, "kind")), apiVersion: text(field(b.node, "apiVersion"))}
	at.name = text(field(field(b.node, "metadata"), "name"))
	s.walk(b.node, at)
}

// position is where in an object a value is.
type position struct {
	built
	apiVersion, kind, name string
	path                   []string // keys, and indexes as "[0]"
}

func (p position) down(step string) position {
	p.path = append(slices.Clip(p.path), step)
	return p
}

// String names the field for people: Deployment web: spec.replicas.
func (p position) String() string {
	return fmt.Sprintf("%s %s: %s", p.kind, p.name, strings.ReplaceAll(strings.Join(p.path, "."), ".[", "["))
}

func (s *substitution) walk(n *yaml.Node, at position) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if next := at.down(n.Content[i].Value); s.inData || !next.isPayload() {
				s.walk(n.Content[i+1], next)
			}
		}
	case yaml.SequenceNode:
		for i, child := range n.Content {
			s.walk(child, at.down("["+strconv.Itoa(i)+"]"))
		}
	case yaml.ScalarNode:
		if strings.Contains(n.Value, "${") {
			s.scalar(n, at)
		}
	}
}

// isPayload is true for what ConfigMaps and Secrets carry: dashboards and scripts have ${…} of
// their own.
func (p position) isPayload() bool {
	if len(p.path) != 1 || p.apiVersion != "v1" {
		return false
	}
	switch p.kind {
	case "ConfigMap":
		return p.path[0] == "data" || p.path[0] == "binaryData"
	case "Secret":
		return p.path[0] == "data" || p.path[0] == "stringData"
	}
	return false
}

func (s *substitution) scalar(n *yaml.Node, at position) {
	value, wrong := expand(n.Value, s.vars, s.check.budget.TotalBytes-s.size)
	for _, w := range wrong {
		file, line := s.locate(at, n.Value, w)
		s.problems = append(s.problems, inputErrorf(file, line, "%s: %w", at, w.err))
	}
	s.size += int64(len(value))
	if len(wrong) > 0 {
		return
	}
	tag := "!!str"
	if wholeVariable.MatchString(n.Value) && s.mayBeTyped(n, at) {
		tag = jsonTag(value)
	}
	style := yaml.DoubleQuotedStyle
	if tag != "!!str" {
		style = 0
	}
	n.Value, n.Tag, n.Style = value, tag, style
}

var (
	wholeVariable = regexp.MustCompile(`^\$\{[A-Za-z_][A-Za-z0-9_]*\}$`)
	withDefault   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*[-:=?+]`)
	variableName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	jsonNumber    = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

func jsonTag(value string) string {
	switch m := jsonNumber.FindStringSubmatch(value); {
	case value == "true" || value == "false":
		return "!!bool"
	case m != nil && m[2] == "" && m[3] == "":
		return "!!int"
	case m != nil:
		return "!!float"
	}
	return "!!str"
}

// mistake is a ${…} that cannot be substituted.
type mistake struct {
	token  string // as written, as far as it is known
	offset int    // in the value
	err    error
}

// secretReference begins what is no variable, and is resolved after rendering: ${bao:PATH#KEY}. Variables may
// stand within it.
const secretReference = "${bao:"

var errTooLong = errors.New("over budget: substituted values are too long")

// expand substitutes every ${NAME} of a text, and says which it cannot.
func expand(in string, vars map[string]string, limit int64) (string, []mistake) {
	var out strings.Builder
	var wrong []mistake
	whole := in
	for {
		i := strings.Index(in, "${")
		if i < 0 {
			out.WriteString(in)
			return out.String(), wrong
		}
		if strings.HasPrefix(in[i:], secretReference) { // with its $$, if it has one: who resolves it undoes that
			out.WriteString(in[:i+len(secretReference)])
			in = in[i+len(secretReference):]
			continue
		}
		if i > 0 && in[i-1] == '$' { // $${ is ${ as it is
			out.WriteString(in[:i-1] + "${")
			in = in[i+2:]
			continue
		}
		out.WriteString(in[:i])
		token, name := reference(in[i:])
		value, ok := vars[name]
		if err := refuseName(token, name, ok); err != nil {
			wrong = append(wrong, mistake{token: token, offset: len(whole) - len(in) + i, err: err})
		}
		if int64(out.Len()+len(value)) > limit {
			return "", []mistake{{token: token, offset: len(whole) - len(in) + i, err: errTooLong}}
		}
		out.WriteString(value)
		in = in[i+len(token):]
	}
}

// reference cuts a ${NAME} off the beginning of a text. An unclosed one is only its ${.
func reference(in string) (token, name string) {
	end := strings.IndexByte(in, '}')
	if end < 0 || strings.ContainsAny(in[:end], "\n") {
		return in[:2], ""
	}
	return in[:end+1], in[2:end]
}

func refuseName(token, name string, defined bool) error {
	switch {
	case variableName.MatchString(name) && !defined:
		return fmt.Errorf("%s is not defined: add it to spec.vars, or write $%s for the text itself", token, token)
	case variableName.MatchString(name):
		return nil
	case withDefault.MatchString(name):
		return fmt.Errorf("%s has a default: only ${NAME} is substituted, put the value into spec.vars, "+
			"or write $%s for the text itself", token, token)
	}
	return fmt.Errorf("%s is no variable: only ${NAME} is substituted, write $%s for the text itself", token, token)
}

// mayBeTyped says whether a value that is one variable may become a number or a boolean.
func (s *substitution) mayBeTyped(n *yaml.Node, at position) bool {
	if len(at.path) == 1 || at.path[0] == "metadata" {
		return false // apiVersion, kind, and everything in metadata are text
	}
	if typed, known := at.schemaType(); known {
		return typed
	}
	if source := s.source(at); source != nil && source.Value == n.Value {
		return source.Style == 0
	}
	switch s.spelled(n.Value) {
	case asPlain:
		return true
	case asQuoted:
		return false
	}
	return n.Style == 0
}

// schemaType asks Kubernetes' own schema.
func (p position) schemaType() (typed, known bool) {
	schema := openapi.SchemaForResourceType(kyaml.TypeMeta{APIVersion: p.apiVersion, Kind: p.kind})
	if schema == nil {
		return false, false
	}
	steps := slices.Clone(p.path)
	for i, step := range steps {
		if strings.HasPrefix(step, "[") {
			steps[i] = openapi.Elements
		}
	}
	if schema = schema.Lookup(steps...); schema == nil || len(schema.Schema.Type) != 1 {
		return false, false
	}
	switch schema.Schema.Type[0] {
	case "integer", "number", "boolean":
		return true, true
	case "string":
		return false, schema.Schema.Format != "int-or-string"
	}
	return false, false
}
