package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestWatchesCut cuts every watch every second for a minute, while one object
// after the other is moved: each is put right, and told of once.
func TestWatchesCut(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	var cuts atomic.Int64
	s.proxy.intervene(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.URL.Query().Get("watch") == "" {
			forward.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		defer cuts.Add(1)
		forward.ServeHTTP(w, r.WithContext(ctx))
	})
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	s.pushMaps(t, "a")
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	moved := map[string]int{}
	for began := time.Now(); time.Since(began) < time.Minute; {
		name := fmt.Sprintf("app-%d", sum(moved)%40)
		moved[name]++
		must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, name, fmt.Sprintf("{data: {value: moved-%d}}", sum(moved))))
		must(t, s.expect(t.Context(), "ConfigMap", name, ".data.value", "a"))
	}
	for name, times := range moved {
		must(t, eventually(t.Context(), func(context.Context) error {
			if n, err := s.logged("msg", "drift", "name", name, "manager", "somebody", "corrected", "20.*"); n != times || err != nil {
				return fmt.Errorf("%s moved %d times, and there are %d records (%w)", name, times, n, err)
			}
			return nil
		}))
	}
	if n, _ := s.logged("msg", "drift.*"); n != sum(moved) {
		t.Errorf("%d records of drift, and %d drifts", n, sum(moved))
	}
	t.Logf("%d drifts, %d watches cut", sum(moved), cuts.Load())
}

func sum(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// TestDriftFlood moves five thousand objects at once: all are put right, and the API
// server sees no more requests at a time than it should.
func TestDriftFlood(t *testing.T) {
	t.Parallel()
	const stacks, each = 10, 500
	s := start(t, shared, "home")
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	files := map[string]string{}
	for i := range stacks {
		dir := fmt.Sprintf("s%d/", i)
		files[dir+"stack.yaml"], files[dir+"kustomization.yaml"] = stackFile(fmt.Sprintf("s%d", i)), "resources: [app.yaml]"
		files[dir+"app.yaml"] = configMaps(each, fmt.Sprintf("s%d", i), "a")
	}
	must(t, s.repos["home"].Write(files))
	_, err := s.repos["home"].Push("many")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for i := range stacks {
		ready, err := matcher([]string{"msg", "stack ready", "stack", s.stack("home", fmt.Sprintf("s%d", i))})
		must(t, err)
		_, _, err = s.daemon.WaitFor(ctx, 0, ready)
		must(t, err)
	}
	var now, most atomic.Int64
	s.proxy.intervene(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.URL.Query().Get("watch") == "" {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
		}
		forward.ServeHTTP(w, r)
	})
	began := time.Now()
	s.moveAll(t, stacks, each)
	patched := time.Since(began)
	must(t, within(ctx, 5*time.Minute, func(context.Context) error {
		if n, err := s.logged("msg", "drift", "corrected", "20.*"); n != stacks*each || err != nil {
			return fmt.Errorf("%d of %d were put right (%w)", n, stacks*each, err)
		}
		return nil
	}))
	t.Logf("moved within %s, all put right after %s, at most %d requests at a time", patched.Round(time.Second), time.Since(began).Round(time.Second), most.Load())
	if n := most.Load(); n > 32 { // 16 of plans and applies, and what statuses and events have
		t.Errorf("%d requests at a time", n)
	}
	for i := range stacks {
		must(t, s.stillReady(t.Context(), s.stack("home", fmt.Sprintf("s%d", i))))
	}
}

// moveAll patches every object, by one name, as fast as it goes.
func (s *scenario) moveAll(t *testing.T, stacks, each int) {
	t.Helper()
	_, on, err := s.cluster.find("ConfigMap", s.namespace, "s0-0")
	must(t, err)
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range stacks {
		for j := range each {
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				_, err := on.Patch(t.Context(), fmt.Sprintf("s%d-%d", i, j), types.MergePatchType, []byte(`{"data":{"value":"moved"}}`), metav1.PatchOptions{FieldManager: "somebody"})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
}

// TestFlips has a manager that flips a field a hundred times in a second.
func TestFlips(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	s.pushMaps(t, "a")
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	s.proxy.take()
	contended := func() bool {
		n, err := s.logged("msg", "drift", "name", "app-0", "action", "contend", "manager", "somebody")
		must(t, err)
		return n > 0
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	flips := 0
	for ; flips < 100 || (flips < 2000 && !contended()); flips++ { // a daemon without a processor sees few of a hundred
		<-tick.C
		must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, "app-0", fmt.Sprintf("{data: {value: %q}}", []string{"x", "y"}[flips%2])))
	}
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "app"), "Contended|Ready", ""))
	must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, "app-1", "{data: {value: x}}"))
	must(t, s.expect(t.Context(), "ConfigMap", "app-1", ".data.value", "a")) // nobody else waits
	var writes int
	for _, r := range s.proxy.seen() {
		if strings.HasPrefix(r, "PATCH ") && strings.Contains(r, "/configmaps/app-0") && !strings.Contains(r, "dryRun") {
			writes++
		}
	}
	records, err := s.logged("msg", "drift", "name", "app-0")
	must(t, err)
	t.Logf("%d flips: %d corrections, %d records", flips, writes, records)
	if writes > 6 || records > 8 {
		t.Errorf("%d corrections and %d records for one field that somebody flips", writes, records)
	}
	must(t, s.expectLog(t.Context(), "msg", "drift", "name", "app-0", "action", "contend", "manager", "somebody"))
}

// TestHostileDrift has a field with a hostile name, and a value of a megabyte.
func TestHostileDrift(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	crd := `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: bags.$ID.example.org}, spec: {group: $ID.example.org, scope: Namespaced, names: {kind: Bag, plural: bags, singular: bag},
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-map-type: atomic, x-kubernetes-preserve-unknown-fields: true}}}}}]}}
---
{apiVersion: $ID.example.org/v1, kind: Bag, metadata: {name: one}, spec: {a: b}}
`
	must(t, s.repos["home"].Write(map[string]string{"app/kustomization.yaml": "resources: [app.yaml]", "app/app.yaml": s.expand(crd),
		"app/stack.yaml": strings.Replace(stackFile("app"), "spec: {", "spec: {drift: {mode: detect}, ", 1)}))
	_, err := s.repos["home"].Push("a bag")
	must(t, err)
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	kind := s.expand("Bag.$ID.example.org")
	must(t, s.cluster.patch(t.Context(), kind, s.namespace, "one",
		`{"spec": {"\u001b[31m\r\n<script>alert(1)</script>": "x", "`+strings.Repeat("k", 1000)+`": "y", "big": "`+strings.Repeat("v", 1_000_000)+`"}}`))
	must(t, s.expectLog(t.Context(), "msg", "drift", "name", "one", "action", "leave", "manager", "somebody"))
	must(t, s.expect(t.Context(), "Stack", s.stack("home", "app"), ".status.drift.objects", "1"))
	u, err := s.cluster.get(t.Context(), "Stack", "", s.stack("home", "app"))
	must(t, err)
	if status, _ := u.MarshalJSON(); len(status) > 20<<10 {
		t.Errorf("the Stack object has %d bytes", len(status))
	}
	for line := range strings.Lines(s.log.String()) {
		if len(line) > 20<<10 || strings.ContainsAny(line, "\x1b\r") {
			t.Errorf("a line of the log has %d bytes, or control characters: %.200q", len(line), line)
		}
	}
}
