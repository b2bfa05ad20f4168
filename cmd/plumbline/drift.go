package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// driftFlags say where to look for drift.
type driftFlags struct {
	repo    repository
	cluster clusterFlags
	daemon  string
	format  wideOutput
}

func driftCommand(io streams) *cobra.Command {
	var flags driftFlags
	cmd := &cobra.Command{
		Use:   "drift [STACK]",
		Short: "Show what in the cluster is not as Git wants it",
		Args:  cobra.MaximumNArgs(1),
		Example: `  plumbline drift -c plumbline.yaml                  # fetches the sources, and asks the API server
  plumbline drift home-ops.grafana --path ~/home-ops
  plumbline drift --daemon http://localhost:8080     # what is there, and what was there lately
  PLUMBLINE_URL=http://localhost:8080 plumbline drift -o json`,
		Long: `Shows each object that somebody changed, took over or deleted: what, who, when,
and what the daemon does about it. Of each field, what Git wants stands before
the arrow, and what the cluster has behind it.

No daemon has to run: the stacks that were applied are planned against the
cluster, by dry-runs, and nothing is changed. They are taken from the sources of
plumbline.yaml, or from the working tree --path; from the commit that was applied,
where Git has moved on since. Where that can't be read, it is said. With --daemon,
or PLUMBLINE_URL, the daemon is asked, which also knows what was put right lately.

Exit codes: 0 there is no drift now, 1 an error, 2 there is drift.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			stack := strings.Join(args, "")
			if !cmd.Flags().Changed("daemon") && !cmd.Flags().Changed("path") && !cmd.Flags().Changed("config") {
				flags.daemon = os.Getenv("PLUMBLINE_URL")
			}
			list, err := flags.look(cmd.Context(), io, stack)
			if err != nil && list.Stacks == 0 {
				return err
			}
			return printDrift(io.out, flags.format, list, time.Now(), err)
		},
	}
	flags.add(cmd)
	return cmd
}

func (f *driftFlags) add(cmd *cobra.Command) {
	set := cmd.Flags()
	set.StringVarP(&f.repo.config, "config", "c", "", "configuration file: its sources are fetched (default plumbline.yaml); with --path, for the source's defaults")
	set.StringVarP(&f.repo.path, "path", "p", "", "a working tree, instead of fetching")
	set.StringVar(&f.repo.source, "source", "", "with --path: name of the source, as in plumbline.yaml (default: the directory's name)")
	set.StringVar(&f.repo.stacks, "stacks", "", "with --path: directory in which stack.yaml files are looked for")
	set.StringVar(&f.daemon, "daemon", "", "ask the daemon at this URL (default: $PLUMBLINE_URL, unless --path or --config is given)")
	f.cluster.add(cmd)
	f.format.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("daemon", "path")
	cmd.MarkFlagsMutuallyExclusive("daemon", "config")
}

func (f *driftFlags) look(ctx context.Context, io streams, stack string) (reconciler.DriftList, error) {
	if f.daemon != "" {
		return askDaemon(ctx, f.daemon, stack)
	}
	looks, err := f.plan(ctx, io, stack)
	list := reconciler.DriftList{Stacks: len(looks), Drift: []reconciler.Drift{}}
	for _, look := range looks {
		if look.Unsure != "" && look.Plan.Differs() {
			fmt.Fprintf(io.err, "plumbline: %s: %s\n", look.Plan.Stack, look.Unsure)
		}
		list.Drift = append(list.Drift, driftsOf(look, time.Now())...)
	}
	return list, err
}

// plan looks for drift without a daemon.
func (f *driftFlags) plan(ctx context.Context, io streams, stack string) ([]reconciler.Look, error) {
	config, git, done, err := f.sources(stack)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := reachable(ctx, config.Cluster); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	madeUp := func(why error) { fmt.Fprintln(io.err, "plumbline: what was applied can't be known for certain:", why) }
	config.Scan.Images = nil // what only looks asks no registry
	loop, err := wire(ctx, config, git, reconciler.LookHashKey(madeUp), quiet())
	if err != nil {
		return nil, err
	}
	return loop.LookForDrift(ctx, stack, git.At)
}

// history is where commits come from, and older ones.
type history interface {
	snapshots
	At(source fetch.Source, commit string) (fetch.Snapshot, error)
}

// sources finds what to look at: a working tree where --path says so, else the
// sources of plumbline.yaml. These are fetched to a place of their own, which done
// removes: the daemon's mirrors are its own.
func (f *driftFlags) sources(stack string) (config reconciler.Config, git history, done func(), err error) {
	if f.repo.path != "" {
		if config, err = f.repo.settings(f.cluster.ClusterConfig); err != nil {
			return config, nil, nil, err
		}
		snapshot, err := f.repo.snapshot()
		return config, workingTree{snapshot}, func() {}, err
	}
	file := cmp.Or(f.repo.config, "plumbline.yaml")
	if config, err = reconciler.LoadConfig(file); err != nil {
		if f.repo.config == "" && errors.Is(err, os.ErrNotExist) {
			err = errors.New("no plumbline.yaml is here: give --config FILE, --path DIRECTORY of a working tree, or --daemon URL")
		}
		return config, nil, nil, err
	}
	if c := f.cluster.ClusterConfig; c != (reconciler.ClusterConfig{}) {
		config.Cluster = c
	}
	if err := onlySourceOf(&config, file, stack); err != nil {
		return config, nil, nil, err
	}
	dir, err := os.MkdirTemp("", "plumbline-drift-")
	if err != nil {
		return config, nil, nil, fmt.Errorf("make a place to fetch to: %w", err)
	}
	return config, &fetch.Mirrors{Dir: filepath.Join(dir, "git")}, func() { _ = os.RemoveAll(dir) }, nil
}

// onlySourceOf leaves the sources out that the stack is not of.
func onlySourceOf(config *reconciler.Config, file, stack string) error {
	name, _, _ := strings.Cut(stack, ".")
	if stack == "" {
		return nil
	}
	var names []string
	for _, s := range config.Sources {
		if s.Name == name {
			config.Sources = []reconciler.SourceConfig{s}
			return nil
		}
		names = append(names, s.Name)
	}
	return fmt.Errorf("%s has no source of a stack %q (SOURCE.STACK): there are %s", file, stack, strings.Join(names, ", "))
}

// driftsOf is what of a plan is drift.
func driftsOf(look reconciler.Look, now time.Time) (out []reconciler.Drift) {
	for _, c := range look.Plan.Changes {
		d, ok := driftOf(c, look.Unsure == "")
		if !ok {
			continue
		}
		d.Stack, d.Source, d.Revision, d.Action = look.Plan.Stack, look.Source, look.Revision, look.Action
		d.Object = reconciler.DriftOf{Kind: c.ID.GroupKind().String(), Namespace: c.ID.Namespace, Name: c.ID.Name}
		d.Fields, d.Detected = c.Fields, now // when it came about is not known
		out = append(out, d)
	}
	return out
}

// driftOf says whether a change is drift, and which. Where it is not sure that the
// plan is of what was applied, what isn't there may be new in Git.
func driftOf(c apply.Change, sure bool) (d reconciler.Drift, ok bool) {
	if c.Drift == "" || (!sure && c.Action != apply.ActionUpdate && c.Action != apply.ActionReplace) {
		return d, false
	}
	return reconciler.Drift{What: c.Drift, Manager: c.By.Manager, Operation: c.By.Operation, Changed: c.By.At}, true
}
