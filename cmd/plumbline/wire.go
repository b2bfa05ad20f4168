package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/scan/images"
	"github.com/plumbline-dev/plumbline/secrets"
)

// wire builds the one Pipeline, and the Loop around it. It is the only place
// that knows how the rooms fit together.
func wire(ctx context.Context, config reconciler.Config, git snapshots, hashKey hashKeyFunc, out signals) (*reconciler.Loop, error) {
	restConfig, err := restConfig(config.Cluster)
	if err != nil {
		return nil, err
	}
	restConfig.Wrap(out.recorder.Transport)
	client, err := connect(restConfig)
	if err != nil {
		return nil, err
	}
	key, err := hashKey(ctx, client.dynamic, config.Election.Namespace)
	if err != nil {
		return nil, err
	}
	opener, err := unsealing(config, client.dynamic, key)
	if err != nil {
		return nil, err
	}
	opener.Reserved = reconciler.OwnSecrets(config)
	gate, err := newGate(ctx, config.Scan, config.StateDir)
	if err != nil {
		return nil, err
	}
	go func() { _ = gate.Warm(ctx) }() // the first scan tells what is wrong with it
	loop := &reconciler.Loop{Config: config, Last: git.Last, Past: git.At, Forget: gate.Forget, Log: out.log, Recorder: out.recorder, Secrets: opener}
	var observer *observe.Observer
	observer = observe.New(ctx, observe.Options{Client: client.dynamic, Manager: apply.Manager, Changed: loop.ObjectMoved, Attentive: loop.Attentive,
		Trouble: func(r schema.GroupVersionResource, err error) { watchTrouble(out, r, observer.Kinds(), err) }})
	engine, err := apply.New(restConfig, client.http, client.mapper, watched{observer}, config.Limits.Requests, key)
	if err != nil {
		return nil, err
	}
	loop.Cluster = reconciler.NewCluster(client.dynamic, engine.Register)
	loop.Watched, loop.OfStack, loop.Judge = observer.Get, observer.OfStack, observer.Judge
	loop.Why = func(ctx context.Context, id observe.ID) (string, error) {
		return observe.Explain(ctx, client.dynamic, id)
	}
	loop.Scope, loop.KindsMoved = client.mapper.Namespaced, client.mapper.Invalidate
	loop.Pipeline = recorded(out.recorder, reconciler.Pipeline{
		Fetch:  git.Fetch,
		Render: render.Kustomize,
		Scan:   gate.Scan,
		Resolve: func(ctx context.Context, r secrets.Request) (secrets.Resolved, error) {
			return secrets.Resolve(ctx, opener.Bao, r)
		},
		Plan:    engine.Plan,
		Apply:   engine.Apply,
		Observe: reconciler.ObserveWith(observer.Get),
		Report:  reporter(out.log),
	})
	loop.Init()
	return loop, nil
}

// hashKeyFunc finds the key of the hashes that the cluster keeps.
type hashKeyFunc func(ctx context.Context, client dynamic.Interface, namespace string) (secrets.HashKey, error)

// snapshots is where commits come from: the mirrors of the daemon, or a working tree.
type snapshots interface {
	Fetch(context.Context, fetch.Source) (fetch.Snapshot, error)
	Last(fetch.Source) (fetch.Snapshot, error)
	At(source fetch.Source, commit string) (fetch.Snapshot, error)
}

// newGate makes the gate. Nothing is compiled yet, and nobody asked. What it asks for ends with the context.
func newGate(ctx context.Context, config reconciler.ScanConfig, stateDir string) (*scan.Gate, error) {
	operator, err := config.Operator()
	if err != nil {
		return nil, err
	}
	gate := &scan.Gate{Operator: operator}
	if config.Images == nil {
		return gate, nil
	}
	dir, err := stateIn(stateDir)
	if err != nil {
		return nil, err
	}
	known, err := images.New(images.Options{Database: config.Images.Database, CacheDir: filepath.Join(dir, "images"), Platforms: config.Images.Platforms,
		DockerConfig: config.Images.DockerConfig, Insecure: config.Images.Insecure, Timeout: time.Duration(config.Images.Timeout)})
	if err != nil {
		return nil, fmt.Errorf("scan.images: %w", err)
	}
	context.AfterFunc(ctx, known.Close)
	gate.Images = known
	return gate, nil
}

// stateIn is where the daemon keeps what it can get again.
func stateIn(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a place for what is kept (set stateDir): %w", err)
	}
	return filepath.Join(cache, "plumbline"), nil
}

