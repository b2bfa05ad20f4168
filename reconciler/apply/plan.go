package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// Action is what a Plan does to one object.
type Action string

// Actions.
const (
	ActionNone     Action = "none"      // as Git wants it
	ActionCreate   Action = "create"    //
	ActionUpdate   Action = "update"    // some fields change
	ActionAdopt    Action = "adopt"     // exists, and no stack owns it yet
	ActionReplace  Action = "replace"   // deleted and created again, as its annotation allows
	ActionDefer    Action = "defer"     // can't be validated before its namespace or CRD is there
	ActionWait     Action = "wait"      // is being deleted; created again when it is gone
	ActionDelete   Action = "delete"    // no longer in Git
	ActionHandOver Action = "hand-over" // no longer in this stack, but in another
	ActionKeep     Action = "keep"      // no longer in Git, but released rather than deleted
	ActionLeave    Action = "leave"     // what it should be can't be known now: it stays as it is
)

// Way is in which way an object drifted.
type Way string

// Ways to drift.
const (
	WayChanged  Way = "changed"    // fields have other values, or went away
	WayTaken    Way = "taken-over" // the values are right, another manager owns them
	WayDeleted  Way = "deleted"
	WayReplaced Way = "replaced" // another object of its name is there
	WayStripped Way = "stripped" // a label went away by which it is known as ours
)

// Change is what happens to one object, and why.
type Change struct {
	ID     ID
	Action Action
	Origin string        // source file; empty for what is no longer in Git
	Fields []FieldChange // update, adopt, replace: field by field
	Reason string        // delete, keep, hand-over, defer, wait, leave: why
	// Drift is how the cluster moved away although Git wants what it wanted before;
	// empty: it did not. By is who moved it.
	Drift Way
	By    Author
	// Refused is why drift of the object can't be put right; nil: nothing says so.
	Refused error

	prepared prepared
	direct   bool // its apply is its own check: see Request.Direct
	uid      types.UID
	inherits []string // adopt: the managers whose fields become ours
	version  string   // of an object that is to go: when it was looked at
	applied  Applied  // none: what is known to be true
	found    Applied  // what was there
	handOff  *handOff // ignored fields that are nobody else's, and are to stay
	resource Resource
}

// Plan is what would happen to the objects of one stack. It is a value: it can
// be printed, tested and refused. Preview and apply can't tell different
// stories, because Apply takes nothing else.
type Plan struct {
	Stack   string
	Changes []Change // those that keep or make something, in the order of IDs, then those that remove
	// Held says why nothing is deleted for now. The rest of the plan stands.
	Held string
	// Removal names the set of objects that would be deleted. Confirming this
	// very name releases a held plan.
	Removal string

	request Request
}

// Leave makes the plan leave an object as it was found.
func (p *Plan) Leave(id ID, reason string) {
	for i := range p.Changes {
		if c := &p.Changes[i]; c.ID == id {
			c.Action, c.Reason = ActionLeave, reason
		}
	}
}

// Counts is how many objects each action concerns.
func (p Plan) Counts() map[Action]int {
	counts := map[Action]int{}
	for _, c := range p.Changes {
		counts[c.Action]++
	}
	return counts
}

// Differs is true when the cluster is not as Git wants it.
func (p Plan) Differs() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.Action != ActionNone && c.Action != ActionLeave })
}

// Known is what the plan found to be true already.
func (p Plan) Known() map[ID]Applied {
	known := map[ID]Applied{}
	for _, c := range p.with(ActionNone, ActionLeave) {
		if c.applied.UID != "" { // what was left alone may not be there at all
			known[c.ID] = c.applied
		}
	}
	return known
}

// Drifted is what is known of the objects that are not as Git wants them.
func (p Plan) Drifted() map[ID]Applied {
	known := map[ID]Applied{}
	for _, c := range p.Changes {
		if c.Drift == "" {
			continue
		}
		is := c.found
		if is.Hash, is.Adrift = c.prepared.hash, true; is.Hash == (Hash{}) {
			is.Hash = p.request.Known[c.ID].Hash
		}
		known[c.ID] = is
	}
	return known
}

// Refused is why some drift can't be put right; nil: nothing stands in the way.
func (p Plan) Refused() error {
	var errs Errors
	for _, c := range p.Changes {
		if c.Refused != nil {
			errs = errs.collect(c.prepared, c.Refused)
		}
	}
	return errs.sorted()
}

func (p Plan) with(actions ...Action) []Change {
	var out []Change
	for _, c := range p.Changes {
		if slices.Contains(actions, c.Action) {
			out = append(out, c)
		}
	}
	return out
}

// String is the plan for people: a line an object, a line a field.
func (p Plan) String() string {
	var b strings.Builder
	marks := map[Action]string{ActionCreate: "+", ActionUpdate: "~", ActionAdopt: "~", ActionReplace: "±", ActionDelete: "-",
		ActionDefer: "+", ActionWait: "…", ActionHandOver: ">", ActionKeep: "=", ActionLeave: "="}
	for _, c := range p.Changes {
		if c.Action == ActionNone {
			continue
		}
		fmt.Fprintf(&b, "%s %s %s", marks[c.Action], c.Action, c.ID)
		if c.Reason != "" {
			fmt.Fprintf(&b, " (%s)", c.Reason)
		}
		if c.Origin != "" {
			fmt.Fprintf(&b, "  %s", c.Origin)
		}
		b.WriteByte('\n')
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "    %s\n", f)
		}
	}
	if p.Held != "" {
		fmt.Fprintf(&b, "! deletions held: %s\n", p.Held)
	}
	return b.String()
}

// Request is what to plan: the desired objects of a stack, what is known of
// them, and what may be deleted.
type Request struct {
	Stack   string                     // source.stack
	Spec    map[string]any             // mirrored to the Stack object
	Parent  *unstructured.Unstructured // the Stack object as last seen; nil: not there
	Objects []Object
	// Leave are objects that the stack wants too, and that nobody can say now what
	// they should be, for LeaveReason: they are neither made nor changed nor deleted.
	Leave       []Object
	LeaveReason string
	Reserved    []ID           // objects that only the daemon itself writes
	Masks       Masks          // of what was sealed; nil: nothing was
	Ignore      []Ignore       // fields that are left to whoever else writes them
	Settled     bool           // Git has not moved: whatever differs is drift
	Known       map[ID]Applied // what needs no question to the server
	Digest      string         // where Known was lost: the Digest of what was known when all was well
	Removed     bool           // the stack itself is no longer in Git
	// Direct spares a lone change its dry run, and the plan its fields: applying
	// one object of ours does it or refuses it, and there is nothing else to leave
	// undone. It is for those who go on to apply; who only looks wants to see.
	Direct bool

	Prune     PrunePolicy
	Hold      string                  // a reason not to delete anything now; "": none
	Confirmed string                  // a Plan.Removal that somebody confirmed by hand
	Elsewhere func(ID) string         // another stack that wants this object; nil, "": none
	Foreign   func(stack string) bool // a stack that another Plumbline reconciles; nil: none
}

func (r Request) elsewhere(id ID) string {
	if r.Elsewhere == nil {
		return ""
	}
	return r.Elsewhere(id)
}

// removalName names a set of objects, by their UIDs: what was confirmed can't
// turn into something else.
func removalName(stack string, changes []Change) string {
	sum := sha256.New()
	fmt.Fprintln(sum, stack)
	for _, c := range changes {
		fmt.Fprintln(sum, c.ID, c.uid)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}
