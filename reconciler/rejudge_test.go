package reconciler

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/secrets"
)

// gated is a loop that fetches from memory, and whose gate answers as a test wants it.
type gated struct {
	t      *testing.T
	loop   *Loop
	files  fstest.MapFS
	commit string
	judge  func(stack string) scan.Verdict

	mu     sync.Mutex
	judged map[string]int
	fetch  error
}

func newGated(t *testing.T, stacks ...string) *gated {
	t.Helper()
	g := &gated{t: t, files: fstest.MapFS{}, judged: map[string]int{}}
	for _, name := range stacks {
		g.files[name+"/stack.yaml"] = &fstest.MapFile{Data: []byte("{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: " + name + "}, spec: {kustomize: {path: .}}}")}
		g.files[name+"/kustomization.yaml"] = &fstest.MapFile{Data: []byte("resources: [app.yaml]")}
		g.write(name, "a")
	}
	g.loop = &Loop{Config: Config{Sources: []SourceConfig{{Name: "home", URL: "https://example.org/home.git"}}}, Cluster: NewCluster(nil, nil), Log: slog.New(slog.DiscardHandler),
		Secrets: Secrets{Key: secrets.HashKey("key")}}
	g.loop.Pipeline = &Pipeline{Render: render.Kustomize,
		Fetch: func(context.Context, fetch.Source) (fetch.Snapshot, error) {
			return fetch.Snapshot{Commit: strings.Repeat(g.commit, 40)[:40], FS: maps.Clone(g.files)}, g.fetch
		},
		Scan: func(_ context.Context, r scan.Request) (scan.Verdict, error) {
			g.mu.Lock()
			g.judged[r.Stack]++
			g.mu.Unlock()
			return g.judge(r.Stack), nil
		}}
	g.loop.Init()
	return g
}

// stop ends the queues, as the end of Run does.
func (g *gated) stop() {
	g.loop.queue.ShutDown()
	g.loop.looks.ShutDown()
	g.loop.whys.ShutDown()
	g.loop.statuses.ShutDown()
}

func (g *gated) write(stack, value string) {
	g.files[stack+"/app.yaml"] = &fstest.MapFile{Data: []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: " + stack + "}, data: {v: " + value + "}}")}
}

func (g *gated) pull(ctx context.Context, commit string) {
	g.t.Helper()
	g.commit = commit
	if err := g.loop.pull(ctx, g.loop.sources["home"]); err != nil {
		g.t.Fatal(err)
	}
}

// reason is why a stack is held back; "": it isn't.
func (g *gated) reason(stack string) string {
	g.loop.mu.Lock()
	defer g.loop.mu.Unlock()
	if at := g.loop.stacks[stack].gate; at != nil {
		return at.reason
	}
	return ""
}

func denied() scan.Verdict {
	return scan.Verdict{Findings: []scan.Finding{{ID: "X", Severity: scan.SeverityCritical, Denies: true}}}
}

// TestKnownMeanwhile: an image gets known while a commit is under way that doesn't touch its stack.
func TestKnownMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newGated(t, "a", "b")
		defer g.stop()
		known := make(chan struct{})
		g.judge = func(stack string) scan.Verdict {
			if stack == "home.a" {
				return scan.Verdict{Pending: []string{"image"}, Waits: []<-chan struct{}{known}}
			}
			return scan.Verdict{}
		}
		g.pull(ctx, "1")
		if got := g.reason("home.a"); got != reasonScanning {
			t.Fatalf("a: %q", got)
		}
		g.judge = func(string) scan.Verdict {
			close(known)
			synctest.Wait() // whoever waits for it has done what it does
			g.judge = func(string) scan.Verdict { return scan.Verdict{} }
			return scan.Verdict{}
		}
		g.write("b", "b")
		g.pull(ctx, "2")
		g.pull(ctx, "2") // for which it was poked
		if got := g.reason("home.a"); got != "" || g.judged["home.a"] != 2 {
			t.Errorf("a: %q, judged %d times", got, g.judged["home.a"])
		}
		if g.judged["home.b"] != 2 {
			t.Errorf("b was judged %d times", g.judged["home.b"])
		}
	})
}

// TestEnds: what lets a stack pass ends, and nobody pushes.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newGated(t, "a", "b")
		defer g.stop()
		ends := time.Now().Add(time.Hour)
		g.judge = func(stack string) scan.Verdict {
			switch {
			case stack != "home.a":
				return scan.Verdict{}
			case time.Now().Before(ends):
				return scan.Verdict{Next: ends}
			}
			return denied()
		}
		g.pull(ctx, "1")
		time.Sleep(59 * time.Minute)
		g.pull(ctx, "1")
		if g.judged["home.a"] != 1 || g.reason("home.a") != "" {
			t.Errorf("before: judged %d times, %q", g.judged["home.a"], g.reason("home.a"))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		select {
		case <-g.loop.sources["home"].poke:
		default:
			t.Error("nobody looks")
		}
		g.pull(ctx, "1")
		if g.reason("home.a") != reasonDenied || g.judged["home.b"] != 1 {
			t.Errorf("after: %q, and b was judged %d times", g.reason("home.a"), g.judged["home.b"])
		}
		s := g.loop.stacks["home.a"]
		if s.generation != 1 || s.tree == nil || s.gate.blocked {
			t.Errorf("what was let through doesn't go on: %+v", s.gate)
		}
	})
}

