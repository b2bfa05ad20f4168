package fetch_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os/exec"
	"runtime"
	"testing"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

const (
	benchStacks = 1000
	benchFiles  = 10
)

// benchRepo has 1,000 stacks of 10 files, and 200 commits.
func benchRepo(b *testing.B) (*repo, []string) {
	b.Helper()
	r := newRepo(b)
	var in bytes.Buffer
	var names []string
	data := func(s string) { fmt.Fprintf(&in, "data %d\n%s\n", len(s), s) }
	for c := range 200 {
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Ada <ada@example.org> %d +0000\n", 1_750_000_000+c)
		data(fmt.Sprint("commit ", c))
		for s := range benchStacks {
			for f := range benchFiles {
				if c > 0 && s%200 != c || c > 0 && f > 0 {
					continue
				}
				name := fmt.Sprintf("kubernetes/apps/stack-%04d/base/file-%d.yaml", s, f)
				if c == 0 {
					names = append(names, name)
				}
				fmt.Fprintf(&in, "M 100644 inline %s\n", name)
				data(fmt.Sprintf("# %d %d %d\n%s", c, s, f, bytes.Repeat([]byte("kind: ConfigMap\n"), 20+s%50)))
			}
		}
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = r.bare, &in
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	r.git("fetch", "-q", "origin")
	r.git("reset", "-q", "--hard", "origin/main")
	return r, names
}

func BenchmarkFetch(b *testing.B) {
	r, names := benchRepo(b)
	srv := r.serve(nil)
	for _, scheme := range []string{"http", "file"} {
		src := r.source(srv)
		if scheme == "file" {
			src = r.fileSource()
		}
		b.Run("clone/"+scheme, func(b *testing.B) {
			for b.Loop() {
				mustFetch(b, newMirrors(b), src)
			}
		})
		b.Run("incremental/"+scheme, func(b *testing.B) {
			m := newMirrors(b)
			mustFetch(b, m, src)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				r.commit(fmt.Sprint(scheme, i), names[0], fmt.Sprint(scheme, i, b.N))
				b.StartTimer()
				mustFetch(b, m, src)
			}
		})
		b.Run("unmoved/"+scheme, func(b *testing.B) {
			m := newMirrors(b)
			mustFetch(b, m, src)
			for b.Loop() {
				mustFetch(b, m, src)
			}
		})
	}
	b.Run("restart", func(b *testing.B) {
		m := newMirrors(b)
		mustFetch(b, m, r.fileSource())
		for b.Loop() {
			if _, err := (&fetch.Mirrors{Dir: m.Dir}).Last(r.fileSource()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkHash10000Paths is what is asked of each new commit: did one of the files that a stack read change?
func BenchmarkHash10000Paths(b *testing.B) {
	r, names := benchRepo(b)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := newMirrors(b)
	fsys := mustFetch(b, m, r.fileSource()).FS.(hashFS)
	for b.Loop() {
		for _, n := range names {
			if _, err := fsys.Hash(n); err != nil {
				b.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-held")
	runtime.KeepAlive(m)
}

func BenchmarkReadFile(b *testing.B) {
	r, names := benchRepo(b)
	fsys := mustFetch(b, newMirrors(b), r.fileSource()).FS
	for i := 0; b.Loop(); i++ {
		if _, err := fs.ReadFile(fsys, names[i*7%len(names)]); err != nil {
			b.Fatal(err)
		}
	}
}
