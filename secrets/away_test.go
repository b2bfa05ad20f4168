package secrets_test

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

func TestSealed(t *testing.T) {
	s, bao := ownServer(t)
	s.do("POST", "secret/data/web", document{"data": document{"password": "hunter2-hunter2"}})
	b := s.client()
	reference := "${bao:secret/web#password}"
	out := resolve(t, b, request(secret("one", map[string]string{"key": reference})))
	s.do("PUT", "sys/seal", nil)
	for name, b := range map[string]*secrets.Bao{"logged in": b, "new": s.client()} {
		if err := refused(t, b, reference); !secrets.Unavailable(err) || !strings.Contains(err.Error(), "OpenBao is sealed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	found, failed := b.Moved(t.Context(), out.Reads)
	if len(found) > 0 || len(failed) != 1 {
		t.Errorf("Moved gave %v, %v", found, failed)
	}
	s.do("PUT", "sys/unseal", document{"key": bao.UnsealKey})
	until(t, "it is unsealed", func() bool {
		status, _ := s.try("GET", "secret/data/web", nil)
		return status == http.StatusOK
	})
	answered(t, b)
	if got := value(t, b, reference); got != "hunter2-hunter2" {
		t.Errorf("got %q", got)
	}
}

// answered waits until a client has noticed that somebody answers again.
func answered(t *testing.T, b *secrets.Bao) {
	t.Helper()
	until(t, "the client knocks", func() bool {
		_, err := secrets.Resolve(t.Context(), b, request(secret("none", map[string]string{"a": "${bao:none/none#none}"})))
		return !secrets.Unavailable(err)
	})
}

// Without OpenBao, with Stale: what was read last, and nothing in place of what
// never was.
func TestStale(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	creds, _ := s.rabbitmq("1h")
	s.do("POST", kv+"/data/a", document{"data": document{"password": "hunter2-hunter2"}})
	s.do("POST", kv+"/data/b", document{"data": document{"password": "another-hunter2"}})
	w := watched(t, s)
	b := w.client()
	known := secret("known", map[string]string{"key": "${bao:" + kv + "/a#password}", "user": "${bao:" + creds + "#username}"})
	never := secret("never", map[string]string{"key": "${bao:" + kv + "/b#password}", "other": "${bao:" + kv + "/a#password}"})
	plain := secret("plain", map[string]string{"key": "text"})
	before := resolve(t, b, request(known, plain))
	if before.Stale != nil {
		t.Fatal(before.Stale)
	}

	w.cut(true)
	req := request(known, never, plain)
	if _, err := secrets.Resolve(t.Context(), b, req); !secrets.Unavailable(err) {
		t.Errorf("without Stale: %v", err)
	}
	for _, fresh := range []bool{false, true} {
		req.Stale, req.Fresh = true, fresh
		out := resolve(t, b, req)
		if !secrets.Unavailable(out.Stale) || !strings.Contains(out.Stale.Error(), kv+"/a") || strings.Contains(out.Stale.Error(), "hunter2") {
			t.Errorf("got %v", out.Stale)
		}
		if diff := cmp.Diff(before.Objects, out.Objects); diff != "" {
			t.Errorf("fresh %v: %s", fresh, diff)
		}
		if len(out.Unresolved) != 1 || out.Unresolved[0].GetName() != "never" || field(t, out.Unresolved[0], "stringData", "key") != "${bao:"+kv+"/b#password}" {
			t.Errorf("unresolved: %v", out.Unresolved)
		}
		want := maps.Clone(before.Reads)
		want[secrets.Read{Source: "home", Stack: "grafana", Path: kv + "/b", Keys: "password"}] = "" // tried, and not answered
		if diff := cmp.Diff(want, out.Reads); diff != "" {
			t.Error(diff)
		}
		if !req.Redactor.Leaf("key", "hunter2-hunter2") {
			t.Error("a value that was kept is not known to the redactor")
		}
	}
	ungranted := req
	ungranted.Allow = []string{kv + "/b"}
	if _, err := secrets.Resolve(t.Context(), b, ungranted); err == nil || !strings.Contains(err.Error(), "may not read "+kv+"/a") {
		t.Errorf("what is kept needs no grant: %v", err)
	}
	other := req
	other.Source = "other"
	if out := resolve(t, b, other); len(out.Objects) != 1 {
		t.Errorf("another source got the lease: %v", out.Objects)
	}

	w.cut(false)
	answered(t, b)
	req.Fresh = false
	out := resolve(t, b, req)
	if out.Stale != nil || len(out.Unresolved) > 0 || len(out.Objects) != 3 {
		t.Errorf("when it is back: %+v", out)
	}
	s.do("DELETE", kv+"/data/a", nil)
	out = resolve(t, b, req)
	if out.Stale == nil || !strings.Contains(out.Stale.Error(), "version 1 of "+kv+"/a was deleted") || secrets.Unavailable(out.Stale) || len(out.Objects) != 3 {
		t.Errorf("what OpenBao has no longer stays as it was, and is said: %+v", out)
	}
	req.Stale = false
	if _, err := secrets.Resolve(t.Context(), b, req); err == nil || !strings.Contains(err.Error(), "version 1 of "+kv+"/a was deleted") {
		t.Errorf("what OpenBao has no longer is not applied anew: %v", err)
	}
}

// A fake is for what the real server never does.
type fake struct {
	*httptest.Server
	requests atomic.Int64
}

// faking answers logins as OpenBao does, and leaves the rest to answer.
func faking(t *testing.T, answer http.HandlerFunc) (*fake, secrets.BaoConfig) {
	t.Helper()
	f := &fake{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/lookup-self"):
			_, _ = w.Write([]byte(`{"data":{"ttl":0,"creation_ttl":0,"renewable":false}}`))
		case strings.Contains(r.URL.Path, "/internal/ui/mounts/"):
			_, _ = w.Write([]byte(`{"data":{"path":"kv/","type":"kv","accessor":"kv_1","options":{"version":"1"}}}`))
		default:
			f.requests.Add(1)
			answer(w, r)
		}
	}))
	t.Cleanup(f.Close)
	c := nowhere(t)
	c.Address = f.URL
	return f, c
}

