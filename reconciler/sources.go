package reconciler

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/secrets"
)

func (l *Loop) wanted(stack string) bool { return l.Only == nil || l.Only(stack) }

// follow keeps one source up to date: at its interval, and when told. After a
// restart it goes on from what was accepted before, even if the remote is gone.
func (l *Loop) follow(ctx context.Context, s *sourceState) {
	if snapshot, err := l.Last(s.config.Fetch()); err == nil {
		ctx, err := l.advanceIn(ctx, l.Recorder.Resumed(commitOf(s, snapshot)), s, snapshot)
		if err != nil && ctx.Err() == nil {
			l.Log.ErrorContext(ctx, telemetry.MsgSourceFailed, "source", s.config.Name, "error", err.Error())
		}
	}
	failures := 0
	for {
		err := l.pull(ctx, s)
		if ctx.Err() != nil {
			return
		}
		wait := s.config.interval()
		if err != nil {
			failures++
			if fetch.Retryable(err) {
				wait = min(wait, backoff(failures))
			}
		} else {
			failures = 0
		}
		wait += rand.N(wait/20 + 1)
		select {
		case <-ctx.Done():
			return
		case <-s.poke:
		case <-time.After(wait):
		}
	}
}

// pull asks the remote, and takes the new commit down the road. Whatever goes
// wrong, the last good commit stays in force.
func (l *Loop) pull(ctx context.Context, s *sourceState) error {
	l.mu.Lock()
	began, request := time.Now(), s.asked
	l.mu.Unlock()
	snapshot, err := l.fetch(ctx, s)
	switch {
	case err == nil && (snapshot.Commit != s.snapshot.Commit || l.again(s)):
		ctx, err = l.advanceIn(ctx, l.Recorder.Pushed(commitOf(s, snapshot), began, time.Now()), s, snapshot)
	case err != nil && s.advanced && l.again(s): // what is here can be judged again without the remote
		_, failed := l.advanceIn(ctx, l.Recorder.Resumed(commitOf(s, s.snapshot)), s, s.snapshot)
		err = errors.Join(err, failed)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.Recorder.SourceLooked(ctx, s.config.Name, err)
	l.mu.Lock()
	defer l.mu.Unlock()
	s.failing = err != nil
	l.lookedAt(s, began, request)
	l.release()
	if err != nil {
		l.Log.ErrorContext(ctx, telemetry.MsgSourceFailed, "source", s.config.Name, "error", err.Error())
		l.saySource(s, "Failed", err.Error())
		return err
	}
	l.saySource(s, "Fetched", s.complaint)
	return nil
}

// taken notes that what was to be rendered again is: who asks from now on asks for another time.
func (l *Loop) taken(s *sourceState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.again = false
}

// again is true where a stack has to be rendered although no commit came.
func (l *Loop) again(s *sourceState) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.again
}

func (l *Loop) fetch(ctx context.Context, s *sourceState) (fetch.Snapshot, error) {
	select {
	case l.fetches <- struct{}{}:
		defer func() { <-l.fetches }()
	case <-ctx.Done():
		return fetch.Snapshot{}, ctx.Err()
	}
	return l.Pipeline.Fetch(ctx, s.config.Fetch())
}

// candidate is a stack of a new snapshot, before anybody knows of it.
type candidate struct {
	declared Declared
	broken   error
	reason   string
	rendered *render.Output
	inputs   render.Inputs
	same     bool // neither the declaration nor an input changed
	again    bool // broken, and the files may not be to blame
	desired  string
	wants    []apply.ID
	redactor *secrets.Redactor
	verdict  scan.Verdict
	good     *goodCandidate // what was let through before a restart, where this isn't
}

// advance finds out what a new snapshot means for every stack of its source:
// all of them are rendered (where an input changed) before one is planned.
func (l *Loop) advance(ctx context.Context, s *sourceState, snapshot fetch.Snapshot) error {
	seen := time.Now()
	declared, broken, err := Discover(snapshot.FS, s.config)
	if err != nil {
		return err
	}
	declared = slices.DeleteFunc(declared, func(d Declared) bool { return !l.wanted(d.Name) })
	broken = slices.DeleteFunc(broken, func(b Broken) bool { return !l.wanted(b.Name) })
	l.taken(s)
	candidates := l.candidates(ctx, s, snapshot, declared)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, f := range l.arrive(ctx, s, snapshot, declared, candidates, broken, seen) {
		l.logFinding(ctx, s.config.Name, snapshot.Commit, f) // there may be thousands: nobody waits for that
	}
	return nil
}

