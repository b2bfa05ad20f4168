// Package lab starts the real parts around the daemon, for the demo, the
// benchmarks and the end-to-end tests: a Kubernetes control plane, Git
// repositories over HTTP, and the daemon itself as a process of its own.
//
// It is for programs that try Plumbline, and no part of it.
package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Plane is a running control plane: plumbline-lab, as a child process that dies
// with us.
type Plane struct {
	Kubeconfig string // admin
	Plumbline  string // kubeconfig of the user plumbline, whose requests are counted apart
	process    *process
}

// PlaneOptions are the flags of plumbline-lab up; zero values leave its defaults.
type PlaneOptions struct {
	Dir         string
	Nodes, Port int
	Log         io.Writer // what it says on stderr; nil: nowhere
}

// StartPlane starts the plumbline-lab binary, and returns when it is ready.
func StartPlane(ctx context.Context, binary string, o PlaneOptions) (*Plane, error) {
	args := []string{"up", "--die-with-parent"}
	if o.Dir != "" {
		args = append(args, "--dir", o.Dir)
	}
	if o.Nodes > 0 {
		args = append(args, "--nodes", strconv.Itoa(o.Nodes))
	}
	if o.Port > 0 {
		args = append(args, "--port", strconv.Itoa(o.Port))
	}
	var said strings.Builder
	p, out, err := start(ctx, binary, args, nil, io.MultiWriter(&said, orDiscard(o.Log)))
	if err != nil {
		return nil, err
	}
	impatient := context.AfterFunc(ctx, p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if !impatient() {
		<-p.done
		return nil, context.Cause(ctx)
	}
	if err != nil {
		_ = p.stop(time.Minute)
		return nil, fmt.Errorf("the control plane did not start: %s", strings.TrimSpace(said.String()))
	}
	kubeconfig := strings.TrimSpace(line)
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return &Plane{kubeconfig, filepath.Join(filepath.Dir(kubeconfig), "plumbline.kubeconfig"), p}, nil
}

// Stop ends the control plane, and waits for it.
func (p *Plane) Stop() error { return p.process.stop(30 * time.Second) }

// Kill ends it as a power cut would.
func (p *Plane) Kill() { p.process.kill() }

// Ended is closed when the control plane has ended.
func (p *Plane) Ended() <-chan struct{} { return p.process.done }

// PID is its process.
func (p *Plane) PID() int { return p.process.cmd.Process.Pid }

// process is a child that doesn't outlive us: its stdin is a pipe that ends
// with us, for those that watch it.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{}
	err   error
}

func start(ctx context.Context, binary string, args, env []string, stderr io.Writer) (*process, io.Reader, error) {
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, in, err := os.Pipe() // unlike StdoutPipe, it may be read to its end after Wait
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout = in
	detach(cmd)
	p := &process{cmd: cmd, stdin: stdin, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", filepath.Base(binary), err)
	}
	_ = in.Close()
	return p, out, nil
}

// run starts the child and waits for it, on one thread: on Linux, a child dies
// with the thread that started it.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

func (p *process) stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		p.kill()
		return errors.Join(fmt.Errorf("%s did not stop within %s", filepath.Base(p.cmd.Path), patience), p.err)
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = p.stdin.Close()
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
