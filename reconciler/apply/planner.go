package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Live is what the watches know of the cluster. Reading it costs no request.
type Live interface {
	// Ensure waits until these kinds are watched and listed. A kind that the
	// cluster doesn't serve has no objects, and is no error.
	Ensure(ctx context.Context, resources ...Resource) error
	Get(ID) (LiveObject, bool)
	OfStack(stack string) []LiveObject
	// Fingerprint hashes the values of the fields that Manager owns.
	Fingerprint(*unstructured.Unstructured) Fingerprint
	// Saw and SawGone note what our own write did, so that nobody reads older.
	Saw(*unstructured.Unstructured) LiveObject
	SawGone(ID, types.UID)
}

// Engine plans and applies. It is safe for concurrent use.
type Engine struct {
	client *client
	mapper *Mapper
	live   Live
	hashes hasher
}

// DefaultRequests is how many requests may be under way at once, over all
// stacks. More made a server on two cores slower, not faster.
const DefaultRequests = 16

// New returns an Engine. requests bounds those under way at once; 0 is
// DefaultRequests. key is for the hashes of what may hold a secret; nil: made up.
func New(config *rest.Config, httpClient *http.Client, mapper *Mapper, live Live, requests int, key []byte) (*Engine, error) {
	if requests <= 0 {
		requests = DefaultRequests
	}
	c, err := newClient(config, httpClient, requests)
	if err != nil {
		return nil, err
	}
	return &Engine{client: c, mapper: mapper, live: live, hashes: newHasher(key)}, nil
}

// Plan finds out what applying the request would do. It changes nothing. When
// objects are invalid it returns an Errors with all of them, and the plan as far
// as it goes.
func (e *Engine) Plan(ctx context.Context, req Request) (Plan, error) {
	plan := Plan{Stack: req.Stack, request: req}
	wanted, late, errs := e.locate(req)
	if err := e.watch(ctx, req, wanted); err != nil {
		return plan, err
	}
	if len(req.Known) == 0 && req.Digest != "" {
		req.Known = e.recall(req, wanted)
	}
	req.Direct = req.Direct && len(wanted) == len(req.Objects)
	changes, more := e.planObjects(ctx, req, wanted)
	changes = append(changes, e.leave(req)...)
	errs = append(errs, more...)
	if err := ctx.Err(); err != nil {
		return plan, err
	}
	plan.Changes = append(changes, late...)
	slices.SortFunc(plan.Changes, func(a, b Change) int { return a.ID.Compare(b.ID) })
	removals, err := e.planRemovals(ctx, req, plan.Changes)
	if err != nil {
		return plan, err
	}
	plan.Changes = append(plan.Changes, removals...)
	plan.budget()
	return plan, errs.sorted()
}

// locate finds where each object lives in the API. A kind whose CRD comes with
// this very plan can only be planned when the CRD is there.
func (e *Engine) locate(req Request) (wanted []prepared, late []Change, errs Errors) {
	for _, o := range req.Objects {
		gvk := o.GroupVersionKind()
		if err := forbidden(o, req.Reserved); err != nil {
			errs = append(errs, err)
			continue
		}
		resource, err := e.mapper.Resource(gvk.GroupKind(), gvk.Version)
		if served := brings(req.Objects, gvk.GroupKind()); isUnknownKind(err) && slices.Contains(served, gvk.Version) {
			late = append(late, e.late(req, o))
			continue
		} else if isUnknownKind(err) && len(served) > 0 {
			err = &ObjectError{ID: IDOf(o.Unstructured), Origin: o.Origin, Terminal: true,
				Err: fmt.Errorf("version %s is not served: its CRD has %s", gvk.Version, strings.Join(served, ", "))}
		}
		if err != nil {
			errs = errs.collect(prepared{ID: IDOf(o.Unstructured), Origin: o.Origin}, err)
			continue
		}
		p, err := e.hashes.prepare(o, resource, req)
		if err != nil {
			errs = errs.collect(prepared{ID: IDOf(o.Unstructured), Origin: o.Origin}, err)
			continue
		}
		wanted = append(wanted, p)
	}
	return wanted, late, errs
}

// late is an object that can't be planned before its CRD is served. If it was there
// before, its CRD was taken away.
func (e *Engine) late(req Request, o Object) Change {
	change := Change{ID: IDOf(o.Unstructured), Action: ActionDefer, Origin: o.Origin, Reason: "checked once its CRD is served"}
	if _, was := req.Known[change.ID]; was || (req.Settled && len(req.Known) == 0) {
		change.Drift = WayDeleted
	}
	return change
}

