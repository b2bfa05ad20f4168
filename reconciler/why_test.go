package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/secrets"
)

var (
	web   = apply.ID{Group: "apps", Kind: "Deployment", Namespace: "o11y", Name: "web"}
	claim = apply.ID{Kind: "PersistentVolumeClaim", Namespace: "o11y", Name: "web"}
)

// A rollout is a loop in which stacks roll out, with nobody to render or apply.
type rollout struct {
	t       *testing.T
	loop    *Loop
	entries map[observe.ID]observe.Entry
	asked   []time.Duration // when pods were asked, since the begin
	began   time.Time
	log     bytes.Buffer
}

// rollingOut runs a test in a bubble with the stack home.app, whose Deployment and claim were applied just now.
func rollingOut(t *testing.T, timeout string, test func(*rollout)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rollout{t: t, entries: map[observe.ID]observe.Entry{}, began: time.Now()}
		r.loop = &Loop{Log: slog.New(slog.NewJSONHandler(&r.log, nil)),
			Watched: func(id observe.ID) (observe.Entry, bool) { e, ok := r.entries[id]; return e, ok },
			OfStack: func(string) []observe.Entry { return nil },
			Why: func(context.Context, observe.ID) (string, error) {
				r.loop.mu.Lock()
				defer r.loop.mu.Unlock()
				r.asked = append(r.asked, time.Since(r.began))
				return "pod web-1: container app: CrashLoopBackOff: exit code 1", nil
			}}
		r.loop.Init()
		ctx, cancel := context.WithCancel(t.Context())
		for range lookers {
			go drain(ctx, r.loop.whys, func(name string) { r.loop.lookInto(ctx, name) })
		}
		r.entries[observe.ID(claim)] = observe.Entry{ID: observe.ID(claim), Status: status.CurrentStatus}
		r.set(status.InProgressStatus)
		r.applied("home.app", timeout)
		test(r)
		cancel()
		r.loop.queue.ShutDown()
		r.loop.looks.ShutDown()
		r.loop.statuses.ShutDown()
		r.loop.whys.ShutDown()
		for _, s := range r.loop.stacks {
			if s.stuck.timer != nil {
				s.stuck.timer.Stop()
			}
		}
	})
}

// applied makes a stack one whose newest generation is in the cluster.
func (r *rollout) applied(name, timeout string, dependsOn ...string) *stackState {
	r.t.Helper()
	d, err := time.ParseDuration(timeout)
	if err != nil {
		r.t.Fatal(err)
	}
	r.loop.mu.Lock()
	s := r.loop.stacks[name]
	if s == nil {
		s = &stackState{}
		r.loop.stacks[name] = s
	}
	s.declared = Declared{Name: name, Source: "home", dependsOn: dependsOn}
	s.declared.Spec.Ready.Timeout = Duration(d)
	s.wants, s.known = []apply.ID{web, claim}, map[apply.ID]apply.Applied{}
	s.generation++
	s.applied, s.announce, s.began, s.deadline, s.late = s.generation, true, time.Now(), time.Time{}, false
	r.loop.mu.Unlock()
	r.loop.observe(name)
	return s
}

func (r *rollout) set(to status.Status) {
	r.loop.mu.Lock()
	r.entries[observe.ID(web)] = observe.Entry{ID: observe.ID(web), Status: to, Message: map[bool]string{false: "Available: 0/1"}[to == status.CurrentStatus]}
	r.loop.mu.Unlock()
	r.loop.observe("home.app")
}

func (r *rollout) logged() string {
	r.loop.mu.Lock()
	defer r.loop.mu.Unlock()
	return r.log.String()
}

// says is the reason and the message of a stack.
func (r *rollout) says(name string) (reason, message string) {
	r.loop.mu.Lock()
	defer r.loop.mu.Unlock()
	for _, c := range r.loop.stacks[name].status.Conditions {
		if c.Type == ConditionReady {
			reason, message = c.Reason, c.Message
		}
	}
	return reason, message
}

func (r *rollout) expect(reason, message string) {
	r.t.Helper()
	synctest.Wait()
	if gotReason, got := r.says("home.app"); gotReason != reason || !strings.Contains(got, message) {
		r.t.Errorf("after %v it says %s: %q, want %s: %q", time.Since(r.began), gotReason, got, reason, message)
	}
}

// TestWhyIsAskedRarely: not at once, then after ten seconds, then ever more rarely; never of what is Ready.
func TestWhyIsAskedRarely(t *testing.T) {
	rollingOut(t, "1h", func(r *rollout) {
		time.Sleep(time.Second)
		r.expect("Progressing", "waiting for Deployment.apps o11y/web: Available: 0/1")
		time.Sleep(1500 * time.Millisecond)
		r.expect("Progressing", "Available: 0/1: pod web-1: container app: CrashLoopBackOff: exit code 1")
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if want := "[2s 12s 32s 1m12s 2m12s]"; fmt.Sprint(r.asked) != want {
			t.Errorf("asked at %v, want %s", r.asked, want)
		}
		r.set(status.FailedStatus) // something moves
		r.expect("Progressing", "failed: Deployment.apps o11y/web: Available: 0/1: pod web-1")
		synctest.Wait()
		if n := len(r.asked); n != 6 {
			t.Errorf("asked %d times, want once more at once: its last look is long ago", n)
		}
		r.set(status.CurrentStatus)
		r.expect("Ready", "2/2 ready")
		before := len(r.asked)
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(r.asked) != before {
			t.Errorf("asked %d times although it is Ready", len(r.asked)-before)
		}
		r.set(status.InProgressStatus)
		time.Sleep(time.Second)
		r.expect("Progressing", "Available: 0/1")
		if _, message := r.says("home.app"); strings.Contains(message, "web-1") {
			t.Errorf("it remembers what pods said long ago: %s", message)
		}
	})
}

