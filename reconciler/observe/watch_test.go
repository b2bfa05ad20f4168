package observe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
)

func TestWatch(t *testing.T) {
	for name, fault := range map[string]func(string, http.ResponseWriter, *http.Request) bool{"streamed": nil, "listed": noStreams} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			s.hinder(fault)
			s.put("b", "1")
			s.put("a", "1")
			w := observing(t, s.client(t), configMaps, configMaps)
			w.sync()
			w.expect("+a", "+b")

			s.touch("a") // silent
			s.put("b", "2")
			s.put("c", "1")
			s.remove("a")
			s.put("c", "1") // silent
			s.put("a", "2")
			w.expect("~b", "+c", "-a", "+a")

			if got := w.OfStack("grafana"); len(got) != 3 || got[0].Name != "a" || got[2].Name != "c" {
				t.Errorf("entries of the stack: %v", got)
			}
			if entry, ok := w.Get(ID{Kind: "ConfigMap", Namespace: "o11y", Name: "b"}); !ok || entry.ResourceVersion != "104" {
				t.Errorf("got %+v, %v", entry, ok)
			}
			for _, request := range s.asked() {
				if !strings.HasSuffix(request, " /api/v1/configmaps "+StackLabel) {
					t.Errorf("asked for %q", request)
				}
			}
		})
	}
}

func TestWatchResumes(t *testing.T) {
	s := newAPIServer(t)
	s.put("a", "1")
	w := observing(t, s.client(t), configMaps)
	w.expect("+a")
	for cut := 1; cut <= 3; cut++ {
		s.put("b", "1")
		w.expect("+b")
		s.sever()
		s.expectAsked(t, "watch", cut) // else the next event may come before the cut takes effect
		s.remove("b")
		w.expect("-b")
	}
	if got := s.asked(); count(got, "stream") != 1 || count(got, "watch") != 3 {
		t.Errorf("after three cuts it asked for %v", got)
	}
}

func TestWatchRelistsAfterAGap(t *testing.T) {
	for name, fault := range map[string]func(string, http.ResponseWriter, *http.Request) bool{"streamed": nil, "listed": noStreams} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			s.hinder(fault)
			for _, name := range []string{"changed", "deleted", "remade", "same", "touched"} {
				s.put(name, "1")
			}
			w := observing(t, s.client(t), configMaps)
			w.expect("+changed", "+deleted", "+remade", "+same", "+touched")

			s.hinder(func(_ string, rw http.ResponseWriter, _ *http.Request) bool {
				return refuse(rw, http.StatusServiceUnavailable, "ServiceUnavailable", "down")
			})
			s.sever()
			w.expectTrouble("down")
			s.put("changed", "2")
			s.remove("deleted")
			s.remove("remade")
			s.put("remade", "1")
			s.touch("touched")
			s.put("new", "1")
			s.forget()
			s.hinder(fault)
			w.expect("~changed", "-deleted", "+new", "~remade")
			s.put("last", "1")
			w.expect("+last")
		})
	}
}

func TestWatchSurvives(t *testing.T) {
	tests := []struct {
		name, trouble string
		fault         func(verb string, w http.ResponseWriter, r *http.Request) bool
	}{
		{"garbage in a list", "", func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, `]<html>`)
			return true
		}},
		{"garbage in a stream", "unable to decode", func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, `{"type":"ADDED","object":[{"]}`+"\n")
			return true
		}},
		{"an unknown event", "", func(verb string, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, `{"type":"WHAT","object":{"apiVersion":"v1","kind":"ConfigMap"}}`+"\n")
			return true
		}},
		{"another sort of answer", "", func(verb string, w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, `{"kind":"Table","apiVersion":"meta.k8s.io/v1","rows":[]}`+"\n")
			return true
		}},
		{"forbidden", "not for you", func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			return refuse(w, http.StatusForbidden, "Forbidden", "not for you")
		}},
		{"no such kind", "the server could not find", func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			http.NotFound(w, nil)
			return true
		}},
		{"too many requests", "slow down", func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			return refuse(w, http.StatusTooManyRequests, "TooManyRequests", "slow down")
		}},
		{"a stream that ends at once", "closed the stream at once", func(verb string, _ http.ResponseWriter, _ *http.Request) bool { return verb != "list" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newAPIServer(t)
			s.hinder(tt.fault)
			s.put("a", "1")
			w := observing(t, s.client(t), configMaps)
			w.expectTrouble(tt.trouble)
			w.expectTrouble(tt.trouble)
			s.hinder(nil)
			w.expect("+a")
			w.sync()
			s.put("b", "1")
			w.expect("+b")
		})
	}
}

func TestSyncedSaysWhy(t *testing.T) {
	s := newAPIServer(t)
	s.hinder(func(string, http.ResponseWriter, *http.Request) bool { return false })
	release := make(chan struct{})
	s.hinder(func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/api/v1/configmaps") {
			select { // slow
			case <-release:
			case <-r.Context().Done():
			}
			return false
		}
		return refuse(w, http.StatusForbidden, "Forbidden", "not for you")
	})
	secrets := Kind{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, Kind: "Secret"}
	w := observing(t, s.client(t), configMaps, secrets)
	w.expectTrouble("not for you")

	ctx, cancel := context.WithCancelCause(t.Context())
	boom := errors.New("boom")
	cancel(boom)
	err := w.Synced(ctx, secrets.GroupKind(), configMap, schema.GroupKind{Group: "apps", Kind: "Deployment"}, configMap)
	want := "sync ConfigMap: no answer yet: boom\nsync Secret: boom: not for you\nsync Deployment.apps: not watched"
	if err == nil || err.Error() != want || !errors.Is(err, boom) {
		t.Errorf("error %q, want %q", err, want)
	}
	close(release)
	w.Unwatch(secrets.GroupKind())
	w.sync()
}

