package main

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// drift does by hand what Git does not know of, and measures from just before
// the request until the API server tells that it was put right.
func (d *demo) drift(ctx context.Context) error {
	ctx, cancel := within(ctx, "what was changed by hand was not put right")
	defer cancel()

	d.out.say(bold, "%s$ kubectl -n shop scale deployment/shop --replicas=0", indent)
	scaled, err := d.cluster.until(ctx, deployments, func() error { return d.cluster.scale(ctx, 0) },
		func(u *unstructured.Unstructured) bool { return number(u, "spec", "replicas") == shopReplicas })
	if err != nil {
		return err
	}
	d.hold("%d replicas again after %s", shopReplicas, short(scaled))

	d.out.say(bold, "%s$ kubectl -n shop delete service/shop", indent)
	deleted, err := d.cluster.until(ctx, services, func() error { return d.cluster.remove(ctx, services) },
		func(*unstructured.Unstructured) bool { return true })
	if err != nil {
		return err
	}
	d.hold("the Service was there again after %s", short(deleted))

	return d.everythingIsWell(ctx)
}

// everythingIsWell waits for all stacks to be Ready, and for the shop's pods.
func (d *demo) everythingIsWell(ctx context.Context) error {
	ctx, cancel := within(ctx, "not everything was well again")
	defer cancel()
	return d.cluster.eventually(ctx, func() (bool, error) {
		stacks, err := d.cluster.views(ctx)
		return err == nil && allReady(stacks, expected) && d.shopRuns(ctx) == nil, err
	})
}
