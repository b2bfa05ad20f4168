package reconciler

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/secrets"
)

var errBoom = errors.New("boom")

func kv(stack, path string) secrets.Read { return secrets.Read{Stack: stack, Path: "kv/" + path} }

// rotating is a loop with stacks that have read these versions.
func rotating(t *testing.T, reads map[string]map[secrets.Read]secrets.Version) *Loop {
	t.Helper()
	l := &Loop{Log: slog.New(slog.DiscardHandler)}
	l.Init()
	t.Cleanup(func() { l.queue.ShutDown(); l.statuses.ShutDown(); l.looks.ShutDown() })
	for name, read := range reads {
		l.stacks[name] = &stackState{reads: read, generation: 1, applied: 1}
	}
	return l
}

func triggered(l *Loop) (names []string) {
	for _, name := range sorted(l.stacks) {
		if l.stacks[name].triggers[TriggerSecrets] {
			names = append(names, name)
		}
	}
	return names
}

// looks is a look at what the stacks have read.
func looks(moved map[secrets.Read]string, failed map[secrets.Read]error) movedFunc {
	return func(context.Context, map[secrets.Read]secrets.Version) (map[secrets.Read]string, map[secrets.Read]error) {
		return moved, failed
	}
}

func TestExactlyTheReadersOfWhatMovedAreSetInMotion(t *testing.T) {
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{
		"a": {kv("a", "one"): "1", kv("a", "two"): "1"},
		"b": {kv("b", "two"): "1"},
		"c": {kv("c", "two"): "2"},
		"d": nil,
		"e": {kv("e", "three"): "1"},
		"f": {kv("f", "four"): ""}, // never answered: there is nothing to compare with
	})
	l.lookAtSecrets(t.Context(), func(_ context.Context, reads map[secrets.Read]secrets.Version) (map[secrets.Read]string, map[secrets.Read]error) {
		if len(reads) != 6 {
			t.Errorf("asked about %v", reads)
		}
		l.mu.Lock()
		l.stacks["b"].reads = map[secrets.Read]secrets.Version{kv("b", "two"): "2"} // a run came in between
		l.mu.Unlock()
		return map[secrets.Read]string{kv("a", "two"): "version 2", kv("b", "two"): "version 2", kv("f", "four"): "not known here"},
			map[secrets.Read]error{kv("e", "three"): errBoom}
	})
	if got := triggered(l); !slices.Equal(got, []string{"a"}) {
		t.Errorf("in motion: %v", got)
	}
	if !l.stacks["a"].moved || l.stacks["e"].unseen != "boom" || l.stacks["a"].unseen != "" {
		t.Errorf("what can't be looked at concerns who read it: %q", l.stacks["a"].unseen)
	}
}

// unavailable is an error of OpenBao being away, as the secrets package gives it.
func unavailable(t *testing.T) error {
	t.Helper()
	bao, err := secrets.NewBao(secrets.BaoConfig{Address: "http://127.0.0.1:1", Retries: -1,
		Auth: secrets.BaoAuthConfig{Token: func() (string, error) { return "token", nil }}})
	if err != nil {
		t.Fatal(err)
	}
	_, failed := bao.Moved(t.Context(), map[secrets.Read]secrets.Version{kv("a", "one"): "v2:1"})
	err = failed[kv("a", "one")]
	if !secrets.Unavailable(err) {
		t.Fatalf("nobody is there, and the error is %v", err)
	}
	return err
}

func TestAnOutageIsSaidAndEnds(t *testing.T) {
	away := unavailable(t)
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{"a": {kv("a", "one"): "1"}, "b": nil, "c": {kv("c", "two"): "1"}})
	a := l.stacks["a"]
	l.say("a", a, false, "Ready", "1/1 ready")
	condition := func(kind string) (c metav1.Condition) {
		for _, c = range a.status.Conditions {
			if c.Type == kind {
				return c
			}
		}
		return metav1.Condition{}
	}
	l.lookAtSecrets(t.Context(), looks(nil, map[secrets.Read]error{kv("a", "one"): away}))
	if c := condition(ConditionSecrets); c.Status != metav1.ConditionFalse || !strings.HasSuffix(c.Message, away.Error()) || condition(ConditionReady).Status != metav1.ConditionTrue {
		t.Errorf("what is applied stays Ready, and the stack says that OpenBao is away: %+v", a.status.Conditions)
	}
	if len(triggered(l)) > 0 || len(l.stacks["b"].status.Conditions) > 0 || len(l.stacks["c"].status.Conditions) > 0 {
		t.Error("an outage sets nobody in motion, and concerns nobody who read something else")
	}
	l.lookAtSecrets(t.Context(), looks(nil, nil))
	if got := triggered(l); !slices.Equal(got, []string{"a"}) {
		t.Errorf("OpenBao is back: what may be old is read again by %v", got)
	}
}

// Whoever wants drift left alone wants it so after an outage too; a rotation is no drift.
func TestRotationWhereDriftIsLeftAlone(t *testing.T) {
	for _, test := range []struct {
		name   string
		moved  map[secrets.Read]string
		failed map[secrets.Read]error
		step   step
	}{
		{"a new version", map[secrets.Read]string{kv("a", "one"): "version 2"}, nil, stepGo},
		{"back from an outage", nil, nil, stepPreview},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := rotating(t, map[string]map[secrets.Read]secrets.Version{"a": {kv("a", "one"): "1"}})
			a := l.stacks["a"]
			a.declared.Spec.Drift.Mode, a.stale, a.known = DriftDetect, "was away", map[apply.ID]apply.Applied{}
			l.lookAtSecrets(t.Context(), looks(test.moved, test.failed))
			if got, why := l.due("a", a, a.triggers); got != test.step || why != TriggerSecrets {
				t.Errorf("step %d for %s, want %d", got, why, test.step)
			}
		})
	}
}

// What a preview read, nobody has applied.
func TestAPreviewSwallowsNoRotation(t *testing.T) {
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{"a": nil})
	a := l.stacks["a"]
	read := func(version secrets.Version) Run {
		return Run{Secrets: secrets.Resolved{Reads: map[secrets.Read]secrets.Version{kv("a", "one"): version}}}
	}
	a.status.Secrets, _ = l.versions(read("1").Secrets.Reads)
	for version, want := range map[secrets.Version]bool{"1": false, "2": true, "": false} {
		if l.rotated(a, read(version)) != want {
			t.Errorf("version %q: rotated is %v", version, !want)
		}
	}
	if l.rotated(&stackState{}, Run{}) {
		t.Error("a stack without references has rotated")
	}
}

func TestARefusedReferenceIsTriedAgain(t *testing.T) {
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{"a": nil})
	a := l.stacks["a"]
	a.generation, a.refused, a.stalled, a.retryAt = 2, true, 2, time.Now().Add(time.Hour)
	l.lookAtSecrets(t.Context(), looks(nil, nil))
	if next, _ := l.due("a", a, a.triggers); next != stepGo {
		t.Error("the secret may have been written in the meantime")
	}
}
