package secrets_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumbline-dev/plumbline/secrets"
)

// held answers reads when it is let, and says when one has come.
func held(t *testing.T) (f *fake, c secrets.BaoConfig, come, let chan struct{}) {
	t.Helper()
	come, let = make(chan struct{}, 99), make(chan struct{})
	f, c = faking(t, func(w http.ResponseWriter, r *http.Request) {
		come <- struct{}{}
		select {
		case <-let:
			text(200, "application/json", `{"data":{"password":"hunter2-hunter2"}}`)(w, r)
		case <-r.Context().Done():
		}
	})
	return f, c, come, let
}

// Trips that want the same at the same time share one read, each with grants of
// its own.
func TestTripsShareReads(t *testing.T) {
	f, c, come, let := held(t)
	b := newBao(t, c)
	trip := func(source string) (secrets.Resolved, error) {
		req := request(secret("one", map[string]string{"key": "${bao:kv/web#password}"}))
		req.Source = source
		if source == "stranger" {
			req.Allow = []string{"kv/other"}
		}
		return secrets.Resolve(t.Context(), b, req)
	}
	var trips sync.WaitGroup
	for _, source := range []string{"a", "b", "c", "d"} {
		trips.Go(func() {
			out, err := trip(source)
			if err != nil || field(t, out.Objects[0], "stringData", "key") != "hunter2-hunter2" {
				t.Errorf("%s: %v", source, err)
			}
		})
	}
	<-come
	if _, err := trip("stranger"); err == nil || !strings.Contains(err.Error(), `source "stranger" may not read kv/web`) {
		t.Errorf("a source without the grant: %v", err)
	}
	until(t, "all wait for the one", func() bool { return secrets.Waiting() >= 4 })
	close(let)
	trips.Wait()
	if got := f.requests.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

// Whoever began a read may give up without taking others along.
func TestGivingUpAlone(t *testing.T) {
	f, c, come, let := held(t)
	b := newBao(t, c)
	first, giveUp := context.WithCancel(t.Context())
	var trips sync.WaitGroup
	trips.Go(func() {
		if _, err := secrets.Resolve(first, b, request(secret("one", map[string]string{"key": "${bao:kv/web#password}"}))); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	<-come
	trips.Go(func() {
		if got := value(t, b, "${bao:kv/web#password}"); got != "hunter2-hunter2" {
			t.Errorf("got %q", got)
		}
	})
	until(t, "the other waits too", func() bool { return secrets.Waiting() >= 2 })
	giveUp()
	until(t, "the other asks for itself", func() bool { return len(come) > 0 })
	close(let)
	trips.Wait()
	if got := f.requests.Load(); got != 2 {
		t.Errorf("asked %d times", got)
	}
}

// Many stacks at once, on the real server: each value arrives where it belongs.
func TestManyTrips(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	creds, _ := s.rabbitmq("1h")
	names := strings.Split("abcdef", "")
	for _, name := range names {
		s.do("POST", kv+"/data/"+name, document{"data": document{"password": "password-" + name}})
	}
	w := watched(t, s)
	b := w.client()
	users := make([]string, 20)
	var trips sync.WaitGroup
	for i := range users {
		trips.Go(func() {
			data := map[string]string{"user": "${bao:" + creds + "#username}"}
			for _, name := range names {
				data[name] = "${bao:" + kv + "/" + name + "#password}"
			}
			req := request(secret("one", data))
			req.Stack = "stack" + string(rune('a'+i))
			out, err := secrets.Resolve(t.Context(), b, req)
			if err != nil {
				t.Error(err)
				return
			}
			for _, name := range names {
				if got := field(t, out.Objects[0], "stringData", name); got != "password-"+name {
					t.Errorf("%s: %q", name, got)
				}
			}
			users[i] = field(t, out.Objects[0], "stringData", "user")
		})
	}
	trips.Wait()
	slices.Sort(users)
	if got := len(slices.Compact(users)); got != 20 {
		t.Errorf("20 stacks have %d users", got)
	}
	logins := slices.DeleteFunc(w.since(), func(path string) bool { return path != "GET auth/token/lookup-self" })
	if len(logins) != 1 {
		t.Errorf("logged in %d times", len(logins))
	}
}
