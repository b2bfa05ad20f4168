package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openbao/openbao/api/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestWhatALeaseNeeds(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	hour := func(n float64) time.Time { return began.Add(time.Duration(n * float64(time.Hour))) }
	renewable := lease{began: began, expires: hour(6), renewable: true}
	fixed := lease{began: began, expires: hour(6)}
	for name, test := range map[string]struct {
		lease       lease
		now         float64
		sessionEnds float64 // 0: never
		want        care
	}{
		"new":                        {renewable, 0, 0, careNone},
		"half gone":                  {renewable, 3, 0, careNone},
		"more than half":             {renewable, 3.1, 0, careRenew},
		"nearly over":                {renewable, 5.9, 0, careRenew},
		"over":                       {renewable, 6, 0, careLost},
		"fixed, half gone":           {fixed, 3.1, 0, careNone},
		"fixed, two thirds gone":     {fixed, 4.1, 0, careRead},
		"fixed, over":                {fixed, 6.1, 0, careLost},
		"session ends later":         {renewable, 3.1, 9, careNone},
		"session ends later, 2/3":    {renewable, 4.1, 9, careRead},
		"session ends before":        {renewable, 1.9, 3, careNone},
		"session ends before, 2/3":   {renewable, 2.1, 3, careRead},
		"session has ended":          {renewable, 3.1, 3, careLost},
		"session ended at beginning": {renewable, 0, 0.000001, careNone},
	} {
		t.Run(name, func(t *testing.T) {
			var ends time.Time
			if test.sessionEnds != 0 {
				ends = hour(test.sessionEnds)
			}
			if got := test.lease.needs(hour(test.now), ends); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// A renewal that gives less than the session had means that its longest is near.
func TestSessionAtItsLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{token: "x", ttl: time.Hour, expires: time.Now().Add(time.Hour), renewable: true}
		time.Sleep(39 * time.Minute)
		if s.due(time.Now()) {
			t.Error("due with more than a third left")
		}
		time.Sleep(2 * time.Minute)
		if !s.due(time.Now()) {
			t.Error("not due with less than a third left")
		}
		s.extend(time.Now(), time.Hour, true)
		if s.due(time.Now()) || !s.canRenew() || !s.lasting().IsZero() {
			t.Error("after a whole renewal, the end is in sight")
		}
		s.extend(time.Now(), 25*time.Minute, true)
		if s.canRenew() || !s.lasting().Equal(time.Now().Add(25*time.Minute)) {
			t.Error("after a short renewal, the end is not in sight")
		}
		time.Sleep(6 * time.Minute)
		if !s.due(time.Now()) {
			t.Error("not due with less than a third of the whole left")
		}
		s.wait(time.Now().Add(patience))
		if s.due(time.Now()) {
			t.Error("due while it is waited")
		}
		time.Sleep(patience)
		if !s.due(time.Now()) {
			t.Error("never due again")
		}
		time.Sleep(20 * time.Minute)
		if s.alive(time.Now()) {
			t.Error("alive after its end")
		}
	})
}

// A token that nobody used for long has ended, and its leases with it.
func TestLeaseOfASessionThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := alone(t)
		s := &session{token: "x", ttl: time.Hour, expires: time.Now().Add(time.Hour), renewable: true}
		l := &lease{began: time.Now(), expires: time.Now().Add(10 * time.Hour), session: s}
		time.Sleep(59 * time.Minute)
		if got := b.leaseNeeds(l); got != careNone {
			t.Errorf("while it lives: %d", got)
		}
		time.Sleep(2 * time.Minute)
		if got := b.leaseNeeds(l); got != careLost {
			t.Errorf("after its end: %d", got)
		}
	})
}

// line is a way to OpenBao on which everybody waits.
type line struct {
	waiting *atomic.Int64
	let     chan struct{}
}

