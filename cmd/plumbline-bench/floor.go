package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
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
