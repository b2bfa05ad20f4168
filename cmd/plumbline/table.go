package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"
)

// output is the -o flag: a table for people, json and yaml for programs.
type output string

func (o *output) add(cmd *cobra.Command) {
	*o = "table"
	cmd.Flags().VarP(o, "output", "o", "table, json or yaml")
}

// Set refuses what can't be printed, before anything is done.
func (o *output) Set(s string) error {
	if s != "table" && s != "json" && s != "yaml" {
		return errors.New("want table, json or yaml")
	}
	*o = output(s)
	return nil
}

// String is the format.
func (o *output) String() string { return string(*o) }

// Type is what the help shows for a value.
func (o *output) Type() string { return "format" }

func (o output) table() bool { return o == "table" }

// print writes a value for programs.
func (o output) print(w io.Writer, value any) error {
	if o == "yaml" {
		raw, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // a plan is full of arrows
	return encoder.Encode(value)
}

// printTable aligns rows, leaves nothing behind the last cell of any, and keeps
// each on one line of a terminal.
func printTable(w io.Writer, rows func(io.Writer)) error {
	var text strings.Builder
	tabs := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	rows(tabs)
	if err := tabs.Flush(); err != nil {
		return err
	}
	most := columns(w)
	for line := range strings.Lines(text.String()) {
		if _, err := fmt.Fprintln(w, fit(strings.TrimRight(line, " \n"), most)); err != nil {
			return err
		}
	}
	return nil
}

// columns is the width of a terminal; of anything else, there is no end.
func columns(w io.Writer) int {
	if p, ok := w.(printable); ok {
		w = p.to
	}
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return math.MaxInt
}

func fit(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

// age is the time since, as kubectl shows it.
func age(t time.Time) string { return since(t, time.Now()) }

func since(t, now time.Time) string {
	d := max(0, now.Sub(t)) // another clock may be ahead
	switch {
	case t.IsZero():
		return ""
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// firstLine is what fits a table.
func firstLine(s string) string {
	s, _, more := strings.Cut(s, "\n")
	if more {
		return strings.TrimSuffix(s, ":") + " …"
	}
	return s
}

// shortCommit is a commit as people quote it; anything else stays whole.
func shortCommit(revision string) string {
	if len(revision) < 40 {
		return revision
	}
	return revision[:8]
}