// forbidden refuses what only the daemon itself writes: a stack that could would
// speak for other sources.
func forbidden(o Object, reserved []ID) *ObjectError {
	if slices.Contains(reserved, IDOf(o.Unstructured)) {
		return &ObjectError{ID: IDOf(o.Unstructured), Origin: o.Origin, Terminal: true,
			Err: errors.New("holds a key of Plumbline's own, and is no stack's to write: take it out of the repository")}
	}
	group := o.GroupVersionKind().Group
	if isCRD(o.GroupVersionKind().GroupKind()) {
		group = definedBy(o).Group
	}
	if group != Stacks.Group {
		return nil
	}
	return &ObjectError{ID: IDOf(o.Unstructured), Origin: o.Origin, Terminal: true,
		Err: fmt.Errorf("objects of the group %s are written by Plumbline alone: take it out of the repository", Stacks.Group)}
}

// brings lists the versions in which a CRD among the objects serves this kind.
func brings(objects []Object, gk schema.GroupKind) []string {
	var served []string
	for _, o := range objects {
		if !isCRD(o.GroupVersionKind().GroupKind()) || definedBy(o) != gk {
			continue
		}
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		for _, v := range versions {
			version, _ := v.(map[string]any)
			if name, ok := version["name"].(string); ok && version["served"] == true {
				served = append(served, name)
			}
		}
	}
	return served
}

// definedBy is the kind that a CRD defines.
func definedBy(crd Object) schema.GroupKind {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	return schema.GroupKind{Group: group, Kind: kind}
}

// watch makes sure that the live view covers every kind that the stack wants,
// or has had.
func (e *Engine) watch(ctx context.Context, req Request, wanted []prepared) error {
	seen := map[schema.GroupKind]Resource{}
	for _, p := range wanted {
		seen[p.GroupKind()] = p.Resource
	}
	var unknown []schema.GroupKind
	for _, gk := range ContainedKinds(req.Parent) {
		if _, ok := seen[gk]; ok {
			continue
		}
		resource, err := e.mapper.Resource(gk, "")
		if isUnknownKind(err) {
			if len(brings(req.Objects, gk)) == 0 { // else it comes, or comes back
				unknown = append(unknown, gk)
			}
			continue
		}
		if err != nil {
			return err
		}
		seen[gk] = resource
	}
	if err := e.confirmGone(ctx, unknown); err != nil {
		return err
	}
	var resources []Resource
	for _, r := range seen {
		resources = append(resources, r)
	}
	return e.live.Ensure(ctx, resources...)
}

var crdsPath = []string{"apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"}

// confirmGone makes sure that kinds which nobody serves are gone for good: a
// server that has just started may not have found its CRDs yet, and what is not
// seen then would be forgotten.
func (e *Engine) confirmGone(ctx context.Context, kinds []schema.GroupKind) error {
	if len(kinds) == 0 {
		return nil
	}
	list, err := e.client.do(ctx, e.client.rest.Get().AbsPath(crdsPath...))
	if err != nil {
		return fmt.Errorf("look whether %s is gone: %w", kinds[0], err)
	}
	return list.EachListItem(func(o runtime.Object) error {
		if u, ok := o.(*unstructured.Unstructured); ok && slices.Contains(kinds, definedBy(Object{Unstructured: u})) {
			return fmt.Errorf("%s is not served, and its CRD is there: the API server is starting", u.GetName())
		}
		return nil
	})
}

// leave plans what can't be made now, and has to stay as it is.
func (e *Engine) leave(req Request) []Change {
	var out []Change
	for _, o := range req.Leave {
		out = append(out, e.left(req, IDOf(o.Unstructured), o.Origin, req.LeaveReason))
	}
	return out
}

// left is an object that stays as it is, for a reason.
func (e *Engine) left(req Request, id ID, origin, reason string) Change {
	change := Change{ID: id, Action: ActionLeave, Origin: origin, Reason: reason}
	if live, ok := e.live.Get(id); ok && live.Stack == req.Stack {
		change.applied = Applied{UID: live.UID, Fingerprint: live.Fingerprint} // no hash: it is not as it should be, or nobody knows
	}
	return change
}