func TestUnwatch(t *testing.T) {
	s := newAPIServer(t)
	s.put("a", "1")
	w := observing(t, s.client(t))
	for range 20 {
		w.Watch(configMaps)
		w.Unwatch(configMap)
		w.Unwatch(configMap)
	}
	w.Watch(configMaps)
	w.sync()
	if len(w.changes) != 1 {
		t.Errorf("told %d changes, want one", len(w.changes))
	}
	w.expect("+a")
	w.Unwatch(configMap)
	noLeaks(t)
	if got := w.OfStack("grafana"); len(got) != 0 || len(w.Kinds()) != 0 || len(w.stacks) != 0 {
		t.Errorf("after Unwatch there is %v of %v", got, w.Kinds())
	}
	s.put("b", "1")
	w.Watch(configMaps)
	w.expect("+a", "+b")
}

func TestWatchMovesToAnotherVersion(t *testing.T) {
	s := newAPIServer(t)
	s.put("a", "1")
	w := observing(t, s.client(t), configMaps)
	w.sync()
	w.expect("+a")
	v2 := configMaps
	v2.Version = "v2"
	w.Watch(v2)
	if _, ok := w.Get(ID{Kind: "ConfigMap", Namespace: "o11y", Name: "a"}); !ok {
		t.Error("forgotten on the way")
	}
	w.sync()
	s.put("b", "1")
	w.expect("+b")
	if got := s.asked(); !slices.ContainsFunc(got, func(r string) bool { return strings.Contains(r, " /api/v2/configmaps ") }) {
		t.Errorf("asked for %v", got)
	}
}

// Its backoff must not outlive a watch, whatever the server does meanwhile.
func TestWatchStops(t *testing.T) {
	faults := map[string]func(string, http.ResponseWriter, *http.Request) bool{
		"idle":   nil,
		"listed": noStreams,
		"silent": func(_ string, _ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true },
		"silent list": func(verb string, w http.ResponseWriter, r *http.Request) bool {
			if !noStreams(verb, w, r) {
				<-r.Context().Done()
			}
			return true
		},
		"busy": func(_ string, w http.ResponseWriter, _ *http.Request) bool {
			return refuse(w, http.StatusTooManyRequests, "TooManyRequests", "slow down")
		},
		"hanging up": func(string, http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			s.put("a", "1")
			asked := make(chan struct{}, 1000)
			s.hinder(func(verb string, w http.ResponseWriter, r *http.Request) bool {
				asked <- struct{}{}
				return fault != nil && fault(verb, w, r)
			})
			w := observing(t, s.client(t), configMaps)
			<-asked
			w.stop()
			noLeaks(t)
			if err := w.Synced(t.Context(), schema.GroupKind{Kind: "Pod"}); err == nil {
				t.Error("synced a kind that is not watched")
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		s := newAPIServer(t)
		client := s.client(t)
		s.Close()
		w := observing(t, client, configMaps)
		for range 4 {
			w.expectTrouble("connection refused")
		}
		w.stop()
		noLeaks(t)
		if err := w.Synced(t.Context(), configMap); !errors.Is(err, context.Canceled) {
			t.Errorf("synced after the end: %v", err)
		}
	})
}

// client-go's fake can't stream. (It also loses what happens between its list and its watch.)
func TestWatchWithFakeClient(t *testing.T) {
	scheme := runtime.NewScheme()
	client := fake.NewSimpleDynamicClientWithCustomListKinds(scheme, map[schema.GroupVersionResource]string{configMaps.GroupVersionResource: "ConfigMapList"}, seen("a", "1", 5, "x"))
	w := observing(t, client, configMaps)
	w.sync()
	w.expect("+a")
}

// Readers, writers and the watch at once, for the race detector.
func TestConcurrently(t *testing.T) {
	s := newAPIServer(t)
	w := observing(t, s.client(t), configMaps)
	const n = 200
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range n {
			w.OfStack("grafana")
			w.Get(ID{Kind: "ConfigMap", Namespace: "o11y", Name: "a"})
			w.Kinds()
		}
	}()
	for i := range n {
		obj := s.put("a", time.Duration(i).String())
		if seen := w.Saw(&unstructured.Unstructured{Object: obj}); i%2 == 0 {
			if got, ok := w.Get(seen.ID); ok && older(got.ResourceVersion, seen.ResourceVersion) {
				t.Errorf("wrote %s, read %s", seen.ResourceVersion, got.ResourceVersion)
			}
		}
	}
	<-done
	s.put("b", "1")
	for {
		select {
		case c := <-w.changes:
			if c.Entry.Name == "b" {
				return
			}
		case <-time.After(patience):
			t.Fatal("the last change was not told")
		}
	}
}
