package scan

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aquasecurity/trivy/pkg/fanal/secret"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plumbline-dev/plumbline/scan/checks"
)

// Object is a rendered object.
type Object struct {
	*unstructured.Unstructured
	Origin string // file of the source
}

// Request is what to judge: the objects of a stack, as they were rendered.
type Request struct {
	Stack   string
	Objects []Object
	FS      fs.FS  // the tree of the source: exceptions and checks are read from it
	File    string // the stack's: what is about the stack as a whole is told of it
	Dir     string // which is there
	Policy  Policy
	Anew    bool                // images that were missing, or unknown, are looked up anew
	Mask    func(string) string // takes out of a text what was opened; nil: nothing was
}

// Paths are the files and directories that a verdict depends on, besides the objects.
func (r Request) Paths() []string {
	paths := ignoreFiles(r.Dir, r.Policy.IgnoreFile)
	if r.Policy.Checks != "" {
		paths = append(paths, path.Join(r.Dir, r.Policy.Checks))
	}
	return paths
}

// Gate judges stacks. The zero value works; it may be used by any number of goroutines.
type Gate struct {
	Operator Operator
	// Images tells what is known of images; nil: nothing is looked up.
	Images Images
	// Now is the clock; nil: the real one.
	Now func() time.Time

	builtin    sync.Once
	set        *checks.Set
	setErr     error
	secretOnce sync.Once
	secrets    secret.Scanner

	mu    sync.Mutex
	known map[string]map[digest][]Finding // by stack, then by object
}

type digest [sha256.Size]byte

// Warm compiles what every verdict needs, so that the first commit doesn't wait.
func (g *Gate) Warm(ctx context.Context) error {
	set, err := g.checks()
	if err != nil {
		return err
	}
	g.scanner()
	return set.Warm(ctx)
}

func (g *Gate) checks() (*checks.Set, error) {
	g.builtin.Do(func() { g.set, g.setErr = checks.Builtin() })
	return g.set, g.setErr
}

func (g *Gate) scanner() *secret.Scanner {
	g.secretOnce.Do(func() { g.secrets = secret.NewScanner(nil) })
	return &g.secrets
}

// Scan judges a stack. The error is about the gate itself, or the context: what
// speaks against the stack is in the Verdict. It changes no object.
func (g *Gate) Scan(ctx context.Context, r Request) (v Verdict, err error) {
	defer func() {
		if p := recover(); p != nil { // whatever it is that it stumbles over, it is of one stack
			v, err = Verdict{}, fmt.Errorf("the gate crashed: %s", r.mask(cut(fmt.Sprint(p), crashBytes)))
		}
	}()
	set, err := g.checks()
	if err != nil {
		return Verdict{}, fmt.Errorf("compile Trivy's checks: %w", err)
	}
	v = Verdict{Stack: r.Stack, FailOn: g.Operator.failOn(r.Policy)}
	own, found := ownOf(r)
	exceptions, err := exceptionsOf(r.FS, r.Dir, r.Policy.IgnoreFile)
	if err != nil {
		found = append(found, broken(idExceptions, "Exceptions can't be read", err, "mend the file: until then nothing passes"))
	}
	each, err := g.objects(ctx, r, set, own)
	if err != nil {
		return Verdict{}, err
	}
	found = append(found, each...)
	images, pending, waits := g.lookUp(r)
	v.Findings, v.Pending, v.Waits = append(found, images...), pending, waits
	for i := range v.Findings {
		f := &v.Findings[i]
		if f.Object == "" {
			f.File = r.File
		}
		r.masked(f) // what was remembered may have been opened since
	}
	g.decide(&v, exceptions)
	return v, ctx.Err()
}

// broken is a finding about the gate itself: no exception lets it pass.
func broken(id, title string, err error, fix string) Finding {
	return Finding{Kind: KindGate, ID: id, Severity: SeverityCritical, Title: title, Message: cut(err.Error(), 2000), Fix: fix,
		URL: docsURL + strings.ToLower(id), final: true}
}

