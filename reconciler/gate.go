package reconciler

import (
	"context"
	"fmt"
	"hash/fnv"
	"io/fs"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
)

// A stack's new inputs pass the gate before they become what Git wants of it. While
// they don't, nothing of them counts: what was let through before stays what Git
// wants, is watched, and put right from the tree of its own commit.

// ConditionGated is on stacks of which the gate denies something.
const ConditionGated = "Gated"

// Reasons of a stack whose newest inputs did not pass.
const (
	reasonDenied   = "Denied"
	reasonScanning = "Scanning" // what is known of its images is not all there yet
)

// stopped is inputs that did not pass the gate.
type stopped struct {
	hash     string // of the declaration
	inputs   render.Inputs
	revision string
	reason   string
	message  string
	blocked  bool // what is applied was let through, but nobody knows from which tree: nothing is done until something passes
}

// judged is what is kept of a verdict.
type judged struct {
	counts     map[scan.Severity]int
	denied     string // why it is denied; "": it isn't
	exceptions []scan.Exception
	warnings   []string        // about exceptions
	told       map[uint64]bool // findings that were logged
}

// passes is true for a candidate that may become what Git wants. What is in the cluster
// already, from before a restart, doesn't wait for what is known of its images: it goes
// on, and is judged when that is there.
func (c candidate) passes(s *stackState) bool {
	if c.broken != nil { // what was let through goes on where the files are not to blame
		return !c.again || s.generation == 0 || s.broken != nil || s.removed
	}
	applied := s.generation == 0 && c.desired != "" && c.desired == s.status.Desired
	return c.verdict.Err() == nil && (len(c.verdict.Pending) == 0 || applied)
}

// onlyJudged is true for a candidate that passed the gate before, and has now passed again.
func (s *stackState) onlyJudged(c candidate) bool {
	if s.hash != "" || s.generation == 0 || s.gate != nil || s.broken != nil || s.removed || !c.passes(s) || c.broken != nil || c.desired != s.desired {
		return false
	}
	s.hash, s.inputs = c.declared.hash(), c.inputs
	return true
}

// stopped is why a candidate doesn't pass.
func (c candidate) stopped(commit string) (*stopped, error) {
	at := &stopped{hash: c.declared.hash(), inputs: c.inputs, revision: commit, reason: reasonScanning}
	err := c.verdict.Err()
	switch {
	case c.broken != nil:
		err = c.broken
		at.hash, at.reason, at.message = "", c.reason, err.Error()
	case err != nil:
		at.reason, at.message = reasonDenied, err.Error()
	default:
		at.message = fmt.Sprintf("looks at %d images before anything is applied: %s", len(c.verdict.Pending), someOf(c.verdict.Pending))
	}
	return at, err
}

// stop leaves a stack with what it has.
func (l *Loop) stop(c candidate, s *stackState, source *sourceState, before fs.FS, seen time.Time) {
	at, err := c.stopped(source.snapshot.Commit)
	if c.broken != nil {
		source.again = true // rendered anew when the source is looked at next
		source.broken++
	}
	switch {
	case s.generation > 0 && s.tree == nil && (s.broken != nil || s.removed || (s.gate != nil && s.gate.blocked)):
		at.blocked = true // the commit before was no good one either, and was never judged: it must not be applied
	case s.generation > 0 && s.tree == nil:
		s.tree = before
	case s.generation == 0 && c.desired != "" && c.desired == s.status.Desired: // it was let through before the restart
		s.take(c, source, seen)
		s.tree = source.snapshot.FS
		l.judged(c.declared)
		l.trigger(c.declared.Name, TriggerRevision)
	case s.generation == 0 && c.good != nil: // after a restart: what was let through before it
		good := *source
		good.snapshot = c.good.snapshot
		s.take(c.good.candidate, &good, seen)
		s.revision = c.good.snapshot.Commit // the status may name one that was never applied
		s.tree = c.good.snapshot.FS
		l.judged(c.good.declared)
		l.trigger(c.declared.Name, TriggerRevision)
	case s.generation == 0:
		s.declared, s.revision = c.declared, source.snapshot.Commit
	}
	s.gate, s.removed, s.unsure, s.broken, s.reason = at, false, "", nil, ""
	source.push.Deliver(c.declared.Name, string(TriggerRevision)).Ended(telemetry.ResultFailure, err)
}

// says is what a stack says whose newest inputs did not pass.
func (at *stopped) says(s *stackState) string {
	text := fmt.Sprintf("%s: %s", at.revision[:min(len(at.revision), 12)], at.message)
	switch {
	case at.blocked:
		text += "\nwhat is applied is left as it is, drift included: the commit before could not be rendered"
	case s.generation > 0:
		text += fmt.Sprintf("\n%s stays applied", s.revision[:min(len(s.revision), 12)])
	}
	return text
}

