package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// mountsHold is how long it is believed that a mount is what it was.
const mountsHold = 5 * time.Minute

// doubtsHold is how long it isn't doubted again.
const doubtsHold = time.Minute

// mount is a secrets engine, where it is enabled.
type mount struct {
	path  string // with the slash at its end
	kind  string
	kv    int // version; 0: not KV
	asked time.Time
}

// question is one read of OpenBao: all references that ask it share the answer.
type question struct {
	path    string
	version int
	params  string
}

func (q question) query() map[string][]string { return Reference{Version: q.version}.query() }

// shared does something once for all who ask for it at the same time. Whoever
// began may give up; then another begins again.
func shared[T any](ctx context.Context, b *Bao, key string, do func() (T, error)) (T, error) {
	for {
		var began atomic.Bool
		done := b.flights.DoChan(key, func() (any, error) {
			began.Store(true)
			out, err := unbroken(key, do)
			if err != nil && ctx.Err() != nil {
				err = &abandoned{err}
			}
			return out, err
		})
		select {
		case result := <-done:
			var left *abandoned
			if errors.As(result.Err, &left) && !began.Load() && ctx.Err() == nil {
				continue
			}
			out, _ := result.Val.(T)
			return out, result.Err
		case <-ctx.Done():
			if began.Load() {
				<-done // it has the same context, and leaves nothing behind
			}
			var none T
			return none, call{method: http.MethodGet, path: key}.away(ctx, ctx.Err())
		}
	}
}

// unbroken turns a panic into an error: nobody else would catch it. What it says
// may quote a value, so it isn't kept.
func unbroken[T any](what string, do func() (T, error)) (out T, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("%s: panicked", what)
		}
	}()
	return do()
}

// abandoned is the error of whoever gave up, and of nobody else.
type abandoned struct{ error }

func (e *abandoned) Unwrap() error { return e.error }

// mountOf finds the engine of a path, as the bao command does.
func (b *Bao) mountOf(ctx context.Context, path string) (mount, error) {
	if m, ok := b.knownMount(path); ok {
		return m, nil
	}
	type found struct {
		asked string
		mount mount
	}
	// Of several paths with one beginning, one asks: mostly, the others are in the same engine.
	first, _, _ := strings.Cut(path, "/")
	got, err := shared(ctx, b, "mount of "+first, func() (found, error) {
		m, err := b.askMount(ctx, path)
		return found{path, m}, err
	})
	if Unavailable(err) {
		return mount{}, asked(err, mountCall(path)) // the other may be of another source
	}
	if got.asked == path || ctx.Err() != nil || err == nil && strings.HasPrefix(path+"/", got.mount.path) {
		return got.mount, err
	}
	return b.askMount(ctx, path)
}

func mountCall(path string) call {
	return call{method: http.MethodGet, path: "sys/internal/ui/mounts/" + path}
}

func (b *Bao) knownMount(path string) (mount, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, r := range path + "/" { // engines are never within each other
		if r != '/' {
			continue
		}
		if m, ok := b.mounts[path[:i]+"/"]; ok && b.now().Sub(m.asked) < mountsHold {
			return m, true
		}
	}
	return mount{}, false
}

