package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// known is a daemon that leads.
type known struct {
	asked []reconciler.DriftQuery
	drift []reconciler.Drift
	came  chan struct{} // whoever asks, and waits for
	wait  chan struct{}
}

func (k *known) LiveStacks() reconciler.StackList {
	if k.wait != nil {
		k.came <- struct{}{}
		<-k.wait
	}
	return reconciler.StackList{Leading: true, Sources: []reconciler.SourceView{}, Stacks: []reconciler.StackView{{Name: "home.web", Ready: true, Drift: len(k.drift)}}}
}

func (k *known) LiveStack(name string) (reconciler.StackDetail, error) {
	switch name {
	case "home.web":
		return reconciler.StackDetail{Stack: reconciler.StackView{Name: name}}, nil
	case "boom":
		return reconciler.StackDetail{}, errors.New("boom")
	}
	return reconciler.StackDetail{}, &reconciler.NoStackError{Stack: name, There: []string{"home.web"}}
}

func (k *known) LiveDrift(q reconciler.DriftQuery) (reconciler.DriftList, error) {
	k.asked = append(k.asked, q)
	return reconciler.DriftList{Stacks: 1, Drift: k.drift}, nil
}

func get(h http.Handler, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

func TestAPI(t *testing.T) {
	leads := newAPI(func() live { return &known{} })
	standby := newAPI(func() live { return nil })
	for _, test := range []struct {
		name           string
		api            http.Handler
		method, target string
		status         int
		has            string
	}{
		{"the stacks", leads, "GET", "/api/v1/stacks", 200, `{"leading":true,"sources":[],"stacks":[{"name":"home.web","ready":true,`},
		{"their head", leads, "HEAD", "/api/v1/stacks", 200, ""},
		{"one stack", leads, "GET", "/api/v1/stacks/home.web", 200, `{"stack":{"name":"home.web",`},
		{"one that isn't there", leads, "GET", "/api/v1/stacks/home.wbe", 404, `{"error":"no stack \"home.wbe\": there are home.web"}`},
		{"a name with a slash", leads, "GET", "/api/v1/stacks/home%2Fweb", 404, `no stack \"home/web\"`},
		{"a name that is markup", leads, "GET", "/api/v1/stacks/%3Cscript%3E", 404, `no stack \"\u003cscript\u003e\"`},
		{"something is wrong", leads, "GET", "/api/v1/stacks/boom", 500, `{"error":"boom"}`},
		{"drift", leads, "GET", "/api/v1/drift", 200, `{"stacks":1,"drift":null,"more":0}`},
		{"drift, selected", leads, "GET", "/api/v1/drift?stack=home.web&open=true&limit=7", 200, `{"stacks":1,`},
		{"standing by", standby, "GET", "/api/v1/stacks", 503, `{"error":"standing by: `},
		{"standing by, drift", standby, "GET", "/api/v1/drift?open=true", 503, `{"error":"standing by: `},
		{"standing by, and a mistake", standby, "GET", "/api/v1/drift?opne=true", 400, `unknown parameter \"opne\": there are stack, open, limit`},
		{"a method that changes", leads, "POST", "/api/v1/stacks", 405, `{"error":"this API only answers: use GET"}`},
		{"another", leads, "DELETE", "/api/v1/stacks/home.web", 405, `use GET`},
		{"what a browser asks first", leads, "OPTIONS", "/api/v1/drift", 405, `use GET`},
		{"a parameter where there is none", leads, "GET", "/api/v1/stacks?limit=1", 400, `unknown parameter \"limit\": there are none here`},
		{"given twice", leads, "GET", "/api/v1/drift?limit=1&limit=2", 400, `limit: give it once, with a value`},
		{"without a value", leads, "GET", "/api/v1/drift?open", 400, `open: give it once, with a value`},
		{"no truth", leads, "GET", "/api/v1/drift?open=yes", 400, `open: want true or false`},
		{"no number", leads, "GET", "/api/v1/drift?limit=all", 400, `limit: want a number from 1 to 1000`},
		{"too many", leads, "GET", "/api/v1/drift?limit=1001", 400, `limit: want a number from 1 to 1000`},
		{"none", leads, "GET", "/api/v1/drift?limit=0", 400, `limit: want a number from 1 to 1000`},
		{"parameters that can't be read", leads, "GET", "/api/v1/drift?open=%zz", 400, `the parameters can't be read`},
		{"another path", leads, "GET", "/api/v1/secrets", 404, `no such path: there are /api/v1/stacks,`},
		{"another version", leads, "GET", "/api/v2/stacks", 404, `no such path`},
		{"below a path", leads, "GET", "/api/v1/stacks/home.web/objects", 404, `no such path`},
		{"the path with a slash", leads, "GET", "/api/v1/stacks/", 404, `no such path`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := get(test.api, test.method, test.target)
			if got.Code != test.status || !strings.Contains(got.Body.String(), test.has) {
				t.Errorf("%d %s", got.Code, got.Body)
			}
			if !json.Valid(got.Body.Bytes()) {
				t.Errorf("not JSON: %s", got.Body)
			}
			for header, want := range map[string]string{"Content-Type": "application/json; charset=utf-8", "X-Content-Type-Options": "nosniff",
				"Cache-Control": "no-store", "Content-Length": fmt.Sprint(got.Body.Len()), "Access-Control-Allow-Origin": ""} {
				if have := got.Header().Get(header); have != want {
					t.Errorf("%s: %q, want %q", header, have, want)
				}
			}
			if got.Code == 405 && got.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", got.Header().Get("Allow"))
			}
		})
	}
}

