package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// The two in which drift is measured, in this order: see docs/benchmarks.md.
const (
	atRest        = "rest"
	duringInstall = "install"
)

func driftName(objects int, phase string) string {
	return fmt.Sprintf("Drift/objects=%d/%s", objects, phase)
}

// driftSelected is true when drift is to be measured with so many objects.
func driftSelected(pattern *regexp.Regexp, objects int) bool {
	return pattern.MatchString(driftName(objects, atRest)) || pattern.MatchString(driftName(objects, duringInstall))
}

// kinds are the objects of a stack, and of each a field that Git sets and
// somebody else changes. None of the changes starts a pod.
var kinds = []struct {
	kind, field string // a JSON pointer
	value       any
}{
	{"Deployment", "/spec/template/spec/containers/0/image", "registry.example/app:by-hand"},
	{"Service", "/spec/ports/0/targetPort", "by-hand"},
	{"ServiceAccount", "/automountServiceAccountToken", true},
	{"Ingress", "/spec/rules/0/host", "by-hand.example"},
}

const (
	somebody    = "kubectl-edit"
	driftEvery  = 200 * time.Millisecond // in the mean
	driftGrace  = 30 * time.Second       // for the last to be put right
	moreRounds  = 60
	otherStacks = "other/"
)

// measureDrift measures at rest, and while a commit brings as many objects again.
func measureDrift(ctx context.Context, b *bench) error {
	for _, phase := range []struct {
		name string
		do   func(context.Context) ([]value, error)
	}{{"setup", b.driftSetup}, {atRest, b.driftAtRest}, {duringInstall, b.driftDuringInstall}} {
		if err := b.driftPhase(ctx, driftName(b.n*len(kinds), phase.name), phase.do); err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
		if phase.name == atRest && !b.bench.MatchString(driftName(b.n*len(kinds), duringInstall)) {
			return nil
		}
	}
	return nil
}

