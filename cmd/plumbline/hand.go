package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/reconciler"
)

func reconcileCommand(io streams) *cobra.Command {
	var cluster clusterFlags
	var confirm string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "reconcile STACK | source/NAME",
		Short: "Ask the daemon to look at a stack or a source now",
		Args:  cobra.ExactArgs(1),
		Example: `  plumbline reconcile home-ops.grafana
  plumbline reconcile source/home-ops
  plumbline reconcile home-ops.old --confirm 3f1c2a9be07d   # release held deletions`,
		Long: `Fetches the source, and takes the stack down the road with every object
checked against the server, also when it was stalled. With --confirm, deletions
that were held go ahead: exactly those that the given name stands for.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openStore(cluster)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return ask(ctx, io, store, args[0], confirm, wait)
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVar(&confirm, "confirm", "", "release the held deletions of this name")
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until the daemon has done it")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return cmd
}

func ask(ctx context.Context, io streams, store store, target, confirm string, wait bool) error {
	at := time.Now().UTC().Format(time.RFC3339Nano)
	annotations := map[string]any{reconciler.RequestAnnotation: at}
	if confirm != "" {
		annotations[reconciler.ConfirmAnnotation] = confirm
	}
	name, isSource := strings.CutPrefix(target, "source/")
	if err := store.Annotate(ctx, isSource, name, annotations); err != nil {
		return err
	}
	if !wait {
		fmt.Fprintf(io.out, "asked for %s\n", target)
		return nil
	}
	outcome, err := store.Handled(ctx, isSource, name, at)
	if err != nil {
		return fmt.Errorf("wait for the daemon (is it running? --wait=false doesn't wait): %w", err)
	}
	fmt.Fprintf(io.out, "%s: %s\n", target, outcome)
	if !outcome.Ready {
		return errDiffers
	}
	return nil
}

func suspendCommand(io streams) *cobra.Command {
	return suspension(io, "suspend", "Leave a stack alone until it is resumed", "true")
}

func resumeCommand(io streams) *cobra.Command {
	return suspension(io, "resume", "Take care of a suspended stack again", nil)
}

func suspension(io streams, verb, short string, value any) *cobra.Command {
	var cluster clusterFlags
	cmd := &cobra.Command{
		Use:   verb + " STACK",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openStore(cluster)
			if err != nil {
				return err
			}
			if err := store.Annotate(cmd.Context(), false, args[0], map[string]any{reconciler.SuspendAnnotation: value}); err != nil {
				return err
			}
			fmt.Fprintf(io.out, "%s: %s\n", args[0], verb)
			return nil
		},
	}
	cluster.add(cmd)
	return cmd
}
