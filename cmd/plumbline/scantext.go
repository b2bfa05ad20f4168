package main

import (
	"cmp"
	"fmt"
	goio "io"
	"strconv"
	"strings"

	"github.com/plumbline-dev/plumbline/scan"
)

// printScan is what the gate says, for people: a paragraph a finding, with every place
// below it.
func printScan(w goio.Writer, verdicts []scan.Verdict, all bool) {
	for i, v := range verdicts {
		if i > 0 {
			fmt.Fprintln(w)
		}
		threshold := ""
		if v.FailOn != "" { // of what could be judged
			threshold = "; failOn " + string(v.FailOn)
		}
		fmt.Fprintf(w, "%s: %s (%s%s)\n", cmp.Or(v.Stack, "?"), stateOf(v), v.Summary(), threshold)
		for _, group := range grouped(v.Findings, all) {
			printFinding(w, group)
		}
		for _, e := range v.Exceptions {
			fmt.Fprintf(w, "  exception %s (%s)%s: %s\n", e.ID, e.File, until(e), e.Statement)
		}
		for _, line := range v.Warnings {
			fmt.Fprintf(w, "  warning: %s\n", line)
		}
	}
}

func stateOf(v scan.Verdict) string {
	if v.Err() != nil {
		return "denied"
	}
	return "passes"
}

// Marks of findings.
const (
	markDenies   = "✗"
	markExcepted = "="
	markUnknown  = "?" // nobody could find out
	markTold     = "·"
)

func markOf(f scan.Finding) string {
	switch {
	case f.Denies:
		return markDenies
	case f.Exception != nil:
		return markExcepted
	case f.Kind == scan.KindImage && f.Severity == scan.SeverityUnknown:
		return markUnknown
	}
	return markTold
}

// grouped puts together what is the same but for the place, in the order of the findings.
func grouped(findings []scan.Finding, all bool) (groups [][]scan.Finding) {
	at := map[string]int{}
	for _, f := range findings {
		mark := markOf(f)
		if mark == markTold && !all {
			continue
		}
		key := strings.Join([]string{mark, f.ID, string(f.Severity), f.Title, f.Fix}, "\x00")
		n, ok := at[key]
		if !ok {
			n = len(groups)
			at[key] = n
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], f)
	}
	return groups
}

// printFinding breaks no line: a terminal does that where it has to, and nothing is lost.
func printFinding(w goio.Writer, places []scan.Finding) {
	f := places[0]
	fmt.Fprintf(w, "  %s %s %s  %s\n", markOf(f), f.ID, f.Severity, oneLine(cmp.Or(f.Title, f.ID)))
	for _, p := range places {
		where := []string{}
		for _, part := range []string{p.Object, p.Container, fieldOf(p)} {
			if part != "" {
				where = append(where, part)
			}
		}
		if len(where) > 0 {
			fmt.Fprintf(w, "      %s\n", strings.Join(where, "  "))
		}
		if message := oneLine(p.Message); message != "" && message != oneLine(p.Title) {
			fmt.Fprintf(w, "        %s\n", message)
		}
	}
	if mark := markOf(f); f.Fix != "" && (mark == markDenies || mark == markUnknown) {
		fmt.Fprintf(w, "      to do: %s\n", strings.TrimSpace(oneLine(f.Fix)+"  "+f.URL))
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

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
			counts := v.Counts()
			if v.Err() != nil {
				denied++
			}
			cells := []string{v.Stack, stateOf(v), string(v.FailOn)}
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
