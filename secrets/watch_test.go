package secrets_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A watch stands between a client and the server, and knows what was asked.
type watch struct {
	server
	mu    sync.Mutex
	asked []string
	// before is called with each request; what it answers goes no further.
	before func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func watched(t *testing.T, s server) *watch {
	t.Helper()
	to, err := url.Parse(s.address)
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{server: s}
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v1/"))
		before := w.before
		w.mu.Unlock()
		if before == nil || !before(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(front.Close)
	w.server.address = front.URL
	w.server.t = t
	return w
}

// since gives what was asked since it was last called, in order of letters.
func (w *watch) since() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	slices.Sort(asked)
	return asked
}

// intercept sets before.
func (w *watch) intercept(before func(http.ResponseWriter, *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = before
}

// cut makes the server unreachable, and back.
func (w *watch) cut(cut bool) {
	if !cut {
		w.intercept(nil)
		return
	}
	w.intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := rw.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
		return true
	})
}
