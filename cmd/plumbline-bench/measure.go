package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/reconciler"
)

// patience is for one measurement. It only ends what hangs.
const patience = 20 * time.Minute

// bench is one control plane with a number of stacks.
type bench struct {
	options
	label   string // of what is left with -keep
	n       int
	dir     string
	plane   *lab.Plane
	repo    *lab.Repo
	client  dynamic.Interface // admin: the floor, and looking on
	metrics rest.Interface
	cluster *reconciler.Cluster
	daemon  *lab.Daemon
	logFile *os.File
	read    int    // records of the daemon's log that were looked at
	commit  string // the one at which all stacks are
	idle    resting
	drifted int // objects that somebody changed
}

// with gives do a control plane of its own, and a daemon that has no stacks yet.
func with(ctx context.Context, o options, label string, n int, do func(context.Context, *bench) error) (err error) {
	dir, err := os.MkdirTemp("", "plumbline-bench-")
	if err != nil {
		return err
	}
	b := &bench{options: o, label: label, n: n, dir: dir}
	defer func() { err = errors.Join(err, b.close()) }()
	git, err := lab.ServeGit(filepath.Join(dir, "git"))
	if err != nil {
		return err
	}
	defer func() { _ = git.Close() }()
	if err := b.prepare(ctx, git); err != nil {
		return err
	}
	return do(ctx, b)
}

// measure goes through all benchmarks of commits and resyncs. What is not selected
// is done all the same where a later one needs it, but without a floor.
func measure(ctx context.Context, b *bench) error {
	for _, step := range []struct {
		benchmark string
		do        func(context.Context, bool) (result, error)
	}{{install, b.install}, {upgrade, b.upgrade}, {oneStack, b.oneStack}, {restart, b.restart}, {recheck, b.resync}, {noop, b.resync}} {
		if !b.needed(step.benchmark) {
			return nil
		}
		if err := b.step(ctx, step.benchmark, step.do); err != nil {
			return fmt.Errorf("%s: %w", step.benchmark, err)
		}
	}
	return nil
}

func (b *bench) step(ctx context.Context, benchmark string, do func(context.Context, bool) (result, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	print := b.bench.MatchString(name(benchmark, b.n))
	r, err := do(ctx, print)
	if err != nil {
		return err
	}
	text := line(name(benchmark, b.n), r.values())
	fmt.Fprint(b.log, text)
	if print {
		_, err = io.WriteString(b.out, text)
	}
	return err
}

// needed is true when this or a later benchmark is selected.
func (b *bench) needed(benchmark string) bool {
	seen := false
	for _, later := range benchmarks {
		seen = seen || later == benchmark
		if seen && b.bench.MatchString(name(later, b.n)) {
			return true
		}
	}
	return false
}

func (b *bench) prepare(ctx context.Context, git *lab.Git) (err error) {
	if b.plane, err = lab.StartPlane(ctx, b.lab, lab.PlaneOptions{}); err != nil {
		return err
	}
	if err := b.connect(); err != nil {
		return err
	}
	for _, ns := range []string{namespace, floorNamespace, otherNamespace} {
		if err := b.namespace(ctx, ns); err != nil {
			return err
		}
	}
	if err := countByVerb(ctx, b.client); err != nil {
		return err
	}
	if b.repo, err = git.Create("bench"); err != nil {
		return err
	}
	if err := b.repo.Write(map[string]string{"stacks/README.md": "Stacks are coming.\n"}); err != nil {
		return err
	}
	if _, err := b.repo.Push("first"); err != nil {
		return err
	}
	if err := b.start(ctx, time.Hour); err != nil {
		return err
	}
	if _, err = settled(ctx, b.metrics); err != nil {
		return err
	}
	return b.quiet(ctx)
}

func (b *bench) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", b.plane.Kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // the server's own limits are what is measured
	if b.client, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	b.metrics, b.cluster = d.RESTClient(), reconciler.NewCluster(b.client, nil)
	return nil
}

func (b *bench) namespace(ctx context.Context, name string) error {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
	_, err := b.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Create(ctx, u, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// start starts the daemon, and waits until it has seen the repository. It lists
// the refs only when it is told to, as by a webhook: its interval is no part of
// what is measured.
func (b *bench) start(ctx context.Context, resync time.Duration) (err error) {
	config := filepath.Join(b.dir, "plumbline.yaml")
	text := fmt.Sprintf("sources:\n  - {name: %s, url: %q, ref: {branch: main}, stacks: stacks, interval: 6h}\n"+
		"cluster: {kubeconfig: %q}\nlisten: \"off\"\nstateDir: %q\nresync: %s\n",
		sourceName, b.repo.URL, b.plane.Plumbline, filepath.Join(b.dir, "state"), resync)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if b.logFile == nil {
		if b.logFile, err = os.Create(filepath.Join(b.dir, "daemon.log")); err != nil {
			return err
		}
	}
	if b.daemon, err = lab.StartDaemon(ctx, b.plumbline, config, nil, b.logFile); err != nil {
		return err
	}
	b.read = 0
	_, err = b.waitFor(ctx, func(r lab.Record) bool { return r.Text("msg") == "source moved" })
	return err
}

// waitFor waits for a record in the daemon's log, or for its end.
func (b *bench) waitFor(ctx context.Context, match func(lab.Record) bool) (lab.Record, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-b.daemon.Ended():
			cancel(errors.New("the daemon ended"))
		case <-ctx.Done():
		}
	}()
	r, next, err := b.daemon.WaitFor(ctx, b.read, match)
	b.read = next
	if err != nil {
		return r, fmt.Errorf("wait for the daemon's log: %w; last: %s", err, b.lastRecords())
	}
	return r, nil
}

func (b *bench) lastRecords() string {
	records := b.daemon.Records()
	return fmt.Sprint(records[max(0, len(records)-3):])
}

func (b *bench) close() error {
	var errs []error
	if b.daemon != nil {
		errs = append(errs, b.daemon.Stop())
	}
	if b.plane != nil {
		errs = append(errs, b.plane.Stop())
	}
	if b.logFile != nil {
		_ = b.logFile.Close()
		if b.keep != "" {
			errs = append(errs, os.Rename(b.logFile.Name(), filepath.Join(b.keep, "daemon-"+b.label+".log")))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}