// TestRemoteIsGone: what was fetched goes on when its images are known, with or without the remote.
func TestRemoteIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newGated(t, "a")
		defer g.stop()
		known := make(chan struct{})
		g.judge = func(string) scan.Verdict {
			return scan.Verdict{Pending: []string{"image"}, Waits: []<-chan struct{}{known}}
		}
		g.pull(ctx, "1")
		g.judge = func(string) scan.Verdict { return scan.Verdict{} }
		close(known)
		synctest.Wait()
		g.fetch = errors.New("the remote is gone")
		for range 2 {
			if err := g.loop.pull(ctx, g.loop.sources["home"]); !errors.Is(err, g.fetch) {
				t.Errorf("have %v", err)
			}
		}
		if s := g.loop.stacks["home.a"]; g.reason("home.a") != "" || s.generation != 1 || g.judged["home.a"] != 2 {
			t.Errorf("%q, generation %d, judged %d times", g.reason("home.a"), s.generation, g.judged["home.a"])
		}
	})
}

// TestPassesAgain: a stack that is judged again and passes is left alone.
func TestPassesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g := newGated(t, "a")
		defer g.stop()
		soon := time.Now().Add(time.Minute)
		g.judge = func(string) scan.Verdict { return scan.Verdict{Next: soon} }
		g.pull(ctx, "1")
		g.judge = func(string) scan.Verdict { return scan.Verdict{} }
		time.Sleep(time.Hour)
		synctest.Wait()
		g.pull(ctx, "1")
		if s := g.loop.stacks["home.a"]; g.judged["home.a"] != 2 || s.generation != 1 {
			t.Errorf("judged %d times, generation %d", g.judged["home.a"], s.generation)
		}
	})
}

// TestDiskFails: where the files are not to blame, what was let through goes on, from its own
// commit, and a denial after that is one like any other.
func TestDiskFails(t *testing.T) {
	for name, commits := range map[string][]string{"a commit later": {"2", "3"}, "when it is judged again": {"1", "1"}} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, "a")
			defer g.stop()
			g.judge = func(string) scan.Verdict { return scan.Verdict{} }
			g.pull(t.Context(), "1")
			s := g.loop.stacks["home.a"]
			goesOn := func(reason string) {
				t.Helper()
				if g.reason("home.a") != reason || s.generation != 1 || s.broken != nil || s.gate.blocked {
					t.Fatalf("%q, generation %d, %v", g.reason("home.a"), s.generation, s.broken)
				}
				if data, err := fs.ReadFile(s.tree, "a/app.yaml"); err != nil || !strings.Contains(string(data), "v: a") {
					t.Errorf("goes on from %s (%v)", data, err)
				}
			}
			g.loop.Pipeline.Render = func(context.Context, render.Request) (render.Output, error) {
				return render.Output{}, errors.New("a disk")
			}
			if commits[0] != "1" {
				g.write("a", "smuggled")
			}
			g.loop.judgeAgain("home.a")
			g.pull(t.Context(), commits[0])
			goesOn("RenderFailed")
			if _, message, _ := g.loop.blocked("home.a", s); message != "" {
				t.Errorf("is blocked: %s", message)
			}
			g.loop.Pipeline.Render = render.Kustomize
			g.judge = func(string) scan.Verdict { return denied() }
			g.pull(t.Context(), commits[1]) // nobody has to ask for it
			goesOn(reasonDenied)
			g.judge = func(string) scan.Verdict { return scan.Verdict{} }
			g.write("a", "mended")
			g.pull(t.Context(), "4")
			if g.reason("home.a") != "" || s.generation != 2 || s.tree != nil {
				t.Errorf("%q, generation %d", g.reason("home.a"), s.generation)
			}
		})
	}
}

// TestByHand: who asks for a stack has it judged, also where it passed.
func TestByHand(t *testing.T) {
	g := newGated(t, "a")
	defer g.stop()
	g.judge = func(string) scan.Verdict { return scan.Verdict{} }
	g.pull(t.Context(), "1")
	s := g.loop.stacks["home.a"]
	s.parent = &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"annotations": map[string]any{RequestAnnotation: "now"}}}}
	g.loop.asked("home.a", s)
	g.pull(t.Context(), "1")
	if g.judged["home.a"] != 2 || s.generation != 1 {
		t.Errorf("judged %d times, generation %d", g.judged["home.a"], s.generation)
	}
}

// TestNeverJudged: what could not be rendered is not what was let through before.
func TestNeverJudged(t *testing.T) {
	for name, between := range map[string]func(*gated){
		"a stack.yaml that can't be read": func(g *gated) {
			g.files["a/stack.yaml"] = &fstest.MapFile{Data: []byte("{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: a}, spec: {kustomise: {}}}")}
		},
		"a stack that was taken out": func(g *gated) { delete(g.files, "a/stack.yaml") },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t, "a", "b")
			defer g.stop()
			stack := g.files["a/stack.yaml"]
			g.judge = func(string) scan.Verdict { return scan.Verdict{} }
			g.pull(t.Context(), "1")
			g.judge = func(stack string) scan.Verdict {
				if stack == "home.a" {
					return denied()
				}
				return scan.Verdict{}
			}
			g.write("a", "smuggled")
			between(g)
			g.pull(t.Context(), "2")
			g.files["a/stack.yaml"] = stack
			for _, commit := range []string{"3", "4"} {
				g.write("b", commit)
				g.pull(t.Context(), commit)
			}
			s := g.loop.stacks["home.a"]
			if s.gate == nil || !s.gate.blocked || s.tree != nil {
				t.Fatalf("goes on: %+v", s.gate)
			}
			if reason, message, _ := g.loop.blocked("home.a", s); reason != reasonDenied || !strings.Contains(message, "is left as it is") {
				t.Errorf("%s: %s", reason, message)
			}
			g.judge = func(string) scan.Verdict { return scan.Verdict{} }
			g.write("a", "mended")
			g.pull(t.Context(), "5")
			if reason, _, _ := g.loop.blocked("home.a", s); s.gate != nil || reason != "" {
				t.Errorf("does not go on: %s", reason)
			}
		})
	}
}
