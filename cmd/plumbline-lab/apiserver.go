package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

// runAPIServer serves the Kubernetes API on the listener until ctx ends.
//
// The parts of the stock command are called one by one: the command itself
// installs a signal handler, which panics when a second component does so too.
func runAPIServer(ctx context.Context, listener net.Listener) error {
	opts := options.NewServerRunOptions()
	err := parseFlags(opts.Flags(),
		"--etcd-servers="+etcdURL.String(),
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--client-ca-file="+caCert,
		"--tls-cert-file="+serverCert,
		"--tls-private-key-file="+serverKey,
		"--service-account-issuer="+issuer,
		"--service-account-key-file="+tokenKey,
		"--service-account-signing-key-file="+tokenKey,
		// Loopback cannot be an endpoint of the Service "kubernetes", and looking for
		// another address fails on a machine without a default route.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
	)
	if err != nil {
		return err
	}
	opts.SecureServing.Listener = listener
	if err := opts.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := opts.Complete(ctx)
	if err != nil {
		return err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return utilerrors.NewAggregate(errs)
	}
	return app.Run(ctx, completed)
}

// parseFlags gives a component its settings in the form that its manual documents.
func parseFlags(sets cliflag.NamedFlagSets, args ...string) error {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		all.AddFlagSet(set)
	}
	return all.Parse(args)
}

// waitReady waits until the API server says that it is ready, or ctx ends.
func waitReady(ctx context.Context, config *rest.Config) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the API server: %w", err)
	}
	return nil
}
