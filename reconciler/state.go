package reconciler

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/secrets"
)

// stackState is what the loop remembers of one stack. Losing it costs some
// questions to the API server, nothing else. Loop.mu guards it.
type stackState struct {
	declared Declared
	broken   error  // why it can't be planned at all: its file, its render, a circle
	reason   string // the condition's reason for broken
	removed  bool   // it left Git
	unsure   string // removed, but something in the source could not be read

	revision string    // the commit at which its inputs last changed
	pushed   time.Time // when that commit was seen
	inputs   render.Inputs
	rendered *render.Output // until it is applied; later runs render again
	hash     string         // of the declaration
	desired  string         // hash of what Git wants
	gate     *stopped       // newer inputs, which did not pass; nil: these are the newest
	tree     fs.FS          // of the commit that passed last, where the source's newest did not
	verdict  judged         // of the newest inputs
	judging  func()         // stops what would have them judged again
	rejudge  bool           // what is under way doesn't count: it is judged once more after it
	anew     bool           // somebody asked for that: what is not known of images is asked for at once
	wants    []apply.ID

	generation int64 // counts changes of the inputs
	applied    int64 // the generation that is in the cluster
	stalled    int64 // the generation that failed for good
	incomplete bool  // applied as far as possible: something has to come or go first
	missing    bool  // a kind is not served
	clashed    bool  // it wants what another stack has
	giving     bool  // another stack takes over some of its objects
	failures   int
	retryAt    time.Time
	deadline   time.Time // of the rollout
	recalled   bool      // known comes from the digest: the next resync asks the server
	partials   int       // trips in a row that got only as far as the foundation
	drifts     int       // corrections in a row, for backing off
	pausing    bool      // the next correction has its timer
	drifted    time.Time
	seen       map[apply.ID]time.Time // what moved since the last trip, and when the watch told
	fights     fights
	contended  map[apply.ID]contention
	watching   bool   // a look at what is not put right has its timer
	refusals   int    // trips in a row that could not put all drift right
	refusal    string // why
	retrying   bool   // the next such trip has its timer

	known        map[apply.ID]apply.Applied
	parent       *unstructured.Unstructured
	triggers     map[Trigger]bool
	asked        string // the last request by hand
	askedAt      time.Time
	handled      string // the last request by hand that was taken up
	ready        bool
	committed    time.Time // when the commit was made
	began        time.Time // when its rollout did
	late         bool      // it was overdue
	announce     bool      // the next Ready is the first of this generation
	held         string    // why the last plan deletes nothing
	hold         string    // the reason that plan was given for it; "": its own
	removal      string
	newest, live *secrets.Redactor                // of what was opened last, and of what is applied
	moved        bool                             // OpenBao has something else than is applied
	unseen       string                           // why that can't be looked at, as it was said last
	reads        map[secrets.Read]secrets.Version // from OpenBao
	stale        string                           // why what was read may be old; "": it isn't
	refused      bool                             // OpenBao does not give what it refers to
	status       Status
	said         bool              // the status is of this process, not of one before
	written      [sha256.Size]byte // hash of the status that the cluster was told last
	passing      bool              // its status is to be written in a moment
	stuck        stuck

	delivery  *telemetry.Delivery // of the newest inputs
	traveling *telemetry.Delivery // the one in which a trip is under way
	warned    string              // what the last Event warned of
	holding   string              // the removal of which an Event said that it is held
	events    []event             // for the Stack object, which isn't there yet
}

// clash notes that this stack has to be tried again when claims change.
func (s *stackState) clash(err error) { s.clashed = errors.Is(err, apply.ErrClaimed) }

// recalls is true when the first run since the start found everything as the
// stored digest says.
func (s *stackState) recalls(key secrets.HashKey, trip Trip, run Run) bool {
	return s.known == nil && run.Err == nil && trip.Apply.Digest != "" && trip.Apply.Digest == apply.Digest(key, run.Inventory.Applied) &&
		s.status.Revision != ""
}

// wide is true when the Stack object still admits a kind of which nothing is left.
func (s *stackState) wide() bool {
	kinds := map[schema.GroupKind]bool{}
	for id := range s.known {
		kinds[id.GroupKind()] = true
	}
	return len(apply.ContainedKinds(s.parent)) > len(kinds)
}

// masked is a text without what the stack's last trips opened.
func (s *stackState) masked(text string) string {
	if s.newest == s.live {
		return s.live.Text(text)
	}
	return s.live.Text(s.newest.Text(text))
}

func (s *stackState) current() bool { return s.applied == s.generation && !s.incomplete }

func (s *stackState) mode() DriftMode {
	if s.declared.Spec.Drift.Mode == "" {
		return DriftCorrect
	}
	return s.declared.Spec.Drift.Mode
}

// sourceState is what the loop remembers of one source.
type sourceState struct {
	config    SourceConfig
	snapshot  fetch.Snapshot
	poke      chan struct{}
	broken    int             // stacks that can't be read or rendered
	complaint string          // about the files among them
	again     bool            // a stack has to be rendered again even if no commit comes
	advanced  bool            // at least one snapshot went through
	push      *telemetry.Push // the newest commit's trace
	failing   bool            // the last look at it failed
	looked    time.Time       // when the last look at it began
	asked     string          // the last request by hand
	handled   string          // the last request by hand that was carried out
	status    SourceStatus
}

// Annotations by which people, and the CLI, ask for things.
const (
	RequestAnnotation = "plumbline.dev/reconcile-at" // any new value: reconcile now
	ConfirmAnnotation = "plumbline.dev/confirm"      // the name of a held removal
	SuspendAnnotation = "plumbline.dev/suspend"      // "true": leave the cluster alone
)

func annotation(u *unstructured.Unstructured, name string) string {
	if u == nil {
		return ""
	}
	return u.GetAnnotations()[name]
}
