package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/reconciler"
)

// watchUntilReady shows the stacks until all of these are Ready.
func (d *demo) watchUntilReady(ctx context.Context, names []string) ([]reconciler.StackView, error) {
	ctx, cancel := within(ctx, "not every stack became Ready")
	defer cancel()
	started, told := time.Now(), len(d.daemon.Records())
	defer d.out.keep()
	for {
		stacks, err := d.cluster.views(ctx)
		if ctx.Err() != nil {
			return stacks, context.Cause(ctx)
		}
		if err != nil {
			return nil, err
		}
		if d.out.redraw {
			d.out.frame(d.frame(withMissing(stacks, names), time.Since(started)))
		} else {
			told = d.told(told)
		}
		if allReady(stacks, names) {
			return stacks, nil
		}
		select {
		case <-ctx.Done():
			return stacks, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// show is the table as it is now.
func (d *demo) show(stacks []reconciler.StackView) {
	d.out.keep()
	d.out.frame(append(d.out.stackTable(stacks), ""))
	d.out.keep()
}

func (d *demo) frame(stacks []reconciler.StackView, since time.Duration) []string {
	lines := append([]string{""}, d.out.stackTable(stacks)...)
	return append(lines, "", fmt.Sprintf("%s%s after %.1f s", indent, tally(stacks), since.Seconds()))
}

// withMissing adds the stacks that the cluster doesn't know of yet.
func withMissing(stacks []reconciler.StackView, names []string) []reconciler.StackView {
	known := map[string]bool{}
	for _, v := range stacks {
		known[v.Name] = true
	}
	all := slices.Clone(stacks)
	for _, name := range names {
		if !known[name] {
			all = append(all, reconciler.StackView{Name: name, Reason: "not there yet"})
		}
	}
	slices.SortFunc(all, func(a, b reconciler.StackView) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// told says what the daemon's log tells from a record on.
func (d *demo) told(from int) int {
	records := d.daemon.Records()
	for _, r := range records[from:] {
		if text, as := sentence(r); text != "" {
			d.out.say(as, "%s%s  %s", indent, at(r).Local().Format("15:04:05.000"), text)
		}
	}
	return len(records)
}

// audience shows what the daemon does, for whoever plays with the cluster from
// another terminal, until the context ends.
func (d *demo) audience(ctx context.Context) error {
	for from := len(d.daemon.Records()); ; {
		from = d.told(from)
		if _, _, err := d.daemon.WaitFor(ctx, from, func(lab.Record) bool { return true }); err != nil {
			return err
		}
	}
}

// sentence is a record of the daemon's log for people; most are not for them.
func sentence(r lab.Record) (string, style) {
	stack, commit := r.Text("stack"), shortCommit(r.Text("revision"))
	switch r.Text("msg") {
	case "source moved":
		return fmt.Sprintf("source %s is at %s: %v of %v stacks changed", r.Text("source"), commit, r["changed"], r["stacks"]), plain
	case "source failed", "stack broken":
		return fmt.Sprintf("source %s: %s", r.Text("source"), r.Text("error")), red
	case "run":
		if held := r.Text("held"); held != "" {
			return fmt.Sprintf("%s  deletions held: %s", stack, held), yellow
		}
		if !slices.ContainsFunc([]string{"created", "changed", "deleted"}, func(key string) bool { n, _ := r[key].(float64); return n > 0 }) {
			return "", plain
		}
		if r.Text("trigger") == "drift" { // its own records say more
			return "", plain
		}
		why := map[string]string{"hand": "somebody asked: "}[r.Text("trigger")]
		return fmt.Sprintf("%s  %s%s", stack, why, counts(r)), yellow
	case "drift":
		return drifted(r), yellow
	case "run failed":
		first, _, _ := strings.Cut(r.Text("error"), "\n")
		return fmt.Sprintf("%s  failed: %s", stack, first), red
	case "stack ready":
		return fmt.Sprintf("%s  Ready at %s, %s objects", stack, commit, r.Text("objects")), green
	case "stack removed":
		return stack + "  removed", plain
	}
	return "", plain
}

// drifted is the record of a drift for people: what, who, and how soon it was over.
func drifted(r lab.Record) string {
	what := fmt.Sprintf("%s  %s %s/%s: %s", r.Text("stack"), r.Text("kind"), r.Text("namespace"), r.Text("name"), r.Text("what"))
	if manager := r.Text("manager"); manager != "" {
		what += " by " + manager
	}
	if first, _, _ := strings.Cut(r.Text("fields"), "\n"); first != "" {
		what += ": " + first
	}
	if seconds, ok := r["seconds"].(float64); ok {
		what += fmt.Sprintf(", put right after %d ms", int(seconds*1000))
	}
	return what
}
