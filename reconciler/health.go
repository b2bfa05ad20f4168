package reconciler

import (
	"context"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

// shownObjects bounds what a status says of single objects.
const shownObjects = 5

// ObserveWith reads health from what the watches know. It asks nobody and waits
// for nothing.
func ObserveWith(get func(observe.ID) (observe.Entry, bool)) Step[apply.Inventory, Health] {
	return func(_ context.Context, inv apply.Inventory) (Health, error) {
		ids := append(inv.IDs(), inv.Waiting...)
		slices.SortFunc(ids, apply.ID.Compare)
		return healthOf(ids, get), nil
	}
}

func healthOf(ids []apply.ID, get func(observe.ID) (observe.Entry, bool)) Health {
	h := Health{Total: len(ids)}
	for _, id := range ids {
		entry, ok := get(observe.ID(id))
		switch {
		case !ok:
			h.Pending = appendBounded(h.Pending, id.String()+": not there")
		case entry.Status == status.CurrentStatus && !entry.Deleting:
			h.Current++
		case entry.Status == status.FailedStatus:
			h.Failed = appendBounded(h.Failed, id.String()+": "+entry.Message)
		default:
			h.Pending = appendBounded(h.Pending, id.String()+": "+entry.Message)
		}
	}
	return h
}

func appendBounded(list []string, line string) []string {
	if len(list) >= shownObjects {
		return list
	}
	return append(list, line)
}

// masked is the health with what objects say of themselves masked, and short.
func (h Health) masked(mask func(string) string) Health {
	each := func(lines []string) (out []string) {
		for _, line := range lines {
			id, message, _ := strings.Cut(line, ": ")
			out = append(out, id+": "+observe.Shown(message, mask))
		}
		return out
	}
	h.Failed, h.Pending = each(h.Failed), each(h.Pending)
	return h
}