// TestWhyOfAnotherGeneration: newer inputs forget what the pods of the older ones said.
func TestWhyOfAnotherGeneration(t *testing.T) {
	rollingOut(t, "1h", func(r *rollout) {
		time.Sleep(3 * time.Second)
		r.expect("Progressing", "web-1")
		r.applied("home.app", "1h")
		synctest.Wait()
		if _, message := r.says("home.app"); strings.Contains(message, "web-1") {
			t.Errorf("it says of a new rollout what the old one waited for: %s", message)
		}
		time.Sleep(3 * time.Second)
		r.expect("Progressing", "web-1")
	})
}

// TestRolloutFails: each stack has its own deadline, what it waited for is recorded once, and recovery is noticed.
func TestRolloutFails(t *testing.T) {
	rollingOut(t, "10s", func(r *rollout) {
		r.applied("home.patient", "1m")
		time.Sleep(9 * time.Second)
		r.expect("Progressing", "web-1")
		time.Sleep(2 * time.Second)
		r.loop.observe("home.app") // as the timer's trigger does
		r.loop.observe("home.patient")
		r.expect("RolloutFailed", "web-1: container app: CrashLoopBackOff")
		if reason, _ := r.says("home.patient"); reason != "Progressing" {
			t.Errorf("the one with more time is %s", reason)
		}
		r.loop.observe("home.app")
		var records []map[string]any
		for line := range strings.Lines(r.logged()) {
			var record map[string]any
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			if record["msg"] == telemetry.MsgRolloutFailed {
				records = append(records, record)
			}
		}
		if len(records) != 1 || records[0]["stack"] != "home.app" || records[0]["objects"] != "1/2" || records[0]["took"] != "11s" ||
			!strings.Contains(fmt.Sprint(records[0]["why"]), "CrashLoopBackOff") {
			t.Errorf("records of failed rollouts: %v", records)
		}
		time.Sleep(time.Hour)
		r.set(status.CurrentStatus)
		r.expect("Ready", "2/2 ready")
	})
}

// TestDeadlineWakes: the deadline needs nobody to look.
func TestDeadlineWakes(t *testing.T) {
	rollingOut(t, "10s", func(r *rollout) {
		time.Sleep(11 * time.Second)
		synctest.Wait()
		r.loop.mu.Lock()
		defer r.loop.mu.Unlock()
		if s := r.loop.stacks["home.app"]; !s.triggers[TriggerHealth] || r.loop.queue.Len() != 1 {
			t.Errorf("nothing was triggered: %v", s.triggers)
		}
	})
}

// TestSuperseded: newer inputs end a rollout that goes on, at once, with a deadline of their own.
func TestSuperseded(t *testing.T) {
	rollingOut(t, "10s", func(r *rollout) {
		time.Sleep(9 * time.Second)
		s := r.loop.stacks["home.app"]
		source := &sourceState{config: SourceConfig{Name: "home"}}
		source.snapshot.Commit = "next"
		output := render.Output{}
		r.loop.mu.Lock()
		s.take(candidate{declared: s.declared, rendered: &output, wants: s.wants}, source, time.Now())
		generation := s.generation
		next, why := r.loop.due("home.app", s, map[Trigger]bool{TriggerRevision: true})
		r.loop.mu.Unlock()
		if next != stepGo || why != TriggerRevision {
			t.Errorf("newer inputs: %v, %v", next, why)
		}
		time.Sleep(5 * time.Second) // the deadline of the former passes
		r.loop.observe("home.app")
		if reason, _ := r.says("home.app"); reason == "RolloutFailed" {
			t.Error("the rollout that was superseded failed")
		}
		r.loop.finish(t.Context(), Trip{Stack: "home.app", generation: generation}, Run{Stack: "home.app", Health: Health{Total: 1}})
		r.expect("Progressing", "0/1 ready")
		r.loop.mu.Lock()
		defer r.loop.mu.Unlock()
		if left := time.Until(s.deadline); left != 10*time.Second {
			t.Errorf("the new rollout has %v", left)
		}
	})
}

// TestDependantsWake in the moment that what they wait for is Ready, and not before.
func TestDependantsWake(t *testing.T) {
	rollingOut(t, "10s", func(r *rollout) {
		d := r.applied("home.dependant", "1m", "home.app")
		r.loop.mu.Lock()
		d.generation++ // newer inputs, which wait
		d.triggers = nil
		r.loop.mu.Unlock()
		began := time.Now()
		r.set(status.InProgressStatus)
		if d.triggers[TriggerDependency] {
			t.Error("woken too early")
		}
		r.set(status.CurrentStatus)
		if !d.triggers[TriggerDependency] || time.Since(began) > 0 {
			t.Errorf("not woken: %v", d.triggers)
		}
	})
}

// TestWhyIsMasked: pods may say what is sealed.
func TestWhyIsMasked(t *testing.T) {
	rollingOut(t, "1s", func(r *rollout) {
		redactor := secrets.NewRedactor()
		redactor.Add("a password", []byte("hunter2hunter2"))
		r.loop.mu.Lock()
		r.loop.stacks["home.app"].live, r.loop.stacks["home.app"].newest = redactor, redactor
		r.loop.Why = func(context.Context, observe.ID) (string, error) { return "exit code 1: no user hunter2hunter2", nil }
		r.loop.mu.Unlock()
		time.Sleep(1500 * time.Millisecond)
		r.loop.observe("home.app")
		r.expect("RolloutFailed", "exit code 1: no user ")
		if _, message := r.says("home.app"); strings.Contains(message+r.logged(), "hunter2") {
			t.Errorf("it says %s and logs %s", message, r.logged())
		}
	})
}
