package reconciler

import (
	"context"
	"encoding/base64"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/secrets"
)

// hashKeyName is the Secret that holds the key of hashes, beside the Lease.
const hashKeyName = "plumbline-hash-key"

var (
	secretsResource    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	namespacesResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
)

// HashKey reads the key of all hashes that are seen in the cluster, and makes it
// where there is none.
//
// It is durable: with another key nothing would be known after a restart, and
// every workload would restart that does so with its Secrets.
func HashKey(ctx context.Context, client dynamic.Interface, namespace string) (secrets.HashKey, error) {
	key, err := readHashKey(ctx, client, namespace)
	if !apierrors.IsNotFound(err) {
		return key, err
	}
	key = secrets.NewHashKey()
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
		"metadata": map[string]any{"name": hashKeyName, "namespace": namespace},
		"data":     map[string]any{"key": base64.StdEncoding.EncodeToString(key)}}}
	create := func() error {
		_, err := client.Resource(secretsResource).Namespace(namespace).Create(ctx, u, metav1.CreateOptions{FieldManager: apply.Manager})
		return err
	}
	err = create()
	if apierrors.IsNotFound(err) {
		ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}}
		if _, err := client.Resource(namespacesResource).Create(ctx, ns, metav1.CreateOptions{FieldManager: apply.Manager}); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("make the namespace %s (election.namespace): %w", namespace, err)
		}
		err = create()
	}
	if apierrors.IsAlreadyExists(err) { // another daemon was quicker
		return readHashKey(ctx, client, namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("make the key of hashes (Secret %s/%s): %w", namespace, hashKeyName, err)
	}
	return key, nil
}

// LookHashKey is HashKey for those who only look: where there is none, or none to
// be seen, one is made up.
func LookHashKey(ctx context.Context, client dynamic.Interface, namespace string) (secrets.HashKey, error) {
	key, err := readHashKey(ctx, client, namespace)
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return secrets.NewHashKey(), nil
	}
	return key, err
}

func readHashKey(ctx context.Context, client dynamic.Interface, namespace string) (secrets.HashKey, error) {
	u, err := client.Resource(secretsResource).Namespace(namespace).Get(ctx, hashKeyName, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the key of hashes (Secret %s/%s): %w", namespace, hashKeyName, err)
	}
	encoded, _, _ := unstructured.NestedString(u.Object, "data", "key")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) < 16 {
		return nil, fmt.Errorf("the Secret %s/%s holds no key: delete it, and another one is made", namespace, hashKeyName)
	}
	return key, nil
}