// arrive makes a new snapshot of a source the one that counts. It returns the findings
// that nobody was told of.
func (l *Loop) arrive(ctx context.Context, s *sourceState, snapshot fetch.Snapshot, declared []Declared, candidates []candidate, broken []Broken, seen time.Time) []found {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := s.snapshot.FS
	s.snapshot, s.advanced = snapshot, true
	moved, fresh := l.publish(ctx, s, candidates, broken, before, seen)
	if l.Only == nil {
		l.retire(s, candidates, broken)
	}
	l.claim()
	l.Log.InfoContext(ctx, telemetry.MsgSourceMoved, "source", s.config.Name, "revision", snapshot.Commit, "ref", snapshot.Ref,
		"stacks", len(declared), "changed", moved, "broken", s.broken, "took", time.Since(seen).Round(time.Millisecond).String())
	l.Recorder.SourceMoved(ctx, s.config.Name, moved, len(declared)-moved)
	for _, b := range broken[:min(len(broken), shownFiles)] {
		l.Log.ErrorContext(ctx, telemetry.MsgStackBroken, "source", s.config.Name, "file", b.File, "error", short(b.Err.Error(), messageBytes))
	}
	s.status.Stacks = len(declared)
	s.complaint = strings.TrimSpace(brokenFiles(broken) + "\n" + l.warnings(s.config.Name))
	return fresh
}

// shownFiles bounds what is said of a source's broken files.
const shownFiles = 20

func brokenFiles(broken []Broken) string {
	var lines []string
	for i, b := range broken {
		if i == shownFiles {
			lines = append(lines, fmt.Sprintf("and %d more", len(broken)-i))
			break
		}
		lines = append(lines, short(b.Err.Error(), messageBytes/4))
	}
	return strings.Join(lines, "\n")
}

// candidates renders what has to be rendered, as many at once as there are cores.
func (l *Loop) candidates(ctx context.Context, s *sourceState, snapshot fetch.Snapshot, declared []Declared) []candidate {
	out := make([]candidate, len(declared))
	next := &sourceState{config: s.config, snapshot: snapshot}
	var group errgroup.Group // no more of them wait for their turn than there are: who drifted needs one too
	group.SetLimit(max(1, cap(l.Pipeline.renders)))
	for i, d := range declared {
		hash, inputs := l.before(d.Name)
		if hash == d.hash() {
			if changed, err := inputs.Changed(snapshot.FS); err == nil && changed == "" {
				out[i] = candidate{declared: d, same: true}
				continue
			}
		}
		group.Go(func() error {
			out[i] = l.candidate(ctx, d, next)
			if hash == "" && (out[i].verdict.Err() != nil || len(out[i].verdict.Pending) > 0) {
				out[i].good = l.good(ctx, out[i], next)
			}
			return nil
		})
	}
	_ = group.Wait() // none fails: a candidate holds its own error
	return out
}

func (l *Loop) before(name string) (hash string, inputs render.Inputs) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.stacks[name]; ok && !s.removed {
		if s.rejudge {
			s.rejudge = false
			return "", render.Inputs{}
		}
		if s.gate != nil {
			return s.gate.hash, s.gate.inputs
		}
		return s.hash, s.inputs
	}
	return "", render.Inputs{}
}

func (l *Loop) candidate(ctx context.Context, d Declared, source *sourceState) candidate {
	trip := Trip{Render: l.renderRequest(d, source)}
	trip.Unseal, trip.Secrets = l.sealed(d)
	trip.declared, trip.anew = d, l.anew(d.Name)
	output, verdict, err := l.Pipeline.Judge(ctx, trip)
	c := candidate{declared: d, inputs: output.Inputs, rendered: &output, redactor: trip.Secrets.Redactor, verdict: verdict}
	if err != nil {
		c.broken, c.reason, c.rendered, c.again = err, "RenderFailed", nil, !inputsToBlame(err)
		return c
	}
	for _, o := range output.Objects {
		c.wants = append(c.wants, apply.IDOf(o.Unstructured))
	}
	c.desired = desired(l.Secrets.Key, d, output.Objects)
	if c.redactor.Opened() { // plaintext doesn't wait for its turn: the trip renders again
		c.rendered = nil
	}
	return c
}

// desired identifies what Git wants of a stack, for those who have the key.
func desired(key secrets.HashKey, d Declared, objects []render.Object) string {
	parts := []string{d.hash()}
	for _, o := range objects {
		raw, _ := o.MarshalJSON() // of what was JSON a moment ago
		parts = append(parts, string(raw))
	}
	return base64.RawURLEncoding.EncodeToString(key.Sum("desired", parts...)[:16])
}

