package secrets_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/secrets"
)

// many is a Secret with references to many paths.
func many(count int) secrets.Object {
	data := map[string]string{}
	for i := range count {
		data[fmt.Sprintf("key%04d", i)] = fmt.Sprintf("${bao:kv/%d#password}", i)
	}
	return secret("many", data)
}

func TestQuestionsAreBounded(t *testing.T) {
	f, c := faking(t, text(200, "application/json", `{"data":{"password":"hunter2-hunter2"}}`))
	b := newBao(t, c)
	if out := resolve(t, b, request(many(200))); len(out.Reads) != 200 {
		t.Errorf("%d were read", len(out.Reads))
	}
	asked := f.requests.Load()
	_, err := secrets.Resolve(t.Context(), b, request(many(201), secret("other", map[string]string{"a": "${bao:kv/0#password}"})))
	if err == nil || !strings.Contains(err.Error(), "has 201 different paths and parameters to read, and 200 are the most") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if !faultOf(t, err) || f.requests.Load() != asked {
		t.Errorf("an input's: %v, asked %d times", faultOf(t, err), f.requests.Load()-asked)
	}
}

// faultOf is what the error says of itself, which its first reference says too.
func faultOf(t *testing.T, err error) bool {
	t.Helper()
	var one *secrets.ReferenceError
	var who interface{ InputFault() bool }
	if !errors.As(err, &one) || !errors.As(err, &who) {
		t.Fatalf("got %v", err)
	}
	if who.InputFault() != one.InputFault() {
		t.Errorf("together %v, the one %v: %v", who.InputFault(), one.InputFault(), err)
	}
	return one.InputFault()
}

// 150 references to nothing are 20 lines, and two questions about the engine: the
// one that had to be asked, and one for the doubt.
func TestReferencesToNothing(t *testing.T) {
	f, c := faking(t, text(404, "application/json", `{"errors":[]}`))
	questions := &atomic.Int64{}
	f.Config.Handler = counted(f.Config.Handler, "/internal/ui/mounts/", questions)
	b := newBao(t, c)
	now := time.Now()
	b.SetNow(func() time.Time { return now })
	for range 3 {
		_, err := secrets.Resolve(t.Context(), b, request(many(150)))
		if err == nil || strings.Count(err.Error(), "\n") != 20 || !strings.HasSuffix(err.Error(), "\nand 130 more") {
			t.Errorf("got %v", err)
		}
		if all := err.(interface{ Unwrap() []error }).Unwrap(); len(all) != 150 {
			t.Errorf("%d errors", len(all))
		}
	}
	if got := questions.Load(); got > 2 {
		t.Errorf("%d questions about the engine", got)
	}
	now = now.Add(2 * time.Minute)
	_ = refused(t, b, "${bao:kv/a#password}")
	_ = refused(t, b, "${bao:kv/a#password}")
	if got := questions.Load(); got != 3 {
		t.Errorf("%d questions, after another doubt", got)
	}
}

func counted(next http.Handler, path string, count *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, path) {
			count.Add(1)
		}
		next.ServeHTTP(w, r)
	})
}

func TestMessagesAreBounded(t *testing.T) {
	long := strings.Repeat("größe", 380)
	o := secret("one", map[string]string{long: "${bao:kv/" + long[:1897] + "#password}"})
	o.Origin = long
	o.SetName(long)
	_, c := faking(t, text(404, "application/json", `{"errors":[]}`))
	_, err := secrets.Resolve(t.Context(), newBao(t, c), request(o))
	if err == nil || len(err.Error()) > 1<<10 || !strings.Contains(err.Error(), ": there is nothing at kv/größe") {
		t.Errorf("%d bytes: %v", len(err.Error()), err)
	}
}

