package render

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// scopes knows which kinds live in a namespace.
type scopes struct {
	cluster func(schema.GroupKind) (namespaced, known bool)
	crds    map[schema.GroupKind]bool
}

func newScopes(cluster func(schema.GroupKind) (bool, bool), objects []Object) scopes {
	s := scopes{cluster: cluster, crds: map[schema.GroupKind]bool{}}
	for _, o := range objects {
		gvk := o.GroupVersionKind()
		if gvk.Group != "apiextensions.k8s.io" || gvk.Kind != "CustomResourceDefinition" {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		scope, _, _ := unstructured.NestedString(o.Object, "spec", "scope")
		s.crds[schema.GroupKind{Group: group, Kind: kind}] = scope != "Cluster"
	}
	return s
}

// namespaced asks the CRDs of the output first: they are what the cluster is about to learn.
func (s scopes) namespaced(o Object) bool {
	gvk := o.GroupVersionKind()
	if namespaced, ok := s.crds[gvk.GroupKind()]; ok {
		return namespaced
	}
	if s.cluster != nil {
		if namespaced, known := s.cluster(gvk.GroupKind()); known {
			return namespaced
		}
	}
	namespaced, known := openapi.IsNamespaceScoped(kyaml.TypeMeta{APIVersion: o.GetAPIVersion(), Kind: o.GetKind()})
	return namespaced || !known
}

// place gives namespaced objects the default, and takes the namespace from cluster-wide ones,
// as the API server does: kustomize sets it on kinds that it does not know.
func (s scopes) place(objects []Object, namespace string) {
	for _, o := range objects {
		switch {
		case !s.namespaced(o):
			unstructured.RemoveNestedField(o.Object, "metadata", "namespace")
		case o.GetNamespace() == "" && namespace != "":
			o.SetNamespace(namespace)
		}
	}
}
