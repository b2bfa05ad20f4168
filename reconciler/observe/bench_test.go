package observe

import (
	"fmt"
	"runtime"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func BenchmarkFingerprintOf(b *testing.B) {
	obj := deployment(b)
	b.ReportAllocs()
	for b.Loop() {
		FingerprintOf(obj, "plumbline")
	}
}

func BenchmarkEntryOf(b *testing.B) {
	obj := deployment(b)
	b.ReportAllocs()
	for b.Loop() {
		entryOf(obj, "plumbline", newJudge())
	}
}

// BenchmarkHeapPerEntry reports what the Observer holds on to for each of 5,000 objects.
func BenchmarkHeapPerEntry(b *testing.B) {
	const n = 5000
	for b.Loop() {
		o := New(b.Context(), Options{Manager: "plumbline"})
		w := newWatching(o, Kind{Kind: "Deployment"})
		before := heap()
		objs := make([]any, n)
		pattern, err := deployment(b).MarshalJSON()
		if err != nil {
			b.Fatal(err)
		}
		for i := range n {
			obj := &unstructured.Unstructured{} // decoded each time, for its strings to be its own
			if err := obj.UnmarshalJSON(pattern); err != nil {
				b.Fatal(err)
			}
			obj.SetName(fmt.Sprintf("grafana-with-a-long-name-%d", i))
			obj.SetNamespace(fmt.Sprintf("namespace-%d", i%40))
			obj.SetUID(types.UID(fmt.Sprintf("5d1b4f0e-9d0c-4f43-8f5e-%012d", i)))
			obj.SetResourceVersion(fmt.Sprint(1000000 + i))
			obj.SetLabels(map[string]string{StackLabel: fmt.Sprintf("stack-%d", i%100), PartOfLabel: fmt.Sprintf("applyset-Q5zMY0dLQ2gGm3yA1v3sXx1r0cW7kJ8dH9tqB2nE4uo-v%d", i%100)})
			edit(b, obj, int64(i%5), "status", "readyReplicas")
			objs[i] = o.itemOf(obj)
		}
		if err := w.Replace(objs, "1"); err != nil {
			b.Fatal(err)
		}
		clear(objs)
		objs = nil //nolint:ineffassign // so that the collector may have them
		b.ReportMetric(float64(heap()-before)/n, "B/entry")
		runtime.KeepAlive(o)
		runtime.KeepAlive(w)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