func (e *Engine) planObjects(ctx context.Context, req Request, wanted []prepared) ([]Change, Errors) {
	changes := make([]Change, len(wanted))
	failed := make([]error, len(wanted))
	var open []int
	for i, p := range wanted {
		var same bool
		if changes[i], same = e.unchanged(req, p); !same {
			open = append(open, i)
		}
	}
	if len(open) == 1 && e.direct(req, wanted[open[0]]) {
		p := wanted[open[0]]
		changes[open[0]] = Change{ID: p.ID, Action: ActionUpdate, Origin: p.Origin, prepared: p, direct: true}
		open = nil
	}
	var group sync.WaitGroup
	for _, i := range open {
		group.Go(func() {
			changes[i], failed[i] = e.planObject(ctx, req, wanted[i])
			if ofObject(failed[i]) && drifted(req, wanted[i], WayChanged) != "" {
				changes[i], failed[i] = e.refusedDrift(ctx, req, wanted[i], failed[i])
			}
		})
	}
	group.Wait()
	var errs Errors
	out := changes[:0]
	moved := movedCRDs(req, changes)
	for i := range wanted {
		if moved[wanted[i].GroupKind()] && misfits(wanted[i], failed[i]) {
			deferred := Change{ID: wanted[i].ID, Action: ActionDefer, Origin: wanted[i].Origin, Reason: "checked once its CRD has changed", prepared: wanted[i]}
			if _, there := e.live.Get(deferred.ID); !there {
				deferred.Drift = drifted(req, wanted[i], WayDeleted)
			}
			out = append(out, deferred)
			continue
		}
		if failed[i] != nil {
			errs = errs.collect(wanted[i], failed[i])
			continue
		}
		out = append(out, changes[i])
	}
	return out, errs
}

// misfits is true when the server finds fault with what the object says.
func misfits(p prepared, err error) bool {
	return err != nil && (isMistyped(err) || classify(p, err).Terminal)
}

// movedCRDs are the kinds whose CRD this very plan changes: what their objects
// may hold is known only after that.
func movedCRDs(req Request, changes []Change) map[schema.GroupKind]bool {
	moved := map[ID]bool{}
	for _, c := range changes {
		moved[c.ID] = isCRD(c.ID.GroupKind()) && c.Action != ActionNone && c.Action != ""
	}
	out := map[schema.GroupKind]bool{}
	for _, o := range req.Objects {
		if moved[IDOf(o.Unstructured)] {
			out[definedBy(o)] = true
		}
	}
	return out
}

// unchanged is true when neither Git nor the cluster moved: no request.
func (e *Engine) unchanged(req Request, p prepared) (Change, bool) {
	known, ok := req.Known[p.ID]
	live, there := e.live.Get(p.ID)
	same := ok && there && !live.Deleting && live.Stack == req.Stack && known.Hash == p.hash &&
		known.UID == live.UID && known.Fingerprint == live.Fingerprint && !known.Adrift
	return Change{ID: p.ID, Action: ActionNone, Origin: p.Origin, prepared: p, applied: known}, same
}

// direct is true for an object that is there and ours, if nothing in the stack was
// left out of the plan: one that is new may be somebody else's.
func (e *Engine) direct(req Request, p prepared) bool {
	live, there := e.live.Get(p.ID)
	known, was := req.Known[p.ID]
	moved := was && known.Hash != p.hash // else it drifted, and that is to be told
	return req.Direct && moved && there && !live.Deleting && live.Stack == req.Stack && live.PartOf == SetID(req.Stack) &&
		!p.Replace && len(p.ignored) == 0 && !isCRD(p.GroupKind())
}

// planObject asks the server what would become of one object.
func (e *Engine) planObject(ctx context.Context, req Request, p prepared) (Change, error) {
	live, there := e.live.Get(p.ID)
	change := Change{ID: p.ID, Origin: p.Origin, prepared: p, uid: live.UID}
	if there && live.Deleting {
		change.Action, change.Reason, change.Drift = ActionWait, "is being deleted", drifted(req, p, WayDeleted)
		return change, nil
	}
	if err := claimed(req, live, p); err != nil {
		return change, err
	}
	answer, created, err := e.tryApply(ctx, p)
	switch {
	case err != nil:
		if freed := e.freed(ctx, req, change, err); freed != nil {
			return *freed, nil
		}
		return e.refused(ctx, req, change, err)
	case created:
		change.Action, change.Drift = ActionCreate, drifted(req, p, WayDeleted)
		return change, nil
	}
	if print := e.live.Fingerprint(answer); there && print == live.Fingerprint && answer.GetUID() == live.UID &&
		answer.GetGeneration() == live.Generation && p.giveBack(answer) == nil {
		change.Action, change.applied = ActionNone, Applied{Hash: p.hash, UID: live.UID, Fingerprint: print}
		return change, nil
	}
	return e.compare(ctx, req, change, answer)
}

