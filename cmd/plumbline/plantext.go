package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// planLine is the most columns that a line of a plan takes, where it can be broken.
const planLine = 96

// planMarks tell at a glance what happens to an object.
var planMarks = map[apply.Action]string{
	apply.ActionCreate: "+ create", apply.ActionDefer: "+ create", apply.ActionUpdate: "~ update", apply.ActionAdopt: "~ adopt",
	apply.ActionReplace: "± replace", apply.ActionDelete: "- delete", apply.ActionWait: "… wait for", apply.ActionHandOver: "> hand over",
	apply.ActionKeep: "= keep",
}

// printPlan is a plan for people: a line an object, the fields that change below it.
func printPlan(w io.Writer, p apply.Plan) {
	fmt.Fprintf(w, "%s: %s\n", p.Stack, planSummary(p))
	widest := 0
	for _, c := range p.Changes {
		if c.Action != apply.ActionNone {
			widest = max(widest, utf8.RuneCountInString(planTitle(c)))
		}
	}
	for _, c := range p.Changes {
		if c.Action != apply.ActionNone {
			printChange(w, c, min(widest, 60))
		}
	}
	for _, reason := range deferred(p) {
		fmt.Fprintf(w, "  ! %s\n", reason)
	}
	if p.Held != "" {
		fmt.Fprintf(w, "  ! deletions held: %s\n", p.Held)
	}
}

// printDenied says below a plan why it will not be applied.
func printDenied(w io.Writer, why string) {
	mark := "! "
	for line := range strings.Lines(why) {
		fmt.Fprintf(w, "  %s%s\n", mark, strings.TrimRight(line, "\n"))
		mark = "    "
	}
}

func planTitle(c apply.Change) string { return planMarks[c.Action] + " " + c.ID.String() }

func printChange(w io.Writer, c apply.Change, column int) {
	line := "  " + planTitle(c)
	note := c.Origin
	if c.Reason != "" && c.Action != apply.ActionDefer {
		note = strings.TrimSpace(note + " (" + c.Reason + ")")
	}
	if note != "" {
		line += strings.Repeat(" ", max(0, column-utf8.RuneCountInString(planTitle(c)))) + "  " + note
	}
	fmt.Fprintln(w, line)
	for _, f := range c.Fields {
		printField(w, f)
	}
}

// printField is one line where that can be read, and three where not.
func printField(w io.Writer, f apply.FieldChange) {
	const margin = "      "
	line := margin + f.String()
	if utf8.RuneCountInString(line) <= planLine || (f.Have == "" && f.Want == "") {
		fmt.Fprintln(w, line)
		return
	}
	fmt.Fprintln(w, margin+f.Path)
	if f.Have != "" {
		fmt.Fprintln(w, margin+"  - "+f.Have)
	}
	if f.Want != "" {
		fmt.Fprintln(w, margin+"  + "+f.Want)
	}
}

// deferred says what could not be asked of the server yet, once a reason.
func deferred(p apply.Plan) []string {
	counts := map[string]int{}
	for _, c := range p.Changes {
		if c.Action == apply.ActionDefer {
			counts[c.Reason]++
		}
	}
	var out []string
	for reason, n := range counts {
		out = append(out, fmt.Sprintf("%s: %s", objects(n), reason))
	}
	slices.Sort(out)
	return out
}

// planSummary is "1 to create, 2 to update, 3 unchanged".
func planSummary(p apply.Plan) string {
	counts := p.Counts()
	if !p.Differs() {
		return fmt.Sprintf("no changes (%s)", objects(counts[apply.ActionNone]))
	}
	counts[apply.ActionCreate] += counts[apply.ActionDefer]
	var parts []string
	for _, a := range []apply.Action{apply.ActionCreate, apply.ActionUpdate, apply.ActionAdopt, apply.ActionReplace, apply.ActionDelete,
		apply.ActionWait, apply.ActionHandOver, apply.ActionKeep} {
		if counts[a] > 0 {
			_, verb, _ := strings.Cut(planMarks[a], " ")
			parts = append(parts, fmt.Sprintf("%d to %s", counts[a], verb))
		}
	}
	if n := counts[apply.ActionNone]; n > 0 {
		parts = append(parts, fmt.Sprintf("%d unchanged", n))
	}
	return strings.Join(parts, ", ")
}

// objects is "1 object", "2 objects".
func objects(n int) string { return counted(n, "object") }

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
