package stacks_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/stacks"
)

const servers = "../testdata/servers"

// A stack is one directory with a stack.yaml, rendered.
type stack struct {
	name string
	dir  string
	spec spec

	workloads  []workload
	services   []corev1.Service
	accounts   map[string]corev1.ServiceAccount
	configMaps map[string]corev1.ConfigMap
	policies   []networkingv1.NetworkPolicy
	namespaces []corev1.Namespace
	rendered   string // everything but ConfigMaps: what ${VARS} are substituted in
}

// spec has what these stacks use of a stack.yaml; anything else in one is a mistake here.
type spec struct {
	Kustomize struct {
		Path string `json:"path"`
	} `json:"kustomize"`
	Namespace string            `json:"namespace"`
	DependsOn []string          `json:"dependsOn"`
	Vars      map[string]string `json:"vars"`
	Ready     struct {
		Timeout string `json:"timeout"`
	} `json:"ready"`
}

// A workload is what a Deployment and a StatefulSet have in common.
type workload struct {
	name     string
	selector map[string]string
	history  *int32
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	accounts map[string]corev1.ServiceAccount // of its stack
}

func load(t *testing.T) map[string]stack {
	t.Helper()
	files, err := filepath.Glob("*/*/stack.yaml")
	if err != nil || len(files) != 5 {
		t.Fatalf("found stacks %q, %v; want five", files, err)
	}
	all := map[string]stack{}
	for _, file := range files {
		s := declared(t, file)
		render(t, &s)
		all[s.name] = s
	}
	return all
}

func declared(t *testing.T, file string) stack {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Spec spec `json:"spec"`
	}
	if err := strict(text, &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if d.APIVersion != "plumbline.dev/v1alpha1" || d.Kind != "Stack" || d.Metadata.Name != filepath.Base(filepath.Dir(file)) {
		t.Errorf("%s: is %s %s %q; want a Stack with its directory's name", file, d.APIVersion, d.Kind, d.Metadata.Name)
	}
	return stack{name: d.Metadata.Name, dir: filepath.Dir(file), spec: d.Spec,
		accounts: map[string]corev1.ServiceAccount{}, configMaps: map[string]corev1.ConfigMap{}}
}

