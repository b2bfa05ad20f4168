package fetch_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// canary is the secret of all tests: it must be in no error.
const canary = "c4n4ry/+sEcReT?&=%"

func assertNoSecret(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v\n%+v\n%#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		text += "\n" + fmt.Sprintf("%+v %#v", e, e)
	}
	for _, s := range []string{canary, "c4n4ry", base64.StdEncoding.EncodeToString([]byte("x-access-token:" + canary))} {
		if strings.Contains(text, s) {
			t.Errorf("the error holds the secret %q: %s", s, text)
		}
	}
}

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// protected asks for the canary, and echoes what it got when it is wrong, as careless servers do.
func protected(user string) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			u, p, _ := r.BasicAuth()
			if u != user || p != canary {
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprintf(w, "no access for %s %q with %s", u, p, r.Header.Get("Authorization"))
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

func TestBasicAuth(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	token, wrong := writeFile(t, "token", canary+"\n"), writeFile(t, "wrong", canary+"-old\n")
	for name, tc := range map[string]struct {
		auth fetch.Auth
		user string
		err  error
	}{
		"token":             {fetch.Auth{TokenFile: token}, "x-access-token", nil},
		"token and user":    {fetch.Auth{TokenFile: token, Username: "me"}, "me", nil},
		"password":          {fetch.Auth{Username: "me", PasswordFile: token}, "me", nil},
		"wrong token":       {fetch.Auth{TokenFile: wrong}, "x-access-token", fetch.ErrAuth},
		"no token":          {fetch.Auth{}, "x-access-token", fetch.ErrAuth},
		"file is missing":   {fetch.Auth{TokenFile: "/does/not/exist"}, "x-access-token", fetch.ErrInvalid},
		"file is empty":     {fetch.Auth{TokenFile: writeFile(t, "e", "\n")}, "x-access-token", fetch.ErrInvalid},
		"file of two lines": {fetch.Auth{TokenFile: writeFile(t, "m", canary+"\n"+canary)}, "x-access-token", fetch.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			src := r.source(r.serve(protected(tc.user)))
			src.Auth = tc.auth
			_, err := newMirrors(t).Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if tc.err != nil && fetch.Retryable(err) {
				t.Errorf("%v is said to be retryable", err)
			}
			assertNoSecret(t, err)
		})
	}
}

func TestTokenIsReadAtEachUse(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	src, m := r.source(r.serve(protected("x-access-token"))), newMirrors(t)
	src.Auth.TokenFile = writeFile(t, "token", "old")
	if _, err := m.Fetch(context.Background(), src); !errors.Is(err, fetch.ErrAuth) {
		t.Fatalf("error %v, want ErrAuth", err)
	}
	if err := os.WriteFile(src.Auth.TokenFile, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	mustFetch(t, m, src)
}

func TestTLS(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	srv := httptest.NewTLSServer(protected("x-access-token")(r.handler()))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(srv.Close)
	ca := writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	token := writeFile(t, "token", canary)
	m := newMirrors(t)
	for _, tc := range []struct {
		name, ca string
		err      error
	}{
		{"its CA", ca, nil},
		{"system CAs only", "", fetch.ErrTLS}, // after the first: no connection of another CA is reused
		{"not a CA", token, fetch.ErrInvalid},
		{"its CA again", ca, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := r.source(srv)
			src.Auth = fetch.Auth{TokenFile: token, CAFile: tc.ca}
			_, err := m.Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) || tc.err != nil && fetch.Retryable(err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			assertNoSecret(t, err)
		})
	}
}

