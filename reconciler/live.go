package reconciler

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

// Bounds on what is answered at once.
const (
	listedMessage = 512  // bytes of a message, where many stacks are listed
	listedObjects = 2000 // of a stack
	namedStacks   = 50   // in an error
	DriftLimit    = 100  // records of drift, where nobody asks for another number
	MostDrift     = 1000 // that may be asked for
)

// StackList is how all sources and stacks are doing.
type StackList struct {
	// Leading is true: a daemon that stands by answers with an error.
	Leading bool         `json:"leading"`
	Sources []SourceView `json:"sources"`
	// Stacks are sorted by name. Of long messages, the beginning is here; all of it is in the answer about the one stack.
	Stacks []StackView `json:"stacks"`
}

// StackDetail is how one stack is doing, and each of its objects.
type StackDetail struct {
	Stack      StackView       `json:"stack"`
	Conditions []ConditionView `json:"conditions"`
	// Objects are those that Git wants, and those that carry the stack's labels.
	Objects []ObjectView `json:"objects"`
	// More is how many objects there are beyond those that are listed.
	More int `json:"more"`
	// Drift is what is there now, then what was there lately, the newest first; at most 100.
	Drift []Drift `json:"drift"`
}

// ConditionView is a condition of a Stack object.
type ConditionView struct {
	// Type is Ready, Reconciling, Stalled, Contended or SecretsResolved.
	Type string `json:"type"`
	// Status is True, False or Unknown.
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Since is when Status changed last.
	Since time.Time `json:"since"`
}

// ObjectView is an object of a stack, as the watches know it.
type ObjectView struct {
	// Kind is as in Deployment.apps.
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Ready     bool   `json:"ready"`
	// Status is Current, InProgress, Failed, Terminating, Unknown, or NotFound where Git wants the object and it isn't there.
	Status string `json:"status"`
	// Message is why it is not ready.
	Message string `json:"message,omitempty"`
}

// DriftList is drift, of one stack or of all: what is there now, then what was
// there lately, each with the newest first.
type DriftList struct {
	// Stacks is how many stacks were looked at.
	Stacks int     `json:"stacks"`
	Drift  []Drift `json:"drift"`
	// More is how many records there are beyond those that are listed.
	More int `json:"more"`
}

// DriftQuery selects drift.
type DriftQuery struct {
	Stack string // "": all
	Open  bool   // only what is there now
	Limit int    // 0: DriftLimit
}

// NoStackError says that there is no such stack, and which there are.
type NoStackError struct {
	Stack string
	There []string // sorted
}

// Error is `no stack "a": there are b, c`, bounded.
func (e *NoStackError) Error() string {
	names := "none"
	if n := len(e.There); n > 0 {
		names = strings.Join(e.There[:min(n, namedStacks)], ", ")
		if n > namedStacks {
			names += fmt.Sprintf(" and %d more", n-namedStacks)
		}
	}
	return fmt.Sprintf("no stack %q: there are %s", short(e.Stack, 100), names)
}

// LiveStacks is how everything is doing, from memory. Like all that is live, it
// may be called from anywhere, at any time, and holds the loop up only for as long
// as it takes to copy.
func (l *Loop) LiveStacks() StackList {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := StackList{Leading: true, Sources: []SourceView{}, Stacks: []StackView{}}
	for _, name := range sorted(l.sources) {
		s := l.sources[name]
		list.Sources = append(list.Sources, viewOfSource(name, s.config.URL, s.status))
	}
	open := l.drifts.counts()
	for _, name := range sorted(l.stacks) {
		v := l.live(name, l.stacks[name], open[name])
		v.Message, v.Held = short(v.Message, listedMessage), short(v.Held, listedMessage)
		list.Stacks = append(list.Stacks, v)
	}
	return list
}

// live is a stack as the loop knows it. Loop.mu is held.
func (l *Loop) live(name string, s *stackState, drift int) StackView {
	v := viewOf(name, s.status)
	v.Source, v.Path, v.Revision, v.Drift = s.declared.Source, path.Dir(s.declared.File), s.revision, drift
	if source := l.sources[v.Source]; source != nil {
		v.URL = source.config.URL
	}
	return v
}

