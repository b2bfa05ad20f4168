package reconciler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

// A course is what becomes of the drift of one object over some trips.
type course struct {
	t     *testing.T
	l     *Loop
	s     *stackState
	lines *bytes.Buffer
}

var driftedID = apply.ID{Group: "apps", Kind: "Deployment", Namespace: "o11y", Name: "web"}

func newCourse(t *testing.T, mode DriftMode) course {
	c := course{t: t, lines: &bytes.Buffer{}, s: &stackState{generation: 1, applied: 1, revision: "abc", known: map[apply.ID]apply.Applied{driftedID: {}}}}
	c.l = &Loop{Log: slog.New(slog.NewJSONHandler(c.lines, nil)), stacks: map[string]*stackState{"home.app": c.s},
		Watched: func(observe.ID) (observe.Entry, bool) { return observe.Entry{}, false }}
	c.s.declared.Source, c.s.declared.Spec.Drift.Mode = "home", mode
	return c
}

func changed(fields ...apply.FieldChange) apply.Change {
	if fields == nil {
		fields = []apply.FieldChange{{Path: "spec.replicas", Have: "5", Want: "2"}}
	}
	return apply.Change{ID: driftedID, Action: apply.ActionUpdate, Drift: apply.WayChanged, Fields: fields, By: apply.Author{Manager: "hpa", Operation: "Update"}}
}

// look plans; trip plans and applies, with an error or without.
func (c course) look(corrects bool, changes ...apply.Change) Run {
	trip := Trip{Stack: "home.app", Revision: "abc", corrects: corrects, seen: c.s.seen}
	c.s.seen = nil
	run := Run{Stack: "home.app", Plan: apply.Plan{Stack: "home.app", Changes: changes}}
	run.Plan = c.l.judge(context.Background(), trip, run)
	return run
}

func (c course) trip(err error, changes ...apply.Change) Run {
	run := c.look(true, changes...)
	run.Err, run.Inventory.Applied, run.Inventory.When = err, map[apply.ID]apply.Applied{}, map[apply.ID]time.Time{}
	for _, change := range run.Plan.Changes {
		if err == nil && change.Action != apply.ActionLeave && change.Action != apply.ActionNone {
			run.Inventory.When[change.ID] = time.Now()
		}
	}
	c.l.corrected(context.Background(), c.s, run)
	return run
}

// said is the log: a line each, as "LEVEL message action error".
func (c course) said() (out []string) {
	c.t.Helper()
	for line := range strings.Lines(c.lines.String()) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			c.t.Fatal(err)
		}
		text := r["level"].(string) + " " + r["msg"].(string) + " " + r["action"].(string)
		if r["corrected"] != nil {
			text += " corrected"
		}
		if r["error"] != nil {
			text += " " + r["error"].(string)
		}
		out = append(out, text)
	}
	return out
}

func (c course) says(want ...string) {
	c.t.Helper()
	if got := c.said(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		c.t.Errorf("says\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestEveryDriftIsToldOnce(t *testing.T) {
	none := apply.Change{ID: driftedID, Action: apply.ActionNone}
	t.Run("put right", func(t *testing.T) {
		c := newCourse(t, DriftCorrect)
		c.trip(nil, changed())
		c.trip(nil, none)
		c.says("INFO drift correct corrected")
	})
	t.Run("refused, and put right at last", func(t *testing.T) {
		c := newCourse(t, DriftCorrect)
		for range 20 { // which is no fight: it was never put right
			c.trip(errors.New("a webhook is away"), changed())
		}
		if status := c.l.drifts.status("home.app"); status == nil || !strings.Contains(status.Message, "Deployment.apps o11y/web: changed by hpa: spec.replicas: 2 → 5") {
			t.Errorf("status %v", status)
		}
		c.trip(nil, changed())
		c.says("WARN drift correct a webhook is away", "INFO drift resolved correct corrected")
		if len(c.s.contended) > 0 || c.l.drifts.status("home.app") != nil {
			t.Errorf("contended %v", c.s.contended)
		}
	})
	t.Run("only looked at, until it is gone", func(t *testing.T) {
		c := newCourse(t, DriftDetect)
		c.look(false, changed())
		c.look(false, changed())
		c.look(false, none)
		c.says("WARN drift leave", "INFO drift resolved leave corrected")
	})
	t.Run("only looked at, and then otherwise", func(t *testing.T) {
		c := newCourse(t, DriftDetect)
		c.look(false, changed())
		c.look(false, changed(apply.FieldChange{Path: "spec.replicas", Have: "6", Want: "2"}))
		c.says("WARN drift leave", "WARN drift leave")
		if list := c.l.Drifts("home.app"); len(list) != 1 || list[0].Fields[0].Have != "6" {
			t.Errorf("%v", list)
		}
	})
	t.Run("put back by somebody else in the meantime", func(t *testing.T) {
		c := newCourse(t, DriftCorrect)
		c.trip(nil, none)
		c.says()
	})
	t.Run("off", func(t *testing.T) {
		c := newCourse(t, DriftOff)
		c.trip(nil, changed())
		c.says()
	})
	t.Run("a fight, and a hand", func(t *testing.T) {
		c := newCourse(t, DriftCorrect)
		var want []string
		for range takeBacks {
			c.trip(nil, changed())
			want = append(want, "INFO drift correct corrected")
		}
		run := c.trip(nil, changed())
		if action := run.Plan.Changes[0].Action; action != apply.ActionLeave || len(c.s.contended) != 1 {
			t.Errorf("%s, contended %v", action, c.s.contended)
		}
		c.s.rearm()
		c.trip(nil, changed())
		c.says(append(want, "WARN drift contend", "INFO drift resolved correct corrected")...)
	})
}

// TestSkew has clocks that are years, and an hour, apart.
func TestSkew(t *testing.T) {
	for name, skew := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour, "years ahead": 26 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCourse(t, DriftCorrect)
				change := changed()
				change.By.At = time.Now().Add(skew)
				c.s.saw(driftedID)
				time.Sleep(40 * time.Millisecond)
				c.trip(nil, change)
				d := c.l.Drifts("")[0]
				if took := d.Corrected.Sub(d.Seen); took != 40*time.Millisecond || !d.Changed.Equal(change.By.At) || d.recorded().Took != took {
					t.Errorf("took %s, detected after %s, changed %s", took, d.recorded().Took, d.Changed)
				}
			})
		})
	}
}

