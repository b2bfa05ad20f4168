package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const (
	shopImage    = "registry.example.org/shop:1.5.0"
	shopReplicas = 2
)

func (d *demo) pushGood(ctx context.Context) error {
	if err := change(d.team,
		edit{"shop/app/deployment.yaml", "shop:1.4.0", "shop:1.5.0"},
		edit{"shop/app/shop.properties", "greeting=Welcome", "greeting=Welcome back"},
	); err != nil {
		return err
	}
	out, code, err := d.cli(ctx, "plan", "--path", d.team.Dir, "--source", "team")
	if err != nil {
		return err
	}
	d.command("plumbline plan --path team", out)
	if code != 2 {
		return fmt.Errorf("plumbline plan: exit code %d, want 2 for differences", code)
	}
	message := "Shop 1.5.0, and a warmer welcome"
	d.committed(message)
	j, err := d.deliver(ctx, message, d.team.Push)
	if err != nil {
		return err
	}
	if err := d.shopRuns(ctx); err != nil {
		return err
	}
	d.hold("the commit was Ready %s after the push", short(j.ready.Sub(j.pushed)))
	return nil
}

// shopRuns checks with the cluster what the stack says of itself.
func (d *demo) shopRuns(ctx context.Context) error {
	image, ready, err := d.cluster.shop(ctx)
	if err == nil && (image != shopImage || ready != shopReplicas) {
		err = fmt.Errorf("the stack is Ready, but %d pods run %s", ready, image)
	}
	return err
}

// pusher commits, pushes, and returns the commit.
type pusher func(message string, flags ...string) (string, error)

// deliver pushes, and goes with the commit until it is Ready.
func (d *demo) deliver(ctx context.Context, message string, push pusher) (journey, error) {
	ctx, cancel := within(ctx, "the commit did not become Ready")
	defer cancel()
	j, from, err := d.push(ctx, message, push)
	if err == nil {
		err = d.arrives(ctx, &j, from, shopStack)
	}
	for _, line := range j.stages() {
		d.out.say(plain, "%s", line)
	}
	return j, err
}

// push goes with the commit until something was done about it.
func (d *demo) push(ctx context.Context, message string, push pusher) (j journey, from int, err error) {
	from = len(d.daemon.Records())
	if j.commit, err = push(message); err != nil {
		return j, from, err
	}
	j.pushed = received(d.team)
	from, err = d.follows(ctx, &j, from, shopStack)
	return j, from, err
}

func (d *demo) pushBad(ctx context.Context) error {
	if err := change(d.team,
		edit{"shop/app/deployment.yaml", "shop:1.5.0", "shop:1.6.0"},
		edit{"shop/app/service.yaml", "port: 80,", "port: 80800,"},
	); err != nil {
		return err
	}
	before, err := d.cluster.fingerprints(ctx)
	if err != nil {
		return err
	}
	j, err := d.refused(ctx)
	if err != nil {
		return err
	}
	after, err := d.cluster.fingerprints(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return fmt.Errorf("something of the bad commit was applied: before %q, after %q", before, after)
	}
	if err := d.shopRuns(ctx); err != nil {
		return err
	}
	d.hold("the bad commit was refused %s after the push", short(j.applied.Sub(j.pushed)))
	d.hold("nothing of it was applied: %d pods still run %s", shopReplicas, shopImage)
	return nil
}

// refused pushes what the working tree holds, and shows what is said of it.
func (d *demo) refused(ctx context.Context) (journey, error) {
	ctx, cancel := within(ctx, "the bad commit was not refused")
	defer cancel()
	message := "Shop 1.6.0, on a port that does not exist"
	d.committed(message)
	j, _, err := d.push(ctx, message, d.team.Push)
	if err != nil {
		return j, err
	}
	for _, line := range j.stages() {
		d.out.say(plain, "%s", line)
	}
	if j.run.Text("msg") != "run failed" {
		return j, fmt.Errorf("the bad commit was not refused: %s", counts(j.run))
	}
	if err := d.cluster.eventually(ctx, func() (bool, error) { return d.cluster.stalled(ctx, shopStack, j.commit) }); err != nil {
		return j, err
	}
	out, code, err := d.cli(ctx, "status", shopStack)
	if err != nil {
		return j, err
	}
	d.command("plumbline status "+shopStack, out)
	if code != 2 || !strings.Contains(out, "shop/app/service.yaml") || !strings.Contains(out, "spec.ports[0].port") {
		return j, fmt.Errorf("plumbline status: exit code %d, want 2, and the file and the field in what it says", code)
	}
	return j, nil
}

func (d *demo) revert(ctx context.Context) error {
	d.out.say(bold, "%s$ git revert --no-edit HEAD && git push", indent)
	j, err := d.deliver(ctx, "", func(string, ...string) (string, error) {
		if _, err := d.team.Git("revert", "--no-edit", "HEAD"); err != nil {
			return "", err
		}
		if _, err := d.team.Git("push", "-q", "origin", "HEAD:main"); err != nil {
			return "", err
		}
		return d.team.Git("rev-parse", "HEAD")
	})
	if err != nil {
		return err
	}
	if err := d.everythingIsWell(ctx); err != nil {
		return err
	}
	stacks, err := d.cluster.views(ctx)
	if err != nil {
		return err
	}
	d.show(stacks)
	if err := d.shopRuns(ctx); err != nil {
		return err
	}
	d.hold("all %d stacks are Ready again, %s after the push", len(expected), short(j.ready.Sub(j.pushed)))
	return nil
}
