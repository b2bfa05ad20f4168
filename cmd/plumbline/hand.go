package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/plumbline-dev/plumbline/reconciler"
)

func reconcileCommand(io streams) *cobra.Command {
	var cluster clusterFlags
	var confirm string
	var untilDone bool
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
			store, err := openStore(cmd.Context(), cluster)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return ask(ctx, io, store, args[0], confirm, untilDone)
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVar(&confirm, "confirm", "", "release the held deletions of this name")
	cmd.Flags().BoolVar(&untilDone, "wait", true, "wait until the daemon has done it")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return cmd
}

func ask(ctx context.Context, io streams, store store, target, confirm string, untilDone bool) error {
	at := time.Now().UTC().Format(time.RFC3339Nano)
	annotations := map[string]any{reconciler.RequestAnnotation: at}
	if confirm != "" {
		annotations[reconciler.ConfirmAnnotation] = confirm
	}
	name, isSource := strings.CutPrefix(target, "source/")
	if err := store.Annotate(ctx, isSource, name, annotations); err != nil {
		return err
	}
	if !untilDone {
		fmt.Fprintf(io.out, "asked for %s\n", target)
		return nil
	}
	outcome, err := store.Handled(ctx, isSource, name, at)
	if wait.Interrupted(err) {
		return errors.New("asked, but the daemon did not say that it is done: is it running? (--timeout waits longer, --wait=false not at all)")
	}
	if err != nil {
		return fmt.Errorf("wait for the daemon: %w", err)
	}
	fmt.Fprintf(io.out, "%s: %s\n", target, outcome)
	if !outcome.Ready {
		return errDiffers
	}
	return nil
}

func suspendCommand(io streams) *cobra.Command {
	return suspension(io, "suspend", "suspended", "Leave a stack alone until it is resumed", "true")
}

func resumeCommand(io streams) *cobra.Command {
	return suspension(io, "resume", "resumed", "Take care of a suspended stack again", nil)
}

func suspension(io streams, verb, done, short string, value any) *cobra.Command {
	var cluster clusterFlags
	cmd := &cobra.Command{
		Use:   verb + " STACK",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openStore(cmd.Context(), cluster)
			if err != nil {
				return err
			}
			if err := store.Annotate(cmd.Context(), false, args[0], map[string]any{reconciler.SuspendAnnotation: value}); err != nil {
				return err
			}
			fmt.Fprintf(io.out, "%s: %s\n", args[0], done)
			return nil
		},
	}
	cluster.add(cmd)
	return cmd
}
