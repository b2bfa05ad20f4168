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

func TestExactlyTheReadersOfWhatMovedAreSetInMotion(t *testing.T) {
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{
		"a": {kv("a", "one"): "1", kv("a", "two"): "1"},
		"b": {kv("b", "two"): "1"},
		"c": {kv("c", "two"): "2"},
		"d": nil,
	})
	l.lookAtSecrets(t.Context(), func(_ context.Context, reads map[secrets.Read]secrets.Version) (map[secrets.Read]string, error) {
		if len(reads) != 4 {
			t.Errorf("asked about %v", reads)
		}
		l.mu.Lock()
		l.stacks["b"].reads = map[secrets.Read]secrets.Version{kv("b", "two"): "2"} // a run came in between
		l.mu.Unlock()
		return map[secrets.Read]string{kv("a", "two"): "version 2", kv("b", "two"): "version 2"}, errBoom
	})
	if got := triggered(l); !slices.Equal(got, []string{"a"}) {
		t.Errorf("in motion: %v", got)
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
	_, err = bao.Moved(t.Context(), map[secrets.Read]secrets.Version{kv("a", "one"): "v2:1"})
	if !secrets.Unavailable(err) {
		t.Fatalf("nobody is there, and the error is %v", err)
	}
	return err
}

func TestAnOutageIsSaidAndEnds(t *testing.T) {
	away := unavailable(t)
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{"a": {kv("a", "one"): "1"}, "b": nil})
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
	answers := func(err error) movedFunc {
		return func(context.Context, map[secrets.Read]secrets.Version) (map[secrets.Read]string, error) {
			return nil, err
		}
	}
	l.lookAtSecrets(t.Context(), answers(away))
	if c := condition(ConditionSecrets); c.Status != metav1.ConditionFalse || !strings.HasSuffix(c.Message, away.Error()) || condition(ConditionReady).Status != metav1.ConditionTrue {
		t.Errorf("what is applied stays Ready, and the stack says that OpenBao is away: %+v", a.status.Conditions)
	}
	if len(triggered(l)) > 0 || len(l.stacks["b"].status.Conditions) > 0 {
		t.Error("an outage sets nobody in motion, and concerns nobody without references")
	}
	l.lookAtSecrets(t.Context(), answers(nil))
	if got := triggered(l); !slices.Equal(got, []string{"a"}) {
		t.Errorf("OpenBao is back: what may be old is read again by %v", got)
	}
}

func TestARefusedReferenceIsTriedAgain(t *testing.T) {
	l := rotating(t, map[string]map[secrets.Read]secrets.Version{"a": nil})
	l.stacks["a"].refused, l.stacks["a"].stalled, l.stacks["a"].retryAt = true, 1, time.Now().Add(time.Hour)
	l.lookAtSecrets(t.Context(), func(context.Context, map[secrets.Read]secrets.Version) (map[secrets.Read]string, error) {
		return nil, nil
	})
	if next, _ := l.due("a", l.stacks["a"], l.stacks["a"].triggers); next != stepGo {
		t.Error("the secret may have been written in the meantime")
	}
}