func (b *Bao) askMount(ctx context.Context, path string) (mount, error) {
	got, _, err := b.do(ctx, mountCall(path))
	defer got.wipe()
	if refusedAs(err, http.StatusForbidden) {
		return mount{}, fmt.Errorf("%w (or there is no secrets engine)", err)
	}
	if err != nil {
		return mount{}, err
	}
	m := mount{path: plainText(got.Data["path"]), kind: plainText(got.Data["type"]), asked: b.now()}
	var options map[string]string
	_ = json.Unmarshal(got.Data["options"], &options) // null, for most
	switch {
	case strings.HasPrefix(plainText(got.Data["accessor"]), "auth_"), !strings.HasPrefix(path+"/", m.path), m.path == "",
		slices.Contains([]string{"system", "identity", "cubbyhole", "token"}, strings.TrimPrefix(m.kind, "ns_")):
		return mount{}, fmt.Errorf("%s is in no secrets engine", path)
	case m.kind == "kv" && options["version"] == "2":
		m.kv = 2
	case m.kind == "kv", m.kind == "generic":
		m.kv = 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mounts[m.path] = m
	return m, nil
}

// doubtMount forgets a mount, which may have been made anew as something else. It
// does so now and then: mostly there is just nothing.
func (b *Bao) doubtMount(m mount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.now(); now.Sub(b.doubted[m.path]) >= doubtsHold {
		b.doubted[m.path] = now
		delete(b.mounts, m.path)
	}
}

// plainText is a string in JSON; "" for anything else.
func plainText(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // then it is ""
	return s
}

// read asks one question. What it gives is sealed: the callers that share it open
// it each for themselves.
func (b *Bao) read(ctx context.Context, m mount, at place, q question) (*kept, error) {
	k, err := b.readFrom(ctx, m, at, q)
	if none := (*nothingError)(nil); errors.As(err, &none) {
		b.doubtMount(m)
	}
	return k, err
}

// nothingError is that nothing is at a path, as far as an engine of the kind that
// is known here would say so.
type nothingError struct{ text string }

func (e *nothingError) Error() string { return e.text }

func nothing(format string, args ...any) error { return &nothingError{fmt.Sprintf(format, args...)} }

func (b *Bao) readFrom(ctx context.Context, m mount, at place, q question) (*kept, error) {
	rest := strings.TrimPrefix(q.path+"/", m.path)
	rest = strings.TrimSuffix(rest, "/")
	issues := m.kind == "pki" && isIssue(rest)
	switch {
	case rest == "":
		return nil, fmt.Errorf("%s is the whole of a secrets engine: name what is in it", q.path)
	case q.params != "" && !issues:
		return nil, fmt.Errorf("only certificates, at issue/ROLE of a pki engine, have parameters, and %s is of %s", q.path, m.kind)
	case q.version > 0 && m.kv != 2:
		return nil, fmt.Errorf("%s is not in KV version 2: nothing else has versions", q.path)
	case m.kv == 2:
		return b.readKV2(ctx, m.path+"data/"+rest, at, q)
	}
	c := call{method: http.MethodGet, path: q.path}
	if issues {
		c.method, c.body = http.MethodPut, splitParams(q.params)
	}
	got, s, err := b.do(ctx, c)
	defer got.wipe()
	switch {
	case refusedAs(err, http.StatusNotFound):
		return nil, nothing("there is nothing at %s", q.path)
	case refusedAs(err, http.StatusMethodNotAllowed):
		return nil, nothing("there is nothing to be read at %s of the %s engine", q.path, m.kind)
	case err != nil:
		return nil, err
	case len(got.Data) == 0:
		return nil, nothing("there is nothing at %s", q.path)
	}
	l := b.leaseOf(got, s, issues)
	if l == nil {
		return b.keep(at, got.Data, "", nil)
	}
	return b.keep(at, got.Data, b.leaseVersion(l, got), l)
}

// isIssue knows the two paths of a PKI engine that make a certificate and a key.
func isIssue(rest string) bool {
	return covers("issue/+", rest) || covers("issuer/+/issue/+", rest)
}

func (b *Bao) leaseVersion(l *lease, got *answer) Version {
	name := []string{l.id}
	if l.id == "" {
		name = append(name, string(got.Data["serial_number"]), string(got.Data["expiration"]))
	}
	return Version(fmt.Sprintf("%s%x", versionLease, b.hashes.Sum("lease", name...)[:8]))
}

// stamp is what KV v2 knows of a version.
type stamp struct {
	Version   int    `json:"version"`
	Created   string `json:"created_time"`
	Deleted   string `json:"deletion_time"`
	Destroyed bool   `json:"destroyed"`
}

// gone says why there is nothing in a version; "" where there is. A time to come
// is when it will be deleted.
func (s stamp) gone(now time.Time) string {
	deleted, err := time.Parse(time.RFC3339Nano, s.Deleted)
	switch {
	case s.Destroyed:
		return "was destroyed"
	case s.Deleted != "" && (err != nil || !deleted.After(now)):
		return "was deleted"
	}
	return ""
}

// is names a version. A secret that was deleted with all its versions begins at 1
// again, so when it was written belongs to it.
func (s stamp) is() Version {
	return Version(versionKV2 + strconv.Itoa(s.Version) + "@" + s.Created)
}

func (b *Bao) readKV2(ctx context.Context, path string, at place, q question) (*kept, error) {
	c := call{method: http.MethodGet, path: path, query: q.query()}
	got, _, err := b.do(ctx, c)
	defer got.wipe()
	if err != nil && !refusedAs(err, http.StatusNotFound) {
		return nil, err
	}
	var about stamp
	if len(got.Data) > 0 && json.Unmarshal(got.Data["metadata"], &about) != nil {
		return nil, &baoAway{c, errors.New("answered with something else than KV version 2 does"), false}
	}
	switch {
	case about.Version == 0 && q.version > 0:
		return nil, nothing("there is no version %d of %s", q.version, q.path)
	case about.Version == 0 && strings.Contains(path, "/data/data/"):
		return nil, nothing("there is nothing at %s: write it without data/", q.path)
	case about.Version == 0:
		return nil, nothing("there is nothing at %s", q.path)
	case about.gone(b.now()) != "":
		return nil, fmt.Errorf("version %d of %s %s", about.Version, q.path, about.gone(b.now()))
	}
	var values map[string]json.RawMessage
	if data := got.Data["data"]; json.Unmarshal(data, &values) != nil || bytes.Equal(data, []byte("null")) {
		return nil, fmt.Errorf("version %d of %s holds nothing", about.Version, q.path)
	}
	return b.keep(at, values, about.is(), nil)
}
