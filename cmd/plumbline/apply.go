package main

import (
	"context"
	"errors"
	"fmt"
	goio "io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/plumbline-dev/plumbline/reconciler"
)

func applyCommand(io streams) *cobra.Command {
	var repo repository
	var cluster clusterFlags
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Apply a repository once, and wait until it is Ready",
		Args:  cobra.NoArgs,
		Long: `Takes the stacks of a working tree down the same road as the daemon would: in
the order of their dependencies, with the same checks and the same limits on
deleting. Ends when every stack is Ready, or can't become so by itself.

Exit codes: 0 all is Ready, 1 an error, or a stack that isn't Ready.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return applyOnce(ctx, io, repo, cluster.ClusterConfig)
		},
	}
	repo.add(cmd)
	cluster.add(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	return cmd
}

func applyOnce(ctx context.Context, io streams, repo repository, cluster reconciler.ClusterConfig) error {
	config, err := repo.settings(cluster)
	if err != nil {
		return err
	}
	snapshot, err := repo.snapshot()
	if err != nil {
		return err
	}
	only, err := repo.choice(snapshot, config.Sources[0])
	if err != nil {
		return err
	}
	if err := reachable(ctx, cluster); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loop, err := wire(ctx, config, workingTree{snapshot}, reconciler.HashKey, quiet())
	if err != nil {
		return err
	}
	loop.Only = only
	said := make(chan struct{}, 1)
	loop.Said = func() {
		select {
		case said <- struct{}{}:
		default:
		}
	}
	if err := loop.Cluster.Install(ctx); err != nil {
		return err
	}
	if err := notBeside(ctx, loop.Cluster, cluster, config.Sources[0].Name); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	err = untilSettled(ctx, io, loop, said, ended)
	cancel()
	return err
}

// notBeside refuses to apply what a daemon keeps: it would put its own commit back.
func notBeside(ctx context.Context, store *reconciler.Cluster, cluster reconciler.ClusterConfig, source string) error {
	sources, _, err := store.Views(ctx)
	if err != nil || !slices.ContainsFunc(sources, func(s reconciler.SourceView) bool { return s.Name == source && !strings.HasPrefix(s.URL, "file:///") }) {
		return err
	}
	config, err := restConfig(cluster)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	leases, err := client.CoordinationV1().Leases("").List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=plumbline"})
	if err != nil {
		return fmt.Errorf("look for a daemon: %w", err)
	}
	for _, lease := range leases.Items {
		holder, renewed := lease.Spec.HolderIdentity, lease.Spec.RenewTime
		if holder != nil && *holder != "" && renewed != nil && time.Since(renewed.Time) < leaseDuration {
			return fmt.Errorf("the daemon %s follows the source %s, and would put its commit back: push instead, or give another --source", *holder, source)
		}
	}
	return nil
}

// untilSettled tells what happens to each stack, until nothing more will.
func untilSettled(ctx context.Context, io streams, loop *reconciler.Loop, said <-chan struct{}, ended <-chan error) error {
	shown := map[string]string{}
	for {
		select {
		case err := <-ended:
			return errors.Join(errors.New("ended before all was settled"), err, ctx.Err())
		case <-ctx.Done():
			return errors.Join(unsettled(io, loop), ctx.Err())
		case <-said:
		}
		list, settled := loop.Summaries()
		for _, s := range list {
			if shown[s.Name] != s.Reason && s.Reason != "" {
				shown[s.Name] = s.Reason
				fmt.Fprintf(io.err, "%s: %s\n", s.Name, stateText(s.Reason, s.Message))
			}
		}
		if settled && loop.Written() {
			return settledTable(io.out, list)
		}
	}
}

// unsettled says what is missing when time is up.
func unsettled(io streams, loop *reconciler.Loop) error {
	list, _ := loop.Summaries()
	if err := settledTable(io.out, list); err != nil {
		return err
	}
	return errors.New("not everything came to an end in time")
}

func settledTable(w goio.Writer, list []reconciler.Summary) error {
	var bad []string
	err := printTable(w, func(w goio.Writer) {
		row(w, "STACK", "STATE", "OBJECTS")
		for _, s := range list {
			if !s.Ready && s.Reason != "Suspended" {
				bad = append(bad, s.Name)
			}
			row(w, s.Name, s.Reason, s.Objects)
		}
	})
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("not Ready: %s", strings.Join(bad, ", "))
	}
	return err
}
