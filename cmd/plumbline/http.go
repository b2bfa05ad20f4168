package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// leading is the loop of a daemon that leads, and nothing while it stands by.
type leading struct {
	atomic.Pointer[reconciler.Loop]
}

// live is what the API may ask; nil: the daemon stands by.
func (l *leading) live() live {
	if loop := l.Load(); loop != nil {
		return loop
	}
	return nil
}

// serve listens until stop is called.
func serve(ctx context.Context, address string, leads *leading, metrics http.Handler) (stop func(), err error) {
	if address == "off" {
		return func() {}, nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen (set listen to another address, or to off): %w", err)
	}
	server := newServer(pages(leads, metrics))
	go func() { _ = server.Serve(netutil.LimitListener(listener, connectionsAtOnce)) }() // ends with Close
	return func() { _ = server.Close() }, nil
}

// connectionsAtOnce bounds the connections; who comes when there are so many waits.
const connectionsAtOnce = 64

// newServer gives nobody a connection for long: health is asked through one of the
// same few.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, MaxHeaderBytes: 16 << 10, ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 5 * time.Second}
}

// pages answers /healthz (alive), /readyz (leading, and connected), /metrics and
// /api/v1.
func pages(leads *leading, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", finished(metrics))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if leads.live() == nil {
			http.Error(w, "standing by", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "leading")
	})
	mux.Handle("/api/", newAPI(leads.live))
	return mux
}
