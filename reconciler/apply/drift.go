package apply

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// ownership is the field that stands for who owns the others.
const ownership = "metadata.managedFields"

// drifted is the way in which an object drifted, if it did: Git wants what was
// applied before.
func drifted(req Request, p prepared, way Way) Way {
	known, ok := req.Known[p.ID]
	if (ok && known.Hash == p.hash) || (req.Settled && len(req.Known) == 0) {
		return way
	}
	return ""
}

func wayOf(req Request, change Change, before *unstructured.Unstructured) Way {
	labels := before.GetLabels()
	known, ok := req.Known[change.ID]
	switch {
	case ok && known.UID != "" && known.UID != before.GetUID():
		return WayReplaced
	case labels[StackLabel] != req.Stack || labels[PartOfLabel] != SetID(req.Stack):
		return WayStripped
	case len(change.Fields) == 1 && change.Fields[0].Path == ownership:
		return WayTaken
	}
	return WayChanged
}

// ofObject is true for an error that says something of one object, and nothing of
// the server or of the network.
func ofObject(err error) bool {
	var status *apierrors.StatusError
	return errors.Is(err, ErrClaimed) || (errors.As(err, &status) && !apierrors.IsTooManyRequests(err) && !apierrors.IsServiceUnavailable(err) &&
		!apierrors.IsServerTimeout(err) && !apierrors.IsTimeout(err) && !apierrors.IsConflict(err))
}

// refusedDrift is an object that drifted, and that the server, or another stack,
// keeps from being put right. It stays as it is; nobody else has to wait for it.
func (e *Engine) refusedDrift(ctx context.Context, req Request, p prepared, refused error) (Change, error) {
	change := Change{ID: p.ID, Action: ActionLeave, Origin: p.Origin, prepared: p, Refused: refused, Drift: WayDeleted, Reason: "can't be put right"}
	before, err := e.client.get(ctx, p.Resource, p.ID)
	if apierrors.IsNotFound(err) {
		return change, nil
	}
	if err != nil {
		return change, err
	}
	e.lookAtDrift(req, &change, before)
	change.Drift = wayOf(req, change, before)
	return change, nil
}

// lookAtDrift says what differs and who made it so, where the server would not tell
// what its apply would come to: by what Git says alone.
func (e *Engine) lookAtDrift(req Request, change *Change, before *unstructured.Unstructured) {
	want, err := decode(change.prepared.body)
	if err != nil {
		return // it was made from an object
	}
	after := &unstructured.Unstructured{Object: overlay(before.Object, want.Object).(map[string]any)}
	change.uid, change.found = before.GetUID(), Applied{UID: before.GetUID(), Fingerprint: e.live.Fingerprint(before)}
	change.Fields = e.hashes.diff(req.Stack, before, after, req.Masks)
	if wanted, err := typed.DeducedParseableType.FromUnstructured(want.Object); err == nil {
		if mine, err := wanted.ToFieldSet(); err == nil {
			mine = fieldsOf(mine)
			change.By = authorOfFields(before, mine, mine, after.Object)
		}
	}
}

// fieldsOf leaves out what names an object.
func fieldsOf(mine *fieldpath.Set) *fieldpath.Set {
	return mine.Difference(fieldpath.NewSet(fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind"),
		fieldpath.MakePathOrDie("metadata", "name"), fieldpath.MakePathOrDie("metadata", "namespace")))
}

// overlay is what is there, with what is wanted over it. Lists whose items have names
// are merged by them, others are as wanted.
func overlay(have, want any) any {
	switch w := want.(type) {
	case map[string]any:
		out := map[string]any{}
		h, _ := have.(map[string]any)
		for key, value := range h {
			out[key] = value
		}
		for key, value := range w {
			out[key] = overlay(h[key], value)
		}
		return out
	case []any:
		h, _ := have.([]any)
		haveBy, ok1 := byName(h)
		wantBy, ok2 := byName(w)
		if !ok1 || !ok2 {
			return want
		}
		out := []any{}
		for _, item := range h {
			name := item.(map[string]any)["name"].(string)
			if mine, ok := wantBy[name]; ok {
				item = overlay(item, mine)
			}
			out = append(out, item)
		}
		for _, item := range w {
			if _, there := haveBy[item.(map[string]any)["name"].(string)]; !there {
				out = append(out, item)
			}
		}
		return out
	}
	return want
}
