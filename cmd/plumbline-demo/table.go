package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// stackTable is the stacks as lines of at most the screen's width.
func (s *screen) stackTable(stacks []reconciler.StackView) []string {
	rows := [][]string{{"STACK", "STATE", "OBJECTS", "COMMIT", "WHAT IT WAITS FOR"}}
	for _, v := range stacks {
		rows = append(rows, []string{v.Name, v.Reason, v.Objects, shortCommit(v.Revision), waiting(v)})
	}
	widths := make([]int, len(rows[0])-1) // the last column takes what is left
	for _, row := range rows {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	var lines []string
	for i, row := range rows {
		as := dim
		if i > 0 {
			as = stateStyle(stacks[i-1])
		}
		lines = append(lines, s.tableRow(row, widths, as))
	}
	return lines
}

// tableRow is one line; the state is what is coloured, or all of a heading.
func (s *screen) tableRow(row []string, widths []int, as style) string {
	left := s.width - len(indent)
	var b strings.Builder
	b.WriteString(indent)
	for i, width := range widths {
		cell := pad(row[i], width)
		if i == 1 || as == dim {
			cell = s.paint(as, cell)
		}
		b.WriteString(cell + "  ")
		left -= width + 2
	}
	last := cut(row[len(row)-1], left)
	if as == dim {
		last = s.paint(dim, last)
	}
	return strings.TrimRight(b.String()+last, " ")
}

// waiting is a stack's message where it says more than the other columns.
func waiting(v reconciler.StackView) string {
	if v.Ready {
		return ""
	}
	message, _, _ := strings.Cut(v.Message, "\n")
	message = strings.TrimPrefix(message, v.Objects+" ready; ")
	for _, opening := range []string{"waits for ", "waiting for "} {
		message = strings.TrimPrefix(message, opening)
	}
	return message
}

func stateStyle(v reconciler.StackView) style {
	switch {
	case v.Ready:
		return green
	case v.Stalled:
		return red
	}
	return yellow
}

// tally is "4 of 6 stacks are Ready".
func tally(stacks []reconciler.StackView) string {
	ready := 0
	for _, v := range stacks {
		if v.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d of %d stacks Ready", ready, len(stacks))
}

func shortCommit(commit string) string { return commit[:min(7, len(commit))] }
