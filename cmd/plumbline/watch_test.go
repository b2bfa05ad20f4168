package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// display does what a terminal of some lines does with what is written to it.
type display struct {
	lines    []string
	row, col int
	cursor   bool
	wrap     bool
	trouble  string
}

func (d *display) Write(p []byte) (int, error) {
	text := []rune(string(p))
	for len(text) > 0 {
		if text[0] != '\x1b' {
			d.put(text[0])
			text = text[1:]
			continue
		}
		end := 2
		for end < len(text) && strings.ContainsRune("?0123456789;", text[end]) {
			end++
		}
		d.obey(string(text[1 : end+1]))
		text = text[end+1:]
	}
	return len(p), nil
}

func (d *display) put(r rune) {
	switch r {
	case '\r':
		d.col = 0
	case '\n':
		if d.row++; d.row == len(d.lines) {
			d.trouble = "scrolled"
			d.row--
		}
	default:
		line := []rune(d.lines[d.row])
		for len(line) <= d.col {
			line = append(line, ' ')
		}
		line[d.col] = r
		d.lines[d.row] = string(line)
		d.col++
	}
}

func (d *display) obey(sequence string) {
	cut := func(line string) string { return string([]rune(line)[:min(d.col, len([]rune(line)))]) }
	switch sequence {
	case "[H":
		d.row, d.col = 0, 0
	case "[K":
		d.lines[d.row] = cut(d.lines[d.row])
	case "[J":
		d.lines[d.row] = cut(d.lines[d.row])
		clear(d.lines[d.row+1:])
	case "[?25l", "[?25h":
		d.cursor = sequence == "[?25h"
	case "[?7l", "[?7h":
		d.wrap = sequence == "[?7h"
	default:
		d.trouble = "told " + sequence
	}
}

func (d *display) text() string { return strings.TrimRight(strings.Join(d.lines, "\n"), "\n") }

func TestScreen(t *testing.T) {
	d := &display{lines: make([]string, 6), cursor: true, wrap: true}
	d.lines[0], d.lines[5] = "what was there before", "more of it"
	width, height := 20, 6
	s := screen{d, func() (int, int) { return width, height }}
	s.open()
	if d.text() != "" || d.cursor || d.wrap {
		t.Errorf("opened: %+v", d)
	}
	for _, step := range []struct {
		name          string
		width, height int
		text, want    string
	}{
		{"a table", 20, 6, "STACK  STATE\nweb    Progressing\ndb     Ready\n", "STACK  STATE\nweb    Progressing\ndb     Ready"},
		{"shorter lines, and fewer", 20, 6, "STACK  STATE\nweb    Ready\n", "STACK  STATE\nweb    Ready"},
		{"too wide", 10, 6, "STACK  STATE\nweb    Progressing\n", "STACK  ST…\nweb    Pr…"},
		{"too long", 20, 6, "1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\n… and 3 more lines"},
		{"just as long", 20, 6, "1\n2\n3\n4\n5\n", "1\n2\n3\n4\n5"},
		{"hardly any room", 3, 1, "abcd\nefgh\nijkl\n", "ab…\n… …"},
		{"as wide as can be", 20, 6, "ümlaut → é\n", "ümlaut → é"},
	} {
		t.Run(step.name, func(t *testing.T) {
			width, height = step.width, step.height
			s.draw(step.text)
			if diff := cmp.Diff(step.want, d.text()); diff != "" || d.trouble != "" {
				t.Error(d.trouble, diff)
			}
		})
	}
	s.close()
	if !d.cursor || !d.wrap || d.text() != "ümlaut → é" || d.row != 1 {
		t.Errorf("closed: %+v", d)
	}
}

func someFollowing() reconciler.Following {
	return reconciler.Following{
		Sources: []reconciler.SourceView{{Name: "home", Reason: "Fetched", Revision: strings.Repeat("a", 40)}},
		Stacks: []reconciler.StackView{{Name: "home.db", Reason: "Ready", Ready: true, Message: "2/2 ready"},
			{Name: "home.web", Reason: "Progressing", Message: "1/2 ready; waiting for\x1b[2J\nmore", Drift: 2}},
	}
}

func TestFrame(t *testing.T) {
	now := someFollowing()
	text, err := frame(now, nil, time.Now())
	if err != nil || strings.Contains(text, "\x1b") || !strings.Contains(text, "STACK     STATE        FOR  OBJECTS  DRIFT  COMMIT  MESSAGE\n") || !strings.Contains(text, "home.web  Progressing                2 ") {
		t.Errorf("%v\n%s", err, text)
	}
	now.Trouble = errors.New("connection\x1b refused\nor so")
	text, err = frame(now, []string{"home.web"}, time.Now().Add(-7*time.Second))
	if err != nil || strings.Contains(text, "home.db") || strings.Contains(text, "SOURCE") || !strings.HasSuffix(text, "\n! out of date for 7s, asking again: connection\ufffd refused\ufffdor so\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if text, err := frame(now, []string{"home.gone"}, time.Now()); err != nil || !strings.HasPrefix(text, "home.gone: gone\n") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestChangeLines(t *testing.T) {
	var out bytes.Buffer
	lines := changeLines{out: printable{&out}, said: map[string]string{}}
	said := func(name string, now reconciler.Following, only []string, want string) {
		t.Helper()
		out.Reset()
		lines.tell(now, only, noon)
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	now := someFollowing()
	said("all", now, nil, `2026-03-01T12:00:00Z source/home: Fetched: aaaaaaaa
2026-03-01T12:00:00Z home.db: Ready: 2/2 ready
2026-03-01T12:00:00Z home.web: Progressing: 2 objects drifted; 1/2 ready; waiting for`+"\ufffd[2J …\n")
	said("nothing new", now, nil, "")
	now.Stacks[1].Drift, now.Stacks[1].Held = 0, "too many"
	said("one changed", now, nil, "2026-03-01T12:00:00Z home.web: Progressing: deletions held: too many\n")
	now.Trouble, now.Stacks = errors.New("connection refused"), now.Stacks[:1]
	said("the server is away", now, nil, "2026-03-01T12:00:00Z ! asking again: connection refused\n")
	said("still", now, nil, "")
	now.Trouble = nil
	said("it is back", now, nil, "2026-03-01T12:00:00Z ! the API server answers again\n2026-03-01T12:00:00Z home.web: gone\n")
	lines = changeLines{out: &out, said: map[string]string{}}
	said("one stack", someFollowing(), []string{"home.db"}, "2026-03-01T12:00:00Z home.db: Ready: 2/2 ready\n")
}
