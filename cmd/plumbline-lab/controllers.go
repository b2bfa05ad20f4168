package main

import (
	"context"

	ctrlapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	ctrloptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	schedapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
	schedoptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

const (
	controllersKubeconfig = "controller-manager.kubeconfig"
	schedulerKubeconfig   = "scheduler.kubeconfig"
)

// commonFlags suit both components: neither has a rival to elect against or a
// port to serve, and the default rate limit makes a start twice as slow.
var commonFlags = []string{
	"--leader-elect=false",
	"--secure-port=0",
	"--kube-api-qps=500",
	"--kube-api-burst=1000",
}

// runControllers runs kube-controller-manager until ctx ends.
func runControllers(ctx context.Context) error {
	opts, err := ctrloptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	all, disabled, aliases := ctrlapp.KnownControllers(), ctrlapp.ControllersDisabledByDefault(), ctrlapp.ControllerAliases()
	err = parseFlags(opts.Flags(all, disabled, aliases), append([]string{
		"--kubeconfig=" + controllersKubeconfig,
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + tokenKey,
		"--root-ca-file=" + caCert,
	}, commonFlags...)...)
	if err != nil {
		return err
	}
	config, err := opts.Config(ctx, all, disabled, aliases)
	if err != nil {
		return err
	}
	return ctrlapp.Run(ctx, config.Complete())
}

// runScheduler runs kube-scheduler until ctx ends.
func runScheduler(ctx context.Context) error {
	opts := schedoptions.NewOptions()
	err := parseFlags(*opts.Flags, append([]string{"--kubeconfig=" + schedulerKubeconfig}, commonFlags...)...)
	if err != nil {
		return err
	}
	config, scheduler, err := schedapp.Setup(ctx, opts)
	if err != nil {
		return err
	}
	return schedapp.Run(ctx, config, scheduler)
}
