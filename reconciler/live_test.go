package reconciler

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/secrets"
)

// liveLoop is a loop with a source and these stacks, of which nothing is watched.
func liveLoop(stacks ...string) *Loop {
	l := &Loop{Config: Config{Sources: []SourceConfig{{Name: "home", URL: "https://git.lan/home.git"}}},
		OfStack: func(string) []observe.Entry { return nil }, Watched: func(observe.ID) (observe.Entry, bool) { return observe.Entry{}, false }}
	l.Init()
	for _, name := range stacks {
		l.stacks[name] = &stackState{declared: Declared{Name: name, Source: "home", File: "apps/" + name + "/stack.yaml"}, revision: "new"}
	}
	return l
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func configMap(name string) apply.ID {
	return apply.ID{Kind: "ConfigMap", Namespace: "o11y", Name: name}
}

// putDrift notes drift of an object, that many seconds after noon.
func (l *Loop) putDrift(stack, name string, at int, fields ...apply.FieldChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drifts.put(configMap(name), Drift{Stack: stack, Object: DriftOf{"ConfigMap", "o11y", name}, What: apply.WayChanged, Fields: fields,
		Detected: noon.Add(time.Duration(at) * time.Second)})
}

func (l *Loop) endDrift(stack, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d := l.drifts.find(stack, configMap(name)); d != nil {
		d.Corrected = noon.Add(time.Hour)
	}
	l.drifts.close(stack, configMap(name))
}

func TestLiveStacks(t *testing.T) {
	l := liveLoop("home.web", "home.db")
	l.stacks["home.web"].status = Status{Objects: "1/2", Applied: "old", Held: &HeldStatus{"3f1c", "too many"}, Conditions: []metav1.Condition{
		{Type: ConditionReady, Status: "False", Reason: "Suspended", Message: strings.Repeat("m", 4000), LastTransitionTime: metav1.NewTime(noon)},
		{Type: ConditionStalled, Status: "True"}, {Type: ConditionContended, Status: "True"}}}
	l.putDrift("home.web", "a", 0)
	l.putDrift("home.web", "b", 0)
	l.putDrift("home.web", "c", 0)
	l.endDrift("home.web", "c")
	got := l.LiveStacks()
	want := StackList{Leading: true, Sources: []SourceView{{Name: "home", URL: "https://git.lan/home.git"}}, Stacks: []StackView{
		{Name: "home.db", Reason: "Pending", Source: "home", URL: "https://git.lan/home.git", Path: "apps/home.db", Revision: "new"},
		{Name: "home.web", Stalled: true, Suspended: true, Contended: true, Drift: 2, Reason: "Suspended", Message: strings.Repeat("m", listedMessage) + "…",
			Since: noon, Objects: "1/2", Revision: "new", Applied: "old", Source: "home", URL: "https://git.lan/home.git", Path: "apps/home.web",
			Held: "too many", Removal: "3f1c"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLiveStack(t *testing.T) {
	redactor := secrets.NewRedactor()
	redactor.Add("password", []byte("hunter2hunter2"))
	l := liveLoop("home.web")
	s := l.stacks["home.web"]
	s.newest, s.live = redactor, redactor
	s.wants = []apply.ID{configMap("missing"), configMap("there"), {Group: "apps", Kind: "Deployment", Namespace: "o11y", Name: "web"}, configMap("going")}
	s.status.Conditions = []metav1.Condition{{Type: ConditionReady, Status: "False", Reason: "Progressing", Message: "1/4", LastTransitionTime: metav1.NewTime(noon)}}
	l.OfStack = func(string) []observe.Entry {
		return []observe.Entry{
			{ID: observe.ID(configMap("there")), Status: status.CurrentStatus}, {ID: observe.ID(configMap("going")), Status: status.CurrentStatus, Deleting: true},
			{ID: observe.ID(configMap("extra")), Status: status.CurrentStatus},
			{ID: observe.ID{Group: "apps", Kind: "Deployment", Namespace: "o11y", Name: "web"}, Status: status.InProgressStatus, Message: "says hunter2hunter2"},
		}
	}
	l.putDrift("home.web", "there", 0)
	l.putDrift("home.other", "there", 0)
	got, err := l.LiveStack("home.web")
	if err != nil {
		t.Fatal(err)
	}
	objects := []ObjectView{
		{Kind: "ConfigMap", Namespace: "o11y", Name: "extra", Ready: true, Status: "Current"},
		{Kind: "ConfigMap", Namespace: "o11y", Name: "going", Status: "Terminating"},
		{Kind: "ConfigMap", Namespace: "o11y", Name: "missing", Status: "NotFound"},
		{Kind: "ConfigMap", Namespace: "o11y", Name: "there", Ready: true, Status: "Current"},
		{Kind: "Deployment.apps", Namespace: "o11y", Name: "web", Status: "InProgress", Message: redactor.Text("says hunter2hunter2")},
	}
	if diff := cmp.Diff(objects, got.Objects); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprint(got), "hunter2") {
		t.Errorf("%v", got)
	}
	if diff := cmp.Diff([]ConditionView{{"Ready", "False", "Progressing", "1/4", noon}}, got.Conditions); diff != "" {
		t.Error(diff)
	}
	if len(got.Drift) != 1 || got.Stack.Drift != 1 || got.More != 0 {
		t.Errorf("%+v", got)
	}
}

func TestLiveStackIsBounded(t *testing.T) {
	l := liveLoop("home.web")
	for i := range listedObjects + 5 {
		l.stacks["home.web"].wants = append(l.stacks["home.web"].wants, configMap(fmt.Sprint(i)))
	}
	if got, err := l.LiveStack("home.web"); err != nil || len(got.Objects) != listedObjects || got.More != 5 {
		t.Errorf("%d, %d more, %v", len(got.Objects), got.More, err)
	}
}

func TestLiveDrift(t *testing.T) {
	l := liveLoop("home.web", "home.db")
	for i, name := range []string{"a", "b", "c", "d"} {
		l.putDrift("home.web", name, i)
	}
	l.putDrift("home.db", "e", 9)
	l.putDrift("home.gone", "f", 1)
	l.endDrift("home.web", "c")
	l.endDrift("home.web", "d")
	l.endDrift("home.gone", "f")
	for _, test := range []struct {
		name   string
		query  DriftQuery
		stacks int
		want   string
		more   int
	}{
		{"what is there comes first, then the newest", DriftQuery{}, 2, "e b a d c f", 0},
		{"of one stack", DriftQuery{Stack: "home.web"}, 1, "b a d c", 0},
		{"what is there", DriftQuery{Stack: "home.web", Open: true}, 1, "b a", 0},
		{"a few", DriftQuery{Limit: 4}, 2, "e b a d", 2},
		{"of a stack that is gone", DriftQuery{Stack: "home.gone"}, 0, "f", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := l.LiveDrift(test.query)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, d := range got.Drift {
				names = append(names, d.Object.Name)
			}
			if list := strings.Join(names, " "); list != test.want || got.More != test.more || got.Stacks != test.stacks {
				t.Errorf("%s, %d more, of %d stacks", list, got.More, got.Stacks)
			}
		})
	}
}

func TestNoStack(t *testing.T) {
	l := liveLoop("home.web")
	var unknown *NoStackError
	if _, err := l.LiveStack("home.wbe"); !errors.As(err, &unknown) || err.Error() != `no stack "home.wbe": there are home.web` {
		t.Error(err)
	}
	if _, err := l.LiveDrift(DriftQuery{Stack: "home.wbe"}); !errors.As(err, &unknown) {
		t.Error(err)
	}
	if got, err := l.LiveDrift(DriftQuery{Stack: "home.web"}); err != nil || got.Drift == nil {
		t.Errorf("%v, %v: no drift is an empty list", got, err)
	}
	many := &NoStackError{Stack: strings.Repeat("x", 10000)}
	for i := range 5000 {
		many.There = append(many.There, fmt.Sprintf("home.stack-%04d", i))
	}
	if text := many.Error(); len(text) > 2000 || !strings.HasSuffix(text, "home.stack-0049 and 4950 more") {
		t.Errorf("%d bytes: …%s", len(text), text[len(text)-60:])
	}
}

// TestLiveWhileItMoves reads everything while the log changes, for the race
// detector, and holds the answer to its bound: a hostile value is as long as it likes.
func TestLiveWhileItMoves(t *testing.T) {
	l := liveLoop("home.web", "home.db")
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				drift, err := l.LiveDrift(DriftQuery{Limit: MostDrift})
				detail, err2 := l.LiveStack("home.web")
				raw, err3 := json.Marshal([]any{drift, detail, l.LiveStacks()})
				if err := errors.Join(err, err2, err3); err != nil || len(raw) > 3*6*2*driftBytes {
					t.Errorf("%d bytes, %v", len(raw), err)
					return
				}
			}
		})
	}
	long := strings.Repeat("<", 1<<20)
	for i := range 3 * driftsKept {
		name := fmt.Sprint(i % 50)
		value := "v"
		if i%100 == 0 {
			value = long
		}
		l.putDrift("home.web", name, i, apply.FieldChange{Path: "data." + name, Have: value})
		if i%3 == 0 {
			l.endDrift("home.web", name)
		}
	}
	close(stop)
	group.Wait()
}
