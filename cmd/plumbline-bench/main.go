// Command plumbline-bench measures the way from a commit to Ready, against a real
// control plane and real Git, and prints Go benchmark text for benchstat.
//
// docs/benchmarks.md says what is measured, and what came of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
)

const help = `plumbline-bench measures Plumbline on a control plane of its own, and prints Go benchmark text.

Usage:
  plumbline-bench [flags]

Flags:
  -bench R        only what this regular expression matches, of names such as Install/stacks=100
                  (default: $BENCH, or everything)
  -stacks LIST    numbers of stacks (default 40,100,500,1000)
  -count N        how often to measure each (default 1)
  -plumbline BIN  the daemon (default: build it)
  -lab BIN        the control plane (default: build it)
  -v              say on stderr what goes on
  -keep DIR       leave the daemons' logs in DIR

Install      a commit that brings all stacks, until all are Ready
Upgrade      a commit that changes the Deployment of every stack
OneStack     a commit that changes the Deployment of one stack
Restart      the daemon is stopped and started again
Recheck      the first resync after that: the server is asked once whether all is as it was left
Noop         the next resync: every stack is gone through although nothing moved
`

type options struct {
	bench          *regexp.Regexp
	stacks         []int
	count          int
	plumbline, lab string
	keep           string
	out, log       io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	klog.SetOutput(io.Discard)   // client-go returns its errors too
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, os.Getenv("BENCH"), stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "plumbline-bench: %v\n\nSee plumbline-bench -help.\n", err)
		return 2
	}
	if err := measureAll(ctx, o); err != nil {
		fmt.Fprintf(stderr, "plumbline-bench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, pattern string, stdout, stderr io.Writer) (options, error) {
	o := options{out: stdout, log: io.Discard}
	flags := flag.NewFlagSet("plumbline-bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	stacks := flags.String("stacks", "40,100,500,1000", "")
	flags.StringVar(&pattern, "bench", pattern, "")
	flags.IntVar(&o.count, "count", 1, "")
	flags.StringVar(&o.plumbline, "plumbline", "", "")
	flags.StringVar(&o.lab, "lab", "", "")
	flags.StringVar(&o.keep, "keep", "", "")
	verbose := flags.Bool("v", false, "")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *verbose {
		o.log = stderr
	}
	var err error
	if o.bench, err = regexp.Compile(pattern); err != nil {
		return o, fmt.Errorf("-bench: %w", err)
	}
	o.stacks, err = numbers(*stacks)
	return o, err
}

func numbers(list string) ([]int, error) {
	var out []int
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-stacks: %q is not a number of stacks", s)
		}
		out = append(out, n)
	}
	return out, nil
}

// measureAll gives each number of stacks a control plane of its own, so that none
// pays for what another left in etcd and in the server's caches.
func measureAll(ctx context.Context, o options) error {
	if err := build(ctx, &o); err != nil {
		return err
	}
	fmt.Fprint(o.out, header())
	for range o.count {
		for _, n := range o.stacks {
			if !selected(o.bench, n) {
				continue
			}
			if err := measure(ctx, o, n); err != nil {
				return fmt.Errorf("%d stacks: %w", n, err)
			}
		}
	}
	return nil
}
