package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/hashicorp/go-retryablehttp"
)

const (
	maxRedirects  = 5
	maxErrorBody  = 1 << 10
	maxSecretFile = 64 << 10
	adContent     = "application/x-git-upload-pack-advertisement"
	packContent   = "application/x-git-upload-pack-result"
)

// openHTTP makes the chain: go-git (redirects, credentials) → guard (bounds, content types) → retries → the network.
// Redirects are followed by go-git alone, which drops credentials when the origin changes, refuses https to http, and
// follows none for the pack itself.
func (m *Mirrors) openHTTP(s Source, ses *session) error {
	pool, err := m.pool(s)
	if err != nil {
		return err
	}
	auth, err := basicAuth(s.Auth, ses)
	if err != nil {
		return err
	}
	g := &guard{next: &retryablehttp.RoundTripper{Client: m.retries(pool)}, limit: ses.limit,
		origin: originOf(ses.remote.host, strconv.Itoa(ses.remote.port), ses.remote.scheme), egress: egress{loopback: ses.remote.loopback()}, proxy: pool.Proxy}
	ses.status = func() httpStatus { return *g.last.Load() }
	g.last.Store(&httpStatus{})
	client := githttp.NewClient(&http.Client{Transport: g, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("%w: more than %d redirects", ErrProtocol, maxRedirects)
		}
		return nil
	}})
	if auth == nil {
		ses.git, err = client.NewUploadPackSession(ses.remote.endpoint(), nil)
	} else {
		ses.git, err = client.NewUploadPackSession(ses.remote.endpoint(), auth)
	}
	return err
}

func (m *Mirrors) retries(pool *http.Transport) *retryablehttp.Client {
	c := &retryablehttp.Client{
		HTTPClient: &http.Client{Transport: pool, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		RetryMax:   orDefault(m.Retries, 3), RetryWaitMin: orDefault(m.RetryWait, 500*time.Millisecond),
		RetryWaitMax: orDefault(m.MaxRetryWait, 10*time.Second),
		Backoff:      retryablehttp.DefaultBackoff, ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	c.RetryMax = max(c.RetryMax, 0)
	c.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if errors.As(err, new(errEgress)) {
			return false, err
		}
		if err != nil || ctx.Err() != nil {
			return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
		}
		if resp.StatusCode != http.StatusTooManyRequests && (resp.StatusCode < 500 || resp.StatusCode == http.StatusNotImplemented) {
			return false, nil
		}
		return retryAfter(resp) <= c.RetryWaitMax, nil // longer than that is the caller's patience
	}
	return c
}

func retryAfter(resp *http.Response) time.Duration {
	v := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 1<<20)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

// guard bounds every answer while it is read, and remembers what the server said last.
type guard struct {
	next  http.RoundTripper
	limit int64
	last  atomic.Pointer[httpStatus]

	origin string // host:port of the source
	egress egress // of requests to others
	proxy  func(*http.Request) (*url.URL, error)
}

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	g.last.Store(&httpStatus{})
	to := req.URL
	req, err := g.follow(req)
	var resp *http.Response
	if err == nil {
		resp, err = g.next.RoundTrip(req)
	}
	if err != nil {
		if why := refused(to, err); why != nil {
			g.last.Store(&httpStatus{err: why})
			return nil, why
		}
		return nil, err
	}
	st := httpStatus{code: resp.StatusCode, wait: retryAfter(resp), host: req.URL.Host}
	g.last.Store(&st)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxErrorBody), resp.Body}
		return resp, nil
	}
	want, limit := adContent, int64(maxListing)
	if req.Method == http.MethodPost {
		want, limit = packContent, g.limit
	}
	if got, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); strings.TrimSpace(got) != want {
		resp.Body.Close()
		st.err = withHint(fmt.Errorf("%w: the server answered with %q instead of Git's smart protocol", ErrProtocol, printable(got, 100)),
			"is the url that of a Git repository, and not a web or login page?")
		return nil, st.err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: limit, limit: limit}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left, limit int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, withHint(fmt.Errorf("%w: the answer exceeds %s", ErrTooLarge, formatBytes(b.limit)), "raise maxBytes if the repository is meant to be that large")
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		n, err = n-1, nil // the next Read says why
	}
	return n, err
}

// httpStatus is what an HTTP server answered last; code is 0 when there was no answer.
type httpStatus struct {
	code int
	wait time.Duration
	host string
	err  error // of the guard, which go-git does not hand on
}

