package render

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// stackOf is a stack of n objects of the usual kinds, with a patch, labels and a generator.
func stackOf(n int) string {
	var b strings.Builder
	b.WriteString("-- kubernetes/app/kustomization.yaml --\nnamespace: o11y\nresources: [all.yaml]\nlabels: [{pairs: {team: o11y}}]\n" +
		"configMapGenerator: [{name: settings, literals: [a=b]}]\npatches:\n- patch: |\n" +
		"    {apiVersion: apps/v1, kind: Deployment, metadata: {name: web0}, spec: {replicas: 2}}\n-- kubernetes/app/all.yaml --\n")
	kinds := []string{deployment, service, ingress}
	for i := range n - 1 {
		b.WriteString("---\n" + strings.ReplaceAll(kinds[i%3], "NAME", fmt.Sprintf("web%d", i/3)))
	}
	return b.String()
}

const (
	deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, labels: {app: NAME}}
spec:
  replicas: 1
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      serviceAccountName: NAME
      containers:
        - name: web
          image: nginx:1.27
          ports: [{name: http, containerPort: 8080}]
          envFrom: [{configMapRef: {name: settings}}]
          resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 64Mi}}
`
	service = `apiVersion: v1
kind: Service
metadata: {name: NAME}
spec: {selector: {app: NAME}, ports: [{name: http, port: 80, targetPort: http}]}
`
	ingress = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: NAME}
spec:
  rules:
    - host: NAME.example
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: NAME, port: {name: http}}}}]}
`
	// withOpenAPI gives lists of a kind a merge key, which only its openapi: field can know.
	withOpenAPI = `
-- kubernetes/app/kustomization.yaml --
resources: [thing.yaml]
openapi: {path: schema.json}
patches:
- patch: |
    {apiVersion: example.com/v1, kind: Thing, metadata: {name: a}, spec: {parts: [{name: y, value: new}]}}
-- kubernetes/app/thing.yaml --
apiVersion: example.com/v1
kind: Thing
metadata: {name: a}
spec: {parts: [{name: x, value: old}, {name: y, value: old}]}
-- kubernetes/app/schema.json --
{"definitions": {"v1.Thing": {
  "type": "object",
  "x-kubernetes-group-version-kind": [{"group": "example.com", "version": "v1", "kind": "Thing"}],
  "properties": {"spec": {"type": "object", "properties": {"parts": {
    "type": "array", "x-kubernetes-patch-merge-key": "name", "x-kubernetes-patch-strategy": "merge",
    "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}}}}}}}}}
`
)

// TestTogether renders many stacks at once, some of which change kyaml's global schema. Each
// must come out as it does alone. It means most under -race.
func TestTogether(t *testing.T) {
	plainThing := strings.Replace(withOpenAPI, "openapi: {path: schema.json}\n", "", 1)
	trees := []string{stackOf(4), withOpenAPI, stackOf(9), plainThing, app("cm.yaml") + oneConfigMap}
	want := make([]string, len(trees))
	for i, text := range trees {
		want[i] = yamlOf(t, mustRender(t, request(tree(text))))
	}
	if !strings.Contains(want[1], "name: x") || strings.Contains(want[3], "name: x") {
		t.Fatalf("the schema makes no difference:\n%s\n%s", want[1], want[3])
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			i := i % len(trees)
			out, err := Kustomize(context.Background(), request(tree(trees[i])))
			if err != nil {
				t.Errorf("stack %d: %v", i, err)
				return
			}
			if have := yamlOf(t, out); have != want[i] {
				t.Errorf("stack %d: have\n%s\nwant\n%s", i, have, want[i])
			}
		})
	}
	wg.Wait()
}

// TestSafeToMutate changes an object to its leaves; a copy would panic on what is not JSON.
func TestSafeToMutate(t *testing.T) {
	req := request(tree(stackOf(4)))
	out := mustRender(t, req)
	before := yamlOf(t, out)
	for _, o := range out.Objects {
		o.DeepCopy()
		scribble(o.Object)
	}
	if after := yamlOf(t, mustRender(t, req)); after != before {
		t.Errorf("a later render sees the change:\n%s", after)
	}
}

func scribble(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			scribble(child)
			v[k] = "changed"
		}
	case []any:
		for i, child := range v {
			scribble(child)
			v[i] = "changed"
		}
	}
}

