package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/plumbline-dev/plumbline/reconciler"
)

type httpClient = *http.Client

func runCommand(io streams) *cobra.Command {
	var file string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Args:  cobra.NoArgs,
		Long: `Follows the sources of plumbline.yaml, and keeps the cluster as they say,
until it is stopped. Of two daemons with the same election, one leads and the
other stands by.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := reconciler.LoadConfig(file)
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			out, err := newSignals(cmd.Context(), slog.NewJSONHandler(io.out, &slog.HandlerOptions{Level: level}))
			if err != nil {
				return err
			}
			defer out.stop(flushPatience)
			return daemon(cmd.Context(), config, out)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "plumbline.yaml", "configuration file")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log runs that changed nothing too")
	return cmd
}

// Lease times of the election: a daemon that dies is replaced within leaseDuration.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 4 * time.Second
)

func daemon(ctx context.Context, config reconciler.Config, out signals) error {
	defer runtime.KeepAlive(tuneCollector())
	leads := &leading{}
	stop, err := serve(ctx, config.Listen, leads, out.metrics)
	if err != nil {
		return err
	}
	defer stop()
	restConfig, err := restConfig(config.Cluster)
	if err != nil {
		return err
	}
	restConfig.Wrap(out.recorder.Transport)
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return fmt.Errorf("make the API client: %w", err)
	}
	for attempt := 0; ; attempt++ {
		err := campaign(ctx, client, config, out, leads)
		if ctx.Err() != nil {
			out.log.Info("stopped")
			return nil
		}
		leads.Store(nil)
		out.log.Error("not leading any more", "error", err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(min(10*time.Second, time.Second<<min(attempt, 4))):
		}
	}
}

// tuneCollector trades a little more work for the collector against a third less
// memory, and returns what has to be kept alive for that.
//
// The live heap of a homelab is some 10 MiB, after every half of which the
// collector would run: a third of all CPU time. The ballast counts as live, and is
// never touched: it takes address space, but no memory.
func tuneCollector() (ballast []byte) {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	debug.SetGCPercent(50)
	return make([]byte, 32<<20)
}

var errLeaseLost = errors.New("the lease was lost: another daemon leads, or the API server was away for too long")

// giveBack returns the memory of a burst of work to the system once it is over: a
// daemon at home is at rest for most of its life.
func giveBack(ctx context.Context, turns func() int64) {
	const rest = 10 * time.Second
	tick := time.NewTicker(rest)
	defer tick.Stop()
	for last, given := int64(0), int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := turns()
		if now == last && now != given {
			debug.FreeOSMemory()
			given = now
		}
		last = now
	}
}

// campaign stands by until it is elected, and leads until that ends. An API
// server that goes away ends it too; the caller stands by again.
func campaign(ctx context.Context, client kubernetes.Interface, config reconciler.Config, out signals, leads *leading) error {
	lock, err := leaseLock(ctx, client, config.Election)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true, Name: config.Election.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				out.log.Info("leading", "identity", lock.Identity())
				ended <- lead(ctx, client, config, out, leads)
				cancel()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("set up the election: %w", err)
	}
	out.log.Info("standing by", "identity", lock.Identity(), "lease", lock.Describe())
	elector.Run(ctx)
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	case <-time.After(renewDeadline): // the loop ends within its requests' time
	}
	return errLeaseLost
}

func lead(ctx context.Context, client kubernetes.Interface, config reconciler.Config, out signals, leads *leading) error {
	mirrors, err := openMirrors(config)
	if err != nil {
		return err
	}
	loop, err := wire(ctx, config, mirrors, reconciler.HashKey, out)
	if err != nil {
		return err
	}
	if err := loop.Cluster.Install(ctx); err != nil {
		return err
	}
	events := newEvents(client.CoreV1().Events(eventsNamespace), out.log)
	defer events.start(ctx)()
	loop.Event = events.tell
	api, err := restConfig(config.Cluster)
	if err != nil {
		return err
	}
	out.recorder.Observe(expiring(loop.Snapshot, certificatesOf(config, api)))
	defer out.recorder.Observe(nil) // whoever leads then tells
	leads.Store(loop)
	go giveBack(ctx, loop.Turns)
	return loop.Run(ctx)
}

// leaseLock makes sure that the Lease's namespace is there, waiting for an API
// server that is not.
func leaseLock(ctx context.Context, client kubernetes.Interface, config reconciler.ElectionConfig) (resourcelock.Interface, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("find out who we are: %w", err)
	}
	if _, err := client.CoreV1().Namespaces().Get(ctx, config.Namespace, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: config.Namespace}}
		_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("make the namespace of the lease (election.namespace): %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("ask the API server: %w", err)
	}
	identity := fmt.Sprintf("%s_%d_%d", host, os.Getpid(), time.Now().UnixNano())
	return resourcelock.New(resourcelock.LeasesResourceLock, config.Namespace, config.Name, client.CoreV1(), client.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: identity})
}