func TestRetries(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	answer := func(code int, retryAfter string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(code)
		}
	}
	cut := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	for name, tc := range map[string]struct {
		method   string
		first    http.HandlerFunc
		times    int64
		err      error
		requests int64
	}{
		"503 then listing":         {http.MethodGet, answer(503, ""), 2, nil, 3},
		"503 then pack":            {http.MethodPost, answer(503, "0"), 2, nil, 3},
		"429 then pack":            {http.MethodPost, answer(429, "0"), 1, nil, 2},
		"cut connection":           {http.MethodPost, cut, 1, nil, 2},
		"503 for good":             {http.MethodGet, answer(503, ""), 99, fetch.ErrUnavailable, 4},
		"429 asks for an hour":     {http.MethodGet, answer(429, "3600"), 99, fetch.ErrUnavailable, 1},
		"501 is not tried again":   {http.MethodGet, answer(501, ""), 99, fetch.ErrUnavailable, 1},
		"418 is not tried again":   {http.MethodGet, answer(418, ""), 99, fetch.ErrProtocol, 1},
		"connection refused often": {http.MethodGet, cut, 99, fetch.ErrUnavailable, 4},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			srv := r.serve(func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if req.Method == tc.method && n.Add(1) <= tc.times {
						tc.first(w, req)
						return
					}
					h.ServeHTTP(w, req)
				})
			})
			_, err := newMirrors(t).Fetch(context.Background(), r.source(srv))
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if n.Load() != tc.requests {
				t.Errorf("%d requests, want %d", n.Load(), tc.requests)
			}
		})
	}
}

func TestRedirects(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	token := writeFile(t, "token", canary)
	var leaked atomic.Value
	other := r.serve(func(h http.Handler) http.Handler { // another origin: another port
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "" {
				leaked.Store(req.URL.Path)
			}
			h.ServeHTTP(w, req)
		})
	})
	asks := httptest.NewServer(protected("x-access-token")(r.handler()))
	t.Cleanup(asks.Close)
	to := func(url string) func(http.Handler) http.Handler {
		return func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				http.Redirect(w, req, url+req.URL.RequestURI(), http.StatusFound)
			})
		}
	}
	for name, tc := range map[string]struct {
		wrap func(http.Handler) http.Handler
		err  error
		says string
	}{
		"to another host":           {to(other.URL), nil, ""},
		"to another host that asks": {to(asks.URL), fetch.ErrAuth, strings.TrimPrefix(asks.URL, "http://")},
		"in circles":                {to(""), fetch.ErrProtocol, "redirects"},
		"to another scheme":         {to("ftp://example.org"), fetch.ErrProtocol, ""},
		"within the host, with the token": {func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.URL.Path, "/old/") || req.URL.Path == "/remote.git/info/refs" && req.Header.Get("X-Seen") == "" && req.URL.Query().Get("moved") == "" {
					u := *req.URL
					q := u.Query()
					q.Set("moved", "1")
					u.RawQuery = q.Encode()
					http.Redirect(w, req, u.RequestURI(), http.StatusMovedPermanently)
					return
				}
				protected("x-access-token")(h).ServeHTTP(w, req)
			})
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			src := r.source(r.serve(tc.wrap))
			src.Auth.TokenFile = token
			_, err := newMirrors(t).Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if tc.says != "" && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %q does not say %q", err, tc.says)
			}
			assertNoSecret(t, err)
		})
	}
	if p := leaked.Load(); p != nil {
		t.Errorf("another host got the credentials with %s", p)
	}

	t.Run("https to http", func(t *testing.T) {
		srv := httptest.NewTLSServer(to(other.URL)(nil))
		t.Cleanup(srv.Close)
		src := r.source(srv)
		src.Auth = fetch.Auth{TokenFile: token, CAFile: writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))}
		_, err := newMirrors(t).Fetch(context.Background(), src)
		if !errors.Is(err, fetch.ErrProtocol) {
			t.Errorf("error %v, want ErrProtocol", err)
		}
		assertNoSecret(t, err)
	})
}

func pkt(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }

