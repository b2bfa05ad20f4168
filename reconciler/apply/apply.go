package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Apply makes the cluster as the plan says: stage by stage, in parallel within
// one, deletions last. It waits for nothing: what is not usable yet is named in
// Inventory.Waiting, and the plan is made again when that has changed. After an
// error the Inventory holds what was done; nothing of it is lost.
func (e *Engine) Apply(ctx context.Context, plan Plan) (Inventory, error) {
	inv := Inventory{Stack: plan.Stack, Parent: plan.request.Parent, Applied: plan.Known(), When: map[ID]time.Time{}}
	for _, c := range plan.with(ActionLeave) {
		if was, adrift := plan.Drifted()[c.ID]; adrift {
			inv.Applied[c.ID] = was
		}
	}
	for _, c := range plan.with(ActionWait, ActionDefer) {
		if c.Origin != "" { // what is on its way out, and no longer wanted, nobody waits for
			inv.Waiting = append(inv.Waiting, c.ID)
		}
	}
	inv.Partial = len(plan.with(ActionDefer)) > 0
	if err := e.widen(ctx, plan, &inv); err != nil {
		return inv, err
	}
	for stage := range stages {
		if err := e.applyStage(ctx, plan, stage, &inv); err != nil {
			return inv, err
		}
		if stage == stageFoundation && inv.Partial {
			return inv, nil // what builds on it is validated as a whole first
		}
	}
	if plan.Held == "" {
		if err := e.remove(ctx, plan); err != nil {
			return inv, err
		}
	}
	return inv, e.narrow(ctx, plan, &inv)
}

// widen admits every kind that may be in the cluster after this apply, before
// the first object is.
func (e *Engine) widen(ctx context.Context, plan Plan, inv *Inventory) error {
	if plan.request.Removed {
		return nil
	}
	var ids []ID
	for _, c := range plan.Changes {
		ids = append(ids, c.ID)
	}
	parent, err := e.setParent(ctx, inv.Parent, plan.Stack, plan.request.Spec, contentsOf(ids).union(admitted(inv.Parent)))
	inv.Parent = parent
	return err
}

// narrow forgets the kinds that are confirmed to be gone. A parent without
// anything left, whose stack left Git, goes too.
func (e *Engine) narrow(ctx context.Context, plan Plan, inv *Inventory) error {
	var ids []ID
	for _, c := range plan.Changes {
		gone := c.Action == ActionHandOver || c.Action == ActionKeep || (c.Action == ActionDelete && plan.Held == "")
		if !gone {
			ids = append(ids, c.ID)
		}
	}
	for _, live := range e.live.OfStack(plan.Stack) { // still on its way out
		if live.PartOf == SetID(plan.Stack) {
			ids = append(ids, live.ID)
		}
	}
	if plan.request.Removed {
		if len(ids) > 0 {
			return nil
		}
		if err := e.deleteParent(ctx, inv.Parent); err != nil {
			return err
		}
		inv.Parent = nil
		return nil
	}
	parent, err := e.setParent(ctx, inv.Parent, plan.Stack, plan.request.Spec, contentsOf(ids))
	inv.Parent = parent
	return err
}

func (e *Engine) applyStage(ctx context.Context, plan Plan, at int, inv *Inventory) error {
	var todo []Change
	for _, c := range plan.with(ActionCreate, ActionUpdate, ActionAdopt, ActionReplace) {
		if stage(c.ID.GroupKind()) == at {
			todo = append(todo, c)
		}
	}
	var mu sync.Mutex
	var errs Errors
	var group sync.WaitGroup
	for _, c := range todo {
		group.Go(func() {
			applied, waiting, err := e.applyObject(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				errs = errs.collect(c.prepared, err)
			case waiting:
				inv.Waiting = append(inv.Waiting, c.ID)
			default:
				inv.Applied[c.ID], inv.When[c.ID] = applied, time.Now()
			}
		})
	}
	group.Wait()
	if slices.ContainsFunc(todo, func(c Change) bool { return isCRD(c.ID.GroupKind()) }) {
		e.mapper.Invalidate()
	}
	return errors.Join(errs.sorted(), ctx.Err())
}

// applyObject applies one object. waiting means that it is being replaced, and
// that finalizers keep the old one for now.
func (e *Engine) applyObject(ctx context.Context, c Change) (applied Applied, waiting bool, err error) {
	p := c.prepared
	if c.Action == ActionReplace {
		gone, err := e.client.delete(ctx, p.Resource, p.ID, c.uid, "")
		if err != nil || !gone {
			return Applied{}, true, err
		}
		e.live.SawGone(p.ID, c.uid)
	}
	if len(c.inherits) > 0 {
		if err := e.inherit(ctx, c); err != nil {
			return Applied{}, false, err
		}
	}
	if c.handOff != nil {
		if _, err := e.handOver(ctx, p, c.handOff); err != nil {
			return Applied{}, false, err
		}
	}
	how := applyChecked
	if c.direct {
		how = applyStrictly
	}
	obj, _, err := e.client.apply(ctx, p.Resource, p.ID, p.body, how)
	if err != nil {
		return Applied{}, false, err
	}
	if back := p.giveBack(obj); back != nil {
		if obj, err = e.handOver(ctx, p, back); err != nil {
			return Applied{}, false, err
		}
	}
	live := e.live.Saw(obj)
	return Applied{Hash: p.hash, UID: live.UID, Fingerprint: live.Fingerprint}, false, nil
}

// remove deletes and releases, in the reverse order of stages.
func (e *Engine) remove(ctx context.Context, plan Plan) error {
	for at := stages - 1; at >= 0; at-- {
		var mu sync.Mutex
		var errs Errors
		var group sync.WaitGroup
		for _, c := range plan.with(ActionDelete, ActionKeep) {
			if stage(c.ID.GroupKind()) != at {
				continue
			}
			group.Go(func() {
				err := e.removeObject(ctx, plan, c)
				mu.Lock()
				defer mu.Unlock()
				errs = errs.collect(prepared{ID: c.ID}, err)
			})
		}
		group.Wait()
		if err := errors.Join(errs.sorted(), ctx.Err()); err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}

// removeObject deletes what is ours, as it was when it was looked at. Whatever
// happened to it since is a conflict, and makes for another plan.
func (e *Engine) removeObject(ctx context.Context, plan Plan, c Change) error {
	if plan.request.elsewhere(c.ID) != "" {
		return nil // another stack came to want it; the next plan hands it over
	}
	if c.Action == ActionKeep {
		return e.release(ctx, c)
	}
	gone, err := e.client.delete(ctx, c.resource, c.ID, c.uid, c.version)
	if gone {
		e.live.SawGone(c.ID, c.uid)
	}
	if err == nil && isCRD(c.ID.GroupKind()) {
		e.mapper.Invalidate()
	}
	return err
}

// release takes our labels off an object that stays.
func (e *Engine) release(ctx context.Context, c Change) error {
	_, err := e.client.merge(ctx, c.resource, c.ID, map[string]any{"metadata": map[string]any{
		"uid": c.uid, "resourceVersion": c.version, // preconditions: exactly this one, as it was looked at
		"labels": map[string]any{StackLabel: nil, PartOfLabel: nil},
	}})
	if err == nil || apierrors.IsNotFound(err) {
		e.live.SawGone(c.ID, c.uid)
		return nil
	}
	return err
}

func isCRD(gk schema.GroupKind) bool {
	return gk.Kind == "CustomResourceDefinition" && gk.Group == "apiextensions.k8s.io"
}
