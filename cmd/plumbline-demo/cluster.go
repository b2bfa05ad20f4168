package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plumbline-dev/plumbline/reconciler"
)

var (
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	services    = schema.GroupVersionResource{Version: "v1", Resource: "services"}
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

// cluster is the control plane as its administrator sees it.
type cluster struct {
	client dynamic.Interface
	stacks *reconciler.Cluster
}

func openCluster(kubeconfig string) (cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return cluster{}, err
	}
	config.QPS, config.UserAgent = -1, "plumbline-demo"
	client, err := dynamic.NewForConfig(config)
	return cluster{client, reconciler.NewCluster(client, nil)}, err
}

// views are the stacks as the cluster tells of them; none before the daemon's
// first start.
func (c cluster) views(ctx context.Context) ([]reconciler.StackView, error) {
	_, stacks, err := c.stacks.Views(ctx)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return stacks, err
}

// until acts, and waits for the shop's object to be as it should, after it was
// seen not to be. It returns how long that took.
func (c cluster) until(ctx context.Context, kind schema.GroupVersionResource, act func() error, good func(*unstructured.Unstructured) bool) (time.Duration, error) {
	objects := c.client.Resource(kind).Namespace(shopNamespace)
	live, err := objects.Get(ctx, shopName, metav1.GetOptions{})
	if err != nil {
		return 0, err
	}
	events, err := objects.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + shopName, ResourceVersion: live.GetResourceVersion()})
	if err != nil {
		return 0, err
	}
	defer events.Stop()
	started, wasBad := time.Now(), false
	if err := act(); err != nil {
		return 0, err
	}
	for {
		select {
		case e := <-events.ResultChan():
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				return 0, errors.New("the watch ended")
			}
			isGood := e.Type != watch.Deleted && good(u)
			if isGood && wasBad {
				return time.Since(started), nil
			}
			wasBad = wasBad || !isGood
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// eventually asks again and again until it is so.
func (c cluster) eventually(ctx context.Context, so func() (bool, error)) error {
	for {
		ok, err := so()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case ok || err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stalled is true when the cluster was told that the commit can't be applied.
func (c cluster) stalled(ctx context.Context, stack, commit string) (bool, error) {
	stacks, err := c.views(ctx)
	return slices.ContainsFunc(stacks, func(v reconciler.StackView) bool {
		return v.Name == stack && v.Stalled && v.Revision == commit
	}), err
}

// scale is kubectl scale.
func (c cluster) scale(ctx context.Context, replicas int) error {
	body := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	_, err := c.client.Resource(deployments).Namespace(shopNamespace).Patch(ctx, shopName, types.MergePatchType, body,
		metav1.PatchOptions{FieldManager: "kubectl"}, "scale")
	return err
}

// remove is kubectl delete.
func (c cluster) remove(ctx context.Context, kind schema.GroupVersionResource) error {
	return c.client.Resource(kind).Namespace(shopNamespace).Delete(ctx, shopName, metav1.DeleteOptions{})
}

// fingerprints are the objects of the shop as they are: they differ as soon as
// somebody writes one, statuses aside.
func (c cluster) fingerprints(ctx context.Context) ([]string, error) {
	var out []string
	for _, kind := range []schema.GroupVersionResource{deployments, services, configMaps} {
		list, err := c.client.Resource(kind).Namespace(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: "plumbline.dev/stack=" + shopStack})
		if err != nil {
			return nil, err
		}
		for _, u := range list.Items {
			version := u.GetResourceVersion()
			if u.GetGeneration() > 0 { // its status moves too, and may
				version = fmt.Sprint(u.GetGeneration())
			}
			out = append(out, fmt.Sprintf("%s %s %s %s", u.GetKind(), u.GetName(), u.GetUID(), version))
		}
	}
	slices.Sort(out)
	return out, nil
}

// shop is the image that the shop is to run, and how many pods run it and are
// ready: none while others are still there.
func (c cluster) shop(ctx context.Context) (image string, ready int64, err error) {
	u, err := c.client.Resource(deployments).Namespace(shopNamespace).Get(ctx, shopName, metav1.GetOptions{})
	if err != nil {
		return "", 0, err
	}
	containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
	if len(containers) > 0 {
		container, _ := containers[0].(map[string]any)
		image, _ = container["image"].(string)
	}
	updated, all := number(u, "status", "updatedReplicas"), number(u, "status", "replicas")
	if updated != all || number(u, "status", "observedGeneration") != u.GetGeneration() {
		return image, 0, nil
	}
	return image, number(u, "status", "readyReplicas"), nil
}

func number(u *unstructured.Unstructured, fields ...string) int64 {
	n, _, _ := unstructured.NestedInt64(u.Object, fields...)
	return n
}
