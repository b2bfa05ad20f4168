package apply

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const inheritance = `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: [
	{manager: kubectl-client-side-apply, operation: Update, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:a": {}, "f:b": {}}}},
	{manager: kustomize-controller, operation: Apply, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:c": {}}}},
	{manager: hpa, operation: Update, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:data": {"f:d": {}}}},
	{manager: kubectl, operation: Update, subresource: status, apiVersion: v1, fieldsType: FieldsV1, fieldsV1: {"f:status": {}}}]}}`

// What kubectl or Flux own of an object becomes ours, so that an apply can take
// away what Git doesn't have; what others own stays theirs.
func TestAdoptionInheritsFromPredecessors(t *testing.T) {
	live := object(t, strings.ReplaceAll(inheritance, "\t", ""))
	if diff := cmp.Diff([]string{"kubectl-client-side-apply", "kustomize-controller"}, inherited(live)); diff != "" {
		t.Error(diff)
	}
	fields, err := inheritedFields(live)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range fields {
		got[f.Manager+" "+string(f.Operation)+" "+f.Subresource] = f.FieldsV1.GetRawString()
	}
	want := map[string]string{
		"plumbline Apply ": `{"f:data":{"f:a":{},"f:b":{},"f:c":{}}}`,
		"hpa Update ":      `{"f:data":{"f:d":{}}}`, "kubectl Update status": `{"f:status":{}}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	alone := object(t, "{metadata: {managedFields: [{manager: hpa, operation: Update, apiVersion: v1, fieldsV1: {}}]}}")
	if fields, err := inheritedFields(alone); err != nil || fields != nil {
		t.Errorf("nothing to inherit: %v, %v", fields, err)
	}
}

func TestBringsOnlyServedVersions(t *testing.T) {
	crd := object(t, `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: example.org, names: {kind: Widget},
        versions: [{name: v1, served: true}, {name: v1beta1, served: false}]}}`)
	other := object(t, `{apiVersion: v1, kind: ConfigMap, spec: {group: example.org, names: {kind: Widget}, versions: [{name: v9, served: true}]}}`)
	got := brings([]Object{{Unstructured: crd}, {Unstructured: other}}, ID{Group: "example.org", Kind: "Widget"}.GroupKind())
	if diff := cmp.Diff([]string{"v1"}, got); diff != "" {
		t.Error(diff)
	}
}
