package render

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

func BenchmarkKustomize(b *testing.B) {
	for _, n := range []int{4, 50, 500} {
		b.Run(fmt.Sprintf("objects=%d", n), func(b *testing.B) {
			req := request(tree(stackOf(n)))
			mustRender(b, req)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Kustomize(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkChanged is what an unchanged stack costs.
func BenchmarkChanged(b *testing.B) {
	fsys := tree(stackOf(50))
	in := mustRender(b, request(fsys)).Inputs
	for b.Loop() {
		if name, err := in.Changed(hashed{fsys}); name != "" || err != nil {
			b.Fatal(name, err)
		}
	}
}

// BenchmarkRetained reports the heap that stays after the first render, and after a thousand.
func BenchmarkRetained(b *testing.B) {
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / mebi
	}
	req := request(tree(stackOf(4)))
	before := heap()
	mustRender(b, req)
	first := heap()
	for b.Loop() {
		for range 1000 {
			mustRender(b, req)
		}
	}
	b.ReportMetric(first-before, "MiB-first")
	b.ReportMetric(heap()-before, "MiB-after")
}
