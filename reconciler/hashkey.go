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

// OwnSecrets are the Secrets that hold keys of ours: who may write them may read
// everything that is sealed, or knows the key of every hash.
func OwnSecrets(c Config) []apply.ID {
	own := []apply.ID{{Kind: "Secret", Namespace: c.Election.Namespace, Name: hashKeyName}}
	keys := []SOPSConfig{c.Secrets.SOPS}
	for _, source := range c.Sources {
		keys = append(keys, source.SOPS)
	}
	for _, k := range keys {
		if k.AgeKeySecret != nil {
			own = append(own, apply.ID{Kind: "Secret", Namespace: k.AgeKeySecret.Namespace, Name: k.AgeKeySecret.Name})
		}
	}
	return own
}

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
// be seen, one is made up, and madeUp is told why.
func LookHashKey(madeUp func(why error)) func(context.Context, dynamic.Interface, string) (secrets.HashKey, error) {
	return func(ctx context.Context, client dynamic.Interface, namespace string) (secrets.HashKey, error) {
		key, err := readHashKey(ctx, client, namespace)
		switch {
		case apierrors.IsForbidden(err):
			madeUp(err)
			return secrets.NewHashKey(), nil
		case apierrors.IsNotFound(err): // the daemon was never here: nothing has a checksum yet
			return secrets.NewHashKey(), nil
		}
		return key, err
	}
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
