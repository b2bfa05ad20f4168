package main

import (
	"context"
	"text/template"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	kwok "sigs.k8s.io/kwok/pkg/kwok/controllers"
	kwokclient "sigs.k8s.io/kwok/pkg/utils/client"
)

const kwokKubeconfig = "kwok.kubeconfig"

// runKWOK plays the kubelets of the nodes annotated kwok.x-k8s.io/node=fake until
// ctx ends. A node of another kind may join the cluster beside them.
func runKWOK(ctx context.Context) error {
	config, err := kwokConfig()
	if err != nil {
		return err
	}
	controller, err := kwok.NewController(config)
	if err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func kwokConfig() (kwok.Config, error) {
	config := kwok.Config{
		// A fixed identity: after a restart the leases of the nodes are still ours.
		ID:                                "plumbline-lab",
		Clock:                             clock.RealClock{},
		ManageNodesWithAnnotationSelector: "kwok.x-k8s.io/node=fake",
		CIDR:                              "10.244.0.0/16", // of nodes without a podCIDR
		PodPlayStageParallelism:           8,
		NodePlayStageParallelism:          4,
		NodeLeaseDurationSeconds:          40,
		NodeLeaseParallelism:              4,
		PodsOnNodeSyncParallelism:         4,
		EnablePodsOnNodeSyncListPager:     true,
		FuncMap:                           template.FuncMap{"PodStatus": podStatusJSON},
	}
	var err error
	if config.LocalStages, err = stages(); err != nil {
		return config, err
	}
	return config, connect(&config)
}

// connect gives KWOK the clients it wants.
func connect(config *kwok.Config) error {
	clients, err := kwokclient.NewClientset("", kwokKubeconfig)
	if err != nil {
		return err
	}
	restConfig, err := clients.ToRESTConfig()
	if err != nil {
		return err
	}
	if config.DynamicClient, err = clients.ToDynamicClient(); err != nil {
		return err
	}
	if config.RESTMapper, err = clients.ToRESTMapper(); err != nil {
		return err
	}
	if config.RESTClient, err = rest.RESTClientFor(restConfig); err != nil {
		return err
	}
	config.TypedClient, err = kubernetes.NewForConfig(restConfig)
	return err
}
