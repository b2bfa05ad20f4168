package reconciler

import (
	"context"
	"io/fs"
	"slices"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/secrets"
)

// Secrets is what a trip opens sealed things with. The zero value opens nothing.
type Secrets struct {
	Key      secrets.HashKey                   // of all hashes of what may hold a secret
	SOPS     func(source string) *secrets.SOPS // the keys of a source; nil: sealed files stay an error
	Bao      *secrets.Bao                      // nil: there is none
	Allow    map[string][]string               // what each source may read of it
	Reserved []apply.ID                        // Secrets that hold our own keys: no stack may write them
}

// sealed is how a trip of a stack opens what is sealed, and who masks what it opened.
func (l *Loop) sealed(d Declared) (unsealFunc, secrets.Request) {
	request := secrets.Request{Source: d.Source, Stack: d.Name, Allow: l.Secrets.Allow[d.Source],
		Kinds: d.Spec.Secrets.References, Redactor: secrets.NewRedactor()}
	if l.Secrets.SOPS == nil {
		return nil, request
	}
	return func(ctx context.Context, tree fs.FS) fs.FS {
		return l.Secrets.SOPS(d.Source).Files(ctx, tree, request.Redactor)
	}, request
}

type unsealFunc func(context.Context, fs.FS) fs.FS

// render renders the trip's stack, sealed files open.
func (p *Pipeline) render(ctx context.Context, trip Trip) (render.Output, error) {
	select { // as many at once as there are cores, whoever asks
	case p.renders <- struct{}{}:
		defer func() { <-p.renders }()
	case <-ctx.Done():
		return render.Output{}, ctx.Err()
	}
	request := trip.Render
	if trip.Unseal != nil {
		request.FS = trip.Unseal(ctx, request.FS)
	}
	out, err := p.Render(ctx, request)
	for _, o := range out.Objects { // names that everybody may read
		trip.Secrets.Redactor.Public(o.GetAPIVersion(), o.GetKind(), o.GetNamespace(), o.GetName())
	}
	return out, trip.Secrets.Redactor.Error(err)
}

// references is what Resolve is to do for the trip.
func (t Trip) references(rendered render.Output) secrets.Request {
	request := t.Secrets
	for _, o := range rendered.Objects {
		request.Objects = append(request.Objects, secrets.Object(o))
	}
	return request
}

// request is what Plan is to do for the trip. Workloads that restart with their
// Secrets say so; one whose Secret can't be read stays as it is, with it.
func (t Trip) request(resolved secrets.Resolved) apply.Request {
	request := t.Apply
	request.Stack, request.Removed = t.Stack, t.Removed
	objects, left := resolved.Objects, resolved.Unresolved
	if t.Restart {
		var unknown []secrets.Object
		objects, unknown = secrets.Checksums(t.Stack, objects, left, t.Key)
		left = slices.Concat(left, unknown)
	}
	for _, o := range objects {
		request.Objects = append(request.Objects, apply.Object(o))
	}
	for _, o := range left {
		request.Leave = append(request.Leave, apply.Object(o))
	}
	if resolved.Stale != nil {
		request.LeaveReason = t.Secrets.Redactor.Text(resolved.Stale.Error())
	}
	if t.Secrets.Redactor.Opened() {
		request.Masks = t.Secrets.Redactor
	}
	return request
}