func (b *bench) driftPhase(ctx context.Context, name string, do func(context.Context) ([]value, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	values, err := do(ctx)
	if err != nil {
		return err
	}
	text := line(name, values)
	fmt.Fprint(b.log, text)
	if strings.HasSuffix(name, "/setup") || !b.bench.MatchString(name) {
		return nil
	}
	_, err = io.WriteString(b.out, text)
	return err
}

// driftSetup installs one stack, which is enough to load what any needs, watches the
// daemon for a while, and installs the rest.
func (b *bench) driftSetup(ctx context.Context) ([]value, error) {
	if err := b.repo.Write(stackFiles(0, tagInstall)); err != nil {
		return nil, err
	}
	if _, err := b.commitReady(ctx, "one", 1); err != nil {
		return nil, err
	}
	var err error
	if b.idle, err = b.resting(ctx); err != nil {
		return nil, err
	}
	r, err := b.change(ctx, false, 1, b.n, tagInstall)
	return r.values(), err
}

func (b *bench) driftAtRest(ctx context.Context) ([]value, error) {
	resting, err := b.resting(ctx)
	if err != nil {
		return nil, err
	}
	before, err := countRequests(ctx, b.metrics)
	if err != nil {
		return nil, err
	}
	someone, err := b.drifting(ctx)
	if err != nil {
		return nil, err
	}
	for len(someone.samples) < b.driftSamples() {
		if err := someone.changes(ctx); err != nil {
			return nil, err
		}
	}
	told, err := someone.end(ctx)
	if err != nil {
		return nil, err
	}
	after, err := settled(ctx, b.metrics)
	if err != nil {
		return nil, err
	}
	perDrift := value{"req/drift", after.since(before).total() / float64(len(someone.samples))}
	values := append(told, perDrift, value{"group-kinds", float64(len(kinds))})
	return append(values, resting.values(b.idle.anon, b.n*len(kinds))...), b.quiet(ctx)
}

// driftDuringInstall pushes commits that touch as many objects again, which are
// none of those that drift: the first brings them, those after it change each.
func (b *bench) driftDuringInstall(ctx context.Context) ([]value, error) {
	someone, err := b.drifting(ctx)
	if err != nil {
		return nil, err
	}
	watcher := watchProcess(b.daemon.PID())
	var first time.Duration
	rounds := 0
	for ; rounds < moreRounds && len(someone.samples) < b.driftSamples(); rounds++ {
		took, err := b.driftRound(ctx, someone, rounds)
		if err != nil {
			_, _ = watcher.stop()
			return nil, err
		}
		if rounds == 0 {
			first = took
		}
	}
	peak, stopErr := watcher.stop()
	told, err := someone.end(ctx)
	return append(told, value{"rounds", float64(rounds)}, value{"ready-s", first.Seconds()},
		value{"anon-MiB", float64(peak.anon) / mib}), errors.Join(err, stopErr)
}

// driftRound changes objects from the moment when a commit was pushed until all its
// stacks are Ready.
func (b *bench) driftRound(ctx context.Context, someone *drifting, round int) (time.Duration, error) {
	for i := b.n; i < 2*b.n; i++ {
		files := map[string]string{}
		for name, text := range stackFilesIn(otherNamespace, i, tagInstall) {
			if strings.HasSuffix(name, "/kustomization.yaml") {
				text += "commonAnnotations: {round: \"" + strconv.Itoa(round) + "\"}\n"
			}
			files[name] = text
		}
		if err := b.repo.Write(files); err != nil {
			return 0, err
		}
	}
	pushed, ready := make(chan struct{}), make(chan error, 1)
	var took time.Duration
	go func() {
		var err error
		took, err = b.commitReadyAfter(ctx, fmt.Sprintf("round %d", round), b.n, func() { close(pushed) })
		ready <- err
	}()
	select {
	case <-pushed:
	case err := <-ready:
		return took, err
	}
	for {
		select {
		case err := <-ready:
			return took, err
		default:
		}
		if err := someone.changes(ctx); err != nil {
			return took, err
		}
	}
}

// driftSamples is how many objects drift, so few that nobody insists on anything.
func (b *bench) driftSamples() int { return min(b.samples, 2*b.n*len(kinds)) }

// resting is what a daemon takes that has nothing to do.
type resting struct {
	requests, leases float64       // in a minute
	cpu, server      time.Duration // in a minute
	anon, rss        int64         // at the end, in bytes
}

// resting waits until all has come to rest, and watches it for a while.
func (b *bench) resting(ctx context.Context) (r resting, err error) {
	if _, err := settled(ctx, b.metrics); err != nil {
		return r, err
	}
	if err := b.quiet(ctx); err != nil {
		return r, err
	}
	before, err := readMetrics(ctx, b.metrics)
	if err != nil {
		return r, err
	}
	cpu, err1 := cpuOf(b.daemon.PID())
	server, err2 := cpuOf(b.plane.PID())
	start := time.Now()
	if err := errors.Join(err1, err2, pause(ctx, b.quietFor)); err != nil {
		return r, err
	}
	minutes := time.Since(start).Minutes()
	now, err1 := cpuOf(b.daemon.PID())
	serverNow, err2 := cpuOf(b.plane.PID())
	after, err := readMetrics(ctx, b.metrics)
	last := watchProcess(b.daemon.PID())
	usage, err3 := last.stop()
	return resting{
		requests: parseRequests(after).since(parseRequests(before)).total() / minutes,
		leases:   (parseLeases(after) - parseLeases(before)) / minutes,
		cpu:      time.Duration(float64(now-cpu) / minutes), server: time.Duration(float64(serverNow-server) / minutes),
		anon: usage.anon, rss: usage.rss,
	}, errors.Join(err, err1, err2, err3)
}

// values are against what a daemon with one stack takes.
func (r resting) values(idle int64, objects int) []value {
	return []value{{"requests/min", r.requests}, {"lease-req/min", r.leases},
		{"anon-KiB/object", float64(r.anon-idle) / 1024 / float64(objects-len(kinds))}, {"anon-MiB", float64(r.anon) / mib},
		{"base-anon-MiB", float64(idle) / mib}, {"rss-MiB", float64(r.rss) / mib},
		{"cpu-s/min", r.cpu.Seconds()}, {"server-cpu-s/min", r.server.Seconds()}}
}

// drifting is somebody who changes objects, and looks when they are as they were.
type drifting struct {
	b       *bench
	from    int // records of the daemon's log that were there before
	stop    context.CancelFunc
	samples []*sample
	answers sync.WaitGroup

	mu   sync.Mutex
	open map[string]*sample // those not put right, by kind and name
	errs []error
}

// drifting opens a watch of each kind.
func (b *bench) drifting(ctx context.Context) (*drifting, error) {
	ctx, stop := context.WithCancel(ctx)
	d := &drifting{b: b, from: len(b.daemon.Records()), stop: stop, open: map[string]*sample{}}
	for _, k := range kinds {
		client := b.client.Resource(resources[k.kind]).Namespace(namespace)
		list, err := client.List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			stop()
			return nil, fmt.Errorf("list a %s: %w", k.kind, err)
		}
		w, err := client.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
		if err != nil {
			stop()
			return nil, fmt.Errorf("watch each %s: %w", k.kind, err)
		}
		go func() { // ends with the context
			for event := range w.ResultChan() {
				d.take(k.kind, event, time.Now())
			}
			if ctx.Err() == nil {
				d.failed(fmt.Errorf("the watch of each %s ended", k.kind))
			}
		}()
	}
	return d, nil
}