func text(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestStrangeAnswers(t *testing.T) {
	long := `{"data":{"password":"` + strings.Repeat("hunter2-", 5<<17) + `"}}`
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
		known  bool // that the reference is to blame
	}{
		"HTML":           {text(200, "text/html", "<html>hunter2</html>"), "something that is not OpenBao's JSON (HTTP 200, 20 bytes)", false},
		"HTML, denied":   {text(403, "text/html", "<html>hunter2</html>"), "something that is not OpenBao's JSON (HTTP 403", false},
		"garbage":        {text(200, "application/json", "hunter2\x00\xff"), "something that is not OpenBao's JSON", false},
		"other JSON":     {text(200, "application/json", `["hunter2"]`), "something that is not OpenBao's JSON", false},
		"truncated JSON": {text(200, "application/json", `{"data":{"password":"hunter2`), "something that is not OpenBao's JSON", false},
		"two answers":    {text(200, "application/json", `{"data":{}}{"data":{"password":"hunter2"}}`), "something that is not OpenBao's JSON", false},
		"nothing":        {text(204, "application/json", ""), "there is nothing at kv/web", true},
		"5 MB":           {text(200, "application/json", long), "answered with more than 2 MiB", true},
		"5 MB, an error": {text(400, "application/json", long), "answered with more than 2 MiB", true},
		"denied":         {text(403, "application/json", `{"errors":["permission denied"]}`), "permission denied", true},
		"wordy":          {text(400, "application/json", `{"errors":["1 error occurred:\n\t* no\u0007 \u202e`+strings.Repeat("x", 999)+`"]}`), "HTTP 400: no ?xxx", true},
		"internal error": {text(500, "application/json", `{"errors":["internal error"]}`), "HTTP 500: internal error", false},
		"proxy's error":  {text(502, "text/html", "<html>hunter2</html>"), "something that is not OpenBao's JSON (HTTP 502", false},
		"too busy":       {text(429, "application/json", `{"errors":["request path: rate limit quota exceeded"]}`), "rate limit quota exceeded", false},
		"standby":        {text(503, "application/json", `{"errors":["node is standby"]}`), "standby", false},
		"not made":       {text(501, "application/json", `{"errors":["unsupported"]}`), "HTTP 501", true},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99")
			_, _ = w.Write([]byte(`{"data":{"password":"hunter2`))
		}, "the connection was cut", false},
		"not HTTP": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte("hunter2 hunter2 hunter2\r\n\r\n"))
				_ = conn.Close()
			}
		}, "answered with something that is not HTTP", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := faking(t, test.answer)
			err := refused(t, newBao(t, c), "${bao:kv/web#password}")
			if !strings.Contains(err.Error(), test.want) || secrets.Unavailable(err) == test.known {
				t.Errorf("unavailable: %v: %v", secrets.Unavailable(err), err)
			}
			if strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x07\u202e\n") {
				t.Errorf("the answer is in the error: %v", err)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var visits atomic.Int64
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
		t.Cleanup(other.Close)
		f, c := faking(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", strings.Replace(other.URL, "http://", "http://hunter2:hunter2@", 1)+"/v1/kv/hunter2")
			w.WriteHeader(status)
		})
		c.Retries = 2
		err := refused(t, newBao(t, c), "${bao:kv/web#password}")
		if !secrets.Unavailable(err) || !strings.Contains(err.Error(), `"`+other.URL+`", which is not followed`) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%d: %v", status, err)
		}
		if visits.Load() > 0 || f.requests.Load() != 1 {
			t.Errorf("%d: the other host was asked %d times, the first %d", status, visits.Load(), f.requests.Load())
		}
	}
}

