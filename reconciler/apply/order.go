package apply

import "k8s.io/apimachinery/pkg/runtime/schema"

// Stages in which a plan is applied. Everything within a stage goes in
// parallel; pruning walks them backwards.
const (
	stageFoundation = iota // what other objects can't exist without
	stageCluster           // cluster-wide permissions and classes
	stageInputs            // what pods read when they start
	stageRest
	stageWebhooks // last: they could refuse what comes with them
	stages
)

var stageOf = map[schema.GroupKind]int{
	{Kind: "Namespace"}: stageFoundation,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: stageFoundation,

	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}:        stageCluster,
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}: stageCluster,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:                  stageCluster,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:              stageCluster,
	{Group: "networking.k8s.io", Kind: "IngressClass"}:               stageCluster,
	{Group: "gateway.networking.k8s.io", Kind: "GatewayClass"}:       stageCluster,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:                     stageCluster,

	{Kind: "ServiceAccount"}:                                  stageInputs,
	{Kind: "ConfigMap"}:                                       stageInputs,
	{Kind: "Secret"}:                                          stageInputs,
	{Kind: "ResourceQuota"}:                                   stageInputs,
	{Kind: "LimitRange"}:                                      stageInputs,
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}:        stageInputs,
	{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}: stageInputs,
	{Group: "networking.k8s.io", Kind: "NetworkPolicy"}:       stageInputs,

	{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"}:   stageWebhooks,
	{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:     stageWebhooks,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicy"}:        stageWebhooks,
	{Group: "admissionregistration.k8s.io", Kind: "ValidatingAdmissionPolicyBinding"}: stageWebhooks,
}

func stage(gk schema.GroupKind) int {
	if s, ok := stageOf[gk]; ok {
		return s
	}
	return stageRest
}

// keptKinds hold people's data, or whole worlds of other objects: they are not
// pruned unless the stack includes them by name.
var keptKinds = map[schema.GroupKind]bool{
	{Kind: "Namespace"}: true,
	{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}: true,
	{Kind: "PersistentVolume"}:                                        true,
	{Kind: "PersistentVolumeClaim"}:                                   true,
}