func (d *drifting) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errs = append(d.errs, err)
}

// take looks whether an object is changed, or as it was.
func (d *drifting) take(kind string, event watch.Event, at time.Time) {
	u, ok := event.Object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	key := kind + "/" + u.GetName()
	s := d.open[key]
	if s == nil {
		return
	}
	for _, k := range kinds {
		if k.kind != kind {
			continue
		}
		value := fieldAt(u.Object, k.field)
		if s.changed && reflect.DeepEqual(value, s.was) {
			s.corrected = at
			delete(d.open, key)
		}
		s.changed = s.changed || reflect.DeepEqual(value, k.value)
	}
}

// changes lets somebody change the next object, without waiting for what comes of
// it: who waits for the slow ones counts fewer of them.
func (d *drifting) changes(ctx context.Context) error {
	next := d.b.drifted
	d.b.drifted++
	object := stride(next, d.b.n*len(kinds))
	k := kinds[object%len(kinds)]
	was, err := wanted(object/len(kinds), k.kind, k.field)
	if err != nil {
		return err
	}
	s := &sample{kind: k.kind, name: appName(object / len(kinds)), was: was}
	patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": k.field, "value": k.value}})
	if err != nil {
		return err
	}
	d.mu.Lock()
	busy, failed := d.open[s.kind+"/"+s.name] != nil, errors.Join(d.errs...)
	if !busy {
		d.open[s.kind+"/"+s.name] = s
	}
	d.mu.Unlock()
	switch {
	case failed != nil:
		return failed
	case busy:
		return fmt.Errorf("%s %s was not put right since it was changed the last time", s.kind, s.name)
	}
	d.samples = append(d.samples, s)
	s.sent = time.Now()
	d.answers.Go(func() {
		_, err := d.b.client.Resource(resources[k.kind]).Namespace(namespace).
			Patch(ctx, s.name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: somebody})
		s.answered = time.Now()
		if err != nil {
			d.failed(fmt.Errorf("change %s %s: %w", s.kind, s.name, err))
		}
	})
	return pause(ctx, driftEvery/2+rand.N(driftEvery))
}

// wanted is what Git says of a field.
func wanted(stack int, kind, field string) (any, error) {
	all, err := objects(stack, tagInstall, namespace)
	for _, u := range all {
		if u.GetKind() == kind {
			return fieldAt(u.Object, field), err
		}
	}
	return nil, err
}

// stride goes through all objects before one comes again, in leaps over stacks and kinds.
func stride(i, n int) int {
	step := max(1, n*618/1000)
	for gcd(step, n) != 1 {
		step++
	}
	return i * step % n
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// end waits until all is as it was, and says what it took.
func (d *drifting) end(ctx context.Context) ([]value, error) {
	defer d.stop()
	d.answers.Wait()
	var m matched
	for deadline := time.Now().Add(driftGrace); ; {
		drifts, err := driftsIn(d.b.daemon.Records()[d.from:])
		if err != nil {
			return nil, err
		}
		m = match(d.samples, drifts)
		d.mu.Lock()
		open, failed := len(d.open), errors.Join(d.errs...)
		d.mu.Unlock()
		if failed != nil || (open > 0 && time.Now().After(deadline)) {
			return nil, errors.Join(failed, fmt.Errorf("%d of %d objects are not as they were", open, len(d.samples)))
		}
		if open == 0 && (m.untold == 0 || time.Now().After(deadline)) {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return append(latencies(d.samples), m.values()...), nil
}

// fieldAt is what a JSON pointer without escapes leads to; nil: nothing.
func fieldAt(from any, pointer string) any {
	for _, key := range strings.Split(pointer, "/")[1:] {
		switch in := from.(type) {
		case map[string]any:
			from = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(in) {
				return nil
			}
			from = in[i]
		default:
			return nil
		}
	}
	return from
}