// retryAfter is when what took too long is worth another try.
const retryAfter = 10 * time.Minute

// stackBudget is for the objects of a stack that were not judged before. What is left is
// told, and denies; when the stack is judged again, it begins there.
var stackBudget = 2 * time.Minute

// objects judges each object that was not judged before, as many at once as there are cores.
func (g *Gate) objects(ctx context.Context, r Request, set *checks.Set, own *ownChecks) ([]Finding, error) {
	before := g.remembered(r.Stack)
	all := make([][]Finding, len(r.Objects))
	sums := make([]digest, len(r.Objects))
	var fresh []int
	for i, o := range r.Objects {
		var err error
		if sums[i], err = digestOf(o, own, r.Policy); err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
		known, ok := before[sums[i]]
		if all[i] = known; !ok {
			fresh = append(fresh, i)
		}
	}
	unusable, err := g.fresh(ctx, r, set, own, fresh, all)
	if err != nil {
		return nil, err
	}
	if unusable != nil {
		return append(slices.Concat(all...), *unusable), nil // nothing of it is remembered
	}
	now := make(map[digest][]Finding, len(r.Objects))
	for i, sum := range sums {
		if !slices.ContainsFunc(all[i], func(f Finding) bool { return !f.retry.IsZero() }) { // it may be otherwise next time
			now[sum] = all[i]
		}
	}
	g.remember(r.Stack, now)
	return slices.Concat(all...), nil
}

// fresh judges the objects of these numbers. The finding says that the repository's checks
// can't be used.
func (g *Gate) fresh(ctx context.Context, r Request, set *checks.Set, own *ownChecks, numbers []int, all [][]Finding) (unusable *Finding, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, stackBudget, fmt.Errorf("%w: more than %s on the stack", checks.ErrBudget, stackBudget))
	defer cancel()
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range numbers {
		group.Go(func() error {
			all[i] = g.object(limited, r, r.Objects[i], set)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil || own == nil || len(numbers) == 0 {
		return nil, err
	}
	some := make([]Object, len(numbers))
	for n, i := range numbers {
		some[n] = r.Objects[i]
	}
	found, unusable, err := own.judge(ctx, r, some)
	for n, i := range numbers[:len(found)] {
		all[i] = append(all[i], found[n]...)
	}
	return unusable, err
}

// digestOf is of all that the findings about an object depend on.
func digestOf(o Object, own *ownChecks, policy Policy) (digest, error) {
	raw, err := json.Marshal(withoutData(o.Object))
	if err != nil {
		return digest{}, err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q\n", policy.Registries, policy.Pin)
	if own != nil {
		sum.Write(own.id[:])
	}
	sum.Write([]byte(o.Origin + "\x00"))
	sum.Write(raw)
	return digest(sum.Sum(nil)), nil
}

func (g *Gate) remembered(stack string) map[digest][]Finding {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known[stack]
}

func (g *Gate) remember(stack string, now map[digest][]Finding) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known == nil {
		g.known = map[string]map[digest][]Finding{}
	}
	g.known[stack] = now
}

// Forget drops what is remembered of a stack that is no more.
func (g *Gate) Forget(stack string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.known, stack)
}

// crashBytes bounds what is said of a crash.
const crashBytes = 300

// object judges one object.
func (g *Gate) object(ctx context.Context, r Request, o Object, set *checks.Set) (found []Finding) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("panic: %s", r.mask(cut(fmt.Sprint(p), crashBytes)))
			found = r.about(o, []Finding{broken(idCheck, "Object can't be judged", err, "look at the object; if it is as it should be, this is a bug")})
		}
	}()
	object := withoutData(o.Object)
	if err := checks.Judgeable(object); err != nil {
		return r.about(o, []Finding{broken(idCheck, "Object can't be judged", err, "make it smaller, or several")})
	}
	for _, f := range set.Run(ctx, object) {
		found = append(found, misconfiguration(f, object))
	}
	leaks, err := exposed(g.scanner(), object)
	if err != nil {
		found = append(found, broken(idCheck, "Object can't be searched for secrets", err, "look at the object"))
	}
	found = append(found, leaks...)
	for _, ref := range references(object) {
		found = append(found, g.judge(ref, r.Policy, r.mask)...)
	}
	return r.about(o, found)
}

