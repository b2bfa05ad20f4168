package reconciler

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// Status is the last word on a stack, kept in its Stack object. Conditions are
// those of kstatus, so that kubectl wait and every other tool understands it.
type Status struct {
	ObservedGeneration int64              `json:"observedGeneration"`
	Conditions         []metav1.Condition `json:"conditions"`
	Revision           string             `json:"revision"` // that was tried last
	Applied            string             `json:"applied"`  // that is in the cluster
	Objects            string             `json:"objects"`
	// Digest of what was applied and what came of it: after a restart, nobody
	// needs to ask about a stack for which it still holds.
	Digest string `json:"digest"`
	// Desired is a hash of what Git wanted when it was applied: a restart is no
	// reason to apply it again.
	Desired string `json:"desired"`
	// Secrets is a hash of the versions that were read from OpenBao for it.
	Secrets   string      `json:"secrets"`
	HandledAt string      `json:"handledAt"`
	Held      *HeldStatus `json:"held"`
	// Drift is what stays as it is; nil: nothing.
	Drift *DriftStatus `json:"drift"`
}

// DriftStatus counts the objects that are not as Git wants them, and are left so.
type DriftStatus struct {
	Objects int    `json:"objects"`
	Message string `json:"message"`
}

// HeldStatus says what waits for a confirmation.
type HeldStatus struct {
	Removal string `json:"removal"`
	Message string `json:"message"`
}

// Condition types.
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
	ConditionContended   = "Contended" // somebody insists on other values
)

// messageBytes bounds a condition's message: etcd is no place for reports.
const messageBytes = 4096

// Passing states are kept out of the API server: most are over before anybody
// could read them. When a commit sets many stacks in motion, a status costs the
// server as much as an object; then only some of them tell of their progress, and
// all of them of its end.
const (
	progressDelay = time.Second
	progressEvery = 200 * time.Millisecond
)

// say sets the status of a stack. It is written soon: at once where it is a
// result, in a moment where it is a passing state. Loop.mu is held.
func (l *Loop) say(name string, s *stackState, stalled bool, reason, message string) {
	ready := reason == "Ready"
	message = s.shown(message)
	s.said = true
	l.Recorder.StackSaid(context.Background(), name, reason)
	l.eventSaid(name, s, stalled, reason, message)
	s.status.Revision = s.revision
	s.status.Held = nil
	if s.held != "" {
		s.status.Held = &HeldStatus{s.removal, s.held}
	}
	s.status.Drift = l.drifts.status(name)
	if !ready {
		s.status.Digest = ""
	}
	s.sayContended()
	s.sayGated()
	set := func(kind string, on bool) {
		state, why, text := metav1.ConditionFalse, reason, message
		if on {
			state = metav1.ConditionTrue
		} else if kind != ConditionReady {
			why, text = "No", ""
		}
		setCondition(&s.status.Conditions, metav1.Condition{Type: kind, Status: state, Reason: why, Message: short(text, messageBytes)})
	}
	set(ConditionReady, ready)
	set(ConditionReconciling, !ready && !stalled && reason != "Suspended")
	set(ConditionStalled, stalled)
	if l.Said != nil {
		l.Said()
	}
	if ready || stalled || reason == "Suspended" {
		l.statuses.Add(name)
		return
	}
	if !s.passing {
		s.passing = true
		l.statuses.AddAfter(name, l.progressIn())
	}
}

// progressIn is when the next passing state may be written.
func (l *Loop) progressIn() time.Duration {
	now := time.Now()
	l.progress = l.progress.Add(progressEvery)
	if soonest := now.Add(progressDelay); l.progress.Before(soonest) {
		l.progress = soonest
	}
	return l.progress.Sub(now)
}

// setCondition keeps the time of the last transition.
func setCondition(list *[]metav1.Condition, c metav1.Condition) {
	for i, old := range *list {
		if old.Type == c.Type {
			c.LastTransitionTime = old.LastTransitionTime
			if old.Status != c.Status {
				c.LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
			}
			conditions := append([]metav1.Condition{}, *list...)
			conditions[i] = c
			*list = conditions
			return
		}
	}
	c.LastTransitionTime = metav1.NewTime(time.Now().Truncate(time.Second))
	*list = append(append([]metav1.Condition{}, *list...), c)
}

