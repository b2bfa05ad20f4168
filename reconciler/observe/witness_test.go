package observe

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const patience = 30 * time.Second

var (
	configMap  = schema.GroupKind{Kind: "ConfigMap"}
	configMaps = Kind{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Kind: "ConfigMap", Namespaced: true}
)

// A witness watches a client through an Observer and notes what it is told.
type witness struct {
	*Observer
	t        *testing.T
	stop     context.CancelFunc
	changes  chan Change
	troubles chan error
}

func observing(t *testing.T, client dynamic.Interface, kinds ...Kind) *witness {
	t.Helper()
	t.Cleanup(func() { noLeaks(t) })
	w := &witness{t: t, changes: make(chan Change, 10000), troubles: make(chan error, 10000)}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	w.Observer = New(ctx, Options{
		Client:  client,
		Manager: "plumbline",
		Changed: func(c Change) {
			if now, ok := w.Get(c.Entry.ID); ok && older(now.ResourceVersion, c.Entry.ResourceVersion) && !c.Gone {
				t.Errorf("told of %s at %s, but it is remembered at %s", c.Entry.ID, c.Entry.ResourceVersion, now.ResourceVersion)
			}
			w.changes <- c
		},
		Trouble: func(_ schema.GroupVersionResource, err error) { w.troubles <- err },
	})
	for _, kind := range kinds {
		w.Watch(kind)
	}
	return w
}

// expect waits for exactly these changes, as in "+name", "~name" and "-name".
func (w *witness) expect(want ...string) {
	w.t.Helper()
	got := []string{}
	for range want {
		select {
		case c := <-w.changes:
			got = append(got, sign(c)+c.Entry.Name)
		case <-time.After(patience):
			w.t.Fatalf("changes %v, want %v", got, want)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("changes (-want +got):\n%s", diff)
	}
}

func sign(c Change) string {
	switch {
	case c.Gone:
		return "-"
	case c.Before == Entry{}:
		return "+"
	default:
		return "~"
	}
}

func (w *witness) expectTrouble(part string) {
	w.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case err := <-w.troubles:
			if strings.Contains(err.Error(), part) {
				return
			}
		case <-deadline:
			w.t.Fatalf("no trouble with %q", part)
		}
	}
}

func (w *witness) sync() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.Synced(ctx, w.Kinds()...); err != nil {
		w.t.Fatal(err)
	}
}

// noLeaks fails if a goroutine of a watch outlives its context.
func noLeaks(t *testing.T) {
	buf := make([]byte, 1<<20)
	leaked := func() (stacks []string) {
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "observe.(*watching)") || strings.Contains(stack, "observe.(*tap)") ||
				strings.Contains(stack, "cache.(*Reflector)") || strings.Contains(stack, "watch.(*StreamWatcher)") {
				stacks = append(stacks, stack)
			}
		}
		return stacks
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); len(leaked()) > 0; <-ticker.C {
		if time.Now().After(deadline) {
			t.Errorf("left running:\n%s", strings.Join(leaked(), "\n\n"))
			return
		}
	}
}