// noteVerdict keeps what the rest of the loop needs of a verdict, and returns the
// findings that were not logged before.
func (s *stackState) noteVerdict(v scan.Verdict) (fresh []scan.Finding) {
	now := judged{counts: v.Counts(), exceptions: v.Exceptions, warnings: v.Warnings, told: make(map[uint64]bool, len(v.Findings))}
	if err := v.Err(); err != nil {
		now.denied = err.Error()
	}
	for _, f := range v.Findings {
		hash := fnv.New64a()
		fmt.Fprint(hash, f.String(), f.Denies, f.Exception != nil, f.Image, f.Package)
		sum := hash.Sum64()
		if !s.verdict.told[sum] && !now.told[sum] {
			fresh = append(fresh, f)
		}
		now.told[sum] = true
	}
	s.verdict = now
	return fresh
}

// sayGated keeps the condition Gated, once the gate had something to say.
func (s *stackState) sayGated() {
	list := &s.status.Conditions
	switch {
	case s.gate != nil && s.gate.reason != reasonDenied:
		setCondition(list, metav1.Condition{Type: ConditionGated, Status: metav1.ConditionUnknown, Reason: s.gate.reason, Message: short(s.gate.message, messageBytes)})
	case s.gate != nil:
		setCondition(list, metav1.Condition{Type: ConditionGated, Status: metav1.ConditionTrue, Reason: s.gate.reason, Message: short(s.gate.says(s), messageBytes)})
	case meta.FindStatusCondition(*list, ConditionGated) != nil:
		setCondition(list, metav1.Condition{Type: ConditionGated, Status: metav1.ConditionFalse, Reason: "No"})
	}
}

// heldBack is how many stacks of a source the gate holds back.
func (l *Loop) heldBack(source string) int {
	n := 0
	for _, s := range l.stacks {
		if s.gate != nil && s.declared.Source == source {
			n++
		}
	}
	return n
}

// good is what a stack was applied from before a restart, if its newest inputs don't
// pass: what its Stack object names, if it still comes to what was applied.
func (l *Loop) good(ctx context.Context, newest candidate, source *sourceState) *goodCandidate {
	d := newest.declared
	applied := statusOf(l.Cluster.Stack(d.Name))
	if l.Past == nil || applied.Applied == "" || applied.Applied == source.snapshot.Commit || applied.Desired == newest.desired || !l.unheard(d.Name) {
		return nil
	}
	snapshot, err := l.Past(source.config.Fetch(), applied.Applied)
	if err != nil {
		return nil
	}
	declared, _, err := Discover(snapshot.FS, source.config)
	if err != nil {
		return nil
	}
	for _, then := range declared {
		if then.Name != d.Name {
			continue
		}
		c := l.candidate(ctx, then, &sourceState{config: source.config, snapshot: snapshot})
		if c.broken == nil && c.desired == applied.Desired {
			return &goodCandidate{c, snapshot}
		}
	}
	return nil
}

// unheard is true for a stack of which this process has let nothing through.
func (l *Loop) unheard(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.stacks[name]
	return !ok || s.generation == 0
}

// goodCandidate is a candidate of an older commit.
type goodCandidate struct {
	candidate
	snapshot fetch.Snapshot
}

// found is a finding about a stack.
type found struct {
	stack string
	scan.Finding
}

// logFinding writes the record of a finding.
func (l *Loop) logFinding(ctx context.Context, source, revision string, f found) {
	attrs := []any{telemetry.KeyStack, f.stack, telemetry.KeySource, source, telemetry.KeyRevision, revision,
		telemetry.KeyFinding, f.ID, telemetry.KeySeverity, string(f.Severity), telemetry.KeyKindOfFinding, string(f.Kind), telemetry.KeyTitle, f.Title,
		telemetry.KeyObject, f.Object, telemetry.KeyDenies, f.Denies}
	for _, more := range [][2]string{{telemetry.KeyContainer, f.Container}, {telemetry.KeyFile, f.File}, {telemetry.KeyField, f.Field},
		{telemetry.KeyImage, f.Image}, {telemetry.KeyPackage, f.Package}, {telemetry.KeyWhat, f.Message}, {telemetry.KeyFix, f.Fix}, {telemetry.KeyURL, f.URL}} {
		if more[1] != "" {
			attrs = append(attrs, more[0], more[1])
		}
	}
	if f.Exception != nil {
		attrs = append(attrs, telemetry.KeyException, f.Exception.Statement)
	}
	if f.Denies {
		l.Log.WarnContext(ctx, telemetry.MsgFinding, attrs...)
		return
	}
	l.Log.InfoContext(ctx, telemetry.MsgFinding, attrs...)
}

// warnings says which exceptions of a source's stacks don't count, or not for long.
func (l *Loop) warnings(source string) string {
	var lines []string
	for _, s := range l.stacks {
		if s.declared.Source == source && !s.removed {
			lines = append(lines, s.verdict.warnings...)
		}
	}
	slices.Sort(lines)
	return someLines(slices.Compact(lines))
}

func someLines(lines []string) string {
	if more := len(lines) - shownFiles; more > 0 {
		lines = append(lines[:shownFiles:shownFiles], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}
