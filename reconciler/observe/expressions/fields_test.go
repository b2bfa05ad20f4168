package expressions

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"sigs.k8s.io/yaml"
)

var schemas = flag.Bool("schemas", false, "fetch the operators' modules, and write testdata/fields.txt anew from the CRDs in them")

// crds is where the CRDs of a group are, in the module of its operator.
var crds = map[string][2]string{
	"monitoring.coreos.com":        {"github.com/prometheus-operator/prometheus-operator", "example/prometheus-operator-crd/*.yaml"},
	"opentelemetry.io":             {"github.com/open-telemetry/opentelemetry-operator", "config/crd/bases/*.yaml"},
	"operator.victoriametrics.com": {"github.com/VictoriaMetrics/operator", "config/crd/overlay/crd.yaml"},
	"cert-manager.io":              {"github.com/cert-manager/cert-manager", "deploy/crds/*.yaml"},
	"acme.cert-manager.io":         {"github.com/cert-manager/cert-manager", "deploy/crds/*.yaml"},
	"postgresql.cnpg.io":           {"github.com/cloudnative-pg/cloudnative-pg", "config/crd/bases/*.yaml"},
	"gateway.networking.k8s.io":    {"sigs.k8s.io/gateway-api", "config/crd/*/*.yaml"},
	"external-secrets.io":          {"github.com/external-secrets/external-secrets", "config/crds/bases/*.yaml"},
}

// TestFields holds the fields that expressions read to those that the operators' CRDs have. The CRDs are too many to
// be here: testdata/fields.txt lists what was found in them.
func TestFields(t *testing.T) {
	file := filepath.Join("testdata", "fields.txt")
	if *schemas {
		if err := os.WriteFile(file, found(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			known[words[0]] = words[1:]
		}
	}
	for _, f := range Shipped() {
		for _, e := range f.Expressions() {
			if f.Version == "" {
				continue
			}
			for _, path := range fieldsOf(t, e) {
				if !slices.Contains(known[e.Kind.String()], path) {
					t.Errorf("%s has no field %s in %s", e.Kind, path, f.Version)
				}
			}
		}
	}
}

// found lists the fields of each kind that its expressions ask for and its CRD has.
func found(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("# Fields that expressions read, as found in the CRDs of the versions in shipped.go. To write it anew: go test -run TestFields -schemas\n")
	for _, f := range Shipped() {
		if f.Version == "" {
			continue
		}
		has := crdFields(t, f)
		for _, e := range f.Expressions() {
			if _, ok := has[e.Kind.Kind]; !ok {
				t.Errorf("%s has no CRD in %s", e.Kind, f.Version)
			}
			fields := slices.DeleteFunc(fieldsOf(t, e), func(path string) bool { return !has[e.Kind.Kind][path] })
			fmt.Fprintln(&out, strings.Join(append([]string{e.Kind.String()}, fields...), " "))
		}
	}
	return out.Bytes()
}

// crdFields reads the paths in the CRDs of a family, of all versions that they have.
func crdFields(t *testing.T, f Family) map[string]map[string]bool {
	t.Helper()
	raw, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", crds[f.Group][0]+"@"+f.Version).Output()
	if err != nil {
		t.Fatal(err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(raw, &module); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, crds[f.Group][1]))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in %s: %v", module.Dir, err)
	}
	has := map[string]map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			collectCRD(t, document, f.Group, has)
		}
	}
	return has
}

func collectCRD(t *testing.T, document []byte, group string, has map[string]map[string]bool) {
	t.Helper()
	var crd struct {
		Kind string
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Schema struct{ OpenAPIV3Schema schemaNode }
			}
		}
	}
	if err := yaml.Unmarshal(document, &crd); err != nil {
		t.Fatal(err)
	}
	if crd.Kind != "CustomResourceDefinition" || crd.Spec.Group != group {
		return
	}
	paths := map[string]bool{"metadata.generation": true, "metadata.namespace": true}
	for _, v := range crd.Spec.Versions {
		v.Schema.OpenAPIV3Schema.collect("", paths)
	}
	has[crd.Spec.Names.Kind] = paths
}

type schemaNode struct {
	Properties map[string]schemaNode
	Items      *schemaNode
}

func (n schemaNode) collect(prefix string, into map[string]bool) {
	for name, below := range n.Properties {
		into[prefix+name] = true
		below.collect(prefix+name+".", into)
	}
	if n.Items != nil {
		n.Items.collect(strings.TrimSuffix(prefix, ".")+"[].", into)
	}
}

// fieldsOf lists the paths below object that an expression reads.
func fieldsOf(t *testing.T, e Expression) []string {
	t.Helper()
	paths := map[string]bool{}
	for _, text := range []string{e.Ready, e.Failed, e.Message} {
		if text == "" {
			continue
		}
		env, err := environment()
		if err != nil {
			t.Fatal(err)
		}
		checked, issues := env.Compile(text)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		reads(checked.NativeRep().Expr(), map[string]string{"object": ""}, paths)
	}
	var all []string
	for path := range paths {
		all = append(all, strings.TrimPrefix(path, "."))
	}
	slices.Sort(all)
	return all
}

// reads notes the paths that an expression reads, and returns the one that it stands for; "?" where it is none.
func reads(e ast.Expr, names map[string]string, paths map[string]bool) string {
	field := func(of ast.Expr, name string) string {
		base := reads(of, names, paths)
		if base == "?" {
			return "?"
		}
		paths[base+"."+name] = true
		return base + "." + name
	}
	switch e.Kind() {
	case ast.IdentKind:
		if path, ok := names[e.AsIdent()]; ok {
			return path
		}
	case ast.SelectKind:
		return field(e.AsSelect().Operand(), e.AsSelect().FieldName())
	case ast.ListKind:
		for _, item := range e.AsList().Elements() {
			reads(item, names, paths)
		}
	case ast.ComprehensionKind:
		return readsEach(e.AsComprehension(), names, paths)
	case ast.CallKind:
		return readsCall(e.AsCall(), names, paths, field)
	}
	return "?"
}

func readsCall(call ast.CallExpr, names map[string]string, paths map[string]bool, field func(ast.Expr, string) string) string {
	args := call.Args()
	if call.FunctionName() == operators.OptSelect {
		return field(args[0], args[1].AsLiteral().Value().(string))
	}
	of := "?"
	if call.IsMemberFunction() {
		of = reads(call.Target(), names, paths)
	}
	first := "?"
	for i, arg := range args {
		if path := reads(arg, names, paths); i == 0 {
			first = path
		}
	}
	switch call.FunctionName() {
	case "orValue":
		return of
	case operators.Add: // two lists of the same sort
		return first
	case operators.Index:
		if first != "?" {
			return first + "[]"
		}
	}
	return "?"
}

// readsEach follows a macro: what it loops over stands for the items, and a filter for what it filters.
func readsEach(c ast.ComprehensionExpr, names map[string]string, paths map[string]bool) string {
	over := reads(c.IterRange(), names, paths)
	inner := map[string]string{}
	for name, path := range names {
		inner[name] = path
	}
	if over != "?" {
		inner[c.IterVar()] = over + "[]"
	}
	reads(c.LoopStep(), inner, paths)
	return over
}