func TestHostileAnswers(t *testing.T) {
	r := newRepo(t)
	first := r.commit("first", "a", "1")
	listing := func(lines ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			body := pkt("# service=git-upload-pack\n") + "0000"
			for _, l := range lines {
				body += pkt(l)
			}
			fmt.Fprint(w, body+"0000")
		}
	}
	result := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			fmt.Fprint(w, body)
		}
	}
	endless := func(contentType string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", contentType)
			fmt.Fprint(w, pkt("# service=git-upload-pack\n")+"0000"+pkt(first+" HEAD\x00ofs-delta\n"))
			line := pkt(first + " refs/heads/" + strings.Repeat("x", 900) + "\n")
			for req.Context().Err() == nil {
				if _, err := fmt.Fprint(w, line); err != nil {
					return
				}
			}
		}
	}
	pack := pkt("NAK\n") + "PACK\x00\x00\x00\x02\xff\xff\xff\xff"
	for name, tc := range map[string]struct {
		list, pack http.HandlerFunc
		ref        fetch.Ref
		err        error
	}{
		"a web page": {list: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>sign in</html>") }, err: fetch.ErrProtocol},
		"garbage":    {list: listing("zzz"), err: fetch.ErrProtocol},
		"names that leave refs": {
			list: listing(first+" refs/heads/../../config\x00symref=HEAD:refs/heads/../../config ofs-delta\n", first+" refs/heads/ok\n"), err: fetch.ErrRefNotFound,
		},
		"a branch that is none": {list: listing(first + " refs/heads/..\x00ofs-delta\n"), ref: fetch.Ref{Branch: "main"}, err: fetch.ErrRefNotFound},
		"a tag with a terminal escape": {
			list: listing(first + " refs/tags/v1.0.0\x1b[2J\x00ofs-delta\n"), ref: fetch.Ref{Semver: "*"}, err: fetch.ErrRefNotFound,
		},
		"an endless listing":       {list: endless("application/x-git-upload-pack-advertisement"), err: fetch.ErrTooLarge},
		"a pack that is none":      {pack: result(pkt("NAK\n") + "KCAP"), err: fetch.ErrProtocol},
		"a pack of 4 G objects":    {pack: result(pack), err: fetch.ErrProtocol},
		"a pack that ends early":   {pack: result(pkt("NAK\n") + "PACK\x00\x00\x00\x02\x00\x00\x00\x01\x91"), err: fetch.ErrProtocol},
		"no pack":                  {pack: result(""), err: fetch.ErrUnavailable},
		"an answer that is no ACK": {pack: result(pkt("what?\n")), err: fetch.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			srv := r.serve(func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					switch {
					case req.Method == http.MethodPost && tc.pack != nil:
						tc.pack(w, req)
					case req.Method == http.MethodGet && tc.list != nil:
						tc.list(w, req)
					case tc.pack != nil: // without side-band, so that the answers above can be written plainly
						listing(first+" HEAD\x00symref=HEAD:refs/heads/main ofs-delta\n", first+" refs/heads/main\n")(w, req)
					default:
						h.ServeHTTP(w, req)
					}
				})
			})
			src := r.source(srv)
			src.Ref = tc.ref
			m := newMirrors(t)
			_, err := m.Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\n\x00") {
				t.Errorf("error %q holds control characters", err)
			}
			if left, _ := os.ReadDir(m.Dir); len(left) != 0 {
				t.Errorf("a failed clone left %v", left)
			}
		})
	}
}

func TestBudgetAndTimeout(t *testing.T) {
	r := newRepo(t)
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i>>5)
	}
	r.commit("first", "a", string(noise))
	t.Run("pack above MaxBytes", func(t *testing.T) {
		src := r.source(r.serve(nil))
		src.MaxBytes = 1000
		_, err := newMirrors(t).Fetch(context.Background(), src)
		if !errors.Is(err, fetch.ErrTooLarge) || !strings.Contains(err.Error(), "maxBytes") || fetch.Retryable(err) {
			t.Errorf("error %v, want ErrTooLarge", err)
		}
	})
	t.Run("file pack above MaxBytes", func(t *testing.T) {
		src := r.fileSource()
		src.MaxBytes = 1000
		if _, err := newMirrors(t).Fetch(context.Background(), src); !errors.Is(err, fetch.ErrTooLarge) {
			t.Errorf("error %v, want ErrTooLarge", err)
		}
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run("slow "+method, func(t *testing.T) {
			src := r.source(r.serve(func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					if req.Method != method {
						h.ServeHTTP(w, req)
						return
					}
					kind := map[string]string{http.MethodGet: "advertisement", http.MethodPost: "result"}[method]
					w.Header().Set("Content-Type", "application/x-git-upload-pack-"+kind)
					w.WriteHeader(http.StatusOK)
					w.(http.Flusher).Flush()
					<-req.Context().Done()
				})
			}))
			src.Timeout = 300 * time.Millisecond
			_, err := newMirrors(t).Fetch(context.Background(), src)
			if !errors.Is(err, context.DeadlineExceeded) || !fetch.Retryable(err) {
				t.Errorf("error %v, want DeadlineExceeded, retryable", err)
			}
		})
	}
}
