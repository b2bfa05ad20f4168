package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/secrets"
)

func planCommand(io streams) *cobra.Command {
	var repo repository
	var cluster clusterFlags
	var against string
	var format output
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what applying a repository would change",
		Args:  cobra.NoArgs,
		Example: `  plumbline plan --path ~/home-ops                        # against the current cluster
  plumbline plan --path ~/home-ops --against ../main      # against another working tree: no cluster needed`,
		Long: `Renders the stacks of a working tree and shows, object by object and field by
field, what would change. Against a cluster, the API server itself is asked, by
dry-runs; nothing is changed. Needs no daemon.

What the gate denies is planned all the same, and told below the stack's plan.

Exit codes: 0 nothing would change, 1 an error, 2 there are differences, or the
gate denies something.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plans, err := planAgainst(cmd.Context(), io, repo, cluster.ClusterConfig, against)
			if plans == nil && err != nil {
				return err
			}
			return printPlans(io, format, plans, err)
		},
	}
	repo.add(cmd)
	cluster.add(cmd)
	cmd.Flags().StringVar(&against, "against", "cluster", `what to compare with: "cluster", or a directory`)
	format.add(cmd)
	return cmd
}

func planAgainst(ctx context.Context, io streams, repo repository, cluster reconciler.ClusterConfig, against string) ([]apply.Plan, error) {
	if against != "cluster" {
		return planTrees(ctx, io, repo, against)
	}
	config, err := repo.settings(cluster)
	if err != nil {
		return nil, err
	}
	snapshot, err := repo.snapshot()
	if err != nil {
		return nil, err
	}
	only, err := repo.choice(snapshot, config.Sources[0])
	if err != nil {
		return nil, err
	}
	if err := reachable(ctx, cluster); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	madeUp := func(why error) {
		fmt.Fprintln(io.err, "plumbline: checksums of Secrets will differ from those in the cluster:", why)
	}
	config.Scan.Images = nil // what only looks asks no registry
	loop, err := wire(ctx, config, workingTree{snapshot}, reconciler.LookHashKey(madeUp), quiet())
	if err != nil {
		return nil, err
	}
	loop.Only = only
	return loop.Preview(ctx, snapshot)
}

// planTrees compares the renders of two working trees.
func planTrees(ctx context.Context, io streams, repo repository, against string) ([]apply.Plan, error) {
	other := repo
	other.path = against
	if other.source == "" {
		source, err := repo.sourceConfig()
		if err != nil {
			return nil, err
		}
		other.source = source.Name
	}
	redactor := secrets.NewRedactor()
	want, err := repo.render(ctx, io, redactor)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(against); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("--against %s: is not a directory", against)
	}
	have, err := other.render(ctx, io, redactor)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoStacks) { // the first stack of all has nothing before it
		return nil, fmt.Errorf("--against: %w", err)
	}
	if err := failures(have.stacks); err != nil {
		return nil, fmt.Errorf("--against %s: can't be compared with: %w", against, err)
	}
	if err := repo.known(slices.Concat(want.names, have.names)); err != nil {
		return nil, err
	}
	verdicts, err := judge(ctx, want, redactor, imagesIn(repo.scan, false))
	if err != nil {
		return nil, err
	}
	failed := []error{failures(want.stacks)}
	for _, v := range verdicts {
		if err := v.Err(); err != nil {
			failed = append(failed, &reconciler.GateError{Stack: v.Stack, Message: err.Error()})
		}
	}
	return comparePlans(have.stacks, want.stacks, redactor), errors.Join(failed...)
}

func comparePlans(have, want []rendered, masks apply.Masks) []apply.Plan {
	before := map[string][]apply.Object{}
	for _, s := range have {
		before[s.Name] = s.applyObjects()
	}
	var plans []apply.Plan
	for _, s := range want {
		if s.err == nil {
			plans = append(plans, apply.Compare(s.Name, before[s.Name], s.applyObjects(), masks))
		}
		delete(before, s.Name)
	}
	for _, s := range have {
		if objects, gone := before[s.Name]; gone {
			plans = append(plans, apply.Compare(s.Name, objects, nil, masks))
		}
	}
	slices.SortFunc(plans, func(a, b apply.Plan) int { return strings.Compare(a.Stack, b.Stack) })
	return plans
}

// split tells what the gate denies, by stack, from what else is wrong.
func split(err error) (denied map[string]string, rest error) {
	denied = map[string]string{}
	var others []error
	for _, err := range flat(err) {
		var gate *reconciler.GateError
		if errors.As(err, &gate) {
			denied[gate.Stack] = gate.Message
		} else {
			others = append(others, err)
		}
	}
	return denied, errors.Join(others...)
}

// flat takes apart what errors.Join put together.
func flat(err error) []error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, err := range several.Unwrap() {
		out = append(out, flat(err)...)
	}
	return out
}

// planView is a plan for programs.
type planView struct {
	Stack   string               `json:"stack"`
	Counts  map[apply.Action]int `json:"counts"`
	Held    string               `json:"held,omitempty"`
	Denied  string               `json:"denied,omitempty"` // by the gate, and why
	Changes []changeView         `json:"changes"`
}

type changeView struct {
	Action apply.Action        `json:"action"`
	Object string              `json:"object"`
	Origin string              `json:"origin,omitempty"`
	Reason string              `json:"reason,omitempty"`
	Fields []apply.FieldChange `json:"fields,omitempty"`
}

func printPlans(io streams, format output, plans []apply.Plan, failed error) error {
	denied, failed := split(failed)
	differs := len(denied) > 0
	for _, p := range plans {
		differs = differs || p.Differs()
	}
	if format.table() {
		for _, p := range plans {
			printPlan(io.out, p)
			printDenied(io.out, denied[p.Stack])
		}
	} else if err := format.print(io.out, planViews(plans, denied)); err != nil {
		return err
	}
	if failed == nil && differs {
		return errDiffers
	}
	return failed
}

func planViews(plans []apply.Plan, denied map[string]string) []planView {
	views := make([]planView, 0, len(plans))
	for _, p := range plans {
		view := planView{Stack: p.Stack, Counts: p.Counts(), Held: p.Held, Denied: denied[p.Stack], Changes: []changeView{}}
		for _, c := range p.Changes {
			if c.Action != apply.ActionNone {
				view.Changes = append(view.Changes, changeView{c.Action, c.ID.String(), c.Origin, c.Reason, c.Fields})
			}
		}
		views = append(views, view)
	}
	return views
}