// explain returns nil when the status does not explain anything.
func (h httpStatus) explain(s *session, text string) error {
	origin := h.host
	moved := origin != "" && origin != s.remote.endpointHost()
	switch {
	case h.err != nil:
		return h.err
	case h.code == http.StatusUnauthorized || h.code == http.StatusForbidden:
		hint := "check the files in auth, and what they may access"
		if moved {
			hint = "the server redirected to " + printable(origin, 200) + ", where credentials are not sent; write that host into the url if you trust it"
		}
		return withHint(fmt.Errorf("%w: HTTP %d: %s", ErrAuth, h.code, text), "%s", hint)
	case h.code == http.StatusNotFound || h.code == http.StatusGone:
		return withHint(fmt.Errorf("%w: HTTP %d: %s", ErrNotFound, h.code, text), "check the url; servers also say this when the credentials may not see the repository")
	case h.code == http.StatusTooManyRequests || h.code >= 500:
		after := ""
		if h.wait > 0 {
			after = fmt.Sprintf(", asking to come back in %s", h.wait.Round(time.Second))
		}
		return fmt.Errorf("%w: HTTP %d%s", ErrUnavailable, h.code, after)
	case h.code >= 300:
		return fmt.Errorf("%w: HTTP %d: %s", ErrProtocol, h.code, text)
	}
	return certificate(text)
}

// endpointHost is host:port as a request to it has it.
func (r remote) endpointHost() string {
	_, host, _ := strings.Cut(remote{host: r.host, port: r.port}.String(), "://")
	return host
}

// certificate recognises TLS failures by text, as go-git does not keep the chain.
func certificate(text string) error {
	if !strings.Contains(text, "x509:") && !strings.Contains(text, "tls:") {
		return nil
	}
	return withHint(fmt.Errorf("%w: %s", ErrTLS, text), "put the authority that signed it into auth.caFile")
}

// pool returns the connections for a source. They are kept while the content of its CA file stays the same.
func (m *Mirrors) pool(s Source) (*http.Transport, error) {
	var pem []byte
	if s.Auth.CAFile != "" {
		var err error
		if pem, err = readFile(s.Auth.CAFile, 1<<20); err != nil {
			return nil, fmt.Errorf("%w: auth.caFile: %w", ErrInvalid, err)
		}
	}
	key := poolKey{s.Name, s.URL, sha256.Sum256(pem)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.pools[key]; ok {
		return t, nil
	}
	t, err := m.newPool(s, pem)
	if err != nil {
		return nil, err
	}
	for k, old := range m.pools {
		if k.source == s.Name {
			old.CloseIdleConnections()
			delete(m.pools, k)
		}
	}
	if m.pools == nil {
		m.pools = map[poolKey]*http.Transport{}
	}
	m.pools[key] = t
	return t, nil
}

type poolKey struct {
	source string
	url    string // or connections to an earlier one would be used for redirects of this one, unchecked
	ca     [sha256.Size]byte
}

func (m *Mirrors) newPool(s Source, pem []byte) (*http.Transport, error) {
	var t *http.Transport
	if m.Transport != nil {
		t = m.Transport.Clone()
		if t.DialTLSContext != nil {
			t.DialTLSContext = checked(t.DialTLSContext)
		}
	} else {
		t = http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost, t.ResponseHeaderTimeout = 2, time.Minute
		t.DialContext = nil
	}
	if t.DialContext == nil {
		t.DialContext = dialer()
	} else {
		t.DialContext = checked(t.DialContext)
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if pem == nil {
		return t, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: auth.caFile: %s holds no PEM certificate", ErrInvalid, s.Auth.CAFile)
	}
	t.TLSClientConfig.RootCAs = roots
	return t, nil
}

// basicAuth reads the credentials, and notes all their spellings for redaction.
func basicAuth(a Auth, ses *session) (*githttp.BasicAuth, error) {
	file, field, user := a.TokenFile, "auth.tokenFile", "x-access-token"
	if a.PasswordFile != "" {
		file, field = a.PasswordFile, "auth.passwordFile"
	}
	if file == "" {
		return nil, nil
	}
	if a.Username != "" {
		user = a.Username
	}
	secret, err := readSecret(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, field, err)
	}
	ses.secrets = append(ses.secrets, base64.StdEncoding.EncodeToString([]byte(user+":"+secret)),
		base64.StdEncoding.EncodeToString([]byte(secret)), secret, url.QueryEscape(secret), url.PathEscape(secret))
	return &githttp.BasicAuth{Username: user, Password: secret}, nil
}

// readSecret reads a credential of one line.
func readSecret(file string) (string, error) {
	data, err := readFile(file, maxSecretFile)
	if err != nil {
		return "", err
	}
	data = bytes.TrimRight(data, "\r\n")
	if len(data) == 0 {
		return "", fmt.Errorf("%s is empty", file)
	}
	if bytes.ContainsAny(data, "\r\n\x00") {
		return "", fmt.Errorf("%s holds more than one line", file)
	}
	return string(data), nil
}

func readFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errors.New(file + " is larger than " + formatBytes(limit))
	}
	return data, err
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