// about says of findings which object they are about, and masks them.
func (r Request) about(o Object, found []Finding) []Finding {
	for i := range found {
		f := &found[i]
		f.Object, f.File = nameOf(o.Unstructured), o.Origin
		r.masked(f)
	}
	return found
}

func (r Request) masked(f *Finding) {
	for _, text := range []*string{&f.Message, &f.Container, &f.Image, &f.Field} {
		*text = r.mask(*text)
	}
}

func (r Request) mask(text string) string {
	if r.Mask == nil {
		return text
	}
	return r.Mask(text)
}

// nameOf is "Deployment.apps o11y/grafana".
func nameOf(o *unstructured.Unstructured) string {
	kind := o.GroupVersionKind().GroupKind().String()
	if o.GetNamespace() == "" {
		return kind + " " + o.GetName()
	}
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

func misconfiguration(f checks.Found, object map[string]any) Finding {
	if f.Err != nil {
		b := broken(idCheck, "Check can't be evaluated", fmt.Errorf("%s: %w", strings.TrimSpace(f.ID+" "+f.File), f.Err), "mend the check, or what in the object it stumbles over")
		if f.Again {
			b.retry = time.Now().Add(retryAfter)
		}
		return b
	}
	if object["kind"] == "ConfigMap" && f.File == "" { // Trivy's own quote what they find there
		f.Message = f.Title
	}
	return Finding{Kind: KindMisconfiguration, ID: f.ID, aliases: f.Aliases, Severity: Severity(f.Severity), Title: f.Title, Message: f.Message,
		Container: containerAt(object, f.Field), Field: f.Field, Fix: f.Fix, URL: f.URL}
}

// decide says which findings deny.
func (g *Gate) decide(v *Verdict, exceptions Exceptions) {
	now := time.Now()
	if g.Now != nil {
		now = g.Now()
	}
	used, useless := map[Exception]bool{}, map[string]bool{}
	for i := range v.Findings {
		f := &v.Findings[i]
		f.Exception = nil
		if !f.final {
			f.Exception = g.Operator.Exceptions.find(*f, now)
		}
		if f.Exception == nil && !f.final {
			e := exceptions.find(*f, now)
			if why := g.Operator.reserves(*f); e != nil && why != "" {
				useless[fmt.Sprintf("%s: %s: does not count: %s", e.File, e.ID, why)] = true
			} else {
				f.Exception = e
			}
		}
		if f.Exception != nil && !used[*f.Exception] {
			used[*f.Exception] = true
			v.Exceptions = append(v.Exceptions, *f.Exception)
		}
		threshold := v.FailOn
		if f.fixed { // what the operator has fixed, no stack's threshold turns off
			threshold = stricter(threshold, cmp.Or(g.Operator.FailOn, DefaultFailOn))
		}
		f.Denies = f.Exception == nil && f.Severity.rank() >= threshold.rank()
	}
	slices.SortFunc(v.Findings, compareFindings)
	slices.SortFunc(v.Exceptions, func(a, b Exception) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.File, b.File)) })
	theirs, next := exceptions.warnings(now)
	ours, then := g.Operator.Exceptions.warnings(now)
	v.Warnings, v.Next = slices.Concat(ours, theirs, slices.Sorted(maps.Keys(useless))), sooner(next, then)
	for _, f := range v.Denied() { // what wasn't there may be
		v.Next = sooner(v.Next, f.retry)
	}
}
