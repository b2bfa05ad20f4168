package secrets

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func objectOf(t *testing.T, text string) Object {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return Object{Unstructured: u}
}

// checksumsOf gives the note of each workload, and who has none is not in it.
func checksumsOf(stack string, objects, unread []Object, key HashKey) (notes map[string]string, left []string) {
	made, rest := Checksums(stack, objects, unread, key)
	notes = map[string]string{}
	for _, o := range made {
		if path, _ := uses(o); path != nil {
			if note, ok, _ := unstructured.NestedString(o.Object, append(slices.Clone(path), "metadata", "annotations", ChecksumAnnotation)...); ok {
				notes[o.GetName()] = note
			}
		}
	}
	for _, o := range rest {
		left = append(left, o.GetName())
	}
	return notes, left
}

func TestChecksums(t *testing.T) {
	const secret = `{apiVersion: v1, kind: Secret, metadata: {name: pw, namespace: a}, stringData: {x: VALUE}}`
	workloads := []Object{
		objectOf(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: env, namespace: a}, spec: {template: {spec: {containers: [{env: [{name: X, valueFrom: {secretKeyRef: {name: pw, key: x}}}]}]}}}}`),
		objectOf(t, `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: from, namespace: a}, spec: {template: {metadata: {annotations: {own: kept}}, spec: {initContainers: [{envFrom: [{secretRef: {name: pw}}]}]}}}}`),
		objectOf(t, `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: volume, namespace: a}, spec: {template: {spec: {volumes: [{name: v, secret: {secretName: pw}}]}}}}`),
		objectOf(t, `{apiVersion: batch/v1, kind: CronJob, metadata: {name: projected, namespace: a}, spec: {jobTemplate: {spec: {template: {spec: {volumes: [{name: v, projected: {sources: [{secret: {name: pw}}]}}]}}}}}}`),
		objectOf(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: elsewhere, namespace: b}, spec: {template: {spec: {volumes: [{name: v, secret: {secretName: pw}}]}}}}`),
		objectOf(t, `{apiVersion: apps/v1, kind: Deployment, metadata: {name: pulls, namespace: a}, spec: {template: {spec: {imagePullSecrets: [{name: pw}], containers: [{name: pw}]}}}}`),
	}
	key := NewHashKey()
	at := func(stack, value string, key HashKey) map[string]string {
		notes, left := checksumsOf(stack, append(slices.Clone(workloads), objectOf(t, strings.Replace(secret, "VALUE", value, 1))), nil, key)
		if len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		return notes
	}
	one, two := at("s", "one", key), at("s", "two", key)
	if got := slices.Sorted(maps.Keys(one)); !slices.Equal(got, []string{"env", "from", "projected", "volume"}) {
		t.Errorf("noted on %v", got)
	}
	for name := range one {
		if one[name] == two[name] || one[name] != at("s", "one", key)[name] || one[name] == at("s", "one", NewHashKey())[name] {
			t.Errorf("%s: %s: must change with the value, and not be computable without the key", name, one[name])
		}
	}
	for name, note := range at("t", "one", key) {
		if note == one[name] {
			t.Errorf("%s: two stacks can see that their values are the same", name)
		}
	}
	moved := []Object{objectOf(t, strings.NewReplacer("VALUE", "one", "namespace: a", "namespace: c").Replace(secret))}
	for _, o := range workloads {
		o.Unstructured = o.DeepCopy()
		o.SetNamespace("c")
		moved = append(moved, o)
	}
	notes, _ := checksumsOf("s", moved, nil, key)
	for name, note := range one {
		if notes[name] == note || notes[name] == "" {
			t.Errorf("%s: two namespaces can see that their values are the same", name)
		}
	}
	if raw, _ := workloads[1].MarshalJSON(); strings.Contains(string(raw), ChecksumAnnotation) {
		t.Error("the rendered object was changed: it may be rendered once and planned twice")
	}
	_, left := checksumsOf("s", workloads, []Object{objectOf(t, secret)}, key)
	if slices.Sort(left); !slices.Equal(left, []string{"env", "from", "projected", "volume"}) {
		t.Errorf("workloads whose Secret can't be read: left %v; any other note would restart them", left)
	}
}
