package reconciler

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

func TestHealthOf(t *testing.T) {
	entries := map[string]observe.Entry{
		"good":  {Status: status.CurrentStatus},
		"slow":  {Status: status.InProgressStatus, Message: "0 of 1 available"},
		"bad":   {Status: status.FailedStatus, Message: "deadline exceeded"},
		"going": {Status: status.CurrentStatus, Deleting: true},
	}
	get := func(id observe.ID) (observe.Entry, bool) { e, ok := entries[id.Name]; return e, ok }
	for _, test := range []struct {
		names string
		ready bool
		want  string
	}{
		{"", true, "0/0 ready"},
		{"good", true, "1/1 ready"},
		{"good slow", false, "1/2 ready; waiting for Pod slow: 0 of 1 available"},
		{"good bad", false, "1/2 ready; failed: Pod bad: deadline exceeded"},
		{"gone", false, "0/1 ready; waiting for Pod gone: not there"},
		{"going", false, "0/1 ready; waiting for Pod going: "},
	} {
		var ids []apply.ID
		for _, name := range strings.Fields(test.names) {
			ids = append(ids, apply.ID{Kind: "Pod", Name: name})
		}
		h := healthOf(ids, get)
		if h.Ready() != test.ready || h.String() != test.want {
			t.Errorf("%q: got %v %q, want %v %q", test.names, h.Ready(), h, test.ready, test.want)
		}
	}
}

func TestHealthIsBounded(t *testing.T) {
	var ids []apply.ID
	for i := range 1000 {
		ids = append(ids, apply.ID{Kind: "Pod", Name: fmt.Sprint(i)})
	}
	h := healthOf(ids, func(observe.ID) (observe.Entry, bool) { return observe.Entry{}, false })
	if len(h.Pending) > shownObjects || h.Total != 1000 {
		t.Errorf("got %d pending of %d", len(h.Pending), h.Total)
	}
}

// TestHealthMasked: what a message has of a secret at its end is no part of the status.
func TestHealthMasked(t *testing.T) {
	const secret = "hunter2hunter2hunter2hunter2"
	mask := func(text string) string { return strings.ReplaceAll(text, secret, "***") }
	for n := range 450 {
		kept := strings.Repeat("x", n) + secret + strings.Repeat("y", 500)
		kept = kept[:384-len("…")] + "…"
		h := Health{Failed: []string{"A.b c/d: " + kept}, Pending: []string{"A.b c/e: " + kept, "A.b c/f: not there"}}.masked(mask)
		if text := h.String(); strings.Contains(text, "hunter") || !strings.HasSuffix(text, "; A.b c/f: not there") || len(h.Failed[0]) > 300 {
			t.Fatalf("%d: %s", n, text)
		}
	}
}