// writeStatus makes the Stack object say what the loop says. It costs nothing
// when it says so already.
func (l *Loop) writeStatus(ctx context.Context, name string) {
	if strings.HasPrefix(name, sourcePrefix) {
		l.writeSource(ctx, name)
		return
	}
	l.mu.Lock()
	s, ok := l.stacks[name]
	if !ok {
		l.mu.Unlock()
		return
	}
	s.passing = false
	want, parent, removed := s.status, s.parent, s.removed
	declared, source := s.declared, l.sources[s.declared.Source]
	l.mu.Unlock()
	if parent == nil && (removed || source == nil || len(want.Conditions) == 0) {
		return
	}
	parent, err := l.Cluster.WriteStatus(ctx, name, parent, declared.mirror(source.config.URL), want)
	if err != nil {
		if ctx.Err() == nil && !apierrors.IsNotFound(err) {
			l.Log.Warn("status not written", "stack", name, "error", err.Error())
		}
		l.statuses.AddAfter(name, 5*time.Second)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.stacks[name]; ok {
		s.parent = newer(s.parent, parent)
		l.sendEvents(name, s)
		s.written = sha256.Sum256([]byte(normal(want)))
		if l.Said != nil {
			l.Said()
		}
	}
}

// statusOf reads the status of a Stack object.
func statusOf(u *unstructured.Unstructured) Status {
	var s Status
	if u == nil {
		return s
	}
	switch raw := u.Object["status"].(type) {
	case string: // see slim
		_ = json.Unmarshal([]byte(raw), &s)
	case map[string]any:
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s) // what can't be read is written anew
	}
	return s
}

func storedDigest(u *unstructured.Unstructured) string { return statusOf(u).Digest }

// sameStatus is true when the object says so already.
func sameStatus(u *unstructured.Unstructured, want Status) bool {
	have := statusOf(u)
	return u != nil && normal(have) == normal(want)
}

// normal is a status as text, times in one zone.
func normal(s Status) string {
	s.Conditions = inUTC(s.Conditions)
	raw, _ := json.Marshal(s)
	return string(raw)
}

// inUTC makes times comparable: the server answers in another zone than ours.
func inUTC(list []metav1.Condition) []metav1.Condition {
	out := append([]metav1.Condition{}, list...)
	for i := range out {
		out[i].LastTransitionTime = metav1.NewTime(out[i].LastTransitionTime.UTC())
	}
	return out
}

// SourceStatus is the last word on a source, kept in its Source object.
type SourceStatus struct {
	Conditions []metav1.Condition `json:"conditions"`
	Revision   string             `json:"revision"`
	Ref        string             `json:"ref"`
	Author     string             `json:"author"`
	Subject    string             `json:"subject"`
	Stacks     int                `json:"stacks"`
	Broken     int                `json:"broken"`
	HandledAt  string             `json:"handledAt"`
}

// saySource says how a source is doing: reason Fetched or Failed.
func (l *Loop) saySource(s *sourceState, reason, message string) {
	state := metav1.ConditionTrue
	if reason != "Fetched" {
		state = metav1.ConditionFalse
	}
	s.status.Revision, s.status.Ref, s.status.Broken = s.snapshot.Commit, s.snapshot.Ref, s.broken
	s.status.Author, s.status.Subject = s.snapshot.Author, short(s.snapshot.Subject, 200)
	s.status.HandledAt = s.handled
	setCondition(&s.status.Conditions, metav1.Condition{Type: ConditionReady, Status: state, Reason: reason, Message: short(message, messageBytes)})
	l.statuses.Add(sourcePrefix + s.config.Name)
}

// shown is a text masked, and short enough to be read while everybody waits. What
// may be half a secret at its end is cut off.
func (s *stackState) shown(text string) string {
	const most, half = 4 * messageBytes, 128
	if len(text) <= most {
		return s.masked(text)
	}
	text = s.masked(text[:most])
	return whole(text[:max(0, len(text)-half)]) + "…"
}

func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return whole(s[:most]) + "…"
}

// whole leaves out what is half a character, or none: OTLP refuses all that comes
// with it.
func whole(s string) string { return strings.ToValidUTF8(s, "") }
