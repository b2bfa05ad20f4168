package main

import (
	"context"
	"errors"
	"fmt"
	goio "io"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/plumbline-dev/plumbline/reconciler"
)

func statusCommand(io streams) *cobra.Command {
	var cluster clusterFlags
	var format output
	cmd := &cobra.Command{
		Use:     "status [STACK]",
		Short:   "Show how sources and stacks are doing",
		Example: "  plumbline status\n  plumbline status home-ops.grafana",
		Args:    cobra.MaximumNArgs(1),
		Long: `Reads the Source and Stack objects of the cluster; no daemon has to run.

Exit codes: 0 all stacks are Ready or suspended, 1 an error, 2 some are not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openStore(cluster)
			if err != nil {
				return err
			}
			report, err := store.report(cmd.Context(), args)
			if err != nil {
				return err
			}
			if len(args) == 1 && (format == "" || format == "table") {
				printStack(io.out, report.Stacks[0])
			} else if err := format.print(io.out, report, report.table); err != nil {
				return err
			}
			return report.verdict()
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVarP((*string)(&format), "output", "o", "table", "table, json or yaml")
	return cmd
}

// statusReport is what plumbline status prints.
type statusReport struct {
	Sources []reconciler.SourceView `json:"sources"`
	Stacks  []reconciler.StackView  `json:"stacks"`
}

type store struct{ *reconciler.Cluster }

func openStore(cluster clusterFlags) (store, error) {
	config, err := restConfig(cluster.ClusterConfig)
	if err != nil {
		return store{}, err
	}
	client, err := connect(config)
	if err != nil {
		return store{}, err
	}
	return store{reconciler.NewCluster(client.dynamic, nil)}, nil
}

var errNeverRan = errors.New("this cluster has no Stack objects: Plumbline has not run on it yet (see plumbline run --help)")

func (s store) report(ctx context.Context, only []string) (statusReport, error) {
	sources, stacks, err := s.Views(ctx)
	if apierrors.IsNotFound(err) {
		return statusReport{}, errNeverRan
	}
	if err != nil {
		return statusReport{}, err
	}
	if len(only) == 0 {
		return statusReport{sources, stacks}, nil
	}
	var names []string
	for _, stack := range stacks {
		if stack.Name == only[0] {
			return statusReport{Stacks: []reconciler.StackView{stack}}, nil
		}
		names = append(names, stack.Name)
	}
	return statusReport{}, fmt.Errorf("no stack %q: there are %s", only[0], strings.Join(names, ", "))
}

func (r statusReport) verdict() error {
	for _, s := range r.Stacks {
		if !s.Ready && s.Reason != "Suspended" {
			return errDiffers
		}
	}
	for _, s := range r.Sources {
		if !s.Ready {
			return errDiffers
		}
	}
	return nil
}

func (r statusReport) table(w goio.Writer) {
	if len(r.Sources) > 0 {
		row(w, "SOURCE", "READY", "REVISION", "STACKS", "COMMIT")
		for _, s := range r.Sources {
			row(w, s.Name, fmt.Sprint(s.Ready), firstLine(s.Revision, 12), fmt.Sprint(s.Stacks), firstLine(s.Subject, 60))
		}
		for _, s := range r.Sources {
			if s.Message != "" {
				row(w, "  "+s.Name+": "+firstLine(s.Message, 160))
			}
		}
		row(w, "")
	}
	row(w, "STACK", "READY", "REASON", "OBJECTS", "REVISION", "AGE", "MESSAGE")
	for _, s := range r.Stacks {
		message := s.Message
		if s.Held != "" {
			message = "deletions held: " + s.Held
		}
		row(w, s.Name, fmt.Sprint(s.Ready), s.Reason, s.Objects, firstLine(s.Revision, 12), age(s.Since), firstLine(message, 80))
	}
}

func printStack(w goio.Writer, s reconciler.StackView) {
	fmt.Fprintf(w, "stack     %s\nready     %v (%s) for %s\nobjects   %s\nrevision  %s\nsource    %s, %s\n", s.Name, s.Ready, s.Reason, age(s.Since), s.Objects, s.Revision, s.URL, s.Path)
	if s.Message != "" {
		fmt.Fprintf(w, "message   %s\n", strings.ReplaceAll(s.Message, "\n", "\n          "))
	}
	if s.Held != "" {
		fmt.Fprintf(w, "held      %s\n", s.Held)
		if s.Removal != "" {
			fmt.Fprintf(w, "          to go ahead: plumbline reconcile %s --confirm %s\n", s.Name, s.Removal)
		}
	}
}
