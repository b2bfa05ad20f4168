package main

import (
	"context"
	"errors"
	"fmt"
	goio "io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/secrets"
)

func scanCommand(io streams) *cobra.Command {
	var repo repository
	format := scanOutput("table")
	var report, all, lookUp bool
	cmd := &cobra.Command{
		Use:   "scan [PATH]",
		Short: "Show what the gate has against a repository's stacks",
		Args:  cobra.MaximumNArgs(1),
		Example: `  plumbline scan ~/home-ops --stack grafana
  plumbline scan ~/home-ops -o sarif > plumbline.sarif    # for a forge
  plumbline scan ~/home-ops --report                      # sums per stack
  plumbline scan ~/home-ops -c plumbline.yaml --images    # asks registries, too`,
		Long: `Renders the stacks of a working tree and judges them as the daemon would: by
Trivy's checks of Kubernetes objects and its rules for exposed secrets, by where
images come from, by checks of the repository's own, and by its exceptions. It
needs no cluster and no network, unless --images has it look images up, by
scan.images of plumbline.yaml. The table shows what denies (✗), what an
exception lets pass (=), and what nobody could find out (?); with --all, also
what only is told (·).

Exit codes: 0 the gate lets all of it pass, 1 an error, 2 it denies something.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				repo.path = args[0]
			}
			verdicts, failed := scanTree(cmd.Context(), io, repo, lookUp)
			if verdicts == nil && failed != nil {
				return failed
			}
			if err := format.printVerdicts(io.out, verdicts, report, all); err != nil {
				return err
			}
			if failed != nil {
				return failed
			}
			if slices.ContainsFunc(verdicts, func(v scan.Verdict) bool { return v.Err() != nil }) {
				return errDiffers
			}
			return nil
		},
	}
	repo.add(cmd)
	cmd.Flags().VarP(&format, "output", "o", "table, json, yaml or sarif")
	cmd.Flags().BoolVar(&report, "report", false, "only how many findings each stack has")
	cmd.Flags().BoolVar(&lookUp, "images", false, "look images up in their registries, as scan.images says")
	cmd.Flags().BoolVar(&all, "all", false, "also what doesn't deny")
	return cmd
}

// scanTree judges the stacks that were asked for. The error is about what could not
// be rendered, or about the repository as a whole: then there is no verdict.
func scanTree(ctx context.Context, io streams, repo repository, lookUp bool) ([]scan.Verdict, error) {
	redactor := secrets.NewRedactor()
	tree, err := repo.render(ctx, io, redactor)
	if err != nil {
		return nil, err
	}
	if err := repo.known(tree.names); err != nil {
		return nil, err
	}
	verdicts, err := judge(ctx, tree, redactor, imagesIn(repo.scan, lookUp))
	if err != nil {
		return nil, err
	}
	for _, s := range tree.stacks {
		if s.err != nil { // a report that left it out would look clean
			verdicts = append(verdicts, scan.Verdict{Stack: s.Name, Findings: []scan.Finding{{Kind: scan.KindGate, ID: "RenderFailed", Severity: scan.SeverityCritical,
				Title: "Stack can't be rendered", Message: s.err.Error(), File: s.File, Fix: "mend what it says", Denies: true}}})
		}
	}
	return verdicts, failures(tree.stacks)
}

// judge asks the gate about what could be rendered.
func judge(ctx context.Context, t tree, redactor *secrets.Redactor, config reconciler.ScanConfig) ([]scan.Verdict, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gate, err := newGate(ctx, config, "")
	if err != nil {
		return nil, err
	}
	requests := []scan.Request{}
	for _, s := range t.stacks {
		if s.err == nil {
			requests = append(requests, s.Scan(t.snapshot.FS, s.objects, redactor.Text))
		}
	}
	return scanAll(ctx, gate, requests)
}

// imagesIn is how images are looked up: by default, if the configuration doesn't say; not at all, if nobody asked.
func imagesIn(config reconciler.ScanConfig, lookUp bool) reconciler.ScanConfig {
	switch {
	case !lookUp:
		config.Images = nil
	case config.Images == nil:
		config.Images = &reconciler.ImagesConfig{}
	}
	return config
}

// scanAll judges each, and again until all its images are known.
func scanAll(ctx context.Context, gate *scan.Gate, requests []scan.Request) ([]scan.Verdict, error) {
	verdicts := make([]scan.Verdict, len(requests))
	judge := func(i int) (err error) {
		if verdicts[i], err = gate.Scan(ctx, requests[i]); err != nil {
			return fmt.Errorf("%s: %w", requests[i].Stack, err)
		}
		return nil
	}
	for i := range requests {
		if err := judge(i); err != nil {
			return nil, err
		}
	}
	for i := range verdicts {
		for len(verdicts[i].Waits) > 0 { // while the others were read, what was known may have become old
			if err := errors.Join(verdicts[i].Known(ctx), judge(i)); err != nil {
				return nil, err
			}
		}
	}
	return verdicts, nil
}

// scanOutput is the -o flag, which has SARIF besides.
type scanOutput string

// Set refuses what can't be printed, before anything is done.
func (o *scanOutput) Set(s string) error {
	if !slices.Contains([]string{"table", "json", "yaml", "sarif"}, s) {
		return errors.New("want table, json, yaml or sarif")
	}
	*o = scanOutput(s)
	return nil
}

// String is the format.
func (o *scanOutput) String() string { return string(*o) }

// Type is what the help shows for a value.
func (o *scanOutput) Type() string { return "format" }

func (o scanOutput) printVerdicts(w goio.Writer, verdicts []scan.Verdict, report, all bool) error {
	switch {
	case o == "sarif":
		return printSARIF(w, verdicts)
	case o != "table":
		return output(o).print(w, verdictViews(verdicts, report))
	case report:
		return printScanReport(w, verdicts)
	}
	printScan(w, verdicts, all)
	return nil
}

// verdictView is a verdict for programs.
type verdictView struct {
	Stack      string                `json:"stack"`
	Denied     bool                  `json:"denied"`
	FailOn     scan.Severity         `json:"failOn"`
	Counts     map[scan.Severity]int `json:"counts"`
	Exceptions []scan.Exception      `json:"exceptions,omitempty"`
	Warnings   []string              `json:"warnings,omitempty"`
	Findings   []scan.Finding        `json:"findings,omitempty"`
}

func verdictViews(verdicts []scan.Verdict, report bool) []verdictView {
	views := []verdictView{}
	for _, v := range verdicts {
		view := verdictView{v.Stack, v.Err() != nil, v.FailOn, v.Counts(), v.Exceptions, v.Warnings, v.Findings}
		if report {
			view.Findings = nil
		}
		views = append(views, view)
	}
	return views
}