// A login sends more than a token, and is not sent on either.
func TestLoginIsNotRedirected(t *testing.T) {
	var visits atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visits.Add(1) }))
	t.Cleanup(other.Close)
	front := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(front.Close)
	c := secrets.BaoConfig{Address: front.URL, Auth: secrets.BaoAuthConfig{Userpass: &secrets.UserpassConfig{Username: "me", PasswordFile: tokenFile(t, "hunter2")}}}
	if err := refused(t, newBao(t, c), "${bao:kv/web#password}"); !secrets.Unavailable(err) || visits.Load() > 0 {
		t.Errorf("%d visits: %v", visits.Load(), err)
	}
}

func TestRetries(t *testing.T) {
	const fine = `{"data":{"password":"hunter2-hunter2"}}`
	for name, test := range map[string]struct {
		status int
		want   int64
	}{"internal error": {500, 3}, "sealed": {503, 3}, "too busy": {429, 3}, "not made": {501, 1}, "wrong": {400, 1}, "nothing": {404, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c := faking(t, text(test.status, "application/json", `{"errors":["no"]}`))
			c.Retries = 2
			_ = refused(t, newBao(t, c), "${bao:kv/web#password}")
			if got := f.requests.Load(); got != test.want {
				t.Errorf("asked %d times", got)
			}
		})
	}
	t.Run("at last", func(t *testing.T) {
		t.Parallel()
		var f *fake
		var c secrets.BaoConfig
		f, c = faking(t, func(w http.ResponseWriter, r *http.Request) {
			if f.requests.Load() < 3 {
				text(503, "application/json", `{"errors":["OpenBao is sealed"]}`)(w, r)
				return
			}
			text(200, "application/json", fine)(w, r)
		})
		c.Retries = 2
		if got := value(t, newBao(t, c), "${bao:kv/web#password}"); got != "hunter2-hunter2" {
			t.Errorf("got %q", got)
		}
	})
}

func TestBackOff(t *testing.T) {
	busy := &http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}}
	for name, test := range map[string]struct {
		attempt     int
		resp        *http.Response
		least, most time.Duration
	}{
		"first":         {0, nil, 250 * time.Millisecond, 313 * time.Millisecond},
		"second":        {1, nil, 500 * time.Millisecond, 626 * time.Millisecond},
		"late":          {60, nil, 2 * time.Second, 2501 * time.Millisecond},
		"as asked for":  {0, busy, 5 * time.Second, 6251 * time.Millisecond},
		"not asked for": {0, &http.Response{StatusCode: 500}, 250 * time.Millisecond, 313 * time.Millisecond},
	} {
		if got := secrets.BackOff(test.attempt, test.resp); got < test.least || got > test.most {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A slow answer ends with the request's time, and is not asked for again: it might
// be a lease each time.
func TestSlow(t *testing.T) {
	for name, begin := range map[string]string{"says nothing": "", "says too little": `{"data":`} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{}, 9)
			f, c := faking(t, func(w http.ResponseWriter, r *http.Request) {
				if begin != "" {
					_, _ = w.Write([]byte(begin))
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
				gone <- struct{}{}
			})
			c.Timeout, c.Retries = 50*time.Millisecond, 2
			err := refused(t, newBao(t, c), "${bao:kv/web#password}")
			if !secrets.Unavailable(err) {
				t.Errorf("got %v", err)
			}
			<-gone
			if f.requests.Load() != 1 {
				t.Errorf("asked %d times", f.requests.Load())
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	asked := make(chan struct{})
	_, c := faking(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	errBoom := errors.New("superseded")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-asked; cancel(errBoom) }()
	req := request(secret("one", map[string]string{"key": "${bao:kv/web#password}"}))
	req.Stale = true
	_, err := secrets.Resolve(ctx, newBao(t, c), req)
	if !errors.Is(err, errBoom) || secrets.Unavailable(err) {
		t.Errorf("got %v", err)
	}
}

// With OpenBao away, a stack with many references says so once.
func TestAwayIsSaidOnce(t *testing.T) {
	req := request(secret("one", map[string]string{"a": "${bao:kv/a#x}", "b": "${bao:kv/b#x}", "c": "${bao:other/c#x}"}))
	for name, c := range map[string]secrets.BaoConfig{
		"away":     nowhere(t),
		"no login": {Address: "http://127.0.0.1:1", Auth: secrets.BaoAuthConfig{TokenFile: "/nonexistent"}},
	} {
		_, err := secrets.Resolve(t.Context(), newBao(t, c), req)
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasSuffix(err.Error(), "(and so for 2 more)") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A certificate that is not trusted is not tried again.
func TestUntrustedIsNotRetried(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	c := nowhere(t)
	c.Address, c.Retries = server.URL, 2
	if err := refused(t, newBao(t, c), "${bao:kv/web#password}"); !secrets.Unavailable(err) || connections.Load() != 1 {
		t.Errorf("%d connections: %v", connections.Load(), err)
	}
}
