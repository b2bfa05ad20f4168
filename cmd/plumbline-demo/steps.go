package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/stacks"
)

// step is a scene: what happens, what to look for, and how it is done.
type step struct {
	title, look string
	do          func(*demo, context.Context) error
}

var story = []step{
	{"Start a Kubernetes control plane",
		"etcd, API server, controllers and scheduler are real; only the nodes pretend to run pods.", (*demo).startPlane},
	{"Create two Git repositories, served over HTTP",
		"The pipeline that Plumbline ships, and a team's own, whose program sends its telemetry there.", (*demo).startGit},
	{"Run the daemon on both",
		"Look at the order: a stack waits for those it depends on, and starts when they are Ready.", (*demo).startDaemon},
	{"Push a commit: a new image and a new configuration",
		"First the plan: what the API server says would change. Then the push, and when it is true.", (*demo).pushGood},
	{"Change things by hand, behind Git's back",
		"Somebody scales the shop to nothing, and deletes its Service. Look how soon both are back.", (*demo).drift},
	{"Push a bad commit: a good new image, and a Service with an impossible port",
		"Look at the refusal: file, object, field. Nothing of it is applied; what ran still runs.", (*demo).pushBad},
	{"Revert it",
		"The way back is a commit like any other.", (*demo).revert},
}

func (d *demo) startPlane(ctx context.Context) error {
	started := time.Now()
	log, err := os.Create(filepath.Join(d.dir, "lab.stderr"))
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := within(ctx, "the control plane was not ready")
	defer cancel()
	d.plane, err = lab.StartPlane(ctx, d.lab, lab.PlaneOptions{Dir: filepath.Join(d.dir, "lab"), Log: log})
	if err != nil {
		return err
	}
	if d.cluster, err = openCluster(d.plane.Kubeconfig); err != nil {
		return err
	}
	d.hold("a Kubernetes API server is ready after %s", short(time.Since(started)))
	return nil
}

func (d *demo) startGit(context.Context) error {
	dir := filepath.Join(d.dir, "git")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var err error
	if d.git, err = lab.ServeGit(dir); err != nil {
		return err
	}
	if d.pipeline, err = create(d.git, "pipeline", stacks.FS, "The pipeline as Plumbline ships it"); err != nil {
		return err
	}
	files, err := fs.Sub(teamFiles, "team")
	if err != nil {
		return err
	}
	if d.team, err = create(d.git, "team", files, "Shop 1.4.0"); err != nil {
		return err
	}
	d.out.say(plain, "%s%s  5 stacks: collector, logs, metrics, alerts, dashboards", indent, d.pipeline.URL)
	d.out.say(plain, "%s%s      1 stack: a shop, which depends on pipeline/otel-collector", indent, d.team.URL)
	return nil
}

// expected are the stacks of both repositories, as the cluster calls them.
var expected = []string{
	"pipeline.alertmanager", "pipeline.grafana", "pipeline.otel-collector", "pipeline.prometheus", "pipeline.victoria-logs", shopStack,
}

func (d *demo) startDaemon(ctx context.Context) error {
	file := filepath.Join(d.dir, "plumbline.yaml")
	config := configuration(d.plane.Plumbline, filepath.Join(d.dir, "state"), d.pipeline, d.team)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	d.out.say(bold, "%s$ plumbline run -c plumbline.yaml", indent)
	started := time.Now()
	var err error
	if d.daemon, err = lab.StartDaemon(ctx, d.plumbline, file, nil, d.log); err != nil {
		return err
	}
	go d.mind()
	stacks, err := d.watchUntilReady(ctx, expected)
	if err != nil {
		return err
	}
	if !d.out.redraw {
		d.show(stacks)
	}
	for _, repo := range []*lab.Repo{d.pipeline, d.team} {
		if err := hook(repo, d.plumbline, d.plane.Kubeconfig); err != nil {
			return err
		}
	}
	d.hold("%d stacks of two repositories are Ready %s after the daemon started", len(stacks), short(time.Since(started)))
	return nil
}

// mind ends the demo when the daemon or the control plane ends by itself.
func (d *demo) mind() {
	select {
	case <-d.daemon.Ended():
		d.cancel(errors.New("the daemon ended by itself"))
	case <-d.plane.Ended():
		d.cancel(errors.New("the control plane ended by itself"))
	}
}
