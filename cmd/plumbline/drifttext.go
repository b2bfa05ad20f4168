package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// wideOutput is -o with wide: a table that leaves less out.
type wideOutput struct {
	output
	wide bool
}

func (o *wideOutput) add(cmd *cobra.Command) {
	o.output = "table"
	cmd.Flags().VarP(o, "output", "o", "table, wide, json or yaml")
}

// Set refuses what can't be printed, before anything is done.
func (o *wideOutput) Set(s string) error {
	if o.wide = s == "wide"; o.wide {
		s = "table"
	}
	if o.output.Set(s) != nil {
		return fmt.Errorf("want table, wide, json or yaml")
	}
	return nil
}

// printDrift prints drift, and says whether there is some. failed is why it may not
// be all.
func printDrift(w io.Writer, format wideOutput, list reconciler.DriftList, now time.Time, failed error) error {
	if err := format.drift(w, list, now); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if slices.ContainsFunc(list.Drift, reconciler.Drift.Open) {
		return errDiffers
	}
	return nil
}

func (o wideOutput) drift(w io.Writer, list reconciler.DriftList, now time.Time) error {
	if !o.table() {
		return o.print(w, list)
	}
	open, past := list.Drift, []reconciler.Drift(nil)
	for i, d := range list.Drift {
		if !d.Open() {
			open, past = list.Drift[:i], list.Drift[i:] // those that are over come last
			break
		}
	}
	if len(open) == 0 {
		fmt.Fprintf(w, "no drift (%s)\n", counted(list.Stacks, "stack"))
	}
	if err := o.stacks(w, open, now, "drifted"); err != nil {
		return err
	}
	if err := o.stacks(w, past, now, "drifted lately"); err != nil {
		return err
	}
	if list.More > 0 {
		fmt.Fprintf(w, "and %d more\n", list.More)
	}
	return nil
}

// stacks prints a table for each stack.
func (o wideOutput) stacks(w io.Writer, drift []reconciler.Drift, now time.Time, how string) error {
	byStack := map[string][]reconciler.Drift{}
	var names []string
	for _, d := range drift {
		if byStack[d.Stack] == nil {
			names = append(names, d.Stack)
		}
		byStack[d.Stack] = append(byStack[d.Stack], d)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(w, "%s: %s %s\n", name, objects(len(byStack[name])), how)
		if err := o.rows(w, byStack[name], now); err != nil {
			return err
		}
	}
	return nil
}

// rows prints a row for each object, and its fields below it.
func (o wideOutput) rows(w io.Writer, drift []reconciler.Drift, now time.Time) error {
	var table strings.Builder
	err := printTable(&table, func(w io.Writer) {
		row(w, "  OBJECT", "WHAT", "WHO", "WHEN", "ACTION")
		for _, d := range drift {
			row(w, "  "+cell(d.Object.String()), cell(string(d.What)), cell(who(d)), o.when(d, now), cell(action(d)))
		}
	})
	if err != nil {
		return err
	}
	most := columns(w)
	for i, line := range strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n") {
		fmt.Fprintln(w, fit(line, most))
		if i == 0 {
			continue
		}
		for _, f := range drift[i-1].Fields {
			printDriftField(w, f)
		}
		if d := drift[i-1]; d.Error != "" {
			fmt.Fprintln(w, "      ! "+cell(d.Error))
		}
	}
	return nil
}

// cell keeps a text within its cell of its row.
func cell(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\v' || r == '\f' {
			return utf8.RuneError
		}
		return r
	}, s)
}

func who(d reconciler.Drift) string {
	switch {
	case d.Manager == "":
		return "unknown" // who removes something leaves no trace
	case d.Operation == "" || d.Operation == "Update":
		return d.Manager
	}
	return d.Manager + " (" + d.Operation + ")"
}

// when is the time of the change as the API server says, or else when it was seen.
func (o wideOutput) when(d reconciler.Drift, now time.Time) string {
	at, seen := d.Changed, ""
	if at.IsZero() {
		at, seen = d.Seen, "seen "
	}
	if at.IsZero() {
		return "unknown"
	}
	if o.wide {
		return seen + at.UTC().Format(time.RFC3339)
	}
	return seen + since(at, now) + " ago"
}

// action is what is done about drift, or was.
func action(d reconciler.Drift) string {
	if d.Open() {
		return string(d.Action)
	}
	took := d.Corrected.Sub(d.Seen)
	if took < time.Second {
		return fmt.Sprintf("corrected in %d ms", max(0, took.Milliseconds()))
	}
	return "corrected in " + took.Round(time.Second).String()
}

// printDriftField is what Git wants of a field, and what the cluster has: in a line
// where that can be read, in lines where not.
func printDriftField(w io.Writer, f apply.FieldChange) {
	const margin = "      "
	if f.Have == "" && f.Want == "" { // says how many more there are
		fmt.Fprintln(w, margin+cell(f.Path))
		return
	}
	if want, have, ok := textLines(f); ok {
		fmt.Fprintln(w, margin+cell(f.Path))
		for _, line := range lineDiff(want, have) {
			fmt.Fprintln(w, margin+"  "+cell(line))
		}
		return
	}
	shown := apply.FieldChange{Path: cell(f.Path), Have: cell(f.Want), Want: cell(f.Have)} // as it was, as it is
	printField(w, shown)
}

// comparedLines is more than a value has that Plumbline shortened.
const comparedLines = 200

// textLines are the lines of two texts of which at least one has more than one, and
// neither many.
func textLines(f apply.FieldChange) (want, have []string, ok bool) {
	want, ok1 := linesOf(f.Want)
	have, ok2 := linesOf(f.Have)
	return want, have, ok1 && ok2 && (len(want) > 1 || len(have) > 1) && max(len(want), len(have)) <= comparedLines
}

// linesOf reads a JSON string, also one of which the beginning or the end was cut off.
func linesOf(value string) ([]string, bool) {
	if value == "" {
		return nil, true
	}
	text, cutBefore := strings.CutPrefix(value, "…")
	if cutBefore {
		text = `"` + text
	}
	before, cutAfter := strings.CutSuffix(text, "…")
	if cutAfter {
		text = strings.TrimRight(before, `\`) + `"`
	}
	var s string
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, false
	}
	if cutBefore {
		s = "…" + s
	}
	if cutAfter {
		s += "…"
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n"), true
}

// lineDiff marks the lines that only one of two texts has. Both have at most comparedLines.
func lineDiff(want, have []string) (out []string) {
	common := make([][]int, len(want)+1) // lines in common behind here and there
	for i := range common {
		common[i] = make([]int, len(have)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(have) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if want[i] == have[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	i, j := 0, 0
	for i < len(want) || j < len(have) {
		switch {
		case i < len(want) && j < len(have) && want[i] == have[j]:
			out = append(out, "  "+want[i])
			i, j = i+1, j+1
		case j == len(have) || (i < len(want) && common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+want[i])
			i++
		default:
			out = append(out, "+ "+have[j])
			j++
		}
	}
	return out
}
