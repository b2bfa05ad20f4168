package secrets

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

const (
	readsAtOnce   = 4   // by one trip, of OpenBao
	mostQuestions = 200 // by one trip in all
	mostSaid      = 20  // errors of one trip; the others are counted
)

// Request is what one stack wants resolved.
type Request struct {
	Source, Stack string
	Objects       []Object // not modified
	// Allow are the paths that the source may read: see [CheckGrant].
	Allow []string
	// Kinds besides Secret may hold references, as ConfigMap or Deployment.apps.
	Kinds    []string
	Redactor *Redactor
	// Fresh says that a person asked: leases are looked up before they are used again.
	Fresh bool
	// Stale answers with what was read last where OpenBao can't be asked, or doesn't
	// give it any more, and leaves out what was never read.
	Stale bool
	// Look changes nothing and makes nothing: what an engine other than KV would make
	// for whoever asks is used where it was made before, and else left out, as with
	// Stale.
	Look bool
}

// Read is one read of OpenBao, for one stack.
type Read struct {
	Source, Stack string
	Path          string
	Query         string // version=3, or the parameters of a certificate
	Keys          string // that references name, one a line
}

// Version is what a read gave, as far as it may be known. It is compared, not read.
type Version string

// How versions begin says how they are compared.
const (
	versionKV2   = "v2:"
	versionLease = "lease:"
	versionHash  = "hash:"
)

// Resolved is what became of a [Request].
type Resolved struct {
	// Objects have values where references stood. Those that had none are those of the request.
	Objects []Object
	// Reads are all that were tried. The version of what was never answered is "".
	Reads map[Read]Version
	// Unresolved are left out of Objects. Only with Stale, or Look.
	Unresolved []Object
	// Stale is why some values are old, or missing; nil: none is.
	Stale error
}

// reading is a question, and what came of it.
type reading struct {
	question
	keys    []string
	version Version
	values  map[string]json.RawMessage
	unmade  bool // it would have to be made, and that was not asked for
	stale   error
	err     error
}

// Resolve puts values where references stand. Its error joins one [ReferenceError]
// for each that can't be resolved, in order, and says the first 20; its own
// InputFault() bool is true where one of theirs is. A nil client resolves what has no
// references.
func Resolve(ctx context.Context, b *Bao, req Request) (Resolved, error) {
	f := finder{kinds: req.Kinds}
	for i, o := range req.Objects {
		f.object(i, o)
	}
	readings, errs := ask(b, req, f.fields)
	for _, err := range f.errs {
		errs = append(errs, err.input())
	}
	b.readAll(ctx, req, readings)
	defer func() {
		for _, r := range readings {
			wipeValues(r.values)
		}
	}()
	if err := ctx.Err(); err != nil {
		return Resolved{}, call{method: http.MethodGet, path: "references"}.away(ctx, err)
	}
	filled, failed := fill(req, f.fields, readings)
	if errs = append(errs, failed...); len(errs) > 0 {
		return Resolved{}, joined(errs)
	}
	if req.Redactor.Full() {
		return Resolved{}, tooMany(req)
	}
	return assemble(req, f.fields, filled, readings), nil
}

// tooMany refuses a stack of which not all could be masked.
func tooMany(req Request) error {
	return &ReferenceError{Object: "stack " + req.Stack, Field: "in all", Reference: "its references", fault: true,
		Err: errors.New("there are more secret values than can be masked: split the stack")}
}

// ask sorts the references into questions: those that may be asked.
func ask(b *Bao, req Request, fields []field) (map[question]*reading, []*ReferenceError) {
	readings := map[question]*reading{}
	var errs []*ReferenceError
	var first *ReferenceError // that is too many
	for _, f := range fields {
		for _, p := range f.pieces {
			if p.reference == nil {
				continue
			}
			if err := mayAsk(b, req, *p.reference); err != nil {
				errs = append(errs, f.error(req.Objects[f.object], p.written(), err).input())
				continue
			}
			q := p.reference.question()
			if readings[q] == nil {
				readings[q] = &reading{question: q}
			}
			if len(readings) == mostQuestions+1 && first == nil {
				first = f.error(req.Objects[f.object], p.written(), nil).input()
			}
			if r := readings[q]; !slices.Contains(r.keys, p.reference.Key) {
				r.keys = append(r.keys, p.reference.Key)
			}
		}
	}
	if first != nil {
		first.Err = fmt.Errorf("the stack has %d different paths and parameters to read, and %d are the most: make stacks of it, or put values that belong together at one path",
			len(readings), mostQuestions)
		return nil, append(errs, first)
	}
	return readings, errs
}

func (r Reference) question() question { return question{r.Path, r.Version, r.Params} }

func mayAsk(b *Bao, req Request, r Reference) error {
	switch {
	case b == nil:
		return errors.New("secrets.openbao is not configured")
	case !granted(req.Allow, r.Path):
		return fmt.Errorf("source %q may not read %s: secrets.openbao.allow grants it no such path", req.Source, r.Path)
	}
	return nil
}

// readAll answers the questions, some at the same time.
func (b *Bao) readAll(ctx context.Context, req Request, readings map[question]*reading) {
	if len(readings) == 0 {
		return
	}
	b.knock(ctx, req.Fresh)
	var over atomic.Pointer[baoAway]
	var group errgroup.Group
	group.SetLimit(readsAtOnce)
	for _, r := range readings {
		group.Go(func() error {
			slices.Sort(r.keys)
			_, r.err = unbroken("read "+r.path, func() (struct{}, error) { return struct{}{}, b.answer(ctx, req, r, &over) })
			return nil
		})
	}
	_ = group.Wait() // each has its own
}

