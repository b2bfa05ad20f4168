// Command plumbline-bench measures the way from a commit to Ready, and from drift
// back, against a real control plane and real Git, and the gate by itself. It prints
// Go benchmark text for benchstat.
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/plumbline-dev/plumbline/scan"
)

const help = `plumbline-bench measures Plumbline on a control plane of its own, and prints Go benchmark text.

Usage:
  plumbline-bench [flags]

Flags:
  -bench R        only what this regular expression matches, of names such as Install/stacks=100
                  (default: $BENCH, or everything)
  -stacks LIST    numbers of stacks (default 40,100,500,1000)
  -objects LIST   numbers of objects for Drift, four in each stack (default 100,1000,5000)
  -samples N      how many of them drift in each of the two phases, no object more than twice (default 200)
  -rest TIME      for how long a daemon at rest is watched (default 1m)
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
Drift        somebody changes one object after the other, in names such as Drift/objects=1000/rest:
             while the daemon has nothing else to do (rest), and while a commit brings as many
             objects again (install)
Gate         Gate/objects=1000: from a new gate to its first verdict, and a thousand changed objects;
             needs neither daemon nor control plane
`

type options struct {
	bench          *regexp.Regexp
	stacks         []int
	objects        []int
	samples        int
	quietFor       time.Duration
	count          int
	plumbline, lab string
	keep           string
	out, log       io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	klog.SetOutput(io.Discard)   // client-go returns its errors too
	scan.Quiet(os.Stderr)
	if os.Getenv(gateEnv) != "" {
		os.Exit(gateProcess(ctx, os.Stdout, os.Stderr))
	}
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
	objects := flags.String("objects", "100,1000,5000", "")
	flags.IntVar(&o.samples, "samples", 200, "")
	flags.DurationVar(&o.quietFor, "rest", time.Minute, "")
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
	if o.stacks, err = numbers("-stacks", *stacks, 1); err != nil {
		return o, err
	}
	if o.samples < 1 || o.quietFor < time.Second {
		return o, errors.New("-samples, -rest: want at least 1, and 1s")
	}
	if o.objects, err = numbers("-objects", *objects, len(kinds)); err == nil && slices.Min(o.objects) < 2*len(kinds) {
		return o, errors.New("-objects: want two stacks at least")
	}
	return o, err
}

// numbers reads a list of multiples of a number.
func numbers(flag, list string, of int) ([]int, error) {
	var out []int
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 || n%of != 0 {
			return nil, fmt.Errorf("%s: %q is not a number that can be divided by %d", flag, s, of)
		}
		out = append(out, n)
	}
	return out, nil
}

// measureAll gives each number of stacks a control plane of its own, so that none
// pays for what another left in etcd and in the server's caches.
func measureAll(ctx context.Context, o options) error {
	if o.needsPlane() {
		if err := build(ctx, &o); err != nil {
			return err
		}
	}
	fmt.Fprint(o.out, header())
	for range o.count {
		if gateSelected(o.bench) {
			if err := measureGate(ctx, o); err != nil {
				return fmt.Errorf("gate: %w", err)
			}
		}
		for _, n := range o.stacks {
			if !selected(o.bench, n) {
				continue
			}
			if err := with(ctx, o, strconv.Itoa(n), n, measure); err != nil {
				return fmt.Errorf("%d stacks: %w", n, err)
			}
		}
		for _, n := range o.objects {
			if !driftSelected(o.bench, n) {
				continue
			}
			if err := with(ctx, o, fmt.Sprintf("drift-%d", n), n/len(kinds), measureDrift); err != nil {
				return fmt.Errorf("%d objects: %w", n, err)
			}
		}
	}
	return nil
}

// needsPlane is true when something is selected that needs daemon and control plane.
func (o options) needsPlane() bool {
	return slices.ContainsFunc(o.stacks, func(n int) bool { return selected(o.bench, n) }) ||
		slices.ContainsFunc(o.objects, func(n int) bool { return driftSelected(o.bench, n) })
}