// claimed refuses an object that another stack wants too. Who owns it keeps it;
// where nobody does yet, the first by name gets it.
func claimed(req Request, live LiveObject, p prepared) error {
	if live.Stack != "" && live.Stack != req.Stack && req.Foreign != nil && req.Foreign(live.Stack) {
		return fmt.Errorf("%w: %s has it, and what that wants is not known here: it is another daemon's, or could not be read; "+
			"to take the object over all the same, delete that Stack, or take the label %s off the object", ErrClaimed, live.Stack, StackLabel)
	}
	other := req.elsewhere(p.ID)
	if other == "" || live.Stack == req.Stack || (live.Stack == "" && req.Stack < other) {
		return nil
	}
	if live.Stack != "" {
		other = live.Stack
	}
	return fmt.Errorf("%w: %s has it; remove it from one of them", ErrClaimed, other)
}

// refused turns a failed dry-run into what can be done about it.
func (e *Engine) refused(ctx context.Context, req Request, change Change, err error) (Change, error) {
	p := change.prepared
	if ns := missingNamespace(err); ns != "" && ns == p.Namespace && comes(req, ns) {
		change.Action, change.Reason = ActionDefer, "checked once namespace "+ns+" is there"
		change.Drift = drifted(req, p, WayDeleted)
		return change, nil
	}
	if isImmutable(err) && p.Replace {
		before, getErr := e.client.get(ctx, p.Resource, p.ID)
		if getErr != nil {
			return change, getErr
		}
		change.Action, change.uid, change.Reason = ActionReplace, before.GetUID(), reason(err, p.mask())
		if way := drifted(req, p, wayOf(req, change, before)); way != "" {
			e.lookAtDrift(req, &change, before)
			change.Drift = way
		}
		return change, nil
	}
	return change, err
}

// comes is true when the namespace is brought by this stack or by another.
func comes(req Request, namespace string) bool {
	id := ID{Kind: "Namespace", Name: namespace}
	return req.elsewhere(id) != "" || slices.ContainsFunc(req.Objects, func(o Object) bool { return IDOf(o.Unstructured) == id })
}

// compare says field by field what an apply would change.
func (e *Engine) compare(ctx context.Context, req Request, change Change, answer *unstructured.Unstructured) (Change, error) {
	p := change.prepared
	before, err := e.client.get(ctx, p.Resource, p.ID)
	if apierrors.IsNotFound(err) {
		change.Action, change.Drift = ActionCreate, drifted(req, p, WayDeleted) // it went away since the dry-run
		return change, nil
	}
	if err != nil {
		return change, err
	}
	ours := req.Known[p.ID].UID == before.GetUID()
	if set := before.GetLabels()[PartOfLabel]; set != "" && before.GetLabels()[StackLabel] == "" && set != SetID(req.Stack) && !ours {
		return change, fmt.Errorf("%w: the ApplySet %s has it; take the label %s off the object to adopt it", ErrClaimed, set, PartOfLabel)
	}
	change.uid, change.found = before.GetUID(), Applied{UID: before.GetUID(), Fingerprint: e.live.Fingerprint(before)}
	if err := p.torn(before, answer); err != nil {
		return change, err
	}
	change.handOff = p.handOff(before, answer)
	change.Fields = e.hashes.diff(req.Stack, before, p.withoutIgnored(before, answer), req.Masks)
	change.Action = ActionUpdate
	switch {
	case before.GetLabels()[PartOfLabel] == "" && !ours:
		change.Action, change.inherits = ActionAdopt, inherited(before)
		if len(change.inherits) > 0 {
			change.Reason = "with the fields of " + strings.Join(change.inherits, ", ") + ": what Git doesn't have of them goes"
		}
	case change.handOff == nil && len(change.Fields) == 0 && change.found.Fingerprint == e.live.Fingerprint(answer):
		seen := e.live.Saw(before)
		change.Action, change.applied = ActionNone, Applied{Hash: p.hash, UID: seen.UID, Fingerprint: change.found.Fingerprint}
		return change, nil
	case change.handOff != nil && len(change.Fields) == 0:
		change.Reason = "fields that Git leaves to others"
		return change, nil
	case len(change.Fields) == 0:
		change.Fields = []FieldChange{{Path: ownership, Have: "owned by another manager", Want: "owned by " + Manager}}
	}
	change.Drift, change.By = drifted(req, p, wayOf(req, change, before)), authorOf(before, answer)
	return change, nil
}
