package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// stopTimeout bounds each component's stop: the process ends anyway, and nothing
// is lost when a component is cut off.
const stopTimeout = 2 * time.Second

type upConfig struct {
	dir           string
	nodes         int
	port          int
	dieWithParent bool
}

// up brings the cluster up, prints the path of its kubeconfig, serves until ctx
// ends or a component fails, and takes the cluster down.
func up(ctx context.Context, cfg upConfig, stdout, stderr io.Writer) error {
	start := time.Now()
	dir, err := openLabDir(cfg.dir)
	if err != nil {
		return err
	}
	defer dir.close()
	listener, err := listen(cfg.port)
	if err != nil {
		return err
	}
	if err := redirectLogs(dir, stderr); err != nil {
		return err
	}
	// Not ctx: what runs is stopped one by one, not all at once by the signal.
	components := newSupervisor()
	defer components.stop()
	ctx, unlink := components.failing(ctx)
	defer unlink()

	if err := bringUp(ctx, listener, cfg.nodes, components); err != nil {
		return explain(ctx, err, dir)
	}
	fmt.Fprintf(stderr, "ready after %.1fs, log in %s\n", time.Since(start).Seconds(), dir.file(logName))
	fmt.Fprintln(stdout, dir.file(adminKubeconfig))

	<-ctx.Done()
	fmt.Fprintln(stderr, "stopping")
	return explain(ctx, context.Cause(ctx), dir)
}

// bringUp starts the components, each when what it talks to is there.
func bringUp(ctx context.Context, listener net.Listener, nodes int, components *supervisor) error {
	ca, err := openAuthority()
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	if err := writeKubeconfigs(ca, listener.Addr()); err != nil {
		return err
	}
	stopEtcd, err := startEtcd(ctx)
	if err != nil {
		return err
	}
	components.adopt(stopEtcd)
	components.start("kube-apiserver", func(ctx context.Context) error { return runAPIServer(ctx, listener) })
	admin, err := clientConfig(adminKubeconfig)
	if err != nil {
		return err
	}
	if err := waitReady(ctx, admin); err != nil {
		return err
	}
	components.start("kube-controller-manager", runControllers)
	components.start("kube-scheduler", runScheduler)
	components.start("kwok", runKWOK)
	return furnish(ctx, admin, nodes)
}

func listen(port int) (net.Listener, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is in use, choose another --port or none", port)
	}
	return listener, err
}

// clientConfig reads one of the lab's kubeconfigs. The rate limit of clients is
// off: the API server has a better one.
func clientConfig(file string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// explain turns the end of ctx into the answer of up: nil for an ordinary stop,
// and the end of the log for a failure whose log is about to be removed.
func explain(ctx context.Context, err error, dir *labDir) error {
	var failure componentError
	switch {
	case errors.As(context.Cause(ctx), &failure):
		err = failure
	case ctx.Err() != nil:
		return nil
	}
	if dir.temporary {
		return fmt.Errorf("%w; the end of the log:\n%s", err, dir.logTail(20))
	}
	return fmt.Errorf("%w; see %s", err, dir.file(logName))
}
