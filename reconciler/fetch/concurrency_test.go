package fetch_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestConcurrentFetchesShareOneTransfer(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1", "d/b", "2")
	var n counting
	release := make(chan struct{})
	started := make(chan struct{}, 100)
	src, m := r.source(r.serve(func(h http.Handler) http.Handler {
		return n.wrap(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			started <- struct{}{}
			<-release
			h.ServeHTTP(w, req)
		}))
	})), newMirrors(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			snap, err := m.Fetch(context.Background(), src)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := fs.ReadFile(snap.FS, "d/b"); err != nil {
				t.Error(err)
			}
		})
	}
	<-started
	close(release)
	wg.Wait()
	if n.packs.Load() != 1 {
		t.Errorf("%d packs, want 1", n.packs.Load())
	}
	if n.lists.Load() > 19 { // at least some waited, and shared
		t.Errorf("%d listings for 20 calls", n.lists.Load())
	}
}

func TestWaitingForATurnHonoursTheContext(t *testing.T) {
	r := newRepo(t)
	r.commit("first", "a", "1")
	release, started := make(chan struct{}), make(chan struct{}, 10)
	src, m := r.source(r.serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			started <- struct{}{}
			<-release
			h.ServeHTTP(w, req)
		})
	})), newMirrors(t)
	done := make(chan error, 1)
	go func() { _, err := m.Fetch(context.Background(), src); done <- err }()
	<-started
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Fetch(ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want Canceled", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSnapshotsAreSafeForConcurrentUse(t *testing.T) {
	r := newRepo(t)
	files := []string{}
	for _, d := range []string{"a", "b", "c", "d"} {
		for _, f := range []string{"1", "2", "3"} {
			files = append(files, d+"/"+f, strings.Repeat(d+f, 100))
		}
	}
	r.commit("first", files...)
	src, m := r.source(r.serve(nil)), newMirrors(t)
	m.TreeBytes, m.MaxPacks = 1, 2 // no tree stays cached, packs are merged all the time
	snap := mustFetch(t, m, src)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := fs.WalkDir(snap.FS, ".", func(name string, d fs.DirEntry, err error) error {
					if err != nil || d.IsDir() {
						return err
					}
					_, err = fs.ReadFile(snap.FS, name)
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 6 {
		r.commit("next", "a/1", strings.Repeat("x", i))
		mustFetch(t, m, src)
	}
	wg.Wait()
}
