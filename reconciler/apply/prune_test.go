package apply

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestAllowedDeletions(t *testing.T) {
	for _, test := range []struct {
		limit       string
		total, want int
	}{
		{"", 4, 10}, {"", 20, 10}, {"", 100, 50}, {"20%", 100, 20}, {"20%", 10, 2}, {"100%", 7, 7}, {"0%", 100, 0}, {"0", 100, 0}, {"3", 100, 3},
	} {
		if got := (PrunePolicy{Limit: test.limit}).allowed(test.total); got != test.want {
			t.Errorf("%q of %d: %d may go, want %d", test.limit, test.total, got, test.want)
		}
	}
}

func TestPruneLimitIsChecked(t *testing.T) {
	for limit, good := range map[string]bool{"": true, "50%": true, "0": true, "12": true, "101%": false, "-1": false, "half": false, "5 %": false, "%": false} {
		if err := (PrunePolicy{Limit: limit}).Validate(); (err == nil) != good {
			t.Errorf("%q: %v", limit, err)
		}
	}
}

func deletions(n int) []Change {
	var out []Change
	for i := range n {
		out = append(out, Change{ID: ID{Kind: "ConfigMap", Name: fmt.Sprint(i)}, Action: ActionDelete, uid: types.UID(fmt.Sprint("uid", i))})
	}
	return out
}

func TestBudget(t *testing.T) {
	twelve := removalName("s", deletions(12))
	for _, test := range []struct {
		name    string
		request Request
		delete  int
		held    bool
	}{
		{"nothing to delete", Request{Hold: "whatever"}, 0, false},
		{"within the budget", Request{}, 10, false},
		{"beyond the budget", Request{}, 12, true},
		{"confirmed", Request{Confirmed: twelve}, 12, false},
		{"something else was confirmed", Request{Confirmed: twelve}, 13, true},
		{"held for another reason", Request{Hold: "a stack is broken"}, 1, true},
		{"held for another reason, and confirmed", Request{Hold: "a stack is broken", Confirmed: twelve}, 12, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := Plan{Stack: "s", Changes: deletions(test.delete), request: test.request}
			p.budget()
			if (p.Held != "") != test.held {
				t.Errorf("held: %q", p.Held)
			}
		})
	}
}

func TestRemovalNamesExactObjects(t *testing.T) {
	same, other := deletions(3), deletions(3)
	other[1].uid = "another object of that name"
	if removalName("s", deletions(3)) != removalName("s", same) {
		t.Error("the same objects have two names")
	}
	if removalName("s", same) == removalName("s", other) || removalName("s", same) == removalName("t", same) {
		t.Error("other objects have the same name: a confirmation would cover them")
	}
}
