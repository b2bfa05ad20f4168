package reconciler

import (
	"fmt"
	"slices"
	"testing"
)

func TestUrgent(t *testing.T) {
	hurried := map[string]bool{}
	u := &urgent{now: func(stack string) bool { return hurried[stack] }}
	pop := func() []string {
		var out []string
		for u.Len() > 0 {
			out = append(out, u.Pop())
		}
		return out
	}
	for i := range 6 {
		u.Push(fmt.Sprint("commit", i))
	}
	for i := range 5 {
		hurried[fmt.Sprint("drift", i)] = true
		u.Push(fmt.Sprint("drift", i))
	}
	hurried["commit5"] = true
	u.Touch("commit5")
	u.Touch("drift0")
	want := []string{"drift0", "drift1", "drift2", "commit0", "drift3", "drift4", "commit5", "commit1", "commit2", "commit3", "commit4"}
	if got := pop(); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