// answer answers one question, unless the trip is over: what OpenBao doesn't say
// to one, it doesn't say to the others. With Stale, they may have more luck than
// one that is in trouble alone.
func (b *Bao) answer(ctx context.Context, req Request, r *reading, over *atomic.Pointer[baoAway]) error {
	var k *kept
	var err error
	if away := over.Load(); away != nil {
		err = &baoAway{call{method: http.MethodGet, path: r.path}, away.cause, away.silent}
	} else {
		k, err = b.obtain(ctx, req, r.question)
		if errors.Is(err, errUnmade) {
			r.unmade = true
			return nil
		}
		if away := (*baoAway)(nil); errors.As(err, &away) && (away.silent || !req.Stale) {
			over.Store(away)
		}
	}
	if err != nil && req.Stale && ctx.Err() == nil {
		r.stale, err = err, nil
		if k = b.find(ownID(req.Source, req.Stack, r.question), sharedID(r.question)); k == nil {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if r.values, err = b.open(k); err != nil {
		return err
	}
	if r.version = k.version; r.version == "" {
		r.version = b.hashOf(r.values, r.keys)
	}
	if k.lease != nil {
		req.Redactor.Add("username", []byte(plainText(r.values["username"]))) // it goes with the password, asked for or not
	}
	return nil
}

// errUnmade is that a question would make something.
var errUnmade = errors.New("it is made for whoever reads it")

// obtain is what a question gives: a lease that lives, or a new read.
func (b *Bao) obtain(ctx context.Context, req Request, q question) (*kept, error) {
	own, look := ownPlace(req.Source, req.Stack, q), req.Fresh
	if req.Look {
		return b.lookAt(ctx, own, q)
	}
	if k := b.find(own.id); k != nil && k.lease != nil {
		lost, err := b.tend(ctx, k, look)
		switch {
		case err != nil && (look || b.leaseNeeds(k.lease) == careLost):
			return nil, err
		case lost == "":
			return k, nil
		}
		fresh, err := b.readOnce(ctx, own, q)
		if Unavailable(err) && !look && b.leaseNeeds(k.lease) != careLost {
			return k, nil // not for long, but it is good
		}
		return fresh, err
	}
	return b.readOnce(ctx, own, q)
}

// lookAt reads what is there without being read. Leases stay as they are.
func (b *Bao) lookAt(ctx context.Context, own place, q question) (*kept, error) {
	if k := b.find(own.id); k != nil && k.lease != nil && b.leaseNeeds(k.lease) != careLost {
		return k, nil
	}
	m, err := b.mountOf(ctx, q.path)
	switch {
	case err != nil:
		return nil, err
	case m.kv == 0:
		return nil, errUnmade
	}
	return b.readOnce(ctx, own, q)
}

// readOnce reads, together with whoever asks for the same at the same time.
func (b *Bao) readOnce(ctx context.Context, own place, q question) (*kept, error) {
	m, err := b.mountOf(ctx, q.path)
	if err != nil {
		return nil, err
	}
	at := own
	if m.kv > 0 {
		at.id = sharedID(q)
	}
	return shared(ctx, b, at.id, func() (*kept, error) { return b.read(ctx, m, at, q) })
}

// hashOf is the version of what has none: of the values that references name.
func (b *Bao) hashOf(values map[string]json.RawMessage, keys []string) Version {
	var parts []string
	for _, key := range keys {
		parts = append(parts, key, string(values[key]))
	}
	return Version(fmt.Sprintf("%s%x", versionHash, b.hashes.Sum("version", parts...)[:16]))
}

// joined puts errors in order. What is the same for many, because OpenBao can't be
// asked at all, is said once.
func joined(errs []*ReferenceError) error {
	slices.SortFunc(errs, func(a, b *ReferenceError) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field),
			cmp.Compare(a.Reference, b.Reference), cmp.Compare(a.Err.Error(), b.Err.Error()))
	})
	var out []error
	said := map[string]*ReferenceError{}
	for _, err := range errs {
		var login *loginError
		if Unavailable(err) || errors.As(err, &login) {
			text := err.Err.Error()
			if away := (*baoAway)(nil); errors.As(err, &away) {
				text = away.cause.Error()
			}
			if first := said[text]; first != nil {
				first.others++
				continue
			}
			said[text] = err
		}
		out = append(out, err)
	}
	return &referenceErrors{out}
}

// referenceErrors are all that is wrong with a stack's references.
type referenceErrors struct{ all []error }

func (e *referenceErrors) Error() string {
	var lines []string
	for _, err := range e.all[:min(len(e.all), mostSaid)] {
		lines = append(lines, err.Error())
	}
	if more := len(e.all) - mostSaid; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives all of them, in order.
func (e *referenceErrors) Unwrap() []error { return e.all }

// InputFault is true where one of them is an input's: then nothing else cures all.
func (e *referenceErrors) InputFault() bool {
	return slices.ContainsFunc(e.all, func(err error) bool {
		var one *ReferenceError
		return errors.As(err, &one) && one.InputFault()
	})
}
