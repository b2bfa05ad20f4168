package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// stackServer has one source and some stacks, and can be stopped and started again.
type stackServer struct {
	t       *testing.T
	address string
	server  *http.Server

	mu      sync.Mutex
	reasons map[string]string
	moved   chan struct{}
	version int
}

func (s *stackServer) start() {
	s.t.Helper()
	var listener net.Listener
	var err error
	if listener, err = (&net.ListenConfig{}).Listen(s.t.Context(), "tcp", s.address); err != nil {
		s.t.Fatal(err)
	}
	s.address = listener.Addr().String()
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Second}
	go func() { _ = s.server.Serve(listener) }()
}

func (s *stackServer) set(name, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.reasons[name] = reason
	if reason == "" {
		delete(s.reasons, name)
	}
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *stackServer) object(kind, name, reason string) map[string]any {
	return map[string]any{"apiVersion": "plumbline.dev/v1alpha1", "kind": kind,
		"metadata": map[string]any{"name": name, "resourceVersion": fmt.Sprint(s.version)},
		"status":   map[string]any{"drift": map[string]any{"objects": 3}, "conditions": []any{map[string]any{"type": "Ready", "status": "True", "reason": reason}}}}
}

func (s *stackServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	if query.Get("sendInitialEvents") != "" { // as a server that can't
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422})
		return
	}
	kind, path := "Source", r.URL.Path
	if strings.HasSuffix(path, "stacks") {
		kind = "Stack"
	}
	items, version, moved := s.items(kind)
	if query.Get("watch") == "" {
		_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "plumbline.dev/v1alpha1", "kind": kind + "List",
			"metadata": map[string]any{"resourceVersion": version}, "items": items})
		return
	}
	if version != query.Get("resourceVersion") { // something happened in between: who watches lists again
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": map[string]any{"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}})
		return
	}
	for {
		w.(http.Flusher).Flush()
		select {
		case <-moved:
		case <-r.Context().Done():
			return
		}
		items, _, moved = s.items(kind)
		for _, o := range items {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": o})
		}
	}
}

// items are the objects of a kind, the version of them all, and what is closed when
// there is another.
func (s *stackServer) items(kind string) (items []any, version string, moved chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items = []any{}
	if kind == "Source" {
		items = append(items, s.object(kind, "home", "Fetched"))
	} else {
		for _, name := range sorted(s.reasons) {
			items = append(items, s.object(kind, name, s.reasons[name]))
		}
	}
	return items, fmt.Sprint(s.version), s.moved
}

// TestFollow: what changes is told, and so is that the API server went away, and
// that it is back.
func TestFollow(t *testing.T) {
	s := &stackServer{t: t, address: "127.0.0.1:0", reasons: map[string]string{"home.web": "Progressing"}, moved: make(chan struct{}), version: 1}
	s.start()
	defer func() { s.server.Close() }()
	client, err := dynamic.NewForConfig(&rest.Config{Host: "http://" + s.address})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan Following, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		NewCluster(client, nil).Follow(ctx, func(f Following) { told <- f })
	}()
	until := func(what string, fits func(Following) bool) {
		t.Helper()
		var last Following
		for deadline := time.After(30 * time.Second); ; {
			select {
			case last = <-told:
				if fits(last) {
					return
				}
			case <-deadline:
				t.Fatalf("%s: not told; last: %+v", what, last)
			}
		}
	}
	is := func(want string) func(Following) bool {
		return func(f Following) bool {
			var got []string
			for _, v := range f.Stacks {
				got = append(got, v.Name+" "+v.Reason)
				if v.Drift != 3 {
					t.Errorf("drift of %s: %d", v.Name, v.Drift)
				}
			}
			return f.Trouble == nil && len(f.Sources) == 1 && f.Sources[0].Reason == "Fetched" && strings.Join(got, ", ") == want
		}
	}
	until("what there is", is("home.web Progressing"))
	s.set("home.web", "Ready")
	until("a change", is("home.web Ready"))
	s.set("home.db", "Ready")
	until("another stack", is("home.db Ready, home.web Ready"))
	s.server.Close()
	until("the server is away", func(f Following) bool { return f.Trouble != nil && len(f.Stacks) == 2 })
	s.set("home.db", "")
	s.start()
	until("it is back", is("home.web Ready"))
	cancel()
	<-ended
}
