package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goio "io"
	"slices"
	"strconv"
	"strings"

	"github.com/owenrumney/go-sarif/v2/sarif"
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
scan.images of plumbline.yaml. The table shows what denies, and what an
exception lets pass; with --all, everything.

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
	stacks, err := repo.render(ctx, io, redactor)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gate, err := newGate(ctx, imagesIn(repo.scan, lookUp), "")
	if err != nil {
		return nil, err
	}
	snapshot, err := repo.snapshot()
	if err != nil {
		return nil, err
	}
	requests := []scan.Request{}
	for _, s := range stacks {
		if s.err != nil {
			continue
		}
		requests = append(requests, s.Scan(snapshot.FS, s.objects, redactor.Text))
	}
	verdicts, err := scanAll(ctx, gate, requests)
	return verdicts, errors.Join(err, failures(stacks))
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
	return printScan(w, verdicts, all)
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

func printScan(w goio.Writer, verdicts []scan.Verdict, all bool) error {
	for i, v := range verdicts {
		if i > 0 {
			fmt.Fprintln(w)
		}
		state := "passes"
		if v.Err() != nil {
			state = "denied"
		}
		fmt.Fprintf(w, "%s: %s (%s; failOn %s)\n", v.Stack, state, v.Summary(), v.FailOn)
		fixes := map[string]string{}
		err := printTable(w, func(w goio.Writer) {
			for _, f := range v.Findings {
				if !all && !f.Denies && f.Exception == nil {
					continue
				}
				mark := "  "
				switch {
				case f.Denies:
					mark = "✗ "
				case f.Exception != nil:
					mark = "= "
				}
				row(w, mark+f.ID, string(f.Severity), f.Object, f.Container, strings.Join(strings.Fields(cmp.Or(f.Message, f.Title)), " "), fieldOf(f))
				if f.Denies {
					fixes[f.ID] = f.Fix
				}
			}
		})
		if err != nil {
			return err
		}
		printFixes(w, v, fixes)
		for _, e := range v.Exceptions {
			fmt.Fprintf(w, "  exception %s (%s)%s: %s\n", e.ID, e.File, until(e), e.Statement)
		}
		for _, line := range v.Warnings {
			fmt.Fprintf(w, "  warning: %s\n", line)
		}
	}
	return nil
}

func fieldOf(f scan.Finding) string {
	if f.Field == "" {
		return f.File
	}
	return f.File + ": " + f.Field
}

func until(e scan.Exception) string {
	if e.Expires.IsZero() {
		return ""
	}
	return " until " + e.Expires.Format("2006-01-02")
}

func printFixes(w goio.Writer, v scan.Verdict, fixes map[string]string) {
	said := map[string]bool{}
	for _, f := range v.Denied() {
		if said[f.ID] || fixes[f.ID] == "" {
			continue
		}
		said[f.ID] = true
		fmt.Fprintf(w, "  to do, %s: %s  %s\n", f.ID, fixes[f.ID], f.URL)
	}
}

// printScanReport sums up, a line a stack.
func printScanReport(w goio.Writer, verdicts []scan.Verdict) error {
	return printTable(w, func(w goio.Writer) {
		header := []string{"STACK", "GATE", "FAILON"}
		for _, s := range scan.Severities() {
			header = append(header, string(s))
		}
		row(w, append(header, "EXCEPTIONS")...)
		totals, denied, exceptions := map[scan.Severity]int{}, 0, 0
		for _, v := range verdicts {
			counts, state := v.Counts(), "passes"
			if v.Err() != nil {
				state = "denied"
				denied++
			}
			cells := []string{v.Stack, state, string(v.FailOn)}
			for _, s := range scan.Severities() {
				totals[s] += counts[s]
				cells = append(cells, strconv.Itoa(counts[s]))
			}
			exceptions += len(v.Exceptions)
			row(w, append(cells, strconv.Itoa(len(v.Exceptions)))...)
		}
		cells := []string{"all", fmt.Sprintf("%d denied", denied), ""}
		for _, s := range scan.Severities() {
			cells = append(cells, strconv.Itoa(totals[s]))
		}
		row(w, append(cells, strconv.Itoa(exceptions))...)
	})
}

// printSARIF writes what forges read. An exception is a suppression there.
func printSARIF(w goio.Writer, verdicts []scan.Verdict) error {
	report, err := sarif.New(sarif.Version210)
	if err != nil {
		return err
	}
	run := sarif.NewRunWithInformationURI("Plumbline", "https://github.com/plumbline-dev/plumbline")
	for _, v := range verdicts {
		for _, f := range v.Findings {
			rule := run.AddRule(f.ID).WithName(cmp.Or(f.Title, f.ID)).WithDescription(cmp.Or(f.Title, f.ID)).WithHelpURI(f.URL)
			rule.WithTextHelp(cmp.Or(f.Fix, f.Title))
			rule.WithProperties(sarif.Properties{"security-severity": securitySeverity(f.Severity), "tags": []string{string(f.Kind), string(f.Severity)}})
			text := strings.TrimSpace(fmt.Sprintf("%s: %s", v.Stack, f.String()))
			location := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(cmp.Or(f.File, reconciler.StackFile))).
				WithRegion(sarif.NewSimpleRegion(1, 1))
			result := run.CreateResultForRule(f.ID).WithLevel(sarifLevel(f)).WithMessage(sarif.NewTextMessage(text))
			result.AddLocation(sarif.NewLocationWithPhysicalLocation(location))
			if f.Exception != nil {
				result.AddSuppression(sarif.NewSuppression("external").WithJustifcation(f.Exception.Statement))
			}
		}
	}
	report.AddRun(run)
	var raw bytes.Buffer
	if err := report.Write(&raw); err != nil {
		return err
	}
	var all any
	if err := json.Unmarshal(raw.Bytes(), &all); err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(withoutNulls(all))
}

// withoutNulls leaves out what the library writes as null, which no schema of SARIF admits.
func withoutNulls(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, child := range value {
			if value[key] = withoutNulls(child); child == nil {
				delete(value, key)
			}
		}
	case []any:
		for i := range value {
			value[i] = withoutNulls(value[i])
		}
	}
	return value
}

func sarifLevel(f scan.Finding) string {
	switch {
	case f.Denies:
		return "error"
	case f.Severity == scan.SeverityLow, f.Severity == scan.SeverityUnknown:
		return "note"
	}
	return "warning"
}

// securitySeverity is the score by which forges order: the middle of CVSS' ranges.
func securitySeverity(s scan.Severity) string {
	return map[scan.Severity]string{scan.SeverityCritical: "9.5", scan.SeverityHigh: "8.0", scan.SeverityMedium: "5.5", scan.SeverityLow: "2.0"}[s]
}
