package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/reconciler"
)

const (
	indent        = "   "
	shopNamespace = "shop"
	shopName      = "shop" // of its Deployment and its Service
	shopStack     = "team.shop"
	patience      = 90 * time.Second // for anything; what is fast is measured, not demanded
)

// demo is what was started so far, and what was seen.
type demo struct {
	options
	out            *screen
	dir            string
	log            *os.File
	plane          *lab.Plane
	git            *lab.Git
	pipeline, team *lab.Repo
	daemon         *lab.Daemon
	cluster        cluster
	cancel         context.CancelCauseFunc
	held           []string // what was shown to be true
}

// perform goes through the story, and waits for the end of the audience.
func (d *demo) perform(ctx context.Context) error {
	started := time.Now()
	if err := d.prepare(); err != nil {
		return err
	}
	ctx, d.cancel = context.WithCancelCause(ctx)
	d.out.say(bold, "Plumbline: a Kubernetes control plane, two Git repositories, and the daemon between them.")
	d.out.say(dim, "Everything is in %s and goes when this ends. Ctrl-C ends it at any time.", d.dir)
	for i, s := range story {
		d.heading(i+1, s)
		if err := s.do(d, ctx); err != nil {
			d.tail(ctx)
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
	}
	d.summary(time.Since(started))
	if d.once {
		return nil
	}
	d.tryNext()
	err := d.audience(ctx)
	d.tail(ctx)
	return err
}

func (d *demo) heading(n int, s step) {
	d.out.say(plain, "")
	d.out.say(bold, "%d  %s", n, s.title)
	d.out.say(dim, "%s%s", indent, s.look)
}

// prepare finds out what is missing before anything is started.
func (d *demo) prepare() error {
	for _, binary := range []*string{&d.plumbline, &d.lab} {
		if _, err := os.Stat(*binary); err != nil {
			return fmt.Errorf("%s is not there: run \"make demo\", which builds it", *binary)
		}
		absolute, err := filepath.Abs(*binary)
		if err != nil {
			return err
		}
		*binary = absolute
	}
	where, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return fmt.Errorf("git is needed, and can't be run: %w", err)
	}
	if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(where)), "git-http-backend")); err != nil {
		return errors.New("this git has no http-backend, which serves the repositories: install it (Alpine: git-daemon; Fedora: git-core)")
	}
	if d.dir, err = os.MkdirTemp("", "plumbline-demo-"); err != nil {
		return err
	}
	d.log, err = os.Create(filepath.Join(d.dir, "daemon.log"))
	return err
}

// stop ends what was started, the newest first, and removes what was written.
func (d *demo) stop() {
	if d.cancel != nil {
		d.cancel(nil)
	}
	if d.daemon != nil {
		_ = d.daemon.Stop()
	}
	if d.git != nil {
		_ = d.git.Close()
	}
	if d.plane != nil {
		_ = d.plane.Stop()
	}
	if d.log != nil {
		_ = d.log.Close()
	}
	if d.dir != "" {
		if err := os.RemoveAll(d.dir); err != nil {
			fmt.Fprintln(os.Stderr, "plumbline-demo:", err)
		}
	}
}

// within gives something so long, and says what it was if that was not enough.
func within(ctx context.Context, what string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s within %s", what, patience))
}

// cli runs plumbline as a person does; its exit code is no error.
func (d *demo) cli(ctx context.Context, args ...string) (out string, code int, err error) {
	cmd := exec.CommandContext(ctx, d.plumbline, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+d.plane.Kubeconfig)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		err = nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("plumbline %s: %w", args[0], err)
	}
	return string(raw) + stderr.String(), cmd.ProcessState.ExitCode(), nil
}

// committed shows what stands for commit and push.
func (d *demo) committed(message string) {
	d.out.say(bold, "%s$ git commit -am %q && git push", indent, message)
}

// command shows what was run, and what it said.
func (d *demo) command(command, out string) {
	d.out.say(bold, "%s$ %s", indent, command)
	for line := range strings.Lines(out) {
		d.out.say(lineStyle(line), "%s%s", indent, strings.TrimRight(line, "\n"))
	}
}

// lineStyle colours a diff, and nothing else.
func lineStyle(line string) style {
	switch trimmed := strings.TrimSpace(line); {
	case strings.HasPrefix(trimmed, "+ "):
		return green
	case strings.HasPrefix(trimmed, "- "):
		return red
	case strings.HasPrefix(trimmed, "~ "):
		return yellow
	}
	return plain
}

// hold notes what was shown to be true, for the end.
func (d *demo) hold(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.held = append(d.held, text)
	d.out.say(green, indent+"✓ %s", text)
}

// tail shows the end of the daemon's log, unless somebody just stopped us.
func (d *demo) tail(ctx context.Context) {
	if d.daemon == nil || (ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled)) {
		return
	}
	data, _ := os.ReadFile(d.log.Name()) // what can't be read has nothing to tell
	if len(data) == 0 {
		return
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	d.out.say(red, "\nThe end of the daemon's log:")
	for _, line := range lines[max(0, len(lines)-25):] {
		fmt.Fprintln(d.out.w, line)
	}
}

func allReady(stacks []reconciler.StackView, names []string) bool {
	ready := map[string]bool{}
	for _, v := range stacks {
		ready[v.Name] = v.Ready
	}
	for _, name := range names {
		if !ready[name] {
			return false
		}
	}
	return len(stacks) == len(names)
}
