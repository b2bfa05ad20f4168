package render

import (
	"context"
	"errors"
	"strings"
	"testing"
)

const oneConfigMap = `
-- kubernetes/app/cm.yaml --
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
`

// TestErrors names what a person must mend: every message in full, after the stack's name.
func TestErrors(t *testing.T) {
	for _, tc := range []struct{ name, tree, path, want string }{
		{name: "missing resource", tree: "-- kubernetes/app/kustomization.yaml --\nresources:\n  - deploy.yaml\n",
			want: `kubernetes/app/kustomization.yaml:2: resources: deploy.yaml: not found`},
		{name: "missing resource with another ending", tree: "-- kubernetes/app/kustomization.yaml --\nresources:\n  - cm.yml\n" + oneConfigMap,
			want: `kubernetes/app/kustomization.yaml:2: resources: cm.yml: not found: did you mean cm.yaml?`},
		{name: "missing directory", tree: "-- kubernetes/x --\n",
			want: `kubernetes/stack.yaml: spec.kustomize.path: app: not found`},
		{name: "path is a file", tree: "-- kubernetes/app --\n",
			want: `kubernetes/stack.yaml: spec.kustomize.path: app: is a file: name the directory of a kustomization`},
		{name: "path leaves the repository", path: "../../x", tree: oneConfigMap,
			want: `kubernetes/stack.yaml: spec.kustomize.path: ../../x: leaves the repository`},
		{name: "path is absolute", path: "/etc", tree: oneConfigMap,
			want: `kubernetes/stack.yaml: spec.kustomize.path: /etc: is absolute: write it relative to this file`},
		{name: "no kustomization", tree: oneConfigMap, want: `kubernetes/app: no kustomization.yaml in it`},
		{name: "two kustomizations", tree: "-- kubernetes/app/kustomization.yaml --\n-- kubernetes/app/Kustomization --\n",
			want: `kubernetes/app: has both kustomization.yaml and Kustomization: keep one`},
		{name: "empty kustomization", tree: "-- kubernetes/app/kustomization.yaml --\n", want: `kubernetes/app/kustomization.yaml: is empty`},
		{name: "unknown field", tree: "-- kubernetes/app/kustomization.yaml --\nnamePrefix: a\nresource: [cm.yaml]\n",
			want: `kubernetes/app/kustomization.yaml:2: unknown field "resource"`},
		{name: "field of a wrong type", tree: "-- kubernetes/app/kustomization.yaml --\nresources: cm.yaml\n",
			want: `kubernetes/app/kustomization.yaml: cannot unmarshal string into resources of type []string`},
		{name: "kustomization does not parse", tree: "-- kubernetes/app/kustomization.yaml --\nresources:\n\t- x\n",
			want: `kubernetes/app/kustomization.yaml:2: not YAML: found character that cannot start any token`},
		{name: "two documents", tree: "-- kubernetes/app/kustomization.yaml --\nnamePrefix: a\n---\nnamePrefix: b\n",
			want: `kubernetes/app/kustomization.yaml:3: a second document: kustomize would not read it`},
		{name: "key twice", tree: "-- kubernetes/app/kustomization.yaml --\nnamePrefix: a\nnamePrefix: b\n",
			want: `kubernetes/app/kustomization.yaml:2: key "namePrefix" occurs twice`},
		{name: "resource does not parse", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\na: b\n c: d\n",
			want: `kubernetes/app/cm.yaml:2: not YAML: mapping values are not allowed in this context`},
		{name: "no kind", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\napiVersion: v1\nmetadata: {name: a}\n",
			want: `kubernetes/app/cm.yaml:1: the object has no kind`},
		{name: "no apiVersion", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\nkind: ConfigMap\nmetadata: {name: a}\n",
			want: `kubernetes/app/cm.yaml:1: ConfigMap has no apiVersion`},
		{name: "no name", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n# a\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {}\n",
			want: `kubernetes/app/cm.yaml:3: ConfigMap has no metadata.name`},
		{name: "generateName", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\napiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n",
			want: `kubernetes/app/cm.yaml:1: Pod has metadata.generateName: give it a fixed metadata.name, or every apply would create another one`},
		{name: "not an object", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n- a\n",
			want: `kubernetes/app/cm.yaml:1: not a Kubernetes object: a mapping with apiVersion, kind and metadata is expected`},
		{name: "several problems", tree: app("cm.yaml", "x.yaml", "y.yaml") + "-- kubernetes/app/cm.yaml --\nkind: A\n---\nkind: B\n",
			want: "4 problems:\n  kubernetes/app/cm.yaml:1: A has no apiVersion\n  kubernetes/app/cm.yaml:3: B has no apiVersion\n" +
				"  kubernetes/app/kustomization.yaml:3: resources: x.yaml: not found\n  kubernetes/app/kustomization.yaml:4: resources: y.yaml: not found"},
		{name: "cycle", tree: app("../other") + "-- kubernetes/other/kustomization.yaml --\nresources: [../app]\n",
			want: `kubernetes/other/kustomization.yaml:1: resources: ../app: cycle: kubernetes/other is built from it`},
		{name: "itself", tree: app("."), want: `kubernetes/app/kustomization.yaml:2: resources: .: cycle: kubernetes/app is built from it`},
		{name: "component as resource", tree: app("../c") + "-- kubernetes/c/kustomization.yaml --\nkind: Component\nnamePrefix: a\n",
			want: `kubernetes/c/kustomization.yaml: resources name it, and its kind is Component: name it under components`},
		{name: "resource as component", tree: "-- kubernetes/app/kustomization.yaml --\ncomponents: [../c]\n-- kubernetes/c/kustomization.yaml --\nnamePrefix: a\n",
			want: `kubernetes/c/kustomization.yaml: components name it, and its kind is not Component`},
		{name: "helm charts", tree: "-- kubernetes/app/kustomization.yaml --\nhelmCharts: [{name: a}]\n",
			want: `kubernetes/app/kustomization.yaml:1: helmCharts: kustomize runs no Helm here: give the chart a stack of its own`},
		{name: "program as plugin", tree: "-- kubernetes/app/kustomization.yaml --\ntransformers: [t.yaml]\n-- kubernetes/app/t.yaml --\n" +
			"apiVersion: x/v1\nkind: T\nmetadata: {name: t, annotations: {config.kubernetes.io/function: \"exec: {path: ./x}\"}}\n",
			want: `kubernetes/app/t.yaml: T is no plugin that runs here: only those built into kustomize do (apiVersion: builtin), no programs, containers or charts`},
		{name: "changed plugin", tree: "-- kubernetes/app/kustomization.yaml --\ntransformers: [../t]\n-- kubernetes/t/kustomization.yaml --\nnamePrefix: x\n",
			want: `kubernetes/t/kustomization.yaml: transformers name it: then it may have resources and nothing else`},
		{name: "same file twice", tree: app("cm.yaml", "cm.yaml") + oneConfigMap,
			want: `ConfigMap a is made twice: by kubernetes/app/cm.yaml:1, which is used twice, or by a generator as well`},
		{name: "same object in two files", tree: app("cm.yaml", "b.yaml") + oneConfigMap + "-- kubernetes/app/b.yaml --\n" + configMap("z") + "---\n" + configMap("a"),
			want: `ConfigMap a is made twice: kubernetes/app/b.yaml:6 and kubernetes/app/cm.yaml:1: remove or rename one`},
		{name: "same object after a prefix", tree: app("../b1", "../b2") + "-- kubernetes/b1/kustomization.yaml --\nnamePrefix: p-\nresources: [a.yaml]\n" +
			"-- kubernetes/b1/a.yaml --\n" + configMap("a") + "-- kubernetes/b2/kustomization.yaml --\nresources: [a.yaml]\n-- kubernetes/b2/a.yaml --\n" + configMap("p-a"),
			want: `ConfigMap p-a is made twice: kubernetes/b1/a.yaml:1 and kubernetes/b2/a.yaml:1: remove or rename one`},
		{name: "patch without target", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\npatches: [{path: p.yaml}]\n" + oneConfigMap +
			"-- kubernetes/app/p.yaml --\n" + configMap("other"),
			want: `kubernetes/app/kustomization.yaml: no resource matches strategic merge patch "ConfigMap.v1.[noGrp]/other.[noNs]": no matches for Id ConfigMap.v1.[noGrp]/other.[noNs]; failed to find unique target for patch ConfigMap.v1.[noGrp]/other.[noNs]`},
		{name: "patch in a base", tree: app("../b") + "-- kubernetes/b/kustomization.yaml --\nresources: [cm.yaml]\npatches: [{patch: 'x'}]\n-- kubernetes/b/cm.yaml --\n" + configMap("a"),
			want: `kubernetes/b/kustomization.yaml: trouble configuring builtin PatchTransformer: unable to parse SM or JSON patch from [patch: "x"]`},
		{name: "literal with a secret", tree: "-- kubernetes/app/kustomization.yaml --\nsecretGenerator: [{name: a, literals: [hush]}]\n",
			want: `kubernetes/app/kustomization.yaml: loading KV pairs: one of the literal sources is not key=value, or has a key that is not allowed or occurs twice`},
		{name: "json6902 patch without a target", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\npatchesJson6902: [{patch: '[]'}]\n" + oneConfigMap,
			want: `kubernetes/app/kustomization.yaml:2: patchesJson6902: a patch has no target`},
		{name: "replacement without a target", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nreplacements: [{source: {kind: ConfigMap}, targets: [null]}]\n" + oneConfigMap,
			want: `kubernetes/app/kustomization.yaml:2: replacements: a target selects nothing`},
		{name: "generator file", tree: "-- kubernetes/app/kustomization.yaml --\nconfigMapGenerator: [{name: a, files: [x=no.txt]}]\n",
			want: `kubernetes/app/kustomization.yaml: configMapGenerator: no.txt: not found`},
		{name: "patch file does not parse", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\npatches: [{path: p.yaml}]\n" + oneConfigMap + "-- kubernetes/app/p.yaml --\na: [\n",
			want: `kubernetes/app/p.yaml:1: not YAML: did not find expected node content`},
		{name: "not a number", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + configMap("a") + "x: .nan\n",
			want: `kubernetes/app/cm.yaml:5: .nan is not a number that Kubernetes knows: quote it if it is text`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := request(tree(tc.tree))
			if tc.path != "" {
				req.Path = tc.path
			}
			out, err := Kustomize(context.Background(), req)
			if err == nil {
				t.Fatalf("no error, rendered\n%s", yamlOf(t, out))
			}
			if want := `stack "web": ` + tc.want; err.Error() != want {
				t.Errorf("have %s\nwant %s", err, want)
			}
			var input *InputError
			if !errors.As(err, &input) {
				t.Errorf("%T is no InputError", err)
			}
		})
	}
}

// app is a kustomization of some resources, one a line.
func app(resources ...string) string {
	return "-- kubernetes/app/kustomization.yaml --\nresources:\n- " + strings.Join(resources, "\n- ") + "\n"
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n"
}
