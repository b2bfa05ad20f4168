package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// predecessors are the field managers of tools that made objects from files, as
// we do. What they applied and Git no longer says would stay for ever, since
// they still own it; so an adoption takes their fields over.
var predecessors = []string{"kubectl-client-side-apply", "kubectl", "kustomize-controller", "helm-controller", "helm", "argocd-controller"}

// inherited are the predecessors that own fields of the object, sorted.
func inherited(live *unstructured.Unstructured) []string {
	var found []string
	for _, entry := range live.GetManagedFields() {
		if entry.Subresource == "" && slices.Contains(predecessors, entry.Manager) {
			found = append(found, entry.Manager)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// inherit makes the predecessors' fields ours, by one patch of managedFields. The
// apply that follows removes those that Git doesn't have.
func (e *Engine) inherit(ctx context.Context, c Change) error {
	live, err := e.client.get(ctx, c.prepared.Resource, c.ID)
	if err != nil {
		return err
	}
	fields, err := inheritedFields(live)
	if err != nil || fields == nil {
		return err
	}
	body, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/resourceVersion", "value": live.GetResourceVersion()},
		{"op": "replace", "path": "/metadata/managedFields", "value": fields},
	})
	if err != nil {
		return err
	}
	_, err = e.client.do(ctx, e.client.rest.Patch(types.JSONPatchType).AbsPath(c.prepared.Resource.path(c.ID)...).
		Param("fieldManager", Manager).Body(body))
	return err
}

// inheritedFields is managedFields with the predecessors' entries merged into
// one of ours; nil where there is nothing to inherit.
func inheritedFields(live *unstructured.Unstructured) ([]metav1.ManagedFieldsEntry, error) {
	var rest []metav1.ManagedFieldsEntry
	union, version := fieldpath.NewSet(), ""
	for _, entry := range live.GetManagedFields() {
		ours := entry.Manager == Manager && entry.Operation == metav1.ManagedFieldsOperationApply
		if entry.Subresource != "" || entry.FieldsV1 == nil || (!ours && !slices.Contains(predecessors, entry.Manager)) {
			rest = append(rest, entry)
			continue
		}
		var set fieldpath.Set
		if err := set.FromJSON(entry.FieldsV1.GetRawReader()); err != nil {
			return nil, fmt.Errorf("read the fields of %s: %w", entry.Manager, err)
		}
		union, version = union.Union(&set), entry.APIVersion
	}
	if version == "" {
		return nil, nil
	}
	raw, err := union.ToJSON()
	if err != nil {
		return nil, err
	}
	now := metav1.Now()
	return append(rest, metav1.ManagedFieldsEntry{Manager: Manager, Operation: metav1.ManagedFieldsOperationApply,
		APIVersion: version, Time: &now, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(string(raw))}), nil
}
