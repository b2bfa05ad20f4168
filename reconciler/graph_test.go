package reconciler

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCycle(t *testing.T) {
	graph := map[string][]string{
		"a": {"b"}, "b": {"c"}, "c": {"a"}, // a circle
		"x": {"a"},      // leads into it, and is not on it
		"y": {"z", "w"}, // a diamond is no circle
		"z": {"v"}, "w": {"v"},
		"self": {"self"},
		"lost": {"nowhere"},
	}
	for stack, want := range map[string][]string{
		"a": {"a", "b", "c", "a"}, "b": {"b", "c", "a", "b"}, "x": nil, "y": nil, "self": {"self", "self"}, "lost": nil,
	} {
		got := cycle(stack, func(name string) []string { return graph[name] })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", stack, diff)
		}
	}
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	for failures := 1; failures < 40; failures++ {
		limit := min(120.0, 0.5*float64(int64(1)<<min(failures-1, 10)))
		if d := backoff(failures).Seconds(); d < limit/2 || d > limit {
			t.Errorf("after %d failures: %v s, want %v to %v", failures, d, limit/2, limit)
		}
	}
}
