package reconciler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	nometric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// tracedLoop is a loop with stacks that a push has delivered, and the spans that ended.
func tracedLoop(t *testing.T, dependencies map[string]string) (*Loop, func() []string) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	recorder, err := telemetry.New(nometric.NewMeterProvider(), trace.NewTracerProvider(trace.WithSpanProcessor(spans)), telemetry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := &sourceState{advanced: true, push: recorder.Pushed(telemetry.Commit{Source: "home"}, time.Now(), time.Now())}
	l := &Loop{Recorder: recorder, Cluster: NewCluster(nil, nil), stacks: map[string]*stackState{}, sources: map[string]*sourceState{"home": source}}
	for name, dependency := range dependencies {
		s := &stackState{generation: 1}
		s.declared.Name, s.declared.Source = name, "home"
		if dependency != "" {
			s.declared.dependsOn = []string{"home." + dependency}
		}
		l.stacks[name] = s
		s.deliver(source)
	}
	source.push.Published(nil)
	return l, func() (ended []string) {
		for _, s := range spans.Ended() {
			result := ""
			for _, kv := range s.Attributes() {
				if kv.Key == telemetry.AttrResult {
					result = " " + kv.Value.AsString()
				}
			}
			if s.Name() != telemetry.SpanFetch {
				ended = append(ended, strings.TrimPrefix(s.Name(), "reconcile ")+result)
			}
		}
		slices.Sort(ended)
		return ended
	}
}

var errFailed = errors.New("failed")

func chain() map[string]string {
	return map[string]string{"home.a": "", "home.b": "a", "home.c": "b", "home.d": ""}
}

// TestWhoWaitsIsGivenUpToo: a push doesn't last until somebody mends one of its stacks.
func TestWhoWaitsIsGivenUpToo(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(l *Loop)
		want    []string
	}{
		"nothing":          {func(*Loop) {}, nil},
		"one fails":        {func(l *Loop) { l.giveUp("home.a", l.stacks["home.a"], telemetry.ResultFailure, errFailed) }, []string{"home.a failure", "home.b skip", "home.c skip"}},
		"one waits":        {func(l *Loop) { l.stuck("home.b", l.stacks["home.b"], "DependencyNotReady", "", false) }, nil},
		"one is suspended": {func(l *Loop) { l.stuck("home.b", l.stacks["home.b"], "Suspended", "", false) }, []string{"home.b skip", "home.c skip"}},
		"a circle":         {func(l *Loop) { l.stuck("home.d", l.stacks["home.d"], "DependencyCycle", "", true) }, []string{"home.d failure"}},
		"one waits for what was given up": {func(l *Loop) {
			l.stacks["home.a"].delivery.Ended(telemetry.ResultFailure, errFailed)
			l.stuck("home.b", l.stacks["home.b"], "DependencyNotReady", "", false)
		}, []string{"home.a failure", "home.b skip", "home.c skip"}},
		"one waits for what is late": {func(l *Loop) {
			l.stacks["home.a"].applied, l.stacks["home.a"].late = 1, true
			l.stuck("home.b", l.stacks["home.b"], "DependencyNotReady", "", false)
		}, []string{"home.b skip", "home.c skip"}},
		"one waits for what was late": {func(l *Loop) {
			l.stacks["home.a"].applied, l.stacks["home.a"].late, l.stacks["home.a"].ready = 1, true, true
			l.stuck("home.b", l.stacks["home.b"], "DependencyNotReady", "", false)
		}, nil},
		"one waits for nothing that there is": {func(l *Loop) {
			delete(l.stacks, "home.a")
			l.stuck("home.b", l.stacks["home.b"], "DependencyNotReady", "", false)
		}, []string{"home.b skip", "home.c skip"}},
		"one waits for what may come yet": {func(l *Loop) {
			delete(l.stacks, "home.a")
			l.sources["home"].advanced = false
			l.stuck("home.b", l.stacks["home.b"], "DependencyNotReady", "", false)
		}, nil},
		"the daemon stops": {(*Loop).abandon, []string{"home.a cancellation", "home.b cancellation", "home.c cancellation", "home.d cancellation", "push"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, ended := tracedLoop(t, chain())
			tt.happens(l)
			if got := ended(); !slices.Equal(got, tt.want) {
				t.Errorf("these ended: %q, want %q", got, tt.want)
			}
		})
	}
}

// TestWhereATripBelongs: to the commit that it brings, or to itself.
func TestWhereATripBelongs(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(l *Loop, s *stackState)
		why    Trigger
		during func(l *Loop, s *stackState)
		want   []string // have ended after the trip
		joins  bool     // the commit's delivery
		goesOn bool     // what it was in is what is in the cluster
	}{
		"the commit":               {nil, TriggerRevision, nil, nil, true, true},
		"what it waited for came":  {nil, TriggerDependency, nil, nil, true, true},
		"again":                    {nil, TriggerRetry, nil, nil, true, true},
		"the second half":          {func(_ *Loop, s *stackState) { s.applied = 1 }, TriggerRetry, nil, nil, true, true},
		"a hand, meanwhile":        {nil, TriggerHand, nil, []string{"home.d error"}, false, false},
		"drift":                    {func(_ *Loop, s *stackState) { s.applied = 1 }, TriggerDrift, nil, []string{"home.d error"}, false, false},
		"the resync, long after":   {func(_ *Loop, s *stackState) { s.applied = 1; s.delivery.Ended(telemetry.ResultSuccess, nil) }, TriggerInterval, nil, []string{"home.d error", "home.d success"}, false, false},
		"what was given up before": {func(_ *Loop, s *stackState) { s.delivery.Ended(telemetry.ResultFailure, nil) }, TriggerHand, nil, []string{"home.d failure"}, false, true},
		"superseded on its way": {nil, TriggerRevision, func(l *Loop, s *stackState) {
			l.supersede("home.d", s)
			if !s.delivery.Open() {
				t.Error("it ended before its trip did")
			}
			s.generation++
			s.delivery = l.Recorder.Began("home.d", "revision", "", nil)
		}, []string{"home.d cancellation"}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, ended := tracedLoop(t, chain())
			s := l.stacks["home.d"]
			if tt.before != nil {
				tt.before(l, s)
			}
			pushed := s.delivery
			trip := Trip{Stack: "home.d", delivery: l.deliveryFor("home.d", s, tt.why)}
			if tt.during != nil {
				tt.during(l, s)
			}
			l.arrived(trip, &Run{Err: errFailed})
			if got := ended(); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("these ended: %q, want %q", got, tt.want)
			}
			if joins, goesOn := trip.delivery == pushed, trip.delivery == s.delivery; joins != tt.joins || goesOn != tt.goesOn || s.traveling != nil {
				t.Errorf("joins %v, goes on %v, on its way %v", joins, goesOn, s.traveling != nil)
			}
		})
	}
}
