package apply

import "slices"

// Compare is the Plan between two renders of one stack: no cluster is asked.
func Compare(stack string, have, want []Object, masks Masks) Plan {
	hashes := newHasher(nil)
	before := map[ID]Object{}
	for _, o := range have {
		before[IDOf(o.Unstructured)] = o
	}
	plan := Plan{Stack: stack}
	for _, o := range want {
		id := IDOf(o.Unstructured)
		change := Change{ID: id, Action: ActionCreate, Origin: o.Origin}
		if old, ok := before[id]; ok {
			change.Action, change.Fields = ActionNone, hashes.diff(stack, unnoted(old.Unstructured), unnoted(o.Unstructured), masks)
			if len(change.Fields) > 0 {
				change.Action = ActionUpdate
			}
			delete(before, id)
		}
		plan.Changes = append(plan.Changes, change)
	}
	for id := range before {
		plan.Changes = append(plan.Changes, Change{ID: id, Action: ActionDelete, Reason: "no longer in Git"})
	}
	slices.SortFunc(plan.Changes, func(a, b Change) int { return a.ID.Compare(b.ID) })
	return plan
}
