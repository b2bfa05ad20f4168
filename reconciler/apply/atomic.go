package apply

import (
	"context"
	"fmt"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// tryApply asks the server what would become of the object. Rules that take a part out of
// what has one owner as a whole are refused: applying the rest resets the part.
func (e *Engine) tryApply(ctx context.Context, p prepared) (*unstructured.Unstructured, bool, error) {
	if len(p.ignored) == 0 {
		return e.client.apply(ctx, p.Resource, p.ID, p.body, applyDry)
	}
	answer, created, err := e.client.apply(ctx, p.Resource, p.ID, p.body, applyDryShown)
	if apierrors.IsInvalid(err) { // it may be for what was taken out
		if live, getErr := e.client.get(ctx, p.Resource, p.ID); getErr == nil {
			if refused := p.torn(live, live); refused != nil {
				return nil, false, refused
			}
		}
	}
	if err != nil || !created {
		return answer, created, err
	}
	return nil, true, p.torn(nil, answer)
}

// torn says which rule takes out a part of a list or a map that the server knows only
// as a whole. before is nil for an object that is not there.
func (p prepared) torn(before, answer *unstructured.Unstructured) error {
	mine := owned(answer)
	if mine == nil || len(p.ignored) == 0 {
		return nil
	}
	var err error
	mine.Leaves().Iterate(func(path fieldpath.Path) {
		for _, pointer := range p.ignored {
			if err != nil || len(pointer) <= len(path) || !pointer[:len(path)].covers(p.whole, path) ||
				reflect.DeepEqual(valueAt(p.whole, path), valueAt(p.reduced, path)) || !p.atomic(path, before, answer) {
				continue
			}
			err = &ObjectError{ID: p.ID, Origin: p.Origin, Terminal: true,
				Err:  fmt.Errorf("drift.ignore: %s is a part of %s, which has one owner as a whole", pointer, pointer[:len(path)]),
				Hint: fmt.Sprintf("ignore %s, or take the rule out", pointer[:len(path)])}
		}
	})
	return err
}

// atomic is true for a leaf of what we own that has something below it. A map of which
// nothing is left is one where nobody owns a part of it, and others lose what they had.
func (p prepared) atomic(path fieldpath.Path, before, answer *unstructured.Unstructured) bool {
	if !isEmpty(valueAt(p.reduced, path)) {
		return true
	}
	if before == nil || isEmpty(valueAt(before.Object, path)) ||
		reflect.DeepEqual(valueAt(before.Object, path), valueAt(answer.Object, path)) {
		return false
	}
	all := ownedBy(before, func(metav1.ManagedFieldsEntry) bool { return true })
	if all == nil {
		return false
	}
	for _, element := range path {
		all = all.WithPrefix(element)
	}
	return all.Empty()
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return true
}

// freed is a change that the server refuses as long as leftManager has a part of a
// list's item that left Git; nil: that is not what is wrong.
func (e *Engine) freed(ctx context.Context, req Request, change Change, err error) *Change {
	if !apierrors.IsInvalid(err) {
		return nil
	}
	p := change.prepared
	live, err := e.client.get(ctx, p.Resource, p.ID)
	if err != nil || live.GetLabels()[StackLabel] != req.Stack {
		return nil
	}
	_, stale := p.left(live)
	for _, field := range stale {
		if p.itemGone(field.path) {
			change.Action, change.uid, change.handOff = ActionUpdate, live.GetUID(), p.handOff(live, live)
			change.direct, change.Reason = true, "with ignored fields of list items that left Git"
			return &change
		}
	}
	return nil
}
