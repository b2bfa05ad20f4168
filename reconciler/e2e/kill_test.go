package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A point is where kill -9 strikes: at the n-th write since the daemon started,
// before the API server hears of it, or after it was done and before the daemon
// hears of that.
type point struct {
	n     int64
	after bool
}

func (p point) String() string {
	return fmt.Sprintf("%s write %d", map[bool]string{false: "before", true: "after"}[p.after], p.n)
}

// TestKill strikes 24 times: at eight points in each of install, upgrade, prune.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, p := range []point{{1, false}, {1, true}, {2, true}, {3, false}, {4, true}, {5, false}, {6, true}, {7, false}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			killAt(t, p)
		})
	}
}

func killAt(t *testing.T, p point) {
	s := start(t, shared, "home")
	must(t, s.repos["home"].Write(map[string]string{"keep/stack.yaml": stackFile("keep"), "keep/kustomization.yaml": "resources: [keep.yaml]",
		"keep/keep.yaml": configMaps(1, "keep", "1")}))

	// Install: what was created before the kill is not created again.
	s.pushKilled(t, p, map[string]string{"app/stack.yaml": stackFile("app"), "app/kustomization.yaml": "resources: [some.yaml, crd.yaml]",
		"app/some.yaml": s.expand(configMaps(4, "some", "1") + widget("1")), "app/crd.yaml": s.expand(widgetCRD)})
	s.owns(t, "app", 6)

	// Upgrade: all of it changes, and stays the same objects.
	before := s.objects(t, "app")
	s.pushKilled(t, p, map[string]string{"app/some.yaml": s.expand(configMaps(4, "some", "2") + widget("2"))})
	s.owns(t, "app", 6)
	if after := s.objects(t, "app"); !maps.Equal(before, after) {
		t.Errorf("upgraded, they are not the same objects: before %v, after %v", before, after)
	}
	for i := range 4 {
		must(t, s.expect(t.Context(), "ConfigMap", fmt.Sprintf("some-%d", i), ".data.value", "2"))
	}

	// Prune: some of the stack, then, in the same commit, all of another.
	s.pushKilled(t, p, map[string]string{"app": "", "keep/keep.yaml": configMaps(2, "keep", "2")})
	must(t, s.expectGone(t.Context(), "Stack", s.stack("home", "app")))
	s.owns(t, "app", 0)
	s.owns(t, "keep", 2)
}

// TestKillThenRevert strikes during an install, and takes the stack out of Git
// before the daemon starts again, on an empty disk: nothing of it may be left.
func TestKillThenRevert(t *testing.T) {
	t.Parallel()
	for _, p := range []point{{1, true}, {2, true}, {3, true}, {5, true}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			s := start(t, shared, "home")
			must(t, s.repos["home"].Write(map[string]string{"keep/stack.yaml": stackFile("keep"), "keep/kustomization.yaml": "resources: [keep.yaml]",
				"keep/keep.yaml": configMaps(1, "keep", "1")}))
			_, err := s.repos["home"].Push("keep")
			must(t, err)
			must(t, s.run(t.Context(), s.proxy.Kubeconfig))
			must(t, s.expectReady(t.Context(), s.stack("home", "keep")))
			s.strike(t, p, map[string]string{"app/stack.yaml": stackFile("app"), "app/kustomization.yaml": "resources: [some.yaml]",
				"app/some.yaml": configMaps(4, "some", "1")})
			must(t, s.repos["home"].Write(map[string]string{"app": ""}))
			_, err = s.repos["home"].Push("not after all")
			must(t, err)
			must(t, os.RemoveAll(filepath.Join(s.dir, "plumbline"))) // or it would go on from the commit that it had accepted
			must(t, s.run(t.Context(), s.proxy.Kubeconfig))
			must(t, s.expectSynced(t.Context(), "home"))
			must(t, s.expectGone(t.Context(), "Stack", s.stack("home", "app")))
			s.owns(t, "app", 0)
			s.owns(t, "keep", 1)
		})
	}
}

