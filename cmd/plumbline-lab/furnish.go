package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/component-base/version"
	"sigs.k8s.io/yaml"
)

// maxNodes is how many pod networks 10.244.N.0/24 there are, less some.
const maxNodes = 250

// furnishing is what every lab contains, nodes included.
//
//go:embed furnishing.yaml
var furnishing string

// furnish applies what every lab contains, and returns when it is in effect: the
// nodes take pods, pods may be created, and the requests of user plumbline are
// counted apart.
func furnish(ctx context.Context, admin *rest.Config, nodes int) error {
	if err := applyFurnishing(ctx, admin, nodes); err != nil {
		return fmt.Errorf("furnish the cluster: %w", err)
	}
	client, err := kubernetes.NewForConfig(admin)
	if err != nil {
		return err
	}
	plumbline, err := clientConfig(plumblineKubeconfig)
	if err != nil {
		return err
	}
	for _, condition := range []struct {
		what string
		met  wait.ConditionWithContextFunc
	}{
		{"the nodes", nodesReady(client, nodes)},
		{"the default ServiceAccount", serviceAccountExists(client)},
		{"the FlowSchemas", flowSchemaInEffect(client, plumbline)},
	} {
		if err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, condition.met); err != nil {
			return fmt.Errorf("wait for %s: %w", condition.what, err)
		}
	}
	return nil
}

func applyFurnishing(ctx context.Context, admin *rest.Config, nodes int) error {
	text, err := renderFurnishing(nodes)
	if err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(admin)
	if err != nil {
		return err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))
	client, err := dynamic.NewForConfig(admin)
	if err != nil {
		return err
	}
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &object.Object); err != nil {
			return err
		}
		gvk := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err != nil {
			return err
		}
		_, err = client.Resource(mapping.Resource).Apply(ctx, object.GetName(), object,
			metav1.ApplyOptions{FieldManager: "plumbline-lab", Force: true})
		if err != nil {
			return fmt.Errorf("apply %s %s: %w", gvk.Kind, object.GetName(), err)
		}
	}
	return nil
}

func renderFurnishing(nodes int) ([]byte, error) {
	parsed, err := template.New("furnishing").Parse(furnishing)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for n := range nodes {
		numbers = append(numbers, n+1)
	}
	var text bytes.Buffer
	err = parsed.Execute(&text, map[string]any{"Nodes": numbers, "Version": version.Get().GitVersion})
	return text.Bytes(), err
}

func nodesReady(client kubernetes.Interface, want int) wait.ConditionWithContextFunc {
	return func(ctx context.Context) (bool, error) {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, nil
		}
		ready := 0
		for _, node := range list.Items {
			if takesPods(&node) {
				ready++
			}
		}
		return ready >= want, nil
	}
}

// takesPods wants no taint besides the condition: the not-ready taint goes a
// moment after the node is Ready, and the scheduler goes by the taint.
func takesPods(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue && len(node.Spec.Taints) == 0
		}
	}
	return false
}

func serviceAccountExists(client kubernetes.Interface) wait.ConditionWithContextFunc {
	return func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	}
}

// flowSchemaInEffect asks the API server, as user plumbline, which FlowSchema it
// would count that request under. It learns of new ones by a watch, like anyone.
func flowSchemaInEffect(client kubernetes.Interface, plumbline *rest.Config) wait.ConditionWithContextFunc {
	return func(ctx context.Context) (bool, error) {
		schema, err := client.FlowcontrolV1().FlowSchemas().Get(ctx, "plumbline", metav1.GetOptions{})
		if err != nil {
			return false, nil
		}
		uid, err := matchedFlowSchema(ctx, plumbline)
		return err == nil && uid == schema.UID, nil
	}
}

func matchedFlowSchema(ctx context.Context, config *rest.Config) (types.UID, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/api/v1/namespaces/default", nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	return types.UID(response.Header.Get("X-Kubernetes-Pf-Flowschema-Uid")), nil
}
