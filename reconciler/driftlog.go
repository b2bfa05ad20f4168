package reconciler

import (
	"slices"
	"strings"
	"sync"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// Bounds on what is remembered of drift. Beyond them, of drift that is still there
// the fields are forgotten; of what is over, the oldest.
const (
	driftsKept     = 1000
	driftBytes     = 2 << 20 // of the fields, of open and of past drift each
	fieldsOfDrift  = 20
	pathOfDrift    = 512 // bytes of a field's path
	managerOfDrift = 128 // bytes: the API server lets anybody call itself anything so long
)

// driftLog remembers what drifted: what is there now, and what was there lately.
// Loop.mu guards it.
type driftLog struct {
	open      map[driftKey]*openDrift
	openBytes int
	objects   sync.Map // those that are open, for the watches: they don't wait for Loop.mu
	past      []Drift  // the newest last
	pastBytes int
}

type openDrift struct {
	Drift
	told bool   // there is a log record of it
	sum  uint64 // of the fields, which may be forgotten
}

type driftKey struct {
	stack string
	id    apply.ID
}

func (d *driftLog) find(stack string, id apply.ID) *openDrift { return d.open[driftKey{stack, id}] }

// put notes drift that is there, in place of what was known of the object.
func (d *driftLog) put(id apply.ID, drift Drift) *openDrift {
	if d.open == nil {
		d.open = map[driftKey]*openDrift{}
	}
	key := driftKey{drift.Stack, id}
	if old := d.open[key]; old != nil {
		d.openBytes -= old.size()
	}
	sum := drift.sum()
	if d.openBytes+drift.size() > driftBytes {
		drift.Fields = nil
	}
	d.openBytes += drift.size()
	d.open[key] = &openDrift{Drift: drift, sum: sum}
	d.objects.Store(id, nil)
	return d.open[key]
}

// close notes that drift is over.
func (d *driftLog) close(stack string, id apply.ID) {
	key := driftKey{stack, id}
	drift := d.open[key]
	if drift == nil {
		return
	}
	delete(d.open, key)
	d.objects.Delete(id)
	d.openBytes -= drift.size()
	d.past = append(d.past, drift.Drift)
	d.pastBytes += drift.size()
	for len(d.past) > driftsKept || d.pastBytes > driftBytes {
		d.pastBytes -= d.past[0].size()
		d.past[0] = Drift{}
		d.past = d.past[1:]
	}
}

// of lists the objects of a stack that drifted and are not back.
func (d *driftLog) of(stack string) []apply.ID {
	var ids []apply.ID
	for key := range d.open {
		if key.stack == stack {
			ids = append(ids, key.id)
		}
	}
	slices.SortFunc(ids, apply.ID.Compare)
	return ids
}

// forget drops what is open of a stack that is gone; nobody corrected it.
func (d *driftLog) forget(stack string) {
	for _, id := range d.of(stack) {
		d.openBytes -= d.find(stack, id).size()
		delete(d.open, driftKey{stack, id})
		d.objects.Delete(id)
	}
}

// list is what Loop.Drifts tells.
func (d *driftLog) list(stack string) []Drift {
	out := []Drift{}
	for _, drift := range d.open {
		if stack == "" || drift.Stack == stack {
			out = append(out, drift.Drift)
		}
	}
	for _, drift := range d.past {
		if stack == "" || drift.Stack == stack {
			out = append(out, drift)
		}
	}
	slices.SortStableFunc(out, func(a, b Drift) int { return b.Detected.Compare(a.Detected) })
	return out
}

func (d Drift) size() int {
	n := 0
	for _, f := range d.Fields {
		n += len(f.Path) + len(f.Have) + len(f.Want) + 48
	}
	return n
}

// status is what a Stack object says of drift that stays; nil: there is none.
func (d *driftLog) status(stack string) *DriftStatus {
	var lines []string
	n := 0
	for _, id := range d.of(stack) {
		drift := d.find(stack, id)
		if drift.Action == ActionCorrect && drift.Error == "" { // in a moment it is over
			continue
		}
		n++
		lines = appendBounded(lines, drift.String())
	}
	if n == 0 {
		return nil
	}
	return &DriftStatus{Objects: n, Message: short(strings.Join(lines, "\n"), messageBytes/2)}
}

// kinds counts the objects of a stack that are not as Git wants them.
func (d *driftLog) kinds(stack string) map[string]int {
	out := map[string]int{}
	for key := range d.open {
		if key.stack == stack {
			out[key.id.GroupKind().String()]++
		}
	}
	return out
}