// LiveStack is how one stack is doing; a NoStackError: there is none.
func (l *Loop) LiveStack(name string) (StackDetail, error) {
	detail, wants, mask, err := l.liveDetail(name)
	if err != nil {
		return detail, err
	}
	detail.Objects = objectViews(wants, l.OfStack(name), l.Watched, mask)
	if n := len(detail.Objects); n > listedObjects {
		detail.Objects, detail.More = detail.Objects[:listedObjects], n-listedObjects
	}
	return detail, nil
}

// liveDetail is what of a StackDetail needs the lock, and what the rest needs of
// the stack.
func (l *Loop) liveDetail(name string) (detail StackDetail, wants []apply.ID, mask func(string) string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	if !ok {
		return detail, nil, nil, &NoStackError{name, sorted(l.stacks)}
	}
	drift := l.drifts.list(name)
	detail.Stack, detail.Conditions = l.live(name, s, len(l.drifts.of(name))), conditionViews(s.status.Conditions)
	detail.Drift, _ = firstOf(drift, DriftLimit)
	masks := &stackState{newest: s.newest, live: s.live}
	return detail, slices.Clone(s.wants), masks.masked, nil
}

func conditionViews(conditions []metav1.Condition) []ConditionView {
	out := []ConditionView{}
	for _, c := range conditions {
		out = append(out, ConditionView{c.Type, string(c.Status), c.Reason, c.Message, c.LastTransitionTime.Time})
	}
	return out
}

// objectViews are the objects that a stack wants or has, sorted.
func objectViews(wants []apply.ID, has []observe.Entry, watched func(observe.ID) (observe.Entry, bool), mask func(string) string) []ObjectView {
	entries := map[apply.ID]observe.Entry{}
	for _, e := range has {
		entries[apply.ID(e.ID)] = e
	}
	for _, id := range wants {
		if _, ok := entries[id]; !ok {
			if e, there := watched(observe.ID(id)); there {
				entries[id] = e
			} else {
				entries[id] = observe.Entry{Status: status.NotFoundStatus}
			}
		}
	}
	out := make([]ObjectView, 0, len(entries))
	for id, e := range entries {
		v := ObjectView{Kind: id.GroupKind().String(), Namespace: id.Namespace, Name: id.Name, Status: string(e.Status), Message: observe.Shown(e.Message, mask)}
		if e.Deleting {
			v.Status = string(status.TerminatingStatus)
		}
		v.Ready = v.Status == string(status.CurrentStatus)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b ObjectView) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// LiveDrift lists drift. A stack that there is not, and of which nothing is
// remembered, is a NoStackError: a typo is not to look like a stack that is well.
func (l *Loop) LiveDrift(q DriftQuery) (DriftList, error) {
	all := l.Drifts(q.Stack)
	stacks, there := l.stackNames(), 1
	if q.Stack == "" {
		there = len(stacks)
	} else if _, known := slices.BinarySearch(stacks, q.Stack); !known {
		if there = 0; len(all) == 0 {
			return DriftList{}, &NoStackError{q.Stack, stacks}
		}
	}
	if q.Open {
		all = slices.DeleteFunc(all, func(d Drift) bool { return !d.Open() })
	}
	drift, more := firstOf(all, cmp.Or(q.Limit, DriftLimit))
	return DriftList{there, drift, more}, nil
}

func (l *Loop) stackNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(l.stacks)
}

// firstOf orders drift as people read it, and cuts the rest off: what is still
// there is not to be lost behind what was put right.
func firstOf(drift []Drift, limit int) (first []Drift, more int) {
	rank := func(d Drift) int {
		if d.Open() {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(drift, func(a, b Drift) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.Detected.Compare(a.Detected), cmp.Compare(a.Stack, b.Stack),
			cmp.Compare(a.Object.String(), b.Object.String()))
	})
	if len(drift) > limit {
		return drift[:limit], len(drift) - limit
	}
	return drift, 0
}

// counts is how many objects of each stack drifted and are not back.
func (d *driftLog) counts() map[string]int {
	open := map[string]int{}
	for key := range d.open {
		open[key.stack]++
	}
	return open
}

// String is "Deployment.apps o11y/grafana".
func (o DriftOf) String() string {
	if o.Namespace != "" {
		return o.Kind + " " + o.Namespace + "/" + o.Name
	}
	return o.Kind + " " + o.Name
}
