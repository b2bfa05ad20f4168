package main

import (
	"bytes"
	"context"
	"fmt"
	goio "io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// watchStatus shows how sources and stacks are doing until the context ends: on a
// terminal, as a table that is kept up to date; else as a line a change.
func (s store) watchStatus(ctx context.Context, io streams, only []string) error {
	if _, err := s.report(ctx, only); err != nil && ctx.Err() == nil { // a typo is told at once, and a cluster without stacks
		return err
	}
	if raw, size := terminal(io.out); raw != nil {
		return s.watchScreen(ctx, &screen{out: raw, size: size}, only)
	}
	lines := changeLines{out: io.out, said: map[string]string{}}
	s.Follow(ctx, func(now reconciler.Following) { lines.tell(now, only, time.Now()) })
	return nil
}

// watchScreen draws anew when something changed, and each second: for the ages,
// and for a window that became another.
func (s store) watchScreen(ctx context.Context, screen *screen, only []string) error {
	screen.open()
	defer screen.close()
	ctx, cancel := context.WithCancel(ctx)
	news := make(chan reconciler.Following)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Follow(ctx, func(now reconciler.Following) {
			select {
			case news <- now:
			case <-ctx.Done():
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var now reconciler.Following
	var away time.Time // since when the API server is; or when it was heard of last
	was := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case now = <-news:
			if !was || now.Trouble == nil {
				away = time.Now()
			}
			was = now.Trouble != nil
		case <-tick.C:
			if away.IsZero() { // nothing came yet
				continue
			}
		}
		text, err := frame(now, only, away)
		if err != nil {
			return err
		}
		screen.draw(text)
	}
}

// shown is what of a cluster was asked for.
func shown(now reconciler.Following, only []string) statusReport {
	report := statusReport{now.Sources, now.Stacks}
	if len(only) > 0 {
		report.Sources = nil
		report.Stacks = slices.DeleteFunc(slices.Clone(now.Stacks), func(s reconciler.StackView) bool { return s.Name != only[0] })
	}
	return report
}

// frame is the text of the table, of which nothing rules the terminal.
func frame(now reconciler.Following, only []string, away time.Time) (string, error) {
	var text bytes.Buffer
	w := printable{&text}
	report := shown(now, only)
	var err error
	switch {
	case len(only) == 0:
		err = report.print(w, "table", false)
	case len(report.Stacks) == 0:
		fmt.Fprintf(w, "%s: gone\n", only[0])
	default:
		printStack(w, report.Stacks[0])
	}
	if now.Trouble != nil {
		fmt.Fprintf(w, "\n! out of date for %s, asking again: %s\n", age(away), cell(now.Trouble.Error()))
	}
	return text.String(), err
}

// changeLines tells changes a line each.
type changeLines struct {
	out     goio.Writer
	said    map[string]string
	trouble string
}

func (c *changeLines) tell(now reconciler.Following, only []string, at time.Time) {
	say := func(name, state string) {
		if c.said[name] != state {
			c.said[name] = state
			fmt.Fprintf(c.out, "%s %s: %s\n", at.UTC().Format(time.RFC3339), name, state)
		}
	}
	trouble := ""
	if now.Trouble != nil {
		trouble = cell(now.Trouble.Error())
	}
	if trouble != c.trouble {
		if c.trouble = trouble; trouble == "" {
			trouble = "the API server answers again"
		} else {
			trouble = "asking again: " + trouble
		}
		fmt.Fprintf(c.out, "%s ! %s\n", at.UTC().Format(time.RFC3339), trouble)
	}
	report, there := shown(now, only), map[string]bool{}
	for _, s := range report.Sources {
		there["source/"+s.Name] = true
		say("source/"+s.Name, stateText(s.Reason, strings.TrimSpace(shortCommit(s.Revision)+" "+cell(firstLine(s.Message)))))
	}
	for _, s := range report.Stacks {
		there[s.Name] = true
		say(s.Name, stateText(s.Reason, cell(firstLine(lineOf(s)))))
	}
	for name := range c.said {
		if !there[name] && now.Trouble == nil {
			fmt.Fprintf(c.out, "%s %s: gone\n", at.UTC().Format(time.RFC3339), name)
			delete(c.said, name)
		}
	}
}

// lineOf is what a line says of a stack, besides its state.
func lineOf(s reconciler.StackView) string {
	message := s.Message
	if s.Held != "" {
		message = "deletions held: " + s.Held
	}
	if s.Drift > 0 {
		message = objects(s.Drift) + " drifted; " + message
	}
	return message
}

// terminal is what stands behind a writer, if it is a terminal that can be drawn on.
func terminal(w goio.Writer) (raw goio.Writer, size func() (width, height int)) {
	if p, ok := w.(printable); ok {
		w = p.to
	}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return nil, nil
	}
	return f, func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return math.MaxInt, math.MaxInt
		}
		return width, height
	}
}

// screen is a terminal on which a text stays in its place.
type screen struct {
	out  goio.Writer
	size func() (width, height int)
}

// What a terminal is told, as in ECMA-48 and by DEC.
const (
	hideCursor, showCursor = "\x1b[?25l", "\x1b[?25h"
	cutLines, wrapLines    = "\x1b[?7l", "\x1b[?7h" // for characters that are wider than others
	home, clearLine        = "\x1b[H", "\x1b[K"
	clearBelow             = "\x1b[J"
)

func (s *screen) open() { _, _ = goio.WriteString(s.out, hideCursor+cutLines+home+clearBelow) }

// close leaves the terminal as it was, with what was drawn last.
func (s *screen) close() { _, _ = goio.WriteString(s.out, wrapLines+showCursor+"\r\n") }

// draw shows as much of a text as there is room for, in one write: so it does not flicker.
func (s *screen) draw(text string) {
	width, height := s.size()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if room := max(2, height-1); len(lines) > room { // the last line is for the prompt
		more := len(lines) - room + 1
		lines = append(lines[:room-1], fmt.Sprintf("… and %d more lines", more))
	}
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(fit(line, max(2, width)) + clearLine)
	}
	b.WriteString(clearBelow)
	_, _ = goio.WriteString(s.out, b.String())
}