func TestDriftRecordsAreBounded(t *testing.T) {
	c := newCourse(t, DriftDetect)
	var fields []apply.FieldChange
	for range 200 {
		fields = append(fields, apply.FieldChange{Path: "spec." + strings.Repeat("\x1b[31m\n", 20000), Have: strings.Repeat("h", 256), Want: "w"})
	}
	change := changed(fields...)
	change.By.Manager = strings.Repeat("m", 1000)
	c.look(false, change)
	d := c.l.Drifts("home.app")[0]
	if len(d.Fields) != fieldsOfDrift+1 || d.size() > 30<<10 || len(d.Manager) > 200 || c.lines.Len() > 50<<10 || strings.Contains(c.lines.String(), "\x1b") {
		t.Errorf("%d fields, %d bytes, %d of the manager, %d of the log", len(d.Fields), d.size(), len(d.Manager), c.lines.Len())
	}
	if last := d.Fields[fieldsOfDrift].Path; last != "… and 180 more fields" {
		t.Error(last)
	}
	if status := c.l.drifts.status("home.app"); len(status.Message) > messageBytes {
		t.Errorf("%d bytes in the status", len(status.Message))
	}
}

func TestDriftSpec(t *testing.T) {
	for text, want := range map[string]string{
		"{mode: sometimes}":                                                      `stack.yaml: spec.drift.mode: "sometimes": want correct, detect or off`,
		"{ignore: [{fields: [/spec/replicas]}]}":                                 "spec.drift.ignore[0].kind: missing: say which objects are meant",
		"{ignore: [{kind: Deployment}]}":                                         "spec.drift.ignore[0].fields: missing: say what is left to others",
		"{ignore: [{kind: Deployment, fields: [spec.replicas]}]}":                `spec.drift.ignore[0].fields: "spec.replicas" is no JSON pointer: write it as in /spec/replicas`,
		"{ignore: [{kind: A, fields: [/metadata/name]}]}":                        "/metadata/name names the object",
		"{ignore: [{kind: A, fields: [/kind]}]}":                                 "/kind is not a field that can be left to others",
		"{ignore: [{kind: A, field: /kind}]}":                                    "field",
		"{ignore: [" + strings.Repeat("{kind: A, fields: [/spec]}, ", 51) + "]}": "spec.drift.ignore: 51 rules: at most 50",
		"{ignore: [{kind: A, fields: [" + strings.Repeat("/a, ", 51) + "]}]}":    "spec.drift.ignore[0].fields: 51: at most 50",
	} {
		_, _, err := parseStack("stack.yaml", []byte(stackFile("a", kustomizeApp+"  drift: "+text+"\n")), SourceConfig{Name: "home"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

// TestRefusedIsTriedAgainOnce has many looks at what can't be put right: each tries
// again later, and all of them once.
func TestRefusedIsTriedAgainOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCourse(t, DriftCorrect)
		c.l.Init()
		defer func() { c.l.queue.ShutDown(); c.l.looks.ShutDown(); c.l.statuses.ShutDown() }()
		c.l.stacks["home.app"] = c.s
		refused := changed()
		refused.Action, refused.Refused = apply.ActionLeave, errors.New("immutable")
		retries := 0
		look := func(run Run) {
			c.l.mu.Lock()
			defer c.l.mu.Unlock()
			c.l.refused("home.app", c.s, run)
		}
		for range 10 {
			look(c.look(true, refused))
		}
		for range 600 { // five minutes
			time.Sleep(500 * time.Millisecond)
			c.l.mu.Lock()
			if c.s.triggers[TriggerRetry] {
				retries++
				c.s.triggers = nil
			}
			c.l.mu.Unlock()
		}
		if retries != 1 || c.s.refusals != 10 {
			t.Errorf("%d retries after %d looks", retries, c.s.refusals)
		}
		c.says("WARN drift correct immutable")
		if !c.l.Attentive(observe.ID(driftedID)) {
			t.Error("the watch keeps to itself what becomes of it")
		}
		look(c.trip(nil, changed()))
		if c.s.refusal != "" || c.l.Attentive(observe.ID(driftedID)) {
			t.Errorf("put right, and still refused: %q", c.s.refusal)
		}
	})
}
