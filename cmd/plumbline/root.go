package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/scan"
)

type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Exit codes: 0 all is well, 1 an error, 2 there are differences.
var errDiffers = errors.New("there are differences")

func execute(ctx context.Context, args []string, io streams) int {
	io.out, io.err = printable{io.out}, printable{io.err}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // libraries return their errors too
	scan.Quiet(io.err)
	root := &cobra.Command{
		Use:           "plumbline",
		Short:         "Keeps a cluster's observability pipeline true to Git",
		SilenceUsage:  true,
		SilenceErrors: true,
		Long: `Plumbline pulls Git repositories, renders their stacks, applies them to
Kubernetes, and watches what it applied.

Exit codes: 0 all is well, 1 an error, 2 there are differences.`,
	}
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(runCommand(io), planCommand(io), applyCommand(io), renderCommand(io), scanCommand(io), driftCommand(io), statusCommand(io), reconcileCommand(io),
		suspendCommand(io), resumeCommand(io), secretsCommand(io), schemaCommand(io), versionCommand(io))
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDiffers):
		return 2
	}
	fmt.Fprintln(io.err, "plumbline:", err)
	return 1
}

// clusterFlags say which cluster a command talks to.
type clusterFlags struct{ reconciler.ClusterConfig }

func (c *clusterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG, ~/.kube/config, or the cluster this runs in)")
	cmd.Flags().StringVar(&c.Context, "context", "", "context in the kubeconfig (default: the current one)")
}

// restConfig finds the cluster as kubectl does. There is no client-side limit on
// requests: the server's priority and fairness does that, and knows more.
func restConfig(c reconciler.ClusterConfig) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w%s", err, contexts(rules, c.Context))
	}
	config.QPS = -1
	config.UserAgent = "plumbline/" + version()
	config.WarningHandler = rest.NoWarnings{}
	return config, nil
}

// contexts names those that there are, where one was asked for that isn't.
func contexts(rules *clientcmd.ClientConfigLoadingRules, wanted string) string {
	config, err := rules.Load()
	if err != nil || wanted == "" || config.Contexts[wanted] != nil || len(config.Contexts) == 0 {
		return ""
	}
	return ": there are " + strings.Join(slices.Sorted(maps.Keys(config.Contexts)), ", ")
}

// reachPatience is how long an API server may take to say anything at all.
const reachPatience = 5 * time.Second

// reachable asks the API server for its version: so one that isn't there is said
// to be so at once, and once, whatever the command.
func reachable(ctx context.Context, c reconciler.ClusterConfig) error {
	config, err := restConfig(c)
	if err != nil {
		return err
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("make the API client: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	err = client.RESTClient().Get().AbsPath("/version").MaxRetries(0).Do(limited).Error()
	var failed *url.Error // an answer of any kind is none
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		return fmt.Errorf("the API server %s does not answer: nothing came within %s", config.Host, reachPatience)
	case errors.As(err, &failed):
		return fmt.Errorf("the API server %s can't be reached: %w", config.Host, failed.Err)
	}
	return nil
}