func TestAPISelectsDrift(t *testing.T) {
	k := &known{}
	get(newAPI(func() live { return k }), "GET", "/api/v1/drift?stack=home.web&open=true&limit=7")
	get(newAPI(func() live { return k }), "GET", "/api/v1/drift?open=false")
	if diff := cmp.Diff([]reconciler.DriftQuery{{Stack: "home.web", Open: true, Limit: 7}, {}}, k.asked); diff != "" {
		t.Error(diff)
	}
}

// TestAPIEscapes: what somebody called a field in a cluster is no markup, and no
// end of a string.
func TestAPIEscapes(t *testing.T) {
	hostile := "</script><img src=x onerror=alert(1)>\"\\\x1b]0;title\a\u2028\xff"
	k := &known{drift: []reconciler.Drift{{Stack: "home.web", Manager: hostile, Detected: time.Unix(0, 0),
		Fields: []apply.FieldChange{{Path: hostile, Have: hostile, Want: strings.Repeat("<", 1<<20)}}}}}
	got := get(newAPI(func() live { return k }), "GET", "/api/v1/drift").Body.String()
	if strings.ContainsAny(got, "<>\x1b\a\u2028") {
		t.Errorf("unescaped: %.500s", got)
	}
	var back reconciler.DriftList
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatal(err)
	}
	if want := strings.ToValidUTF8(hostile, "\ufffd"); back.Drift[0].Manager != want || back.Drift[0].Fields[0].Path != want || len(back.Drift[0].Fields[0].Want) != 1<<20 {
		t.Errorf("%q", back.Drift[0].Manager)
	}
}

// TestAPIBusy: as many answers as are in memory at once are bounded, and health
// is not asked through them.
func TestAPIBusy(t *testing.T) {
	k := &known{came: make(chan struct{}), wait: make(chan struct{})}
	h := newAPI(func() live { return k })
	done := make(chan int)
	for range answersAtOnce {
		go func() { done <- get(h, "GET", "/api/v1/stacks").Code }()
		<-k.came
	}
	if w := get(h, "GET", "/api/v1/stacks/home.web"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), "busy") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	close(k.wait)
	for range answersAtOnce {
		if code := <-done; code != http.StatusOK {
			t.Errorf("%d", code)
		}
	}
	if w := get(h, "GET", "/api/v1/stacks/home.web"); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

// TestPages: who stands by says so.
func TestPages(t *testing.T) {
	leads := &leading{}
	h := pages(leads, http.NotFoundHandler())
	if w := get(h, "GET", "/readyz"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("standing by: %d", w.Code)
	}
	if w := get(h, "GET", "/api/v1/stacks"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("standing by: %d %s", w.Code, w.Body)
	}
	loop := &reconciler.Loop{Config: reconciler.Config{Sources: []reconciler.SourceConfig{{Name: "home", URL: "https://git.lan/home.git"}}}}
	loop.Init()
	leads.Store(loop)
	if w := get(h, "GET", "/readyz"); w.Code != http.StatusOK {
		t.Errorf("leading: %d", w.Code)
	}
	if w := get(h, "GET", "/api/v1/stacks"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"url":"https://git.lan/home.git"`) {
		t.Errorf("leading: %d %s", w.Code, w.Body)
	}
	if w := get(h, "GET", "/api/v1/drift"); w.Body.String() != "{\"stacks\":0,\"drift\":[],\"more\":0}\n" {
		t.Errorf("%s", w.Body)
	}
}