// A commit or a configuration cures the one; for the other, OpenBao is asked again.
func TestWhoseFault(t *testing.T) {
	_, c := faking(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/kv/denied":
			text(403, "application/json", `{"errors":["permission denied"]}`)(w, r)
		case "/v1/kv/broken":
			text(500, "application/json", `{"errors":["internal error"]}`)(w, r)
		case "/v1/kv/web":
			text(200, "application/json", `{"data":{"number":4711}}`)(w, r)
		default:
			text(404, "application/json", `{"errors":[]}`)(w, r)
		}
	})
	b := newBao(t, c)
	noLogin := nowhere(t)
	noLogin.Auth.TokenFile = "/nonexistent"
	config := object(document{"apiVersion": "v1", "kind": "ConfigMap", "metadata": document{"name": "x"}, "data": document{"a": "${bao:kv/web#a}"}})
	for name, test := range map[string]struct {
		b      *secrets.Bao
		object secrets.Object
		want   bool
	}{
		"syntax":         {b, secret("x", map[string]string{"a": "${bao:kv/web}"}), true},
		"misplaced":      {b, secret("x", map[string]string{"${bao:kv/web#a}": "x"}), true},
		"kind":           {b, config, true},
		"not granted":    {b, secret("x", map[string]string{"a": "${bao:other/web#a}"}), true},
		"not configured": {nil, secret("x", map[string]string{"a": "${bao:kv/web#a}"}), true},
		"missing":        {b, secret("x", map[string]string{"a": "${bao:kv/none#a}"}), false},
		"no key":         {b, secret("x", map[string]string{"a": "${bao:kv/web#a}"}), false},
		"a number":       {b, secret("x", map[string]string{"a": "${bao:kv/web#number}"}), false},
		"denied":         {b, secret("x", map[string]string{"a": "${bao:kv/denied#a}"}), false},
		"broken":         {b, secret("x", map[string]string{"a": "${bao:kv/broken#a}"}), false},
		"away":           {newBao(t, nowhere(t)), secret("x", map[string]string{"a": "${bao:kv/web#a}"}), false},
		"no login":       {newBao(t, noLogin), secret("x", map[string]string{"a": "${bao:kv/web#a}"}), false},
	} {
		req := request(test.object)
		req.Allow = []string{"kv/*"}
		_, err := secrets.Resolve(t.Context(), test.b, req)
		if got := faultOf(t, err); got != test.want {
			t.Errorf("%s: %v: %v", name, got, err)
		}
	}
	req := request(secret("x", map[string]string{"a": "${bao:kv/none#a}", "b": "${bao:kv/web}"}))
	_, err := secrets.Resolve(t.Context(), b, req)
	var who interface{ InputFault() bool }
	if !errors.As(err, &who) || !who.InputFault() {
		t.Errorf("both: %v", err)
	}
}

// What begins as a reference may be part of something that was sealed.
func TestMessagesQuoteNoContent(t *testing.T) {
	for text, want := range map[string]string{
		"${bao:kv/web hunter2":                          "${bao:…",
		"x hunter2 ${bao:kv/web#hunter2":                "${bao:kv/web#…",
		"${bao:kv/web#hunter2 ${":                       "${bao:kv/web#…",
		"${bao:kv/web?hunter2=1#a}":                     "${bao:…",
		"${bao:hunter2}":                                "${bao:…",
		"${bao:kv//hunter2#a}":                          "${bao:…",
		"${bao:kv/web#a?hunter2=1}":                     "${bao:kv/web#…",
		"${bao:kv/web#a?version=hunter2}":               "${bao:kv/web#…",
		"${bao:kv/web#a#hunter2}":                       "${bao:kv/web#…",
		"${bao:" + strings.Repeat("hunter2", 99) + "#}": "${bao:…",
	} {
		for where, o := range map[string]secrets.Object{
			"value": secret("x", map[string]string{"a": text}),
			"data":  object(document{"apiVersion": "v1", "kind": "Secret", "metadata": document{"name": "x"}, "data": document{"a": text}}),
		} {
			_, err := secrets.Resolve(t.Context(), nil, request(o))
			var wrong *secrets.ReferenceError
			if !errors.As(err, &wrong) || wrong.Reference != want || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %s: %v", where, text, err)
			}
		}
	}
}

// Of several that ask about one engine, each is told of its own path.
func TestErrorsNameOnesOwnPath(t *testing.T) {
	come, let := make(chan struct{}, 9), make(chan struct{})
	f, c := faking(t, text(200, "application/json", `{}`))
	next := f.Config.Handler
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/internal/ui/mounts/") {
			next.ServeHTTP(w, r)
			return
		}
		come <- struct{}{}
		<-let
		text(500, "application/json", `{"errors":["internal error"]}`)(w, r)
	})
	b := newBao(t, c)
	errs := make(chan error, 1)
	go func() {
		_, err := secrets.Resolve(t.Context(), b, request(secret("x", map[string]string{"a": "${bao:kv/mine#a}"})))
		errs <- err
	}()
	<-come
	other := make(chan error, 1)
	go func() {
		_, err := secrets.Resolve(t.Context(), b, request(secret("x", map[string]string{"a": "${bao:kv/yours#a}"})))
		other <- err
	}()
	until(t, "both wait", func() bool { return secrets.Waiting() >= 2 })
	close(let)
	if err := <-errs; !strings.Contains(err.Error(), "mounts/kv/mine: HTTP 500") {
		t.Errorf("got %v", err)
	}
	if err := <-other; strings.Contains(err.Error(), "mine") || !strings.Contains(err.Error(), "mounts/kv/yours: HTTP 500") {
		t.Errorf("got %v", err)
	}
}

// What OpenBao doesn't say to one, it doesn't say to the others of a trip; with
// Stale, each is tried, for one engine alone may be in trouble.
func TestATripEndsWithTheFirstThatHasNoAnswer(t *testing.T) {
	f, c := faking(t, text(500, "application/json", `{"errors":["internal error"]}`))
	b := newBao(t, c)
	for stale, want := range map[bool]bool{false: true, true: false} {
		f.requests.Store(0)
		req := request(many(50))
		req.Stale = stale
		out, err := secrets.Resolve(t.Context(), b, req)
		if err == nil {
			err = out.Stale
		}
		if got := f.requests.Load(); got < 50 != want || !secrets.Unavailable(err) {
			t.Errorf("stale %v: asked %d times: %v", stale, got, err)
		}
	}
}
