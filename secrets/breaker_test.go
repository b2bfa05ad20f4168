package secrets

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openbao/openbao/api/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// deaf is an OpenBao that takes requests, and answers none, of those that begin so.
type deaf struct {
	path  string
	asked atomic.Int64
	hears atomic.Bool
}

func (d *deaf) RoundTrip(req *http.Request) (*http.Response, error) {
	d.asked.Add(1)
	if strings.HasPrefix(req.URL.Path, "/v1/"+d.path) && !d.hears.Load() {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	body := `{"data":{"password":"hunter2-hunter2"}}`
	switch {
	case strings.HasSuffix(req.URL.Path, "/lookup-self"):
		body = `{"data":{"ttl":0,"creation_ttl":0,"renewable":false}}`
	case strings.Contains(req.URL.Path, "/internal/ui/mounts/"):
		_, path, _ := strings.Cut(req.URL.Path, "/internal/ui/mounts/")
		first, _, _ := strings.Cut(path, "/")
		body = `{"data":{"path":"` + first + `/","type":"kv","options":{"version":"1"}}}`
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

// through is a client that has a way to OpenBao of the test's own.
func through(t *testing.T, way http.RoundTripper) *Bao {
	t.Helper()
	b := alone(t)
	conf := b.client.CloneConfig()
	conf.HttpClient.Transport, conf.HttpClient.Timeout = way, baoTimeout
	client, err := api.NewClient(conf)
	if err != nil {
		t.Fatal(err)
	}
	b.client = client
	b.config.Auth = BaoAuthConfig{Token: func() (string, error) { return "x", nil }}
	return b
}

// references is a request for values, each in an engine of its own or all in one.
func references(stack, engine string, count int) Request {
	data := map[string]any{}
	for i := range count {
		data[fmt.Sprint("key", i)] = fmt.Sprintf("${bao:"+engine+"/%[1]d#password}", i)
	}
	o := Object{Unstructured: &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "stringData": data}}}
	return Request{Stack: stack, Objects: []Object{o}, Allow: []string{"+/*"}}
}

// However many wait for an OpenBao that hangs, they wait once.
func TestAHangingOpenBaoIsWaitedForOnce(t *testing.T) {
	for name, test := range map[string]struct {
		hangs, engine string
		stale, fresh  bool
	}{
		"the login":              {"", "kv", false, false},
		"the login, for people":  {"", "kv", false, true},
		"questions for engines":  {"sys/", "kv%[1]d", false, false},
		"reads":                  {"kv", "kv", false, false},
		"reads of many engines":  {"kv", "kv%[1]d", false, false},
		"reads, what was before": {"kv", "kv", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := through(t, &deaf{path: test.hangs})
				began := time.Now()
				var trips sync.WaitGroup
				for i := range 16 {
					trips.Go(func() {
						req := references(fmt.Sprint("stack", i), test.engine, 20)
						req.Stale, req.Fresh = test.stale, test.fresh
						out, err := Resolve(t.Context(), b, req)
						if test.stale {
							err = out.Stale
						}
						if !Unavailable(err) {
							t.Errorf("got %v", err)
						}
					})
				}
				trips.Wait()
				if took := time.Since(began); took > baoTimeout+time.Second {
					t.Errorf("16 trips took %s", took)
				}
				began = time.Now()
				for i := range 16 { // before the pause is over
					if _, err := Resolve(t.Context(), b, references(fmt.Sprint("stack", i), test.engine, 20)); !Unavailable(err) {
						t.Errorf("got %v", err)
					}
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("16 more took %s", took)
				}
			})
		})
	}
}

// While one knocks, the others don't wait; who knocks in vain makes the pause
// longer; and an answer opens the door for all.
func TestKnocking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := &deaf{}
		b := through(t, way)
		try := func(fresh bool) (took time.Duration, err error) {
			began := time.Now()
			req := references("one", "kv", 20)
			req.Fresh = fresh
			_, err = Resolve(t.Context(), b, req)
			return time.Since(began), err
		}
		wait := func(name string, fresh bool, want time.Duration) {
			t.Helper()
			if took, err := try(fresh); took != want || !Unavailable(err) {
				t.Errorf("%s: %s, %v", name, took, err)
			}
		}
		wait("at first", false, baoTimeout)
		pause := firstPause
		for range 8 {
			wait("in the pause", false, 0)
			time.Sleep(pause - time.Nanosecond)
			asked := way.asked.Load()
			wait("at its end", false, 0)
			if way.asked.Load() > asked {
				t.Error("asked within the pause")
			}
			time.Sleep(time.Nanosecond)
			var knocking sync.WaitGroup
			knocking.Go(func() { wait("who knocks", false, baoTimeout) })
			synctest.Wait()
			wait("who doesn't", false, 0)
			knocking.Wait()
			if got := way.asked.Load() - asked; got != 1 {
				t.Errorf("%d calls were let through", got)
			}
			pause = min(2*pause, longestPause)
		}
		wait("a person", true, baoTimeout)
		way.hears.Store(true)
		wait("still in the pause", false, 0)
		if took, err := try(true); took > 0 || err != nil {
			t.Errorf("a person, when it answers: %s, %v", took, err)
		}
		if took, err := try(false); took > 0 || err != nil {
			t.Errorf("and then everybody: %s, %v", took, err)
		}
		way.hears.Store(false)
		wait("when it hangs again", false, baoTimeout)
		time.Sleep(firstPause)
		way.hears.Store(true)
		if took, err := try(false); took > 0 || err != nil {
			t.Errorf("pauses begin short again: %s, %v", took, err)
		}
	})
}

// An error of one path says nothing about the others, and whoever gives up neither.
func TestTheBreakerStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := through(t, &deaf{path: "kv/0"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Resolve(ctx, b, references("one", "kv", 1)); err == nil {
			t.Error("no error")
		}
		if cause := b.breaker.why(); cause != nil {
			t.Errorf("a trip whose time was over: %v", cause)
		}
		c := call{method: http.MethodGet, path: "kv/0"}
		for _, status := range []int{500, 502, 429, 404, 403} {
			_, err := c.judge(status, nil, nil)
			if b.breaker.heard(t.Context(), err); b.breaker.why() != nil {
				t.Errorf("HTTP %d opened it", status)
			}
		}
		if b.breaker.heard(t.Context(), c.away(t.Context(), &redirectError{status: 307})); b.breaker.why() != nil {
			t.Error("a redirect opened it")
		}
		_, err := c.judge(503, []byte(`{"errors":["Vault is sealed"]}`), nil)
		if b.breaker.heard(t.Context(), err); b.breaker.why() == nil {
			t.Error("sealed, and the breaker is closed")
		}
	})
}
