package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/reconciler"
)

// result is what a benchmark found.
type result struct {
	ready    time.Duration
	floor    floor
	requests requests
	usage    usage
	server   time.Duration // CPU time of the control plane, until it came to rest
}

// floor is what a bare loop takes for the same objects; zero: there is none.
type floor struct {
	took  time.Duration
	ready time.Duration // until the Deployment controller has seen it all, too
	cpu   time.Duration // of the control plane and the loop, until the control plane came to rest
}

const mib = 1 << 20

func (r result) values() []value {
	out := []value{{"ready-s", r.ready.Seconds()}}
	if r.floor.took > 0 {
		out = append(out, value{"floor-s", r.floor.took.Seconds()}, value{"x-floor", r.ready.Seconds() / r.floor.took.Seconds()},
			value{"floor-ready-s", r.floor.ready.Seconds()}, value{"x-floor-ready", r.ready.Seconds() / r.floor.ready.Seconds()})
	}
	out = append(out, r.requests.values()...)
	out = append(out, value{"anon-MiB", float64(r.usage.anon) / mib}, value{"rss-MiB", float64(r.usage.rss) / mib},
		value{"cpu-s", r.usage.cpu.Seconds()}, value{"server-cpu-s", r.server.Seconds()})
	if r.floor.cpu > 0 {
		ours := r.usage.cpu + r.server
		out = append(out, value{"floor-cpu-s", r.floor.cpu.Seconds()}, value{"x-floor-cpu", ours.Seconds() / r.floor.cpu.Seconds()})
	}
	return out
}

// during measures the daemon while do runs, which returns when Ready was reached,
// and until daemon and controllers have come to rest after that.
func (b *bench) during(ctx context.Context, do func() (time.Duration, error)) (r result, err error) {
	before, err := countRequests(ctx, b.metrics)
	if err != nil {
		return r, err
	}
	server, err := cpuOf(b.plane.PID())
	if err != nil {
		return r, err
	}
	watcher := watchProcess(b.daemon.PID())
	if r.ready, err = do(); err != nil {
		_, _ = watcher.stop()
		return r, err
	}
	err = b.rest(ctx, &r, before, server, watcher)
	return r, err
}

// rest waits until daemon and controllers have come to rest, and notes what it all took.
func (b *bench) rest(ctx context.Context, r *result, before requests, server time.Duration, watcher *watcher) error {
	after, err := settled(ctx, b.metrics)
	taken, stopErr := watcher.stop()
	r.requests, r.usage = after.since(before), taken
	if err := errors.Join(err, stopErr, b.quiet(ctx)); err != nil {
		return err
	}
	now, err := cpuOf(b.plane.PID())
	r.server = now - server
	return err
}

// commitReady pushes what was written, and waits until these stacks are Ready
// with it. The clock starts before the push.
func (b *bench) commitReady(ctx context.Context, message string, stacks int) (time.Duration, error) {
	return b.commitReadyAfter(ctx, message, stacks, func() {})
}

// commitReadyAfter calls pushed when the daemon was told.
func (b *bench) commitReadyAfter(ctx context.Context, message string, stacks int, pushed func()) (time.Duration, error) {
	if _, err := b.repo.Git("add", "-A"); err != nil {
		return 0, err
	}
	if _, err := b.repo.Git("commit", "-q", "-m", message); err != nil {
		return 0, err
	}
	commit, err := b.repo.Git("rev-parse", "HEAD")
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := b.repo.Git("push", "-q", "origin", "HEAD:main"); err != nil {
		return 0, err
	}
	if err := b.poke(ctx); err != nil {
		return 0, err
	}
	pushed()
	err = b.allReady(ctx, commit, stacks)
	b.commit = commit
	return time.Since(start), err
}

// poke tells the daemon that the source moved, as plumbline reconcile does.
func (b *bench) poke(ctx context.Context) error {
	return b.cluster.Annotate(ctx, true, sourceName,
		map[string]any{reconciler.RequestAnnotation: time.Now().UTC().Format(time.RFC3339Nano)})
}

// allReady waits until so many stacks said that they are Ready with a commit.
func (b *bench) allReady(ctx context.Context, commit string, stacks int) error {
	_, err := b.each(ctx, stacks, func(r lab.Record) bool { return r.Text("msg") == "stack ready" && r.Text("revision") == commit })
	return err
}

