package render

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	yaml "go.yaml.in/yaml/v3"
)

// FuzzExpand: substitution neither panics nor leaves a reference that it could have refused,
// and an escaped text comes back as it was.
func FuzzExpand(f *testing.F) {
	for _, s := range []string{"", "$", "${", "${}", "${A}", "$${A}", "$$${A}", "a${A}b${A}", "${A:-x}", "${A\n}", "}${A}{", "${${A}}", "${bao:kv/${A}#b}", "$${bao:a#b}"} {
		f.Add(s)
	}
	vars := map[string]string{"A": "value"}
	f.Fuzz(func(t *testing.T, in string) {
		out, wrong := expand(in, vars, 1<<20)
		for _, w := range wrong {
			if !strings.HasPrefix(in[w.offset:], w.token) {
				t.Errorf("%q is not at %d of %q", w.token, w.offset, in)
			}
		}
		if len(wrong) == 0 && !strings.Contains(in, "${") && out != in {
			t.Errorf("%q became %q", in, out)
		}
		escaped := strings.ReplaceAll(in, "${", "$${")
		if strings.Contains(in, "$${") || strings.Contains(in, secretReference) { // what is escaped already would be twice; a reference stays
			return
		}
		if back, wrong := expand(escaped, nil, 1<<20); back != in || len(wrong) > 0 {
			t.Errorf("%q escaped comes back as %q, %v", in, back, wrong)
		}
	})
}

// FuzzDocuments: whatever parses is within its budget, and is checked without a panic.
func FuzzDocuments(f *testing.F) {
	for _, s := range []string{"a: b", "a: &a [*a]", "a: &a {b: c}\nd: {<<: *a}", "[[[[[", "? [a]\n: b", "---\n---\n", "kind: List\nitems: [{}]", "\x00", "a: !!binary x"} {
		f.Add([]byte(s))
	}
	budget := Budget{Nodes: 1000, Depth: 20}.withDefaults()
	f.Fuzz(func(t *testing.T, data []byte) {
		roots, err := parseYAML("x.yaml", data, budget)
		if err != nil {
			if len(problemsOf(err)) != 1 {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		documentsOf("x.yaml", roots)
		for _, root := range roots {
			c := converter{left: 1 << 20}
			if _, err := c.value(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}}); err != nil {
				t.Logf("%v", err)
			}
		}
	})
}

// FuzzKustomization: a kustomization file can say what it likes. It ends, soon, in objects or
// an error, and nothing that it names is looked for outside the tree.
func FuzzKustomization(f *testing.F) {
	for _, s := range []string{
		"resources: [cm.yaml]", "resources: [https://example.com/x]", "bases: [../../x]", "components: [.]", "namePrefix: a",
		"configMapGenerator: [{name: a, behavior: merge, literals: [=]}]", "patches: [{patch: '[]'}]", "transformers: ['{apiVersion: builtin, kind: X, metadata: {name: a}}']",
		"resources: [cm.yaml]\nreplacements: [{source: {}, targets: [{}]}]", "vars: [{name: A, objref: {}}]", "resources: [cm.yaml]\nreplicas: [{name: a}]",
		"resources: [cm.yaml]\nimages: [{name: '(', newTag: x}]", "sortOptions: {order: x}", "resources: [cm.yaml]\nlabels: [{fields: [{path: ''}]}]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fsys := fstest.MapFS{
			"kubernetes/app/kustomization.yaml": {Data: data},
			"kubernetes/app/cm.yaml":            {Data: []byte(configMap("a"))},
		}
		start := time.Now()
		req := request(fsys)
		req.Vars = map[string]string{"A": "1"}
		_, err := Kustomize(context.Background(), req)
		if err != nil && strings.Contains(err.Error(), "please report") {
			t.Error(err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