// TestScope gives namespaces to what lives in one, and duplicates that only this makes are told.
func TestScope(t *testing.T) {
	crd := func(kind, scope string) string {
		return fmt.Sprintf("---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: %ss.example.com}\n"+
			"spec: {group: example.com, scope: %s, names: {kind: %s}}\n", strings.ToLower(kind), scope, kind)
	}
	object := func(apiVersion, kind, name, namespace string) string {
		return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: %q}\n", apiVersion, kind, name, namespace)
	}
	text := app("all.yaml") + "-- kubernetes/app/all.yaml --\n" + crd("Wide", "Cluster") + crd("Narrow", "Namespaced") +
		object("example.com/v1", "Wide", "a", "x") + object("example.com/v1", "Narrow", "a", "") + object("example.com/v1", "Told", "a", "x") +
		object("example.com/v1", "Unknown", "a", "") + object("v1", "ConfigMap", "mine", "x") + object("v1", "Namespace", "x", "")
	req := request(tree(text))
	req.Namespace = "o11y"
	req.Scope = func(gk schema.GroupKind) (bool, bool) { return false, gk.Kind == "Told" }
	var have []string
	for _, o := range mustRender(t, req).Objects {
		if o.GetKind() != "CustomResourceDefinition" {
			have = append(have, label(o))
		}
	}
	const want = "ConfigMap x/mine, Namespace x, Narrow o11y/a, Told a, Unknown o11y/a, Wide a"
	if have := strings.Join(have, ", "); have != want {
		t.Errorf("have %s\nwant %s", have, want)
	}
}

func TestDuplicatesByNamespace(t *testing.T) {
	req := request(tree(app("a.yaml", "b.yaml") +
		"-- kubernetes/app/a.yaml --\n" + strings.Replace(ingress, "NAME", "web", 1) +
		"-- kubernetes/app/b.yaml --\n---\n" + strings.Replace(strings.Replace(ingress, "NAME", "web, namespace: o11y", 1), "io/v1", "io/v1beta1", 1)))
	req.Namespace = "o11y"
	_, err := Kustomize(context.Background(), req)
	const want = `stack "web": Ingress o11y/web is made twice: by kubernetes/app/a.yaml:1 and by kubernetes/app/b.yaml:2: remove or rename one`
	if err == nil || err.Error() != want {
		t.Errorf("have %v\nwant %s", err, want)
	}
}

// TestOriginAnnotations are kept for who asks for them.
func TestOriginAnnotations(t *testing.T) {
	asked := mustRender(t, request(tree("-- kubernetes/app/kustomization.yaml --\nbuildMetadata: [originAnnotations]\nresources: [cm.yaml]\n"+oneConfigMap)))
	if have := asked.Objects[0].GetAnnotations()["config.kubernetes.io/origin"]; have != "path: cm.yaml\n" {
		t.Errorf("have %q", have)
	}
}

// TestOriginIsPatchedAway keeps the origin of an object whose annotations are replaced.
func TestOriginIsPatchedAway(t *testing.T) {
	out := mustRender(t, request(tree("-- kubernetes/app/kustomization.yaml --\nnamePrefix: p-\nresources: [cm.yaml]\npatches:\n"+
		"- {target: {name: a}, patch: '- {op: replace, path: /metadata/annotations, value: {x: z}}'}\n"+oneConfigMap)))
	o := out.Objects[0]
	if have := o.GetAnnotations(); o.Origin != "kubernetes/app/cm.yaml" || len(have) != 1 || have["x"] != "z" {
		t.Errorf("have %s: %v", o.Origin, have)
	}
}

// TestNumbers makes of YAML what going through JSON text would.
func TestNumbers(t *testing.T) {
	out := mustRender(t, request(tree(app("x.yaml")+"-- kubernetes/app/x.yaml --\n"+
		"apiVersion: example.com/v1\nkind: X\nmetadata: {name: a}\n"+
		"v: [1, 1.0, 1.5, 1e3, -0, 0x1F, 0o14, 014, 9223372036854775807, 12345678901234567890, true, yes, null, ~, 2024-01-01, \"1\", 1e400s]\nm: {1: a, true: b}\n")))
	want := []any{int64(1), int64(1), 1.5, int64(1000), int64(0), int64(31), int64(12), int64(12), int64(9223372036854775807), 1.2345678901234567e19,
		true, "yes", nil, nil, "2024-01-01", "1", "1e400s"}
	have, _, _ := unstructured.NestedSlice(out.Objects[0].Object, "v")
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("(-want +have)\n%s", diff)
	}
}
