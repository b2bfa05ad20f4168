// Command plumbline-demo shows what Plumbline does, to somebody who has never
// seen it: it turns two binaries into a real control plane, two Git
// repositories and a running daemon, pushes commits, and tells what came of them.
//
// Nothing is played but the nodes: the daemon is the product's binary, and what
// is shown is read from the cluster and from the daemon's log. Whatever it
// starts ends with it, and whatever it writes is in one directory that it
// removes. With DEMO=once it runs unattended, and its exit code says whether
// all of it held.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `plumbline-demo shows what Plumbline does: in one minute, without a cluster.

Usage: make demo, or after "make build lab": go run ./cmd/plumbline-demo [flags]

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(run(ctx, os.Args[1:]))
}

// options are the flags.
type options struct {
	plumbline, lab string // the binaries
	once           bool
}

func run(ctx context.Context, args []string) int {
	o := options{once: os.Getenv("DEMO") == "once"}
	flags := flag.NewFlagSet("plumbline-demo", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	flags.StringVar(&o.plumbline, "plumbline", "bin/plumbline", "the product's `binary`")
	flags.StringVar(&o.lab, "lab", cmp.Or(os.Getenv("PLUMBLINE_LAB"), "bin/plumbline-lab"), "the control plane's `binary`; $PLUMBLINE_LAB is another way to say it")
	flags.BoolVar(&o.once, "once", o.once, "run unattended and end with a verdict (default: if $DEMO is \"once\")")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	d := &demo{options: o, out: newScreen(os.Stdout)}
	err := d.perform(ctx)
	d.stop()
	return d.verdict(ctx, err)
}

// verdict turns how it ended into an exit code.
func (d *demo) verdict(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\nplumbline-demo: interrupted; everything is stopped and removed")
		return 130
	}
	fmt.Fprintf(os.Stderr, "\nplumbline-demo: %v\n", err)
	return 1
}
