package apply

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// PrunePolicy bounds what may be deleted.
type PrunePolicy struct {
	Disabled bool     // objects that leave Git are released, not deleted
	Limit    string   // "50%" of the stack's objects, or a number; "": 50%
	Include  []string // kept kinds that may be deleted after all: "PersistentVolumeClaim"
}

// alwaysAllowed deletions need no budget where none is set: a small stack may
// lose all it has.
const alwaysAllowed = 10

// allowed is how many of total objects may go without a confirmation.
func (p PrunePolicy) allowed(total int) int {
	if p.Limit == "" {
		return max(alwaysAllowed, total/2)
	}
	limit, percent := strings.CutSuffix(p.Limit, "%")
	n, _ := strconv.Atoi(limit)
	if percent {
		return total * n / 100
	}
	return n
}

// Validate refuses a limit that is neither a number nor a percentage.
func (p PrunePolicy) Validate() error {
	limit, percent := strings.CutSuffix(p.Limit, "%")
	if n, err := strconv.Atoi(limit); p.Limit != "" && (err != nil || n < 0 || (percent && n > 100)) {
		return fmt.Errorf("prune.limit: %q is neither a number of objects nor a percentage such as 50%%", p.Limit)
	}
	return nil
}

// planRemovals decides about every object that the stack owns and Git no longer
// has in it.
func (e *Engine) planRemovals(ctx context.Context, req Request, wanted []Change) ([]Change, error) {
	keep := map[ID]bool{}
	for _, c := range wanted {
		keep[c.ID] = true
	}
	for _, o := range slices.Concat(req.Objects, req.Leave) { // also those that failed to plan
		keep[IDOf(o.Unstructured)] = true
	}
	var gone []LiveObject
	for _, live := range e.live.OfStack(req.Stack) {
		if !keep[live.ID] && live.PartOf == SetID(req.Stack) && live.Fingerprint != (Fingerprint{}) {
			gone = append(gone, live)
		}
	}
	changes := make([]Change, len(gone))
	errs := make([]error, len(gone))
	var group sync.WaitGroup
	for i, live := range gone {
		group.Go(func() { changes[i], errs[i] = e.planRemoval(ctx, req, live) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	changes = slices.DeleteFunc(changes, func(c Change) bool { return c.Action == ActionNone })
	slices.SortFunc(changes, func(a, b Change) int { return a.ID.Compare(b.ID) })
	return changes, nil
}

func (e *Engine) planRemoval(ctx context.Context, req Request, live LiveObject) (Change, error) {
	change := Change{ID: live.ID, uid: live.UID}
	if live.Deleting {
		change.Action, change.Reason = ActionWait, "is being deleted"
		return change, nil
	}
	if other := req.elsewhere(live.ID); other != "" {
		change.Action, change.Reason = ActionHandOver, "to "+other
		return change, nil
	}
	resource, err := e.mapper.Resource(live.GroupKind(), "")
	if err != nil {
		return change, err
	}
	change.resource = resource
	return e.lookAgain(ctx, req, change)
}

// lookAgain reads the object before it is condemned: the watch may be behind,
// and the object may ask to be kept.
func (e *Engine) lookAgain(ctx context.Context, req Request, change Change) (Change, error) {
	now, err := e.client.get(ctx, change.resource, change.ID)
	if apierrors.IsNotFound(err) {
		e.live.SawGone(change.ID, change.uid)
		change.Action = ActionNone
		return change, nil
	}
	if err != nil {
		return change, fmt.Errorf("look at %s before pruning it: %w", change.ID, err)
	}
	if now.GetLabels()[PartOfLabel] != SetID(req.Stack) || now.GetUID() != change.uid {
		e.live.Saw(now)
		change.Action = ActionNone // no longer ours
		return change, nil
	}
	change.version = now.GetResourceVersion()
	change.Action, change.Reason = ActionDelete, "no longer in Git"
	switch gk := change.ID.GroupKind(); {
	case req.Prune.Disabled:
		change.Action, change.Reason = ActionKeep, "prune is off"
	case now.GetAnnotations()[PruneAnnotation] == "disabled":
		change.Action, change.Reason = ActionKeep, "annotated "+PruneAnnotation+": disabled"
	case keptKinds[gk] && !slices.Contains(req.Prune.Include, gk.Kind):
		change.Action, change.Reason = ActionKeep, "a "+gk.Kind+" is kept unless prune.include names it"
	}
	return change, nil
}

// budget holds the deletions of a plan when there are more than the stack
// allows, or another reason speaks against them now.
func (p *Plan) budget() {
	deletions := p.with(ActionDelete)
	if len(deletions) == 0 {
		return
	}
	p.Removal = removalName(p.Stack, deletions)
	total := 0
	for _, c := range p.Changes {
		if c.Action != ActionCreate && c.Action != ActionDefer {
			total++
		}
	}
	allowed := p.request.Prune.allowed(total)
	switch {
	case p.request.Confirmed == p.Removal:
	case p.request.Hold != "":
		p.Held = p.request.Hold
	case len(deletions) > allowed:
		p.Held = fmt.Sprintf("%d of %d objects would be deleted, %d are allowed; to go ahead: plumbline reconcile %s --confirm %s",
			len(deletions), total, allowed, p.Stack, p.Removal)
	}
}