// render decodes strictly into the API's own types, so that a field Kubernetes does not know is an error.
func render(t *testing.T, s *stack) {
	t.Helper()
	res, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(s.dir, s.spec.Kustomize.Path))
	if err != nil {
		t.Fatalf("render %s: %v", s.name, err)
	}
	for _, r := range res.Resources() {
		text := r.MustYaml()
		if r.GetKind() != "ConfigMap" {
			s.rendered += text
		}
		if r.GetKind() != "Namespace" && r.GetNamespace() != s.spec.Namespace {
			t.Errorf("%s: %s %s is in namespace %q, not in the stack's %q", s.name, r.GetKind(), r.GetName(), r.GetNamespace(), s.spec.Namespace)
		}
		switch r.GetKind() {
		case "Deployment":
			d := decode[appsv1.Deployment](t, text)
			s.workloads = append(s.workloads, workload{d.Name, d.Spec.Selector.MatchLabels, d.Spec.RevisionHistoryLimit, d.Spec.Template, nil, s.accounts})
		case "StatefulSet":
			d := decode[appsv1.StatefulSet](t, text)
			s.workloads = append(s.workloads, workload{d.Name, d.Spec.Selector.MatchLabels, d.Spec.RevisionHistoryLimit, d.Spec.Template, d.Spec.VolumeClaimTemplates, s.accounts})
		case "Service":
			s.services = append(s.services, decode[corev1.Service](t, text))
		case "ServiceAccount":
			s.accounts[r.GetName()] = decode[corev1.ServiceAccount](t, text)
		case "ConfigMap":
			s.configMaps[r.GetName()] = decode[corev1.ConfigMap](t, text)
		case "NetworkPolicy":
			s.policies = append(s.policies, decode[networkingv1.NetworkPolicy](t, text))
		case "Namespace":
			s.namespaces = append(s.namespaces, decode[corev1.Namespace](t, text))
		default:
			t.Errorf("%s: renders a %s, which no test here looks at", s.name, r.GetKind())
		}
	}
	if len(s.workloads) != 1 || len(s.workloads[0].pod.Spec.Containers) != 1 {
		t.Fatalf("%s: want one workload with one container", s.name)
	}
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := strict([]byte(text), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

// strict decodes as the API server does: unknown and repeated fields are errors, and so are fields in the wrong case,
// which encoding/json, and sigs.k8s.io/yaml with it, would take.
func strict(text []byte, v any) error {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	mistakes, err := json.UnmarshalStrict(asJSON, v)
	return errors.Join(append(mistakes, err)...)
}

func (s stack) container() corev1.Container { return s.workloads[0].pod.Spec.Containers[0] }

func names(all map[string]stack) []string { return slices.Sorted(maps.Keys(all)) }

// The embed directive leaves out names that start with "." or "_" without a word.
func TestEveryFileIsEmbedded(t *testing.T) {
	list := func(fsys fs.FS) (files []string) {
		for _, layer := range []string{"alerting", "ingestion", "storage"} {
			err := fs.WalkDir(fsys, layer, func(p string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					files = append(files, p)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return files
	}
	if diff := cmp.Diff(list(os.DirFS(".")), list(stacks.FS)); diff != "" {
		t.Errorf("on disk (-), embedded (+):\n%s", diff)
	}
}

func TestDependencies(t *testing.T) {
	all := load(t)
	var reach func(from string, path []string) []string
	reach = func(from string, path []string) (seen []string) {
		if slices.Contains(path, from) {
			t.Fatalf("dependsOn goes in a circle: %v", append(path, from))
		}
		for _, dep := range all[from].spec.DependsOn {
			if _, ok := all[dep]; !ok {
				t.Errorf("%s dependsOn %q, which does not exist", from, dep)
			}
			seen = append(append(seen, dep), reach(dep, append(path, from))...)
		}
		return seen
	}
	for _, name := range names(all) {
		// The namespace's owner must come first, or the others are applied into nothing.
		if deps := reach(name, nil); name != "prometheus" && !slices.Contains(deps, "prometheus") {
			t.Errorf("%s does not depend on prometheus, which owns the namespace", name)
		}
	}
}

func TestNamespaceHasOneOwner(t *testing.T) {
	all := load(t)
	for _, name := range names(all) {
		s := all[name]
		if s.spec.Namespace != "o11y" {
			t.Errorf("%s is in namespace %q; NetworkPolicies and short host names need all five in one", name, s.spec.Namespace)
		}
		if owner := name == "prometheus"; len(s.namespaces) > 0 != owner {
			t.Errorf("%s renders %d Namespaces; an object that two stacks claim is refused", name, len(s.namespaces))
		}
	}
	ns := all["prometheus"].namespaces[0]
	for _, mode := range []string{"enforce", "audit", "warn"} {
		if got := ns.Labels["pod-security.kubernetes.io/"+mode]; got != "restricted" {
			t.Errorf("namespace %s: pod security %s is %q, want restricted", ns.Name, mode, got)
		}
	}
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

func TestVariables(t *testing.T) {
	all := load(t)
	values := map[string]string{}
	for _, name := range names(all) {
		s := all[name]
		used := map[string]string{}
		for _, m := range variable.FindAllStringSubmatch(s.rendered, -1) {
			used[m[1]] = s.spec.Vars[m[1]]
		}
		if diff := cmp.Diff(s.spec.Vars, used); len(s.spec.Vars)+len(used) > 0 && diff != "" {
			t.Errorf("%s: vars declared (-), used (+):\n%s", name, diff)
		}
		for k, v := range s.spec.Vars {
			if before, ok := values[k]; ok && before != v {
				t.Errorf("%s says %s is %q, another stack says %q: logs and metrics would not be found together", name, k, v, before)
			}
			values[k] = v
		}
	}
}

func TestServicesReachTheirPods(t *testing.T) {
	for name, s := range load(t) {
		w := s.workloads[0]
		if len(s.services) != 1 || s.services[0].Name != name {
			t.Errorf("%s: want one Service of the same name, other stacks' configurations call it so", name)
			continue
		}
		svc := s.services[0]
		if !matches(svc.Spec.Selector, w.pod.Labels) || len(svc.Spec.Selector) == 0 {
			t.Errorf("%s: Service selects %v, pods have %v", name, svc.Spec.Selector, w.pod.Labels)
		}
		if !matches(w.selector, w.pod.Labels) {
			t.Errorf("%s: workload selects %v, its pods have %v", name, w.selector, w.pod.Labels)
		}
		for _, p := range svc.Spec.Ports {
			if port, ok := containerPort(s.container(), p.TargetPort.String()); !ok || port != p.Port {
				t.Errorf("%s: Service port %d leads to %q, which is %d; policies and configurations use one number for both", name, p.Port, p.TargetPort.String(), port)
			}
		}
	}
}

func containerPort(c corev1.Container, name string) (int32, bool) {
	for _, p := range c.Ports {
		if p.Name == name {
			return p.ContainerPort, true
		}
	}
	return 0, false
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// What is checked below must be what is shipped. Prometheus numbers its module differently from its releases;
// VictoriaLogs' module is a commit on top of the release, for its tags cannot be had as a module.
func TestTheCheckedVersionIsTheShippedOne(t *testing.T) {
	all := load(t)
	for name, want := range map[string]struct{ module, image string }{
		"otel-collector": {"go.opentelemetry.io/collector/otelcol v0.160.0", "docker.io/otel/opentelemetry-collector-contrib:0.160.0"},
		"victoria-logs":  {"github.com/VictoriaMetrics/VictoriaLogs v1.47.1-0.20260225221819-a408207c2242", "docker.io/victoriametrics/victoria-logs:v1.47.0"},
		"prometheus":     {"github.com/prometheus/prometheus v0.315.0", "quay.io/prometheus/prometheus:v3.15.0"},
		"alertmanager":   {"github.com/prometheus/alertmanager v0.31.1", "quay.io/prometheus/alertmanager:v0.31.1"},
	} {
		if got := all[name].container().Image; got != want.image {
			t.Errorf("%s ships %s, checked as %s: change both, and this table", name, got, want.image)
		}
		mod, err := os.ReadFile(filepath.Join(servers, name, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(mod), want.module) {
			t.Errorf("%s is checked with another version than %s", name, want.module)
		}
	}
}
