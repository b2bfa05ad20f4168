package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// floorWorkers is where more made a server on two cores slower, not faster.
const floorWorkers = 16

var resources = map[string]schema.GroupVersionResource{
	"ServiceAccount": {Version: "v1", Resource: "serviceaccounts"},
	"Service":        {Version: "v1", Resource: "services"},
	"Deployment":     {Group: "apps", Version: "v1", Resource: "deployments"},
	"Ingress":        {Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"},
}

// applyBare is the floor: server-side applies by a plain client and nothing else.
// No dry-run, no watch, no inventory, no wait for a rollout.
func applyBare(ctx context.Context, client dynamic.Interface, all []*unstructured.Unstructured) (time.Duration, error) {
	queue := make(chan *unstructured.Unstructured, len(all))
	for _, u := range all {
		queue <- u
	}
	close(queue)
	errs := make([]error, floorWorkers)
	var group sync.WaitGroup
	start := time.Now()
	for i := range floorWorkers {
		group.Go(func() {
			for u := range queue {
				_, err := client.Resource(resources[u.GetKind()]).Namespace(u.GetNamespace()).
					Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: "floor", Force: true})
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("apply for the floor: %w", err)
	}
	return time.Since(start), nil
}

// floorObjects are all objects of the stacks from..to-1; onlyDeployments is what
// a new image changes.
func floorObjects(from, to int, tag string, onlyDeployments bool) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for i := from; i < to; i++ {
		of, err := objects(i, tag, floorNamespace)
		if err != nil {
			return nil, err
		}
		for _, u := range of {
			if !onlyDeployments || u.GetKind() == "Deployment" {
				out = append(out, u)
			}
		}
	}
	return out, nil
}

// floor measures the bare loop right before the daemon does the same, so that
// whatever else the machine has to do hits both.
func (b *bench) floor(ctx context.Context, from, to int, tag string) (f floor, err error) {
	if tag != tagInstall {
		if err := b.floorBefore(ctx, from, to); err != nil {
			return f, err
		}
	}
	all, err := floorObjects(from, to, tag, tag != tagInstall)
	if err != nil {
		return f, err
	}
	synced, observed := b.rollouts(ctx, to-from, imageOf(tag))
	select {
	case <-synced:
	case err := <-observed:
		return f, fmt.Errorf("watch the floor's rollouts: %w", err)
	}
	before, err := b.bothCPU()
	if err != nil {
		return f, err
	}
	start := time.Now()
	if f.took, err = applyBare(ctx, b.client, all); err != nil {
		return f, err
	}
	if err := <-observed; err != nil {
		return f, fmt.Errorf("wait for the floor's rollouts: %w", err)
	}
	f.ready = time.Since(start)
	if err := b.quiet(ctx); err != nil {
		return f, err
	}
	now, err := b.bothCPU()
	f.cpu = now - before
	if err != nil || tag != tagInstall {
		return f, err
	}
	return f, b.clearFloor(ctx)
}

// floorBefore makes the Deployments that the floor is to change.
func (b *bench) floorBefore(ctx context.Context, from, to int) error {
	all, err := floorObjects(from, to, tagInstall, true)
	if err != nil {
		return err
	}
	if _, err := applyBare(ctx, b.client, all); err != nil {
		return err
	}
	return b.quiet(ctx)
}

// clearFloor removes what the floor made. It has to: what a server takes to make a
// Service grows with the number of those that are there.
func (b *bench) clearFloor(ctx context.Context) error {
	background := metav1.DeletePropagationBackground
	for kind, resource := range resources {
		if err := b.client.Resource(resource).Namespace(floorNamespace).DeleteCollection(ctx,
			metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{LabelSelector: nameLabel}); err != nil {
			return fmt.Errorf("delete each %s of the floor: %w", kind, err)
		}
	}
	return b.quiet(ctx)
}

// rollouts tells when so many Deployments of the floor were observed with an image:
// the least that anybody has to wait for who calls them ready. synced is closed
// when it knows what was there before.
func (b *bench) rollouts(ctx context.Context, n int, image string) (synced <-chan struct{}, done <-chan error) {
	client := b.client.Resource(resources["Deployment"]).Namespace(floorNamespace)
	deployments := &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return client.Watch(ctx, o) },
	}
	seen := map[string]bool{}
	known, ended := make(chan struct{}), make(chan error, 1)
	listed := func(cache.Store) (bool, error) { close(known); return false, nil }
	go func() {
		_, err := watchtools.UntilWithSync(ctx, deployments, &unstructured.Unstructured{}, listed, func(e watch.Event) (bool, error) {
			if u, ok := e.Object.(*unstructured.Unstructured); ok && imageIn(u) == image && observed(u) {
				seen[u.GetName()] = true
			}
			return len(seen) == n, nil
		})
		ended <- err
	}()
	return known, ended
}

func observed(deployment *unstructured.Unstructured) bool {
	generation, _, _ := unstructured.NestedInt64(deployment.Object, "status", "observedGeneration")
	return generation == deployment.GetGeneration()
}

// quiet waits until the controllers are done with what was applied: the time
// they take belongs to whoever applied it.
func (b *bench) quiet(ctx context.Context) error {
	for range 120 {
		before, err := cpuOf(b.plane.PID())
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if now, err := cpuOf(b.plane.PID()); err != nil || now-before < 200*time.Millisecond {
			return err
		}
	}
	return nil // it is what it is: a slow machine
}

// bothCPU is the CPU time of the control plane and of ourselves.
func (b *bench) bothCPU() (time.Duration, error) {
	server, err := cpuOf(b.plane.PID())
	if err != nil {
		return 0, err
	}
	ours, err := cpuOf(os.Getpid())
	return server + ours, err
}
