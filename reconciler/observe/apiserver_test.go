package observe

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// An apiServer serves ConfigMaps to list and watch, and does so badly if it is told to.
type apiServer struct {
	*httptest.Server
	mu       sync.Mutex
	rv       int
	objects  map[string]map[string]any
	events   []watchEvent
	forgot   int           // events up to this resourceVersion are not known any more
	moved    chan struct{} // closed and made anew when something happens
	severed  chan struct{} // likewise, when the streams are to break
	requests []string
	// fault answers a request in the place of the server, if it returns true. Verb is list, stream or watch.
	fault func(verb string, w http.ResponseWriter, r *http.Request) bool
}

type watchEvent struct {
	rv     int
	sort   string
	object map[string]any
}

func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{rv: 100, objects: map[string]map[string]any{}, moved: make(chan struct{}), severed: make(chan struct{})}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	t.Cleanup(s.sever)
	return s
}

func (s *apiServer) client(t *testing.T) dynamic.Interface {
	client, err := dynamic.NewForConfig(&rest.Config{Host: s.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// put writes a ConfigMap as our manager would, with one value.
func (s *apiServer) put(name, value string) map[string]any {
	return s.write(name, "MODIFIED", func(obj map[string]any) { obj["data"] = object("key", value) })
}

// touch changes what is not ours.
func (s *apiServer) touch(name string) { s.write(name, "MODIFIED", func(map[string]any) {}) }

// remove deletes a ConfigMap, or strips its label: who watches sees the same.
func (s *apiServer) remove(name string) { s.write(name, "DELETED", func(map[string]any) {}) }

func (s *apiServer) write(name, sort string, edit func(map[string]any)) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rv++
	old := s.objects[name]
	if old == nil {
		sort = "ADDED"
		old = object("apiVersion", "v1", "kind", "ConfigMap", "metadata", object("name", name, "namespace", "o11y", "uid", fmt.Sprintf("uid-%d", s.rv),
			"labels", object(StackLabel, "grafana"), "managedFields", list(object("manager", "plumbline", "operation", "Apply", "fieldsV1", object("f:data", object("f:key", object()))))))
	}
	obj := maps.Clone(old)
	obj["metadata"] = maps.Clone(old["metadata"].(map[string]any))
	obj["metadata"].(map[string]any)["resourceVersion"] = strconv.Itoa(s.rv)
	edit(obj)
	if s.objects[name] = obj; sort == "DELETED" {
		delete(s.objects, name)
	}
	s.events = append(s.events, watchEvent{s.rv, sort, obj})
	close(s.moved)
	s.moved = make(chan struct{})
	return obj
}

// sever breaks all streams in the middle of a line.
func (s *apiServer) sever() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.severed)
	s.severed = make(chan struct{})
}

// forget makes resuming from before now impossible.
func (s *apiServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot, s.events = s.rv, nil
}

// hinder sets the fault, or takes it away.
func (s *apiServer) hinder(fault func(verb string, w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *apiServer) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// expectAsked waits until that many requests of a verb came.
func (s *apiServer) expectAsked(t *testing.T, verb string, want int) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for count(s.asked(), verb) < want {
		select {
		case <-time.After(time.Millisecond):
		case <-deadline:
			t.Fatalf("asked for %v, want %d of %s", s.asked(), want, verb)
		}
	}
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	verb := "list"
	if query.Get("watch") == "true" {
		verb = "watch"
	}
	if query.Get("sendInitialEvents") == "true" {
		verb = "stream"
	}
	s.mu.Lock()
	s.requests = append(s.requests, verb+" "+r.URL.Path+" "+query.Get("labelSelector"))
	fault := s.fault
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if fault != nil && fault(verb, w, r) {
		return
	}
	if verb == "list" {
		s.list(w)
		return
	}
	s.watch(w, r, verb == "stream")
}

func (s *apiServer) list(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []any{}
	for _, name := range slices.Sorted(maps.Keys(s.objects)) {
		items = append(items, s.objects[name])
	}
	_ = json.NewEncoder(w).Encode(object("apiVersion", "v1", "kind", "ConfigMapList", "metadata", object("resourceVersion", strconv.Itoa(s.rv)), "items", items))
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, initial bool) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	s.mu.Lock()
	if initial {
		for _, name := range slices.Sorted(maps.Keys(s.objects)) {
			send(w, "ADDED", s.objects[name])
		}
		from = s.rv
		send(w, "BOOKMARK", object("apiVersion", "v1", "kind", "ConfigMap", "metadata", object("resourceVersion", strconv.Itoa(s.rv), "annotations", object("k8s.io/initial-events-end", "true"))))
	}
	s.mu.Unlock()
	for {
		s.mu.Lock()
		if from < s.forgot {
			send(w, "ERROR", object("apiVersion", "v1", "kind", "Status", "status", "Failure", "reason", "Expired", "code", 410, "message", "too old resource version"))
			s.mu.Unlock()
			return
		}
		for _, event := range s.events {
			if event.rv > from {
				send(w, event.sort, event.object)
				from = event.rv
			}
		}
		moved, severed := s.moved, s.severed
		s.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-moved:
		case <-severed:
			_, _ = io.WriteString(w, `{"type":"MODIF`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

func send(w io.Writer, sort string, obj map[string]any) {
	_ = json.NewEncoder(w).Encode(object("type", sort, "object", obj))
}

// refuse answers as a Kubernetes API server that refuses.
func refuse(w http.ResponseWriter, code int, reason, message string) bool {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object("apiVersion", "v1", "kind", "Status", "status", "Failure", "reason", reason, "code", code, "message", message))
	return true
}

// noStreams is the fault of a server before Kubernetes 1.32.
func noStreams(verb string, w http.ResponseWriter, _ *http.Request) bool {
	return verb == "stream" && refuse(w, http.StatusUnprocessableEntity, "Invalid", "sendInitialEvents is forbidden")
}

func count(requests []string, verb string) (n int) {
	for _, r := range requests {
		if strings.HasPrefix(r, verb+" ") {
			n++
		}
	}
	return n
}
