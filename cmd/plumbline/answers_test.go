package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// pipes is a listener without a network: nothing is read but by who reads it.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.close.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// ask asks, and leaves the answer unread.
func (p *pipes) ask(path string) net.Conn {
	mine, its := net.Pipe()
	p.conns <- its
	fmt.Fprintf(mine, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
	return mine
}

// status reads the answer to a question.
func (p *pipes) status(t *testing.T, path string) int {
	t.Helper()
	conn := p.ask(path)
	defer conn.Close()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Error(err)
	}
	return answer.StatusCode
}

// TestAPISlowReaders: who doesn't read takes no turn from who does, no more memory
// than there is for them all, and no connection for long.
func TestAPISlowReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &known{drift: []reconciler.Drift{{Manager: strings.Repeat("m", unreadBytes/4)}}}
		registry := prometheus.NewRegistry()
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "g", Help: strings.Repeat("h", 1<<20)}, func() float64 { return 1 }))
		mux := http.NewServeMux()
		mux.Handle("/api/", newAPI(func() live { return k }))
		mux.Handle("/metrics", finished(promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})))
		listener := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := newServer(mux)
		go func() { _ = server.Serve(listener) }()
		defer server.Close()

		for range answersAtOnce {
			defer listener.ask("/api/v1/stacks").Close()
			defer listener.ask("/metrics").Close()
		}
		for range 3 {
			defer listener.ask("/api/v1/drift").Close()
			synctest.Wait()
		}
		for path, want := range map[string]int{"/api/v1/stacks": 200, "/api/v1/drift": 503, "/metrics": 200} {
			if got := listener.status(t, path); got != want {
				t.Errorf("%s beside slow readers: %d, want %d", path, got, want)
			}
		}
		time.Sleep(writePatience + time.Second)
		if got := listener.status(t, "/api/v1/drift"); got != 200 {
			t.Errorf("when they were given up: %d", got)
		}
	})
}

// TestHTTPConnections: there are so many and no more, and a place that is free is
// given to who waits.
func TestHTTPConnections(t *testing.T) {
	address := freeAddress(t)
	stop, err := serve(t.Context(), address, &leading{}, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var first net.Conn
	for range connectionsAtOnce {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		first = conn
	}
	last, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	fmt.Fprint(last, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	_ = last.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := last.Read(make([]byte, 1)); err == nil {
		t.Fatal("it is answered")
	}
	first.Close()
	_ = last.SetReadDeadline(time.Now().Add(4 * time.Second))
	if _, err := last.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