func (l line) RoundTrip(req *http.Request) (*http.Response, error) {
	body := `{"data":{"password":"hunter2-hunter2"}}`
	switch {
	case strings.HasSuffix(req.URL.Path, "/lookup-self"):
		body = `{"data":{"ttl":0,"creation_ttl":0,"renewable":false}}`
	case strings.Contains(req.URL.Path, "/internal/ui/mounts/"):
		body = `{"data":{"path":"kv/","type":"kv","options":{"version":"1"}}}`
	default:
		l.waiting.Add(1)
		<-l.let
		l.waiting.Add(-1)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
}

func TestReadsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := line{&atomic.Int64{}, make(chan struct{})}
		b := alone(t)
		conf := b.client.CloneConfig()
		conf.HttpClient.Transport = l
		client, err := api.NewClient(conf)
		if err != nil {
			t.Fatal(err)
		}
		b.client = client
		b.config.Auth = BaoAuthConfig{Token: func() (string, error) { return "x", nil }}
		data := map[string]any{}
		for _, name := range strings.Split("abcdef", "") {
			data[name] = "${bao:kv/" + name + "#password}"
		}
		o := Object{Unstructured: &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "stringData": data}}}
		done := make(chan error, 1)
		go func() {
			_, err := Resolve(t.Context(), b, Request{Objects: []Object{o}, Allow: []string{"kv/*"}})
			done <- err
		}()
		for _, want := range []int64{4, 4, 4, 3, 2, 1} {
			synctest.Wait()
			if got := l.waiting.Load(); got != want {
				t.Errorf("%d reads at once, want %d", got, want)
			}
			l.let <- struct{}{}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func alone(t *testing.T) *Bao {
	t.Helper()
	b, err := NewBao(BaoConfig{Address: "http://bao.lan", Auth: BaoAuthConfig{TokenFile: "/x"}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestMountsAreBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := alone(t)
		b.mounts["team/kv/"] = mount{path: "team/kv/", kind: "kv", kv: 2, asked: time.Now()}
		for path, want := range map[string]bool{"team/kv/web": true, "team/kv/a/b": true, "team/kv": true, "team/kv2/web": false, "team/web": false, "other/team/kv/web": false} {
			if _, got := b.knownMount(path); got != want {
				t.Errorf("%s: %v", path, got)
			}
		}
		time.Sleep(mountsHold)
		if _, ok := b.knownMount("team/kv/web"); ok {
			t.Error("believed for ever")
		}
	})
}

func TestKeptIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := alone(t)
		keep := func(owner, id string, l *lease) {
			values := map[string]json.RawMessage{"key": json.RawMessage(`"hunter2"`)}
			if _, err := b.keep(place{owner + id, owner}, values, "", l); err != nil {
				t.Fatal(err)
			}
			if string(values["key"]) != "\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
				t.Fatalf("what was sealed is still there: %q", values["key"])
			}
			time.Sleep(time.Second)
		}
		lease := func(d time.Duration) *lease {
			return &lease{began: time.Now(), expires: time.Now().Add(d), session: unending}
		}
		has := func(what string, ids ...string) {
			t.Helper()
			for _, id := range ids {
				if name, gone := strings.CutPrefix(id, "-"); (b.kept[name] == nil) != gone {
					t.Errorf("%s: kept[%s] is there: %t", what, name, gone)
				}
			}
		}
		keep("other", "old", nil)
		keep("mine", "lives", lease(10000*time.Hour))
		keep("mine", "ended", lease(time.Second))
		keep("mine", "first", nil)
		for i := range mostKept - 3 {
			keep("mine", fmt.Sprint(i), nil)
		}
		b.find("minefirst")
		keep("mine", "a", nil)
		has("what has ended goes", "otherold", "minelives", "-mineended", "minefirst", "mine0")
		keep("mine", "b", nil)
		keep("mine", "c", nil)
		has("what was not used for longest goes", "otherold", "minelives", "minefirst", "-mine0", "-mine1", "mine2", "minec")
		for i := range mostKept {
			keep("mine", fmt.Sprint("lease", i), lease(10000*time.Hour))
		}
		has("leases for leases", "otherold", "-minelives", "-minefirst", "minelease0", "minelease255")
		keep("mine", "value", nil)
		has("no value for a lease", "otherold", "minelease0", "-minevalue")
		if len(b.kept) != mostKept+1 {
			t.Errorf("%d are kept", len(b.kept))
		}
		k := b.find("minelease0")
		k.id = "minelease2" // sealed for one name, opened under another
		if _, err := b.open(k); err == nil {
			t.Error("what is kept can be mistaken for something else")
		}
	})
}

func TestUnavailable(t *testing.T) {
	away := &baoAway{call{path: "x"}, errors.New("boom"), false}
	denied := &refusal{call{path: "x"}, 403, ""}
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"nil":            {nil, false},
		"away":           {away, true},
		"wrapped":        {&ReferenceError{Err: &loginError{away}}, true},
		"denied":         {&ReferenceError{Err: denied}, false},
		"login denied":   {&loginError{denied}, false},
		"one of several": {errors.Join(denied, away), true},
	} {
		if got := Unavailable(test.err); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if refusedAs(&loginError{denied}, 403) {
		t.Error("a login that is denied is taken for a path that is")
	}
}