// inputsToBlame is true where rendering the same files again ends the same way.
func inputsToBlame(err error) bool {
	var input *render.InputError
	var panicked *render.PanicError
	return errors.As(err, &input) || errors.As(err, &panicked)
}

// publish makes the candidates known, and sets those in motion that changed.
func (l *Loop) publish(ctx context.Context, source *sourceState, candidates []candidate, broken []Broken, before fs.FS, seen time.Time) (moved int, fresh []found) {
	source.broken = 0
	good := map[string]bool{}
	for _, c := range candidates {
		good[c.declared.Name] = true
		s := l.stack(c.declared.Name)
		if c.same {
			if s.broken != nil {
				source.broken++
			}
			continue
		}
		if c.broken == nil {
			for _, f := range s.noteVerdict(c.verdict) {
				fresh = append(fresh, found{c.declared.Name, f})
			}
			l.await(ctx, c.declared.Name, s, c.verdict)
		}
		if s.onlyJudged(c) {
			continue
		}
		moved++
		if !l.lenient && !c.passes(s) {
			l.stop(c, s, source, before, seen)
			l.trigger(c.declared.Name, TriggerHealth)
			continue
		}
		l.supersede(c.declared.Name, s)
		s.take(c, source, seen)
		l.judged(c.declared)
		s.deliver(source)
		l.trigger(c.declared.Name, TriggerRevision)
	}
	for _, b := range broken {
		source.broken++
		if name := l.nameOf(source, b); name != "" && !good[name] { // a broken file spoils no good one of its name
			l.breakStack(name, source, b)
			l.trigger(name, TriggerRevision)
		}
	}
	return moved, fresh
}

// breakStack notes that the file of a stack can't be used. Until it says something
// else, later commits mean nothing for it.
func (l *Loop) breakStack(name string, source *sourceState, b Broken) {
	s := l.stack(name)
	same := s.broken != nil && s.broken.Error() == b.Err.Error()
	if !same {
		l.supersede(name, s)
	}
	s.declared.Name, s.declared.Source, s.declared.File = name, source.config.Name, b.File
	s.broken, s.reason, s.hash, s.revision, s.ready = b.Err, "InvalidStack", "", source.snapshot.Commit, false
	if s.gate != nil { // also where the next commit is the one that was denied
		s.gate.hash = ""
	}
	if !same {
		s.deliver(source)
	}
}

// take makes a candidate what Git wants of the stack.
func (s *stackState) take(c candidate, source *sourceState, seen time.Time) {
	s.declared, s.hash, s.inputs, s.broken, s.reason = c.declared, c.declared.hash(), c.inputs, c.broken, c.reason
	s.removed, s.unsure = false, ""
	s.gate, s.tree = nil, nil
	if c.again { // a disk, say: rendered anew when the source is looked at next
		s.hash, source.again = "", true
	}
	s.revision, s.pushed, s.announce, s.ready = source.snapshot.Commit, seen, true, false
	s.committed, s.late = source.snapshot.Time, false
	s.generation++
	s.failures, s.drifts, s.rendered = 0, 0, c.rendered
	s.rearm()
	s.newest = c.redactor
	if c.broken == nil {
		s.wants = c.wants
	} else {
		source.broken++
	}
	s.desired = c.desired
	if s.known == nil && s.applied == 0 && c.desired != "" && s.status.Desired == c.desired { // a restart
		s.applied, s.announce = s.generation, false
		s.revision = orString(s.status.Revision, s.revision)
	}
}

// stack is the state of a stack, made when it is first heard of.
func (l *Loop) stack(name string) *stackState {
	s, ok := l.stacks[name]
	if !ok {
		s = &stackState{parent: l.Cluster.Stack(name)}
		s.status = statusOf(s.parent)
		s.warned, s.holding = toldBefore(s.status)
		s.asked, s.handled = s.status.HandledAt, s.status.HandledAt
		s.declared.Name = name
		l.stacks[name] = s
		defer func() { l.asked(name, s) }()
	}
	return s
}

var errNoSource = errors.New("no such source")

// Poke looks at a source now rather than at its interval.
func (l *Loop) Poke(source string) error {
	s, ok := l.sources[source]
	if !ok {
		return fmt.Errorf("%w: %s", errNoSource, source)
	}
	select {
	case s.poke <- struct{}{}:
	default: // one is enough
	}
	return nil
}
