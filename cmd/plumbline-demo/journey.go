package main

import (
	"context"
	"fmt"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
)

// journey is a commit's way, as the Git server and the daemon's log tell it.
type journey struct {
	pushed, seen, applied, ready time.Time
	commit                       string
	moved, run                   lab.Record
}

// follows picks the records of one commit from the daemon's log: the source
// that moved, what was done to the stack, and that it is Ready.
func (d *demo) follows(ctx context.Context, j *journey, from int, stack string) (int, error) {
	var err error
	j.moved, from, err = d.daemon.WaitFor(ctx, from, func(r lab.Record) bool {
		return r.Text("msg") == "source moved" && r.Text("revision") == j.commit
	})
	if err != nil {
		return from, err
	}
	j.seen = at(j.moved)
	j.run, from, err = d.daemon.WaitFor(ctx, from, func(r lab.Record) bool {
		return (r.Text("msg") == "run" || r.Text("msg") == "run failed") && r.Text("stack") == stack && r.Text("revision") == j.commit
	})
	j.applied = at(j.run)
	return from, err
}

// arrives waits until the stack is Ready with the commit.
func (d *demo) arrives(ctx context.Context, j *journey, from int, stack string) error {
	if j.run.Text("msg") != "run" {
		return fmt.Errorf("%s was not applied: %s", stack, j.run.Text("error"))
	}
	r, _, err := d.daemon.WaitFor(ctx, from, func(r lab.Record) bool {
		return r.Text("msg") == "stack ready" && r.Text("stack") == stack && r.Text("revision") == j.commit
	})
	j.ready = at(r)
	return err
}

// stages are the journey as lines: when, since the push, and what.
func (j journey) stages() []string {
	line := func(when time.Time, what, detail string) string {
		return fmt.Sprintf("%s%8s  %-9s %s", indent, "+"+short(when.Sub(j.pushed)), what, detail)
	}
	lines := []string{
		line(j.pushed, "pushed", "the Git server has it"),
		line(j.seen, "seen", "told by the server's hook; fetched, and rendered in "+j.moved.Text("took")),
	}
	if j.run.Text("msg") == "run failed" {
		return append(lines, line(j.applied, "refused", "by the API server, in a dry-run of all objects"))
	}
	lines = append(lines, line(j.applied, "applied", counts(j.run)))
	if !j.ready.IsZero() {
		lines = append(lines, line(j.ready, "Ready", "what runs is what Git says"))
	}
	return lines
}

// counts is what a run did.
func counts(run lab.Record) string {
	text := ""
	for _, key := range []string{"created", "changed", "deleted"} {
		if n, _ := run[key].(float64); n > 0 {
			text += fmt.Sprintf("%.0f %s, ", n, key)
		}
	}
	n, _ := run["unchanged"].(float64)
	return fmt.Sprintf("%s%.0f untouched", text, n)
}

func at(r lab.Record) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, r.Text("time"))
	return t
}

// short is a duration as precise as anybody wants to read it.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
