package reconciler

import (
	"context"
	_ "embed" // the CRDs
	"encoding/json"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

//go:embed crds.yaml
var crds string

var (
	stacksResource  = apply.Stacks.GroupVersionResource
	sourcesResource = schema.GroupVersionResource{Group: "plumbline.dev", Version: "v1alpha1", Resource: "sources"}
	crdsResource    = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// statusManager owns what the loop says, apart from what Git says.
const statusManager = "plumbline-status"

// Cluster holds the Stack and Source objects: what is durable and not in Git.
type Cluster struct {
	client   dynamic.Interface
	register registerFunc
	stacks   cache.Store
	sources  cache.Store
}

type registerFunc = func(ctx context.Context, stack string, spec map[string]any) (*unstructured.Unstructured, error)

// NewCluster returns a Cluster that has seen nothing yet. register makes a
// Stack object that isn't there.
func NewCluster(client dynamic.Interface, register registerFunc) *Cluster {
	return &Cluster{client: client, register: register, stacks: cache.NewStore(cache.MetaNamespaceKeyFunc), sources: cache.NewStore(cache.MetaNamespaceKeyFunc)}
}

// Install brings our CRDs, and waits until they are served.
func (c *Cluster) Install(ctx context.Context) error {
	for _, document := range strings.Split(crds, "\n---\n") {
		crd := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &crd.Object); err != nil {
			return fmt.Errorf("read our own CRD: %w", err)
		}
		if _, err := c.client.Resource(crdsResource).Apply(ctx, crd.GetName(), crd,
			metav1.ApplyOptions{FieldManager: apply.Manager, Force: true}); err != nil {
			return fmt.Errorf("install CRD %s: %w", crd.GetName(), err)
		}
		if err := c.established(ctx, crd.GetName()); err != nil {
			return fmt.Errorf("wait for CRD %s: %w", crd.GetName(), err)
		}
	}
	return nil
}

func (c *Cluster) established(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	one := fields.OneTermEqualSelector("metadata.name", name).String()
	_, err := watchtools.UntilWithSync(ctx, listWatch(c.client.Resource(crdsResource), one), &unstructured.Unstructured{}, nil,
		func(e watch.Event) (bool, error) {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				return false, nil
			}
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			for _, condition := range conditions {
				m, _ := condition.(map[string]any)
				if m["type"] == "Established" && m["status"] == "True" {
					return true, nil
				}
			}
			return false, nil
		})
	return err
}

func listWatch(client dynamic.ResourceInterface, selector string) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.Watch(ctx, o)
		},
	}
}

// Watch keeps the Stack and Source objects up to date, and tells each change.
// It returns when both have been listed.
func (c *Cluster) Watch(ctx context.Context, stack, source func(u *unstructured.Unstructured, gone bool)) error {
	var synced []cache.InformerSynced
	start := func(resource schema.GroupVersionResource, tell func(*unstructured.Unstructured, bool)) cache.Store {
		store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
			ListerWatcher: listWatch(c.client.Resource(resource), ""),
			ObjectType:    &unstructured.Unstructured{},
			Handler:       handler(tell),
			Transform:     func(o any) (any, error) { return slim(o.(*unstructured.Unstructured)), nil },
		})
		synced = append(synced, controller.HasSynced)
		go controller.RunWithContext(ctx)
		return store
	}
	c.stacks, c.sources = start(stacksResource, stack), start(sourcesResource, source)
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	return nil
}

// Load reads the Stack objects once. A cluster on which Plumbline never ran has none.
func (c *Cluster) Load(ctx context.Context) error {
	list, err := c.client.Resource(stacksResource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the Stack objects: %w", err)
	}
	for i := range list.Items {
		if err := c.stacks.Add(slim(&list.Items[i])); err != nil {
			return err
		}
	}
	return nil
}

func handler(tell func(*unstructured.Unstructured, bool)) cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { tell(o.(*unstructured.Unstructured), false) },
		UpdateFunc: func(_, o any) { tell(o.(*unstructured.Unstructured), false) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if u, ok := o.(*unstructured.Unstructured); ok {
				tell(u, true)
			}
		},
	}
}

