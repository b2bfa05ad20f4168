package observe

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// edit changes what is at a path of an object; a number is an index of a list. A nil value deletes.
func edit(t testing.TB, obj *unstructured.Unstructured, value any, path ...any) {
	t.Helper()
	var at any = obj.Object
	for i, step := range path {
		last := i == len(path)-1
		switch step := step.(type) {
		case string:
			object := at.(map[string]any)
			switch {
			case last && value == nil:
				delete(object, step)
			case last:
				object[step] = value
			default:
				if object[step] == nil {
					object[step] = map[string]any{}
				}
				at = object[step]
			}
		case int:
			list := at.([]any)
			if last {
				list[step] = value
			} else {
				at = list[step]
			}
		}
	}
}

func documents(t testing.TB, file string) map[string]*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]*unstructured.Unstructured{}
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		data, err := yaml.YAMLToJSON(doc)
		if err != nil {
			t.Fatal(err)
		}
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(data); err != nil {
			t.Fatal(err)
		}
		docs[obj.GetKind()] = obj
	}
	return docs
}

func deployment(t testing.TB) *unstructured.Unstructured {
	return documents(t, "deployment.yaml")["Deployment"]
}

func object(kv ...any) map[string]any {
	m := map[string]any{}
	for i := 0; i < len(kv); i += 2 {
		m[kv[i].(string)] = kv[i+1]
	}
	return m
}

func list(items ...any) []any { return items }

