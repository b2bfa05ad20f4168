package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"
)

// output is the -o flag: a table for people, json and yaml for programs.
type output string

func (o output) print(w io.Writer, value any, table func(io.Writer)) error {
	switch o {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "yaml":
		raw, err := yaml.Marshal(value)
		if err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	case "", "table":
		tabs := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		table(tabs)
		return tabs.Flush()
	}
	return fmt.Errorf("-o %s: want table, json or yaml", o)
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

// age is the time since, as kubectl shows it.
func age(t time.Time) string {
	d := time.Since(t)
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
func firstLine(s string, most int) string {
	s, _, more := strings.Cut(s, "\n")
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	if more {
		return s + " …"
	}
	return s
}
