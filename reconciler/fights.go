package reconciler

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// A field that is taken back more often than this within a minute belongs to
// somebody who insists. What is longer ago counts less, by exponential decay.
const (
	takeBacks = 5
	forgotten = 0.05 // below this, nobody counts
)

// fights counts, for each field of each object, how often it was taken back.
type fights map[apply.ID]map[string]fight

type fight struct {
	score float64
	last  time.Time
}

func (f fight) at(now time.Time) float64 {
	return f.score * math.Exp(-now.Sub(f.last).Minutes())
}

// count notes that fields of an object were taken back, and returns the one that
// was so too often; "" and false: none. An object that was deleted has one, "".
func (f fights) count(id apply.ID, fields []string, now time.Time) (field string, over bool) {
	of := f[id]
	if of == nil {
		of = map[string]fight{}
		f[id] = of
	}
	maps.DeleteFunc(of, func(_ string, old fight) bool { return old.at(now) < forgotten })
	for _, name := range fields {
		next := fight{of[name].at(now) + 1, now}
		of[name] = next
		if next.score > takeBacks && !over {
			field, over = name, true
		}
	}
	return field, over
}

// contention is why an object is left to somebody: which fields are taken back.
type contention struct {
	reason string
	fields map[string]bool
}

// covers is true where nothing differs but what is contended.
func (c contention) covers(fields []string) bool {
	return len(c.fields) > 0 && !slices.ContainsFunc(fields, func(f string) bool { return !c.fields[f] })
}

// adriftLooks is how often an object is looked at that is not put right for now:
// somebody who insists may have given up, or have changed more than that.
const adriftLooks = 5 * time.Second

// insisted is why an object is left to somebody else; "": it is not. It is asked once
// for each time that an object has to be put right.
func (s *stackState) insisted(c apply.Change, d Drift) string {
	if s.fights == nil {
		s.fights, s.contended = fights{}, map[apply.ID]contention{}
	}
	field, over := s.fights.count(c.ID, contestable(d), time.Now())
	if !over {
		return ""
	}
	what := "takes " + field + " back"
	switch {
	case d.What == apply.WayDeleted:
		what = "deletes it"
	case d.What == apply.WayTaken:
		what = "takes its fields over"
	case d.Manager == "":
		what = "removes " + field
	}
	who := orString(d.Manager, "somebody whom the object doesn't name")
	fields := maps.Clone(s.contended[c.ID].fields)
	if fields == nil {
		fields = map[string]bool{}
	}
	for _, name := range contestable(d) {
		fields[name] = true
	}
	reason := fmt.Sprintf("%s: %s %s again and again, and is left to it: settle who owns this, then push, or plumbline reconcile %s", c.ID, who, what, d.Stack)
	s.contended[c.ID] = contention{reason, fields}
	return reason
}

// contestable are the fields that count.
func contestable(d Drift) []string {
	if d.What == apply.WayDeleted {
		return []string{""}
	}
	var paths []string
	for _, f := range d.Fields {
		paths = append(paths, f.Path)
	}
	return paths
}

// rearm makes the stack put everything right again.
func (s *stackState) rearm() { s.fights, s.contended = nil, nil }

// contention says who insists on what.
func (s *stackState) contention() string {
	var reasons []string
	for _, c := range s.contended {
		reasons = append(reasons, c.reason)
	}
	slices.Sort(reasons)
	if more := len(reasons) - shownObjects; more > 0 {
		reasons = append(reasons[:shownObjects], fmt.Sprintf("and %d more objects", more))
	}
	return strings.Join(reasons, "\n")
}

// sayContended keeps the condition Contended, once a stack was that.
func (s *stackState) sayContended() {
	list := &s.status.Conditions
	switch {
	case len(s.contended) > 0:
		setCondition(list, metav1.Condition{Type: ConditionContended, Status: metav1.ConditionTrue, Reason: "ManagersFight", Message: short(s.shown(s.contention()), messageBytes)})
	case meta.FindStatusCondition(*list, ConditionContended) != nil:
		setCondition(list, metav1.Condition{Type: ConditionContended, Status: metav1.ConditionFalse, Reason: "No"})
	}
}
