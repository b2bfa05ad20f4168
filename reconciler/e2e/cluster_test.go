package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// patience is for busy machines; nothing here takes a tenth of it on an idle one.
const patience = 90 * time.Second

// cluster is how an administrator looks at a control plane, and meddles.
type cluster struct {
	client dynamic.Interface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func openCluster(kubeconfig string) (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return &cluster{client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(discover))}, nil
}

// on finds the resource of a kind such as Deployment or Widget.example.org.
func (c *cluster) on(kind, namespace string) (dynamic.ResourceInterface, error) {
	name, group, _ := strings.Cut(kind, ".")
	gvk, err := c.mapper.KindFor(schema.GroupVersionResource{Group: group, Resource: strings.ToLower(name)})
	if meta.IsNoMatchError(err) {
		c.mapper.Reset()
		gvk, err = c.mapper.KindFor(schema.GroupVersionResource{Group: group, Resource: strings.ToLower(name)})
	}
	if err != nil {
		return nil, err
	}
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.client.Resource(mapping.Resource).Namespace(namespace), nil
	}
	return c.client.Resource(mapping.Resource), nil
}

// find is on for an object whose name may be preceded by its namespace.
func (c *cluster) find(kind, namespace, name string) (string, dynamic.ResourceInterface, error) {
	if ns, rest, ok := strings.Cut(name, "/"); ok {
		namespace, name = ns, rest
	}
	on, err := c.on(kind, namespace)
	return name, on, err
}

// get reads an object. A kind that isn't served has none.
func (c *cluster) get(ctx context.Context, kind, namespace, name string) (*unstructured.Unstructured, error) {
	name, on, err := c.find(kind, namespace, name)
	if meta.IsNoMatchError(err) {
		return nil, apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
	}
	if err != nil {
		return nil, err
	}
	return on.Get(ctx, name, metav1.GetOptions{})
}

// patch merges a JSON or YAML patch into an object, as somebody else.
func (c *cluster) patch(ctx context.Context, kind, namespace, name, patch string, subresources ...string) error {
	name, on, err := c.find(kind, namespace, name)
	if err != nil {
		return err
	}
	body, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		return err
	}
	_, err = on.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "somebody"}, subresources...)
	return err
}

// create makes the objects of a YAML text.
func (c *cluster) create(ctx context.Context, namespace, text string) error {
	for document := range strings.SplitSeq(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			return err
		}
		gvk := u.GroupVersionKind()
		on, err := c.on(strings.TrimSuffix(gvk.Kind+"."+gvk.Group, "."), namespace)
		if err != nil {
			return err
		}
		if _, err := on.Create(ctx, u, metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
			return err
		}
	}
	return nil
}

// field is the value at a JSONPath such as .spec.replicas, as text.
func field(u *unstructured.Unstructured, path string) (string, error) {
	p := jsonpath.New(path).AllowMissingKeys(true)
	if err := p.Parse("{" + path + "}"); err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := p.Execute(&out, u.Object); err != nil {
		return "", err
	}
	return out.String(), nil
}

// whole matches all of a text.
func whole(pattern string) (*regexp.Regexp, error) {
	return regexp.Compile("(?s)^(?:" + pattern + ")$")
}

// holds complains unless the fields of an object are so: path, pattern, path, pattern…
func holds(u *unstructured.Unstructured, want []string) error {
	for i := 0; i+1 < len(want); i += 2 {
		pattern, err := whole(want[i+1])
		if err != nil {
			return err
		}
		got, err := field(u, want[i])
		if err != nil {
			return err
		}
		if !pattern.MatchString(got) {
			return fmt.Errorf("%s %s: %s is %q, want %s", u.GetKind(), u.GetName(), want[i], got, pattern)
		}
	}
	return nil
}

// eventually repeats the check until it has no complaint.
func eventually(ctx context.Context, check func(context.Context) error) error {
	return within(ctx, patience, check)
}

func within(ctx context.Context, patience time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var complaint error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			complaint = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", patience, complaint)
		}
	}
}

func gone(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		return errors.New("is still there")
	}
	return err
}