func TestFingerprintOf(t *testing.T) {
	container := func(path ...any) []any {
		return append(list("spec", "template", "spec", "containers", 0), path...)
	}
	ours := func(path ...any) []any { return append(list("metadata", "managedFields", 0, "fieldsV1"), path...) }
	with := func(value any, path ...any) func(testing.TB, *unstructured.Unstructured) {
		return func(t testing.TB, obj *unstructured.Unstructured) { edit(t, obj, value, path...) }
	}
	all := func(edits ...func(testing.TB, *unstructured.Unstructured)) func(testing.TB, *unstructured.Unstructured) {
		return func(t testing.TB, obj *unstructured.Unstructured) {
			for _, e := range edits {
				e(t, obj)
			}
		}
	}
	theirs := func(tree map[string]any) func(testing.TB, *unstructured.Unstructured) {
		return func(t testing.TB, obj *unstructured.Unstructured) {
			metadata := obj.Object["metadata"].(map[string]any)
			metadata["managedFields"] = append(metadata["managedFields"].([]any),
				object("manager", "vpa", "operation", "Update", "fieldsV1", tree))
		}
	}
	inContainer := func(tree map[string]any) map[string]any {
		return object("f:spec", object("f:template", object("f:spec", object("f:containers", object(`k:{"name":"grafana"}`, tree)))))
	}
	tests := []struct {
		name   string
		kind   string
		edit   func(testing.TB, *unstructured.Unstructured)
		alters bool
	}{
		{"nothing", "Deployment", all(), false},
		{"status", "Deployment", with(int64(1), "status", "readyReplicas"), false},
		{"resourceVersion", "Deployment", with("48212", "metadata", "resourceVersion"), false},
		{"generation", "Deployment", with(int64(4), "metadata", "generation"), false},
		{"managedFields time", "Deployment", with("2027-01-01T00:00:00Z", "metadata", "managedFields", 0, "time"), false},
		{"a defaulted field", "Deployment", with(int64(11), "spec", "revisionHistoryLimit"), false},
		{"a default beside an owned field", "Deployment", with("50%", "spec", "strategy", "rollingUpdate", "maxSurge"), false},
		{"another manager's label", "Deployment", with("b", "metadata", "labels", "team"), false},
		{"a label that nobody tracks", "Deployment", with("c", "metadata", "labels", "new"), false},
		{"a sidecar", "Deployment", with(list(object("name", "proxy"), deploymentContainer(t)), "spec", "template", "spec", "containers"), false},
		{"the order of ports", "Deployment", with(list(object("containerPort", int64(3000), "protocol", "UDP"), object("name", "http", "containerPort", int64(3000), "protocol", "TCP")), container("ports")...), false},
		{"fields that another puts into an empty map of ours", "Deployment", all(
			with(object("limits", object("cpu", "1")), container("resources")...),
			theirs(inContainer(object("f:resources", object("f:limits", object(".", object(), "f:cpu", object()))))),
		), false},
		{"the same without a mark at the map between", "Deployment", all(
			with(object("limits", object("cpu", "1")), container("resources")...),
			theirs(inContainer(object("f:resources", object("f:limits", object("f:cpu", object()))))),
		), false},

		{"another object", "Deployment", with("0b1b4f0e-9d0c-4f43-8f5e-0a3a2f6f1c11", "metadata", "uid"), true},
		{"replicas", "Deployment", with(int64(3), "spec", "replicas"), true},
		{"replicas as a string", "Deployment", with("2", "spec", "replicas"), true},
		{"replicas gone", "Deployment", with(nil, "spec", "replicas"), true},
		{"replicas taken by another", "Deployment", with(nil, ours("f:spec", "f:replicas")...), true},
		{"image", "Deployment", with("grafana/grafana:12.0.1", container("image")...), true},
		{"a value in env", "Deployment", with("https://evil", container("env", 0, "value")...), true},
		{"a key reference in env", "Deployment", with("other", container("env", 1, "valueFrom", "secretKeyRef", "key")...), true},
		{"a port's name", "Deployment", with("web", container("ports", 0, "name")...), true},
		{"a port gone", "Deployment", with(list(object("containerPort", int64(3000), "protocol", "UDP")), container("ports")...), true},
		{"a container renamed", "Deployment", with("gragana", container("name")...), true},
		{"a container gone", "Deployment", with(list(), "spec", "template", "spec", "containers"), true},
		{"an atomic list, changed", "Deployment", with("--quiet", container("args", 1)...), true},
		{"an atomic list, in another order", "Deployment", with(list("--verbose", "--config=/etc/grafana.ini"), container("args")...), true},
		{"an atomic list, longer", "Deployment", with(list("--config=/etc/grafana.ini", "--verbose", ""), container("args")...), true},
		{"an atomic list, joined", "Deployment", with(list("--config=/etc/grafana.ini--verbose"), container("args")...), true},
		{"an atomic list of objects", "Deployment", with("2", "spec", "template", "spec", "tolerations", 1, "value"), true},
		{"an atomic map, longer", "Deployment", with("x", "spec", "template", "spec", "nodeSelector", "disk"), true},
		{"an empty map gone", "Deployment", with(nil, container("resources")...), true},
		{"our label", "Deployment", with("x", "metadata", "labels", "plumbline.dev/stack"), true},
		{"a duplicate in env", "Deployment", func(t testing.TB, obj *unstructured.Unstructured) {
			c := deploymentContainer(t)
			c["env"] = append(c["env"].([]any), object("name", "GF_SERVER_ROOT_URL", "value", "https://evil"))
			edit(t, obj, list(c), "spec", "template", "spec", "containers")
		}, true},

		{"another's key", "ConfigMap", with("x", "data", "theirs"), false},
		{"another's key gone", "ConfigMap", with(nil, "data", "theirs"), false},
		{"another's finalizer gone", "ConfigMap", with(list("example.org/ours"), "metadata", "finalizers"), false},
		{"a payload", "ConfigMap", with("{}", "data", "node.json"), true},
		{"an empty value gone", "ConfigMap", with(nil, "data", "empty"), true},
		{"a missing value appears", "ConfigMap", with(object(), "binaryData"), true},
		{"our finalizer gone", "ConfigMap", with(list("example.org/theirs"), "metadata", "finalizers"), true},

		{"a float that is whole", "Pipeline", with(list(1.0, float64(2), int64(3)), "spec", "matrix"), false},
		{"another's field in our map", "Pipeline", with("2Gi", "spec", "limits", "memory"), false},
		{"another's nested field in our map", "Pipeline", with(int64(9), "spec", "limits", "nested", "cpu"), false},
		{"another's fields in our map gone", "Pipeline", with(object(), "spec", "limits"), false},
		{"another's item in our list", "Pipeline", with(int64(9), "spec", "hosts", 0, "port"), true}, // whose it is, managedFields say, and they can be made up
		{"another's item in our list gone", "Pipeline", with(list(), "spec", "hosts"), true},
		{"an item by another index", "Pipeline", with(int64(9), "spec", "matrix", 0), false},
		{"a float", "Pipeline", with(0.25, "spec", "ratio"), true},
		{"a bool", "Pipeline", with(false, "spec", "enabled"), true},
		{"null and absent", "Pipeline", with(nil, "spec", "nothing"), true},
		{"a field deep in an atomic list", "Pipeline", with(int64(3), "spec", "stages", 1, "weight"), true},
		{"an item by index", "Pipeline", with(int64(9), "spec", "matrix", 1), true},
		{"a missing parent appears", "Pipeline", with("x", "spec", "gone", "deep"), true},
		{"a field that nobody tracks, in a map of ours", "Pipeline", with("x", "spec", "limits", "x"), true},
	}
	for _, tt := range tests {
		t.Run(tt.kind+"/"+tt.name, func(t *testing.T) {
			docs := documents(t, "others.yaml")
			docs["Deployment"] = deployment(t)
			obj := docs[tt.kind]
			before := FingerprintOf(obj, "plumbline")
			tt.edit(t, obj)
			if after := FingerprintOf(obj, "plumbline"); (after != before) != tt.alters {
				t.Errorf("altered the fingerprint: %v, want %v", after != before, tt.alters)
			}
		})
	}
}

func deploymentContainer(t testing.TB) map[string]any {
	containers, _, _ := unstructured.NestedSlice(deployment(t).Object, "spec", "template", "spec", "containers")
	return containers[0].(map[string]any)
}

