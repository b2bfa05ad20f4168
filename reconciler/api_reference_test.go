package reconciler_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"

	"github.com/plumbline-dev/plumbline/reconciler"
)

const apiHead = `# API

Generated from the Go types by ` + "`make generate`" + `. The daemon answers on ` + "`listen`" + ` of plumbline.yaml, from its memory: no answer costs the
API server a request. There is no authentication: [operating.md](../operating.md#the-api) says who can read what, and how to close it.

- GET and HEAD; anything else is a 405. Nothing can be changed here.
- Answers are JSON in UTF-8. Times are RFC 3339; one that is zero is left out, or 0001-01-01T00:00:00Z where it always stands.
- Fields marked *optional* are left out where they are empty. More fields may come; none of these will change its meaning within v1.
- Errors are ` + "`{\"error\": \"…\"}`" + `: 400 a parameter that is unknown, given twice or makes no sense; 404 no such stack, with those that
  there are, or no such path; 503 the daemon stands by, or too many ask at once (then with Retry-After).
- Values of Secrets, and what was sealed, are keyed hashes; errors and messages are masked.
`

// TestReferenceAPI holds the page about the API to the types that it answers with.
func TestReferenceAPI(t *testing.T) {
	page := apiPage{comments: goComments(t), constants: goConstants(t)}
	page.WriteString(apiHead)
	for _, answer := range []struct {
		path, text string
		value      any
	}{
		{"GET /api/v1/stacks", "All sources and stacks.", reconciler.StackList{}},
		{"GET /api/v1/stacks/{name}", "One stack, with its conditions, its objects and its drift. `name` is SOURCE.STACK.", reconciler.StackDetail{}},
		{"GET /api/v1/drift", fmt.Sprintf(`Drift: what is there now, then what was there lately, each with the newest first.

| parameter | |
|---|---|
| `+"`stack`"+` | only of this stack, as SOURCE.STACK |
| `+"`open`"+` | `+"`true`"+`: only what is there now |
| `+"`limit`"+` | how many records at most, 1 to %d. Default %d. |`, reconciler.MostDrift, reconciler.DriftLimit), reconciler.DriftList{}},
	} {
		fmt.Fprintf(&page, "\n## %s\n\n%s\n", answer.path, answer.text)
		page.fields(reflect.TypeOf(answer.value))
	}
	for i := 0; i < len(page.types); i++ { // grows on the way
		fmt.Fprintf(&page, "\n## %s\n\n%s\n", page.types[i].Name(), page.comments[nameOf(page.types[i])])
		page.fields(page.types[i])
	}
	file := filepath.Join("..", "docs", "reference", "api.md")
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(page.String(), string(have)); diff != "" {
		t.Errorf("%s is not what the types say; make generate writes it anew:\n%s", file, diff)
	}
}

// apiPage is the page, and the types that it has still to tell of.
type apiPage struct {
	strings.Builder
	comments  map[string]string   // of types, and of their fields
	constants map[string][]string // of types
	types     []reflect.Type
}

// fields writes one table row a field.
func (p *apiPage) fields(of reflect.Type) {
	p.WriteString("\n| field | type | |\n|---|---|---|\n")
	for i := range of.NumField() {
		field := of.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		text := p.comments[nameOf(of)+"."+field.Name]
		if values := p.constants[field.Type.Name()]; len(values) > 0 {
			text = strings.TrimSpace(text + " One of " + strings.Join(values, "; ") + ".")
		}
		if strings.Contains(options, "omit") {
			text = strings.TrimSpace("*Optional.* " + text)
		}
		fmt.Fprintf(p, "| `%s` | %s | %s |\n", name, p.kind(field.Type), strings.ReplaceAll(text, "|", "\\|"))
	}
}

func (p *apiPage) kind(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Slice:
		return "list of " + p.kind(t.Elem())
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case t.Kind() == reflect.Struct:
		if !slices.Contains(p.types, t) {
			p.types = append(p.types, t)
		}
		return "[" + t.Name() + "](#" + strings.ToLower(t.Name()) + ")"
	case t.Kind() == reflect.Int:
		return "integer"
	case t.Kind() == reflect.Bool:
		return "boolean"
	}
	return t.Kind().String()
}

func nameOf(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

func goComments(t *testing.T) map[string]string {
	t.Helper()
	var r jsonschema.Reflector
	if err := r.AddGoComments("github.com/plumbline-dev/plumbline/reconciler", "."); err != nil {
		t.Fatal(err)
	}
	for key, text := range r.CommentMap {
		r.CommentMap[key] = strings.Join(strings.Fields(text), " ")
	}
	return r.CommentMap
}

// goConstants are the values of the types that drift is told in, and what stands
// beside them.
func goConstants(t *testing.T) map[string][]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "driftrecord.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		value, isLiteral := spec.Values[0].(*ast.BasicLit)
		if kind, named := spec.Type.(*ast.Ident); named && isLiteral {
			text := "`" + strings.Trim(value.Value, `"`) + "`"
			if beside := strings.TrimSpace(spec.Comment.Text()); beside != "" {
				text += " (" + beside + ")"
			}
			out[kind.Name] = append(out[kind.Name], text)
		}
		return true
	})
	return out
}