// slim drops what nobody here reads, and keeps the status of a Stack as text: there
// is one for each stack, and decoded it takes five times as much. See statusOf.
func slim(u *unstructured.Unstructured) *unstructured.Unstructured {
	if u == nil {
		return nil
	}
	if meta, ok := u.Object["metadata"].(map[string]any); ok && meta["managedFields"] != nil {
		delete(meta, "managedFields")
	}
	if status, ok := u.Object["status"].(map[string]any); ok && u.GetKind() == apply.Stacks.Kind {
		text, _ := json.Marshal(status) // of what was JSON
		u.Object["status"] = string(text)
	}
	return u
}

// Stack is the Stack object as last seen; nil: there is none.
func (c *Cluster) Stack(name string) *unstructured.Unstructured { return lookup(c.stacks, name) }

// Source is the Source object as last seen; nil: there is none.
func (c *Cluster) Source(name string) *unstructured.Unstructured { return lookup(c.sources, name) }

func lookup(store cache.Store, name string) *unstructured.Unstructured {
	o, ok, err := store.GetByKey(name)
	if err != nil || !ok {
		return nil
	}
	return o.(*unstructured.Unstructured)
}

// Stacks are the Stack objects of a source, by their names: what an object says
// of itself, others can write.
func (c *Cluster) Stacks(source string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, o := range c.stacks.List() {
		if u := o.(*unstructured.Unstructured); strings.HasPrefix(u.GetName(), source+".") {
			out = append(out, u)
		}
	}
	return out
}

func stackPath(u *unstructured.Unstructured) string {
	path, _, _ := unstructured.NestedString(u.Object, "spec", "path")
	return path
}

func stackURL(u *unstructured.Unstructured) string {
	if u == nil {
		return ""
	}
	url, _, _ := unstructured.NestedString(u.Object, "spec", "url")
	return url
}

// WriteStatus makes a Stack object say this. It asks nothing where it does.
func (c *Cluster) WriteStatus(ctx context.Context, name string, parent *unstructured.Unstructured, spec map[string]any, s Status) (*unstructured.Unstructured, error) {
	if parent == nil {
		var err error
		if parent, err = c.register(ctx, name, spec); err != nil {
			return nil, err
		}
	}
	s.ObservedGeneration = parent.GetGeneration()
	s.Conditions = append([]metav1.Condition{}, s.Conditions...)
	for i := range s.Conditions {
		s.Conditions[i].ObservedGeneration = s.ObservedGeneration
	}
	if sameStatus(parent, s) {
		return parent, nil
	}
	return c.patchStatus(ctx, stacksResource, name, s)
}

func (c *Cluster) patchStatus(ctx context.Context, resource schema.GroupVersionResource, name string, status any) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return nil, err
	}
	u, err := c.client.Resource(resource).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: statusManager}, "status")
	return slim(u), err
}

// WriteSource makes the Source object say this.
func (c *Cluster) WriteSource(ctx context.Context, s SourceConfig, status SourceStatus) error {
	live := c.Source(s.Name)
	if live == nil {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": sourcesResource.GroupVersion().String(), "kind": "Source",
			"spec": map[string]any{"url": s.URL, "stacks": s.dir()},
		}}
		u.SetName(s.Name)
		if _, err := c.client.Resource(sourcesResource).Apply(ctx, s.Name, u, metav1.ApplyOptions{FieldManager: apply.Manager, Force: true}); err != nil {
			return err
		}
	} else if sameSource(live, status) {
		return nil
	}
	_, err := c.patchStatus(ctx, sourcesResource, s.Name, status)
	return err
}

func sameSource(u *unstructured.Unstructured, want SourceStatus) bool {
	var have SourceStatus
	raw, _ := u.Object["status"].(map[string]any)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &have); err != nil {
		return false
	}
	return sourceText(have) == sourceText(want)
}

func sourceText(s SourceStatus) string {
	s.Conditions = inUTC(s.Conditions)
	raw, _ := json.Marshal(s)
	return string(raw)
}

// newer is the later of two states of one object. A different UID is a new
// object, and later.
func newer(a, b *unstructured.Unstructured) *unstructured.Unstructured {
	if a == nil || b == nil || a.GetUID() != b.GetUID() {
		return b
	}
	if order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion()); err == nil && order > 0 {
		return a
	}
	return b
}