// pushKilled pushes, has the daemon killed at the point, starts it again, and
// waits until all is well.
func (s *scenario) pushKilled(t *testing.T, p point, files map[string]string) {
	t.Helper()
	s.strike(t, p, files)
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	must(t, s.expectSynced(t.Context(), "home"))
	for _, stack := range []string{"app", "keep"} {
		touched := slices.ContainsFunc(slices.Collect(maps.Keys(files)), func(file string) bool { return strings.HasPrefix(file, stack) })
		switch {
		case s.declares(stack) && touched:
			must(t, s.expectReady(t.Context(), s.stack("home", stack)))
		case s.declares(stack):
			must(t, s.stillReady(t.Context(), s.stack("home", stack)))
		}
	}
}

// strike pushes, and has the daemon killed at the point.
func (s *scenario) strike(t *testing.T, p point, files map[string]string) {
	t.Helper()
	struck := make(chan struct{})
	if s.daemon == nil { // first: let the daemon settle its own CRDs
		must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	}
	must(t, s.expectLog(t.Context(), "msg", "leading"))
	must(t, s.expectLog(t.Context(), "msg", "source (moved|failed)"))
	writes := atomic.Int64{}
	daemon := s.daemon
	s.proxy.intervene(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if !mutates(r) {
			forward.ServeHTTP(w, r)
			return
		}
		n := writes.Add(1)
		switch {
		case n < p.n:
			forward.ServeHTTP(w, r)
		case n == p.n:
			if p.after {
				forward.ServeHTTP(httptest.NewRecorder(), r)
			}
			daemon.Kill()
			close(struck)
			panic(http.ErrAbortHandler)
		default:
			panic(http.ErrAbortHandler) // it died
		}
	})
	must(t, s.repos["home"].Write(files))
	_, err := s.repos["home"].Push("next")
	must(t, err)
	select {
	case <-struck:
	case <-time.After(patience):
		t.Fatalf("never killed: there were %d writes", writes.Load())
	}
	s.proxy.intervene(nil)
	must(t, s.dropLease(t.Context()))
}

// declares tells whether the repository has the stack.
func (s *scenario) declares(stack string) bool {
	files, _ := s.repos["home"].Git("ls-files", stack)
	return files != ""
}

// owns complains unless a stack has that many objects, all of them of its
// ApplySet and admitted by its parent, and nothing else was left behind.
func (s *scenario) owns(t *testing.T, stack string, want int) {
	t.Helper()
	must(t, eventually(t.Context(), func(context.Context) error {
		if got := s.objects(t, stack); len(got) != want {
			return fmt.Errorf("%s has %d objects, want %d: %v", stack, len(got), want, slices.Sorted(maps.Keys(got)))
		}
		return nil
	}))
}

// objects are the UIDs of what carries a stack's label, of the kinds that these tests use.
func (s *scenario) objects(t *testing.T, stack string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, kind := range []string{"ConfigMap", "CustomResourceDefinition", "Widget." + s.id + ".example.org"} {
		on, err := s.cluster.on(kind, s.namespace)
		if err != nil {
			continue // not served
		}
		list, err := on.List(t.Context(), metav1.ListOptions{LabelSelector: "plumbline.dev/stack=" + s.stack("home", stack)})
		if err != nil {
			continue // not served any more
		}
		for _, u := range list.Items {
			out[u.GetKind()+" "+u.GetName()] = string(u.GetUID())
		}
	}
	return out
}

func stackFile(name string) string {
	return "{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: " + name + "}, spec: {kustomize: {path: .}, prune: {include: [CustomResourceDefinition]}}}\n"
}

func widget(size string) string {
	return "---\n{apiVersion: $ID.example.org/v1, kind: Widget, metadata: {name: one}, spec: {size: " + size + "}}\n"
}

const widgetCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$ID.example.org}
spec:
  group: $ID.example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}
`
