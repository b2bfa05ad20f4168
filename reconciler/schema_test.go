package reconciler_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"

	"github.com/plumbline-dev/plumbline/reconciler"
)

var update = flag.Bool("update", false, "write generated files anew")

// TestSchemas holds the shipped JSON Schemas to the types that decode the files.
func TestSchemas(t *testing.T) {
	for name, document := range map[string]any{"stack": &reconciler.Stack{}, "config": &reconciler.Config{}} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "templates", "schemas", name+".schema.json")
			want := schemaOf(t, name, document)
			if *update {
				if err := os.WriteFile(file, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			have, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(have)); diff != "" {
				t.Errorf("%s is not what the types say; make generate writes it anew:\n%s", file, diff)
			}
		})
	}
}

// TestReference holds the reference pages to the schemas, which are held to the types.
func TestReference(t *testing.T) {
	for name, document := range map[string]any{"stack": &reconciler.Stack{}, "config": &reconciler.Config{}} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("..", "docs", "reference", name+".md")
			var schema jsonschema.Schema
			if err := json.Unmarshal(schemaOf(t, name, document), &schema); err != nil {
				t.Fatal(err)
			}
			var page strings.Builder
			fmt.Fprintf(&page, "# %s\n\n%s\n\nGenerated from the Go types by `make generate`. `plumbline schema %s` prints the JSON Schema.\n\n| field | type | |\n|---|---|---|\n",
				schema.Title, schema.Description, name)
			rows(&page, &schema, schema.Definitions, "")
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
		})
	}
}

// rows writes one table row a field, in the order of the types.
func rows(page *strings.Builder, schema *jsonschema.Schema, all jsonschema.Definitions, prefix string) {
	for field := schema.Properties.Oldest(); field != nil; field = field.Next() {
		kind, below := field.Value.Type, resolve(field.Value, all)
		if field.Value.Items != nil {
			kind = "list of " + field.Value.Items.Type
			below = resolve(field.Value.Items, all)
		}
		suffix := ""
		if below != nil {
			kind = "map"
			if field.Value.Items != nil {
				kind, suffix = "list of maps", "[]"
			}
		}
		if len(field.Value.OneOf) > 0 {
			kind = "string or integer"
		}
		required := ""
		if slices.Contains(schema.Required, field.Key) {
			required = "**Required.** "
		}
		text := strings.TrimPrefix(field.Value.Description, "")
		if len(field.Value.Enum) > 0 {
			text += fmt.Sprintf(" One of %v.", field.Value.Enum)
		}
		fmt.Fprintf(page, "| `%s%s` | %s | %s%s |\n", prefix, field.Key, kind, required, strings.ReplaceAll(strings.TrimSpace(text), "|", "\\|"))
		if below != nil {
			rows(page, below, all, prefix+field.Key+suffix+".")
		}
	}
}

func resolve(schema *jsonschema.Schema, all jsonschema.Definitions) *jsonschema.Schema {
	if schema.Properties != nil && schema.Properties.Len() > 0 {
		return schema
	}
	return all[strings.TrimPrefix(schema.Ref, "#/$defs/")]
}

func schemaOf(t *testing.T, name string, document any) []byte {
	t.Helper()
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", ExpandedStruct: true, DoNotReference: false,
		Mapper: func(typ reflect.Type) *jsonschema.Schema {
			if typ == reflect.TypeFor[reconciler.Duration]() {
				return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`}
			}
			return nil
		},
	}
	if err := r.AddGoComments("github.com/plumbline-dev/plumbline/reconciler", "."); err != nil {
		t.Fatal(err)
	}
	// AddGoComments names the directory that it read, not the package.
	comments := map[string]string{}
	for key, text := range r.CommentMap {
		comments[key] = string(bytes.Join(bytes.Fields([]byte(text)), []byte(" ")))
	}
	r.CommentMap = comments
	schema := r.Reflect(document)
	schema.ID = ""
	schema.Title = map[string]string{"stack": "stack.yaml", "config": "plumbline.yaml"}[name]
	raw, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}