// openMirrors prepares the place of the Git mirrors, and tidies what a crash left.
func openMirrors(config reconciler.Config) (*fetch.Mirrors, error) {
	dir, err := stateIn(config.StateDir)
	if err != nil {
		return nil, err
	}
	var sources []fetch.Source
	for _, s := range config.Sources {
		sources = append(sources, s.Fetch())
	}
	mirrors := &fetch.Mirrors{Dir: filepath.Join(dir, "git")}
	if err := mirrors.Collect(sources); err != nil {
		return nil, fmt.Errorf("tidy %s: %w", dir, err)
	}
	return mirrors, nil
}

// clients are the ways to talk to one API server, over one connection.
type clients struct {
	dynamic dynamic.Interface
	mapper  *apply.Mapper
	http    httpClient
}

func connect(config *rest.Config) (clients, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return clients{}, fmt.Errorf("make the HTTP client: %w", err)
	}
	dynamicClient, err := dynamic.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return clients{}, fmt.Errorf("make the API client: %w", err)
	}
	discoveryClient, err := discovery.NewDiscoveryClientForConfigAndClient(config, httpClient)
	if err != nil {
		return clients{}, fmt.Errorf("make the discovery client: %w", err)
	}
	return clients{dynamicClient, apply.NewMapper(discoveryClient), httpClient}, nil
}

// watched is what the Observer knows, as an apply wants to see it.
type watched struct{ *observe.Observer }

func (w watched) Ensure(ctx context.Context, resources ...apply.Resource) error {
	kinds := make([]schema.GroupKind, len(resources))
	have := map[schema.GroupKind]bool{}
	for _, gk := range w.Kinds() {
		have[gk] = true
	}
	for i, r := range resources {
		kinds[i] = schema.GroupKind{Group: r.Group, Kind: r.Kind}
		if !have[kinds[i]] { // the version that is watched first stays: moving it would list all again
			w.Watch(observe.Kind{GroupVersionResource: r.GroupVersionResource, Kind: r.Kind, Namespaced: r.Namespaced})
		}
	}
	return w.Synced(ctx, kinds...)
}

func (w watched) Get(id apply.ID) (apply.LiveObject, bool) {
	entry, ok := w.Observer.Get(observe.ID(id))
	return liveObject(entry), ok
}

func (w watched) OfStack(stack string) []apply.LiveObject {
	entries := w.Observer.OfStack(stack)
	out := make([]apply.LiveObject, len(entries))
	for i, e := range entries {
		out[i] = liveObject(e)
	}
	return out
}

func (w watched) Fingerprint(u *unstructured.Unstructured) apply.Fingerprint {
	return apply.Fingerprint(observe.FingerprintOf(u, apply.Manager))
}

func (w watched) Saw(u *unstructured.Unstructured) apply.LiveObject {
	return liveObject(w.Observer.Saw(u))
}

func (w watched) SawGone(id apply.ID, uid types.UID) { w.Observer.SawGone(observe.ID(id), uid) }

func liveObject(e observe.Entry) apply.LiveObject {
	return apply.LiveObject{
		ID: apply.ID(e.ID), UID: e.UID, ResourceVersion: e.ResourceVersion, Generation: e.Generation, Stack: e.Stack, PartOf: e.PartOf,
		Fingerprint: apply.Fingerprint(e.Fingerprint), Deleting: e.Deleting,
	}
}

// reporter writes one line per run that did something, or failed otherwise than
// the one before.
func reporter(log *slog.Logger) func(context.Context, reconciler.Run) {
	var last sync.Map // stack → the error of its last run
	return func(ctx context.Context, run reconciler.Run) {
		counts := run.Plan.Counts()
		if run.Plan.Held != "" { // planned, not done
			counts[apply.ActionDelete] = 0
		}
		attrs := []any{"stack", run.Stack, "trigger", string(run.Trigger), "revision", run.Revision, "took", run.Took.String(),
			"created", counts[apply.ActionCreate], "changed", counts[apply.ActionUpdate] + counts[apply.ActionAdopt] + counts[apply.ActionReplace],
			"deleted", counts[apply.ActionDelete], "unchanged", counts[apply.ActionNone]}
		if run.Plan.Held != "" {
			attrs = append(attrs, "held", run.Plan.Held)
		}
		level := slog.LevelInfo
		switch {
		case run.Err != nil:
			level, attrs = slog.LevelError, append(attrs, "error", run.Err.Error())
			if before, _ := last.Swap(run.Stack, run.Err.Error()); before == run.Err.Error() {
				level = slog.LevelDebug
			}
		case run.Changed() == 0:
			level = slog.LevelDebug
		}
		if run.Err == nil {
			last.Delete(run.Stack)
		}
		log.Log(ctx, level, cmp.Or(map[bool]string{true: telemetry.MsgRunFailed}[run.Err != nil], telemetry.MsgRun), attrs...)
	}
}
