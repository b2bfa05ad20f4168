package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
	"github.com/plumbline-dev/plumbline/secrets"
)

// A Step takes In to Out, or says why it cannot.
type Step[In, Out any] func(context.Context, In) (Out, error)

// Pipeline is the road from a commit to a healthy cluster.
// Read the fields downwards: each takes what the one above gives.
type Pipeline struct {
	Fetch   Step[fetch.Source, fetch.Snapshot]
	Render  Step[render.Request, render.Output]     // objects, and the inputs that were read
	Scan    Step[scan.Request, scan.Verdict]        // before any reference to a secret is followed
	Resolve Step[secrets.Request, secrets.Resolved] // the same objects, with what they refer to
	Plan    Step[apply.Request, apply.Plan]         // changes nothing
	Apply   Step[apply.Plan, apply.Inventory]
	Observe Step[apply.Inventory, Health] // at once: health is a subscription, not a wait
	Report  func(context.Context, Run)

	renders chan struct{} // bounds the renders under way
}

// Trip is one way down the road, for one stack.
type Trip struct {
	Stack    string
	Trigger  Trigger
	Revision string          // commit of the source
	Render   render.Request  // what to render, unless
	Rendered *render.Output  // it was rendered already
	Removed  bool            // the stack left Git: there is nothing to render
	Unseal   unsealFunc      // opens the sealed files of a tree; nil: nothing does
	Secrets  secrets.Request // all but the objects; its Redactor masks what the trip says
	Restart  bool            // workloads restart when a Secret that they use changes
	Key      secrets.HashKey // of the checksums by which they do
	Apply    apply.Request   // all but the objects

	declared   Declared
	anew       bool                                  // the gate asks for what it didn't find out
	judge      func(context.Context, Run) apply.Plan // looks for drift in a plan, and may leave some of it
	corrects   bool                                  // drift is put right, not only looked at
	seen       map[apply.ID]time.Time                // what moved, and when the watch told
	delivery   *telemetry.Delivery                   // the trace that it belongs to
	generation int64                                 // of the inputs, for the loop
	handled    string                                // the request by hand that it answers
}

// Judge goes as far as the gate. It is what a new commit goes through before anything
// of it counts: what is previewed and applied below has passed here.
func (p *Pipeline) Judge(ctx context.Context, trip Trip) (render.Output, scan.Verdict, error) {
	rendered, err := p.render(ctx, trip)
	if err != nil || p.Scan == nil {
		return rendered, scan.Verdict{}, err
	}
	request := trip.declared.Scan(trip.Render.FS, rendered.Objects, trip.Secrets.Redactor.Text)
	request.Anew = trip.anew
	verdict, err := p.Scan(ctx, request)
	if err == nil {
		rendered.Inputs, err = rendered.Inputs.And(trip.Render.FS, request.Paths()...)
	}
	return rendered, verdict, err
}

// Preview goes as far as the plan, and changes nothing.
func (p *Pipeline) Preview(ctx context.Context, trip Trip) Run {
	run := Run{Stack: trip.Stack, Trigger: trip.Trigger, Revision: trip.Revision, Started: time.Now()}
	rendered, err := p.rendered(ctx, trip)
	if err == nil {
		run.Secrets, err = p.Resolve(ctx, trip.references(rendered))
	}
	if err == nil {
		run.Plan, err = p.Plan(ctx, trip.request(run.Secrets))
	}
	if err == nil && trip.judge != nil {
		run.Plan = trip.judge(ctx, run)
	}
	run.Secrets.Objects, run.Secrets.Unresolved = nil, nil // plaintext ends here, but for what the plan holds
	run.Err, run.Took = trip.Secrets.Redactor.Error(err), time.Since(run.Started)
	return run
}

// Reconcile makes the cluster as Git wants it, and says how that went.
func (p *Pipeline) Reconcile(ctx context.Context, trip Trip) Run {
	trip.Apply.Direct = trip.Trigger == TriggerRevision || trip.Trigger == TriggerDependency
	run := p.Preview(ctx, trip)
	if run.Err == nil {
		run.Applying = time.Now()
		run.Inventory, run.Err = p.Apply(ctx, run.Plan)
	}
	if run.Err == nil {
		run.Health, run.Err = p.Observe(ctx, run.Inventory)
	}
	run.Err, run.Took = trip.Secrets.Redactor.Error(run.Err), time.Since(run.Started)
	if ctx.Err() == nil { // stopping is no failure
		p.Report(ctx, run)
	}
	return run
}

func (p *Pipeline) rendered(ctx context.Context, trip Trip) (render.Output, error) {
	switch {
	case trip.Removed:
		return render.Output{}, nil
	case trip.Rendered != nil:
		return *trip.Rendered, nil
	default:
		return p.render(ctx, trip)
	}
}

// Run is the record of one trip.
type Run struct {
	Stack     string
	Trigger   Trigger
	Revision  string
	Secrets   secrets.Resolved // what was read, without the objects
	Plan      apply.Plan       // holds plaintext: not to be kept beyond the run
	Inventory apply.Inventory
	Health    Health
	Err       error
	Started   time.Time
	Applying  time.Time // when the apply began; zero: it did not
	Took      time.Duration
}

// Changed is how many objects the run created, changed or removed.
func (r Run) Changed() int {
	n := 0
	for action, count := range r.Plan.Counts() {
		if action != apply.ActionNone && action != apply.ActionWait && action != apply.ActionHandOver && action != apply.ActionLeave && r.Err == nil {
			n += count
		}
	}
	return n
}

// Trigger is why a stack was put in motion.
type Trigger string

// Triggers.
const (
	TriggerRevision   Trigger = "revision"   // an input changed in Git
	TriggerDependency Trigger = "dependency" // what it waited for became Ready
	TriggerDrift      Trigger = "drift"      // the cluster moved
	TriggerHealth     Trigger = "health"     // an object of it became more or less ready
	TriggerInterval   Trigger = "interval"   // the slow resync
	TriggerStart      Trigger = "start"      // the daemon is new, Git and cluster are not
	TriggerRetry      Trigger = "retry"      // the last run failed
	TriggerHand       Trigger = "hand"       // somebody asked
	TriggerSecrets    Trigger = "secrets"    // OpenBao has something else than it had
)

// Health is how the objects of a stack are doing.
type Health struct {
	Total, Current int
	Pending        []string // what is not there yet, and why; bounded
	Failed         []string // what says of itself that it failed; bounded
}

// Ready is true when every object is current.
func (h Health) Ready() bool { return h.Total == h.Current }

// String is "3/4 ready: Deployment.apps o11y/grafana: 0 of 1 available".
func (h Health) String() string {
	s := fmt.Sprintf("%d/%d ready", h.Current, h.Total)
	for i, list := range [][]string{h.Failed, h.Pending} {
		for j, line := range list {
			switch {
			case i == 0 && j == 0:
				s += "; failed: " + line
			case j == 0:
				s += "; waiting for " + line
			default:
				s += "; " + line
			}
		}
	}
	return s
}