// each waits until there was such a record for so many stacks, and returns when
// the first one came.
func (b *bench) each(ctx context.Context, stacks int, match func(lab.Record) bool) (first time.Time, err error) {
	seen := map[string]bool{}
	_, err = b.waitFor(ctx, func(r lab.Record) bool {
		if match(r) {
			if len(seen) == 0 {
				first = time.Now()
			}
			seen[r.Text("stack")] = true
		}
		return len(seen) == stacks
	})
	if err != nil {
		return first, fmt.Errorf("%d of %d stacks: %w", len(seen), stacks, err)
	}
	return first, nil
}

const (
	tagInstall  = "v1"
	tagUpgrade  = "v2"
	tagOneStack = "v3"
)

// change measures a commit that gives the stacks from..to-1 another image.
func (b *bench) change(ctx context.Context, withFloor bool, from, to int, tag string) (r result, err error) {
	var bare floor
	if withFloor {
		if bare, err = b.floor(ctx, from, to, tag); err != nil {
			return r, err
		}
	}
	for i := from; i < to; i++ {
		if err := b.repo.Write(stackFiles(i, tag)); err != nil {
			return r, err
		}
	}
	r, err = b.during(ctx, func() (time.Duration, error) { return b.commitReady(ctx, tag, to-from) })
	r.floor = bare
	if err != nil {
		return r, err
	}
	return r, b.check(ctx, from, to, tag)
}

func (b *bench) install(ctx context.Context, withFloor bool) (result, error) {
	return b.change(ctx, withFloor, 0, b.n, tagInstall)
}

func (b *bench) upgrade(ctx context.Context, withFloor bool) (result, error) {
	return b.change(ctx, withFloor, 0, b.n, tagUpgrade)
}

func (b *bench) oneStack(ctx context.Context, withFloor bool) (result, error) {
	return b.change(ctx, withFloor, b.n/2, b.n/2+1, tagOneStack)
}

// resyncEvery is short for a daemon that measures a resync, and long enough to be
// done with its start before the first.
const resyncEvery = 30 * time.Second

// restart measures a daemon that finds everything as it left it: until it has gone
// through every stack.
func (b *bench) restart(ctx context.Context, _ bool) (r result, err error) {
	if err := b.daemon.Stop(); err != nil {
		return r, err
	}
	before, err := countRequests(ctx, b.metrics)
	if err != nil {
		return r, err
	}
	server, err := cpuOf(b.plane.PID())
	if err != nil {
		return r, err
	}
	start := time.Now()
	if err := b.start(ctx, resyncEvery); err != nil {
		return r, err
	}
	watcher := watchProcess(b.daemon.PID())
	watcher.from = 0
	b.read = 0
	if _, err := b.each(ctx, b.n, isRun); err != nil {
		return r, err
	}
	r.ready = time.Since(start)
	err = b.rest(ctx, &r, before, server, watcher)
	return r, err
}

func isRun(r lab.Record) bool { return r.Text("msg") == "run" }

// resync measures one resync of all stacks. ready-s is from the first to the last.
// The first after a restart asks the server about what the daemon had not seen for
// itself; those after it have nothing to ask.
func (b *bench) resync(ctx context.Context, _ bool) (result, error) {
	return b.during(ctx, func() (time.Duration, error) {
		b.read = len(b.daemon.Records())
		first, err := b.each(ctx, b.n, func(r lab.Record) bool {
			return isRun(r) && r.Text("trigger") == string(reconciler.TriggerInterval)
		})
		return time.Since(first), err
	})
}

// check looks whether the cluster is as Git says: a daemon could log anything.
func (b *bench) check(ctx context.Context, from, to int, tag string) error {
	list, err := b.client.Resource(resources["Deployment"]).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the Deployments: %w", err)
	}
	if len(list.Items) != b.n {
		return fmt.Errorf("there are %d Deployments, want %d", len(list.Items), b.n)
	}
	var wrong []string
	want := map[string]bool{}
	for i := from; i < to; i++ {
		want[appName(i)] = true
	}
	for _, u := range list.Items {
		if want[u.GetName()] && imageIn(&u) != imageOf(tag) {
			wrong = append(wrong, u.GetName())
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("not of image %s: %s", imageOf(tag), strings.Join(wrong, ", "))
	}
	return nil
}

func imageIn(deployment *unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if len(containers) != 1 {
		return ""
	}
	container, _ := containers[0].(map[string]any)
	text, _ := container["image"].(string)
	return text
}
