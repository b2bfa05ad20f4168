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
	var watch bool
	cmd := &cobra.Command{
		Use:     "status [STACK]",
		Short:   "Show how sources and stacks are doing",
		Example: "  plumbline status\n  plumbline status home-ops.grafana\n  plumbline status --watch",
		Args:    cobra.MaximumNArgs(1),
		Long: `Reads the Source and Stack objects of the cluster; no daemon has to run. With
--watch it goes on until it is interrupted: on a terminal, the table is kept up to
date; elsewhere, each change is a line. Exit code 0 then.

Exit codes: 0 all stacks are Ready or suspended, 1 an error, 2 some are not.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := openStore(cmd.Context(), cluster)
			if err != nil {
				return err
			}
			if watch && !format.table() {
				return errors.New("--watch is for people: leave --output out")
			}
			if watch {
				return store.watchStatus(cmd.Context(), io, args)
			}
			report, err := store.report(cmd.Context(), args)
			if err != nil {
				return err
			}
			if err := report.print(io.out, format, len(args) == 1); err != nil {
				return err
			}
			return report.verdict()
		},
	}
	cluster.add(cmd)
	format.add(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and show each change")
	return cmd
}

// statusReport is what plumbline status prints.
type statusReport struct {
	Sources []reconciler.SourceView `json:"sources"`
	Stacks  []reconciler.StackView  `json:"stacks"`
}

type store struct{ *reconciler.Cluster }

func openStore(ctx context.Context, cluster clusterFlags) (store, error) {
	if err := reachable(ctx, cluster.ClusterConfig); err != nil {
		return store{}, err
	}
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

func (r statusReport) print(w goio.Writer, format output, one bool) error {
	switch {
	case !format.table():
		return format.print(w, r)
	case one:
		printStack(w, r.Stacks[0])
		return nil
	}
	if len(r.Sources) > 0 {
		if err := printTable(w, r.sourceTable); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return printTable(w, r.stackTable)
}

func (r statusReport) sourceTable(w goio.Writer) {
	row(w, "SOURCE", "STATE", "COMMIT", "STACKS", "SUBJECT")
	for _, s := range r.Sources {
		row(w, s.Name, s.Reason, shortCommit(s.Revision), fmt.Sprint(s.Stacks), s.Subject)
	}
	for _, s := range r.Sources {
		for line := range strings.Lines(s.Message) {
			fmt.Fprintf(w, "%s: %s\n", s.Name, strings.TrimSuffix(line, "\n"))
		}
	}
}

func (r statusReport) stackTable(w goio.Writer) {
	row(w, "STACK", "STATE", "FOR", "OBJECTS", "DRIFT", "COMMIT", "MESSAGE")
	for _, s := range r.Stacks {
		drift := ""
		if s.Drift > 0 {
			drift = fmt.Sprint(s.Drift)
		}
		row(w, s.Name, s.Reason, age(s.Since), s.Objects, drift, shortCommit(s.Revision), firstLine(stackMessage(s)))
	}
}

// stackMessage is what the other columns don't say.
func stackMessage(s reconciler.StackView) string {
	switch {
	case s.Held != "":
		return "deletions held: " + s.Held
	case s.Contended:
		return "somebody insists on drift: plumbline drift " + s.Name
	case s.Ready:
		return ""
	}
	return strings.TrimPrefix(s.Message, s.Objects+" ready; ")
}

func printStack(w goio.Writer, s reconciler.StackView) {
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(w, "%-10s%s\n", label, strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n          "))
		}
	}
	line("stack", s.Name)
	line("state", s.Reason+" for "+age(s.Since))
	if s.Objects != "" {
		line("objects", s.Objects+" ready")
	}
	if s.Drift > 0 {
		line("drift", objects(s.Drift)+", see plumbline drift "+s.Name)
	}
	line("commit", s.Revision)
	line("source", s.Source+", "+s.URL)
	line("path", s.Path)
	if !s.Ready && s.Message != s.Held {
		line("message", s.Message)
	}
	if s.Held == "" {
		return
	}
	line("held", s.Held)
	if s.Removal != "" {
		line("", "to go ahead: plumbline reconcile "+s.Name+" --confirm "+s.Removal)
	}
}

// stateText is "Progressing: 3/4 ready; …"; Ready says it all.
func stateText(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}
