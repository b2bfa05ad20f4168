package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// widest is the most columns that anything takes, however wide the terminal is.
const widest = 100

// screen is where the demo is shown: a terminal, on which a frame is drawn
// again and again, or a log, to which lines are only ever added.
type screen struct {
	w      io.Writer
	width  int
	redraw bool // a terminal that understands cursor movements
	colour bool
	drawn  int // lines of the frame that stands on the terminal
}

func newScreen(f *os.File) *screen {
	s := &screen{w: f, width: widest}
	columns, lines, err := term.GetSize(int(f.Fd()))
	if err != nil || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.width = min(widest, columns)
	s.redraw = lines >= 20 && columns >= 80 // else the frame would scroll away or wrap
	s.colour = os.Getenv("NO_COLOR") == ""
	return s
}

// style is how text looks on a terminal with colours.
type style string

const (
	plain  style = ""
	bold   style = "1"
	dim    style = "2"
	red    style = "31"
	green  style = "32"
	yellow style = "33"
)

func (s *screen) paint(as style, text string) string {
	if !s.colour || as == plain || text == "" {
		return text
	}
	return "\x1b[" + string(as) + "m" + text + "\x1b[0m"
}

// say adds lines; what is too long goes on below.
func (s *screen) say(as style, format string, args ...any) {
	s.keep()
	text := fmt.Sprintf(format, args...)
	for line := range strings.SplitSeq(text, "\n") {
		for _, part := range hanging(line, s.width) {
			fmt.Fprintln(s.w, s.paint(as, part))
		}
	}
}

// frame draws lines in the place of those it drew last. They have to fit.
func (s *screen) frame(lines []string) {
	if s.drawn > 0 {
		fmt.Fprintf(s.w, "\x1b[%dA\x1b[J", s.drawn)
	}
	for _, line := range lines {
		fmt.Fprintln(s.w, line)
	}
	s.drawn = len(lines)
}

// keep leaves the frame where it is.
func (s *screen) keep() { s.drawn = 0 }

// cut shortens to a number of columns.
func cut(text string, columns int) string {
	if utf8.RuneCountInString(text) <= columns {
		return text
	}
	return string([]rune(text)[:max(0, columns-1)]) + "…"
}

// pad fills up to a number of columns.
func pad(text string, columns int) string {
	return text + strings.Repeat(" ", max(0, columns-utf8.RuneCountInString(text)))
}

// wrapped breaks text at spaces into lines of at most so many columns.
func wrapped(text string, columns int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > columns {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// label is an indentation, and a first column if there is one.
var label = regexp.MustCompile(`^\s*(\S+\s{2,})?`)

// hanging is wrapped for a line of some program's output: what goes on does so
// below the text, not below its label or its indentation.
func hanging(line string, columns int) []string {
	if utf8.RuneCountInString(line) <= columns {
		return []string{line}
	}
	head := label.FindString(line)
	margin := strings.Repeat(" ", utf8.RuneCountInString(head))
	if len(margin) > columns/2 {
		head, margin = "", strings.Repeat(" ", len(line)-len(strings.TrimLeft(line, " "))+2)
	}
	lines := wrapped(line[len(head):], columns-len(margin))
	for i := range lines {
		if i > 0 {
			head = margin
		}
		lines[i] = head + lines[i]
	}
	return lines
}
