package fetch_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

func redirectTo(base string) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, base+q.URL.RequestURI(), http.StatusFound)
		})
	}
}

// A server on this machine may redirect within it, but not to metadata services.
func TestRedirectToLinkLocal(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	for _, host := range []string{
		"169.254.169.254", "169.254.1.1:8080", "[fe80::1]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "100.100.100.200",
	} {
		_, err := newMirrors(t).Fetch(context.Background(), r.source(r.serve(redirectTo("http://"+host))))
		if !errors.Is(err, fetch.ErrProtocol) || fetch.Retryable(err) || !strings.Contains(err.Error(), "redirected to "+host) {
			t.Errorf("%s: error %v, want ErrProtocol that names the host", host, err)
		}
	}
}

// elsewhere is a network in which names of example.org are servers of this test, and all else is real.
func elsewhere(m *fetch.Mirrors, names map[string]*httptest.Server) {
	m.Transport = &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if srv, ok := names[address]; ok {
			address = srv.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
}

func TestRedirectToThisMachine(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	var asked atomic.Int64
	victim := r.serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { asked.Add(1); h.ServeHTTP(w, q) })
	})
	_, port, _ := net.SplitHostPort(victim.Listener.Addr().String())
	for name, base := range map[string]string{
		"by address":     victim.URL,
		"by name":        "http://localhost:" + port,
		"unspecified":    "http://0.0.0.0:" + port,
		"of version 6":   "http://[::1]:" + port,
		"mapped":         "http://[::ffff:127.0.0.1]:" + port,
		"name of theirs": "http://evil.example.org",
	} {
		t.Run(name, func(t *testing.T) {
			m, src := newMirrors(t), r.source(victim)
			elsewhere(m, map[string]*httptest.Server{"git.example.org:80": r.serve(redirectTo(base)), "evil.example.org:80": victim})
			src.URL = "http://git.example.org/remote.git"
			_, err := m.Fetch(context.Background(), src)
			if !errors.Is(err, fetch.ErrProtocol) || fetch.Retryable(err) || !strings.Contains(err.Error(), "redirected to") {
				t.Errorf("error %v, want ErrProtocol", err)
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests came through", n)
	}
	t.Run("no redirect", func(t *testing.T) { // a name in /etc/hosts, say
		m, src := newMirrors(t), r.source(victim)
		elsewhere(m, map[string]*httptest.Server{"git.example.org:80": victim})
		src.URL = "http://git.example.org/remote.git"
		mustFetch(t, m, src)
	})
}

// What a proxy connects to is up to the proxy, which may be local itself; hosts that are written as addresses are not.
func TestRedirectBehindAProxy(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	var target string
	proxy := r.serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if strings.HasPrefix(q.RequestURI, "http://git.example.org/") {
				http.Redirect(w, q, target+q.URL.Path+"?"+q.URL.RawQuery, http.StatusFound)
				return
			}
			h.ServeHTTP(w, q)
		})
	})
	via, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	src := r.source(proxy)
	src.URL = "http://git.example.org/remote.git"
	for base, want := range map[string]error{"http://other.example.org": nil, "http://169.254.169.254": fetch.ErrProtocol} {
		target = base
		m := newMirrors(t)
		m.Transport = &http.Transport{Proxy: http.ProxyURL(via)}
		if _, err := m.Fetch(context.Background(), src); !errors.Is(err, want) {
			t.Errorf("to %s: error %v, want %v", base, err, want)
		}
	}
}

func TestDialAfterRedirectChecksBeforeItConnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(came)
				return
			}
			conn.Close()
			came <- struct{}{}
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if conn, err := fetch.DialRedirected(context.Background(), net.JoinHostPort(host, port)); err == nil {
			conn.Close()
			t.Errorf("connected to %s", host)
		} else if !strings.Contains(err.Error(), "redirected to") {
			t.Errorf("%s: error %v", host, err)
		}
	}
	l.Close()
	if _, ok := <-came; ok {
		t.Error("a connection came through")
	}
}
