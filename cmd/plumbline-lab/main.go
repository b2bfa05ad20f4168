// Command plumbline-lab runs a Kubernetes control plane in one process: etcd,
// kube-apiserver with RBAC, kube-controller-manager, kube-scheduler, and KWOK
// nodes, on which pods start and fail without containers.
//
// The components are the real ones, linked in; only the kubelets are played.
// It is for tests and demonstrations: it listens on loopback only, and does not
// wait for the disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `plumbline-lab runs a Kubernetes control plane in one process, with nodes that only pretend.

Usage:
  plumbline-lab up [flags]    start, print the path of the kubeconfig, serve until SIGINT or SIGTERM
  plumbline-lab version       print the versions of what is linked in

Flags of up:
  --dir D             keep the cluster (etcd data, certificates, kubeconfigs, lab.log) in D and go on
                      with it at the next start; without it, a temporary directory removed at exit
  --nodes N           number of nodes, 1 to 250 (default 3); each has 16 CPUs, 64Gi of memory, 110 pods
  --port P            port of the API server on 127.0.0.1 (default: a free one)
  --die-with-parent   also stop when standard input ends: for tests, which then leave nothing behind
                      even when they are killed

Beside the kubeconfig lies plumbline.kubeconfig: user "plumbline", cluster-admin by RBAC. Its requests
are counted apart, in apiserver_flowcontrol_dispatched_requests_total{flow_schema="plumbline"}.

A pod runs and becomes ready at once, a pod of a Job completes, and a claim of the default StorageClass
is bound, unless:
  the image is of a host x.invalid, or its tag is :does-not-exist     ImagePullBackOff
  no node has room, or the labels of the nodeSelector                 Unschedulable
  annotation lab.plumbline.dev/behaviour: crash-loop                  CrashLoopBackOff
  annotation lab.plumbline.dev/behaviour: never-ready                 running, never ready
  annotation lab.plumbline.dev/behaviour: exit                        Failed if restartPolicy is Never,
                                                                      else as crash-loop
  annotation lab.plumbline.dev/exit-code: "3"                         exit code of the above (default 1)
  annotation lab.plumbline.dev/delay: 2s                              time before ready, and before a Job's
                                                                      pod completes
Any other behaviour leaves the pod Pending. Behaviours may be set, changed and removed while the pod runs.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "up":
		return runUp(ctx, args[1:], stdin, stdout, stderr)
	case "version", "--version":
		fmt.Fprintln(stdout, versions())
		return 0
	case "help", "--help", "-help", "-h":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "plumbline-lab: unknown command %q\n\n%s", args[0], usage)
	return 2
}

func runUp(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cfg, err := parseUp(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "plumbline-lab up: %v\n\nSee plumbline-lab --help.\n", err)
		return 2
	}
	if cfg.dieWithParent {
		ctx = untilEOF(ctx, stdin)
	}
	if err := up(ctx, cfg, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "plumbline-lab: %v\n", err)
		return 1
	}
	return 0
}

func parseUp(args []string) (upConfig, error) {
	var cfg upConfig
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&cfg.dir, "dir", "", "")
	flags.IntVar(&cfg.nodes, "nodes", 3, "")
	flags.IntVar(&cfg.port, "port", 0, "")
	flags.BoolVar(&cfg.dieWithParent, "die-with-parent", false, "")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	switch {
	case flags.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case cfg.nodes < 1 || cfg.nodes > maxNodes:
		return cfg, fmt.Errorf("--nodes %d: want 1 to %d", cfg.nodes, maxNodes)
	case cfg.port < 0 || cfg.port > 65535:
		return cfg, fmt.Errorf("--port %d: not a port", cfg.port)
	}
	return cfg, nil
}

// untilEOF ends the context when r ends. The write end of a pipe closes when its
// owner dies, whatever killed it; no other notice of that is as reliable.
func untilEOF(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return ctx
}