func TestFingerprintOfNothing(t *testing.T) {
	for name, entry := range map[string]any{
		"another manager":  object("manager", "kubectl", "operation", "Apply", "fieldsV1", object("f:spec", object())),
		"by Update":        object("manager", "plumbline", "operation", "Update", "fieldsV1", object("f:spec", object())),
		"of a subresource": object("manager", "plumbline", "operation", "Apply", "subresource", "status", "fieldsV1", object("f:spec", object())),
		"no fields":        object("manager", "plumbline", "operation", "Apply", "fieldsV1", object()),
		"garbage":          "plumbline",
	} {
		obj := &unstructured.Unstructured{Object: object("metadata", object("managedFields", list(entry)))}
		if got := FingerprintOf(obj, "plumbline"); got != (Fingerprint{}) {
			t.Errorf("%s: fingerprint %x, want none", name, got)
		}
	}
	if got := FingerprintOf(&unstructured.Unstructured{}, "plumbline"); got != (Fingerprint{}) {
		t.Errorf("of an empty object: fingerprint %x, want none", got)
	}
}

// Fingerprints are kept in the cluster: one that changes with a release makes each object look drifted.
func TestFingerprintIsStable(t *testing.T) {
	const want = "2008ac8404fa8384ede0c9820d0e70d8"
	got := FingerprintOf(deployment(t), "plumbline")
	if text := got.String(); text != want {
		t.Errorf("fingerprint %s, want %s", text, want)
	}
}

func FuzzFingerprintOf(f *testing.F) {
	for _, file := range []string{"deployment.yaml", "others.yaml"} {
		for _, obj := range documents(f, file) {
			managed, _ := json.Marshal(obj.GetManagedFields()[0].FieldsV1)
			data, _ := obj.MarshalJSON()
			f.Add(string(managed), data)
		}
	}
	f.Add(`{"f:a":{"k:{\"x\":1}":{".":{}},"k:":{},"k:{":{},"v:":{},"v:[1]":{},"i:-1":{},"i:99999999999999999999":{},"":{},"f":{},"x:y":{},"f:":5}}`, []byte(`{"a":[{"x":1},null,[1],1e400]}`))
	f.Add(strings.Repeat(`{"f:a":`, 200)+"{}"+strings.Repeat("}", 200), []byte(`{}`))
	f.Fuzz(func(t *testing.T, tree string, data []byte) {
		var managed, content map[string]any
		if json.Unmarshal([]byte(tree), &managed) != nil || json.Unmarshal(data, &content) != nil || content == nil {
			return
		}
		content["metadata"] = object("managedFields", list(
			object("manager", "plumbline", "operation", "Apply", "fieldsV1", managed),
			object("manager", "other", "operation", "Update", "fieldsV1", managed),
			object("manager", "plumbline", "operation", "Apply", "fieldsV1", object("f:a", managed)),
		))
		obj := &unstructured.Unstructured{Object: content}
		if a, b := FingerprintOf(obj, "plumbline"), FingerprintOf(obj.DeepCopy(), "plumbline"); a != b {
			t.Errorf("fingerprints of equal objects: %x, %x", a, b)
		}
	})
}

// TestMadeUpOwnership has an entry of managedFields that claims a part of what is ours
// as a whole, and then that part changes under our name.
func TestMadeUpOwnership(t *testing.T) {
	state := func(list []any, config map[string]any, claims map[string]any) *unstructured.Unstructured {
		entry := func(manager string, fields map[string]any) any {
			return map[string]any{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:spec": fields}}
		}
		return &unstructured.Unstructured{Object: map[string]any{"kind": "Bag", "metadata": map[string]any{"name": "a", "managedFields": []any{
			entry("plumbline", map[string]any{"f:list": map[string]any{}, "f:config": map[string]any{}}), entry("kube-controller-manager", claims)}},
			"spec": map[string]any{"list": list, "config": config}}}
	}
	for name, claims := range map[string]map[string]any{
		"nothing":       {},
		"an index":      {"f:list": map[string]any{"i:0": map[string]any{}}},
		"all of a list": {"f:list": map[string]any{"i:0": map[string]any{}, "i:1": map[string]any{}}},
		"a value":       {"f:list": map[string]any{`v:"evil"`: map[string]any{}}},
		"a field":       {"f:config": map[string]any{"f:a": map[string]any{}}},
	} {
		before := FingerprintOf(state([]any{"good", "b"}, map[string]any{"a": "good", "b": "b"}, claims), "plumbline")
		if before == FingerprintOf(state([]any{"evil", "b"}, map[string]any{"a": "good", "b": "b"}, claims), "plumbline") {
			t.Errorf("who claims %s hides an item", name)
		}
		if before == FingerprintOf(state([]any{"good", "b"}, map[string]any{"a": "evil", "b": "b"}, claims), "plumbline") {
			t.Errorf("who claims %s hides a field", name)
		}
	}
}
