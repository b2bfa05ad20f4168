package observe

import (
	"context"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plumbline-dev/plumbline/reconciler/observe/expressions"
)

func rules(t *testing.T, kind, ready string) Rules {
	t.Helper()
	gk := schema.ParseGroupKind(kind)
	program, err := expressions.Compile(expressions.Expression{Kind: gk, Ready: ready})
	if err != nil {
		t.Fatal(err)
	}
	return Rules{gk: program}
}

// TestJudge: what a stack says of its objects counts for those alone, and from then on for those that are known.
func TestJudge(t *testing.T) {
	s := newAPIServer(t)
	s.put("a", "1")
	s.put("b", "2")
	w := observing(t, s.client(t), configMaps)
	w.sync()
	w.expect("+a", "+b")
	health := func(name string, want status.Status) {
		t.Helper()
		if entry, _ := w.Get(ID{Kind: "ConfigMap", Namespace: "o11y", Name: name}); entry.Status != want {
			t.Errorf("%s is %s: %q, want %s", name, entry.Status, entry.Message, want)
		}
	}
	synced := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := w.Synced(ctx, configMaps.GroupKind()); err != nil {
			t.Fatal(err)
		}
	}

	w.Judge("another", rules(t, "ConfigMap", "false")) // lists again, for nothing
	synced()
	health("a", status.CurrentStatus)

	own := rules(t, "ConfigMap", `object.data.key == "2"`)
	w.Judge("grafana", own)
	synced()
	health("a", status.InProgressStatus)
	health("b", status.CurrentStatus)
	w.expect("~a")
	listed := count(s.asked(), "stream")

	w.Judge("grafana", rules(t, "ConfigMap", `object.data.key == "2"`))
	w.Judge("grafana", own)
	if now := count(s.asked(), "stream"); now != listed {
		t.Errorf("the same expression listed %d times", now-listed)
	}
	s.put("a", "2")
	w.expect("~a")
	health("a", status.CurrentStatus)

	other := rules(t, "ConfigMap", `object.data.key == "3"`) // compiled beforehand: that takes longer than to list
	for range 50 {                                           // a commit with many stacks lists once or twice, not fifty times
		w.Judge("grafana", other)
		w.Judge("grafana", own)
	}
	w.Judge("grafana", other)
	synced()
	w.expect("~a", "~b")
	if now := count(s.asked(), "stream"); now-listed > 10 {
		t.Errorf("100 changes listed %d times", now-listed)
	}
	w.Judge("grafana", nil)
	synced()
	w.expect("~a", "~b")
	health("a", status.CurrentStatus)
}

// TestSawIsJudged: an answer to our own write counts at once, as the stack has it judged.
func TestSawIsJudged(t *testing.T) {
	s := newAPIServer(t)
	s.put("a", "1")
	w := observing(t, s.client(t), configMaps)
	w.sync()
	w.expect("+a")
	w.Judge("grafana", rules(t, "ConfigMap", `object.data.key == "2"`))
	obj := seen("a", "uid-101", 900, "1")
	if entry := w.Saw(obj); entry.Status != status.InProgressStatus {
		t.Errorf("it is %s", entry.Status)
	}
}

// TestJudgeLosesNothing: what the watch took in just before it listed again is told all the same.
func TestJudgeLosesNothing(t *testing.T) {
	s := newAPIServer(t)
	s.put("a", "1")
	s.put("b", "1")
	told, busy := make(chan string), make(chan struct{})
	o := New(t.Context(), Options{Client: s.client(t), Manager: "plumbline", Changed: func(c Change) {
		told <- c.Entry.Name
		<-busy
	}})
	o.Watch(configMaps)
	if first := <-told; first != "a" {
		t.Fatalf("told %s first", first)
	}
	o.Judge("grafana", rules(t, "ConfigMap", "true"))
	close(busy)
	select {
	case second := <-told:
		if second != "b" {
			t.Errorf("told %s", second)
		}
	case <-time.After(5 * time.Second):
		t.Error("b was taken in, and never told")
	}
}
