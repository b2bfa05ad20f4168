package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler"
)

var someStacks = []reconciler.StackView{
	{Name: "pipeline.grafana", Reason: "DependencyNotReady", Message: "waits for pipeline.alertmanager, pipeline.prometheus, pipeline.victoria-logs"},
	{Name: "pipeline.prometheus", Ready: true, Reason: "Ready", Message: "9/9 ready", Objects: "9/9", Revision: "c0fb379c0fb379c0fb379"},
	{Name: "team.shop", Stalled: true, Reason: "Refused", Message: "a.yaml: no\nb.yaml: no", Objects: "3/4", Revision: "a307950"},
	{Name: "team.till", Reason: "Progressing", Message: "3/4 ready; waiting for Deployment.apps shop/till: Replicas: 0/1", Objects: "3/4", Revision: "a307950"},
}

func TestStackTable(t *testing.T) {
	s := &screen{width: 90}
	want := []string{
		"   STACK                STATE               OBJECTS  COMMIT   WHAT IT WAITS FOR",
		"   pipeline.grafana     DependencyNotReady                    pipeline.alertmanager, pipe…",
		"   pipeline.prometheus  Ready               9/9      c0fb379",
		"   team.shop            Refused             3/4      a307950  a.yaml: no",
		"   team.till            Progressing         3/4      a307950  Deployment.apps shop/till: …",
	}
	if diff := cmp.Diff(want, s.stackTable(someStacks)); diff != "" {
		t.Error(diff)
	}
}

// A frame is drawn over the last one: a line that wraps would leave rests of it.
func TestStackTableFits(t *testing.T) {
	for _, width := range []int{80, widest} {
		s := &screen{width: width}
		for _, line := range s.stackTable(someStacks) {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("%d columns of %d: %q", n, width, line)
			}
		}
	}
}

func TestColoursOnlyWhereWanted(t *testing.T) {
	coloured := strings.Join((&screen{width: widest, colour: true}).stackTable(someStacks), "\n")
	for _, want := range []string{"\x1b[32mReady", "\x1b[31mRefused", "\x1b[33mProgressing"} {
		if !strings.Contains(coloured, want) {
			t.Errorf("no %q in %q", want, coloured)
		}
	}
	var out strings.Builder
	s := &screen{w: &out, width: widest}
	s.say(red, "no")
	s.frame(s.stackTable(someStacks))
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("escapes without colours: %q", out.String())
	}
}

func TestFrameReplacesTheLast(t *testing.T) {
	var out strings.Builder
	s := &screen{w: &out, width: widest, redraw: true}
	s.frame([]string{"a", "b"})
	s.frame([]string{"c"})
	s.say(plain, "d")
	s.frame([]string{"e"})
	if want := "a\nb\n\x1b[2A\x1b[Jc\nd\ne\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestWithMissing(t *testing.T) {
	var names []string
	for _, v := range withMissing([]reconciler.StackView{{Name: "b", Reason: "Ready"}}, []string{"c", "b", "a"}) {
		names = append(names, v.Name+" "+v.Reason)
	}
	if diff := cmp.Diff([]string{"a not there yet", "b Ready", "c not there yet"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestAllReady(t *testing.T) {
	good := []reconciler.StackView{{Name: "a", Ready: true}, {Name: "b", Ready: true}}
	for _, test := range []struct {
		name   string
		stacks []reconciler.StackView
		want   bool
	}{
		{"all", good, true},
		{"one is missing", good[:1], false},
		{"one is not Ready", []reconciler.StackView{{Name: "a", Ready: true}, {Name: "b"}}, false},
		{"one too many", append([]reconciler.StackView{{Name: "c"}}, good...), false},
	} {
		if got := allReady(test.stacks, []string{"a", "b"}); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestHanging(t *testing.T) {
	for _, test := range []struct {
		name, line string
		want       []string
	}{
		{"short", "stack     team.shop", []string{"stack     team.shop"}},
		{"label", "message   one two three four five six", []string{"message   one two three", "          four five six"}},
		{"indented", "    one two three four five six", []string{"    one two three four", "    five six"}},
		{"a word too long", "message   " + strings.Repeat("x", 30), []string{"message   " + strings.Repeat("x", 30)}},
	} {
		if diff := cmp.Diff(test.want, hanging(test.line, 24)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 ms", 999 * time.Millisecond: "999 ms", 1500 * time.Millisecond: "1.5 s"} {
		if got := short(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
