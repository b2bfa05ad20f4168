package reconciler

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// Drift is one object that was not as Git wants it although Git had not moved:
// what is different, who made it so, when, and what was done about it.
type Drift struct {
	Stack    string  `json:"stack"`
	Source   string  `json:"source"`
	Revision string  `json:"revision"` // commit that says how it should be
	Object   DriftOf `json:"object"`
	// What is changed, taken-over, deleted, replaced or stripped.
	What apply.Way `json:"what"`
	// Fields is what differs, with secrets as keyed hashes; bounded.
	Fields []apply.FieldChange `json:"fields,omitempty"`
	// Manager and Operation are who has changed it, as managedFields tells; empty
	// where nothing tells: who removes something leaves no trace.
	Manager   string `json:"manager,omitempty"`
	Operation string `json:"operation,omitempty"`
	// Changed is when, by the API server's clock and to the second; zero where nothing tells.
	Changed time.Time `json:"changed,omitzero"`
	// Seen is when the watch told of it, Detected when it was known what it is.
	// Who only looks has not seen it come: Seen is zero then.
	Seen     time.Time   `json:"seen"`
	Detected time.Time   `json:"detected"`
	Action   DriftAction `json:"action"`
	// Corrected is when the object was as Git wants it again; zero: it is not.
	Corrected time.Time `json:"corrected,omitzero"`
	// Error is why correcting it failed the last time; masked.
	Error string `json:"error,omitempty"`
}

// DriftOf names the object.
type DriftOf struct {
	Kind      string `json:"kind"` // as in Deployment.apps
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// DriftAction is what is done about drift.
type DriftAction string

// Actions.
const (
	ActionCorrect DriftAction = "correct" // put it back
	ActionLeave   DriftAction = "leave"   // the stack wants drift detected only
	ActionContend DriftAction = "contend" // somebody insists: left until Git moves, or a hand asks
)

// Open is true for drift that is still there.
func (d Drift) Open() bool { return d.Corrected.IsZero() }

// Drifts lists the drift of a stack, or of all where it is empty: what is there
// now, and what was there lately. The newest come first. It may be called from
// anywhere, at any time.
func (l *Loop) Drifts(stack string) []Drift {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.drifts.list(stack)
}

// errorOfDrift bounds what a record says of a failed correction, in bytes.
const errorOfDrift = 1024

// String is "Deployment.apps o11y/web: changed by kubectl-edit: spec.replicas: 2 → 5".
func (d Drift) String() string {
	name := d.Object.Name
	if d.Object.Namespace != "" {
		name = d.Object.Namespace + "/" + name
	}
	s := d.Object.Kind + " " + name + ": " + string(d.What)
	if d.Manager != "" {
		s += " by " + d.Manager
	}
	for i, f := range d.Fields {
		if i == 2 {
			return fmt.Sprintf("%s and %d more fields", s, len(d.Fields)-i)
		}
		s += map[bool]string{true: ": ", false: "; "}[i == 0] + moved(f)
	}
	return s
}

// moved is a field as it drifted: from what Git wants to what was found.
func moved(f apply.FieldChange) string {
	return apply.FieldChange{Path: f.Path, Have: f.Want, Want: f.Have}.String()
}

// noteDrift makes the record of an object that a plan found to have drifted.
// It is fresh if nobody knew of it.
func (l *Loop) noteDrift(trip Trip, s *stackState, c apply.Change) (drift *openDrift, fresh bool) {
	now := time.Now()
	d := Drift{Stack: trip.Stack, Source: s.declared.Source, Revision: trip.Revision, What: c.Drift,
		Object:    DriftOf{Kind: c.ID.GroupKind().String(), Namespace: c.ID.Namespace, Name: c.ID.Name},
		Fields:    s.fieldsOf(c),
		Manager:   short(c.By.Manager, managerOfDrift),
		Operation: c.By.Operation,
		Changed:   c.By.At, Seen: now, Detected: now, Action: ActionLeave}
	if trip.corrects {
		d.Action = ActionCorrect
	}
	if seen, ok := trip.seen[c.ID]; ok {
		d.Seen = seen
	}
	old := l.drifts.find(trip.Stack, c.ID)
	if old == nil || !old.same(d) {
		return l.drifts.put(c.ID, d), true
	}
	d.Seen, d.Detected, d.Error = old.Seen, old.Detected, old.Error
	drift = l.drifts.put(c.ID, d)
	drift.told = old.told
	return drift, false
}

// fieldsOf are the fields of a change, bounded and masked once more.
func (s *stackState) fieldsOf(c apply.Change) []apply.FieldChange {
	var out []apply.FieldChange
	for i, f := range c.Fields {
		if i == fieldsOfDrift {
			out = append(out, apply.FieldChange{Path: fmt.Sprintf("… and %d more fields", len(c.Fields)-i)})
			break
		}
		out = append(out, apply.FieldChange{Path: short(s.masked(f.Path), pathOfDrift), Have: s.masked(f.Have), Want: s.masked(f.Want)})
	}
	return out
}

// same is true for two looks at one drift.
func (d *openDrift) same(as Drift) bool {
	return d.What == as.What && d.Manager == as.Manager && d.Changed.Equal(as.Changed) && d.sum == as.sum()
}

var fieldSeed = maphash.MakeSeed()

func (d Drift) sum() uint64 {
	var h maphash.Hash
	h.SetSeed(fieldSeed)
	for _, f := range d.Fields {
		for _, part := range []string{f.Path, f.Have, f.Want} {
			_, _ = h.WriteString(part) // never fails
			_ = h.WriteByte(0)
		}
	}
	return h.Sum64()
}

// closeDrift notes that an object is as Git wants it again.
func (l *Loop) closeDrift(ctx context.Context, stack string, id apply.ID, at time.Time) {
	d := l.drifts.find(stack, id)
	d.Corrected = at
	if d.told {
		d.Error = ""
		l.Log.InfoContext(ctx, telemetry.MsgDriftResolved, d.attributes()...)
	} else {
		l.tell(ctx, d)
	}
	if d.Action == ActionCorrect {
		r := d.recorded()
		r.Took = at.Sub(d.Detected)
		l.Recorder.DriftCorrected(ctx, r)
	}
	l.drifts.close(stack, id)
}

// tell writes the one log record of a drift.
func (l *Loop) tell(ctx context.Context, d *openDrift) {
	if d.told {
		return
	}
	d.told = true
	level := slog.LevelWarn
	if !d.Open() {
		level = slog.LevelInfo
	}
	l.Log.Log(ctx, level, telemetry.MsgDrift, d.attributes()...)
}

// attributes are the fields of its log record.
func (d Drift) attributes() []any {
	list := []any{telemetry.KeyStack, d.Stack, telemetry.KeySource, d.Source, telemetry.KeyRevision, d.Revision, telemetry.KeyKind, d.Object.Kind,
		telemetry.KeyNamespace, d.Object.Namespace, telemetry.KeyName, d.Object.Name, telemetry.KeyWhat, string(d.What),
		telemetry.KeyAction, string(d.Action), telemetry.KeySeen, d.Seen.UTC().Format(time.RFC3339Nano),
		telemetry.KeyDetected, d.Detected.UTC().Format(time.RFC3339Nano)}
	var lines []string
	for _, f := range d.Fields {
		lines = append(lines, moved(f))
	}
	for _, optional := range []struct{ key, text string }{{telemetry.KeyFields, strings.Join(lines, "\n")}, {telemetry.KeyManager, d.Manager},
		{telemetry.KeyOperation, d.Operation}, {telemetry.KeyError, d.Error}} {
		if optional.text != "" {
			list = append(list, optional.key, optional.text)
		}
	}
	if !d.Changed.IsZero() {
		list = append(list, telemetry.KeyChanged, d.Changed.UTC().Format(time.RFC3339))
	}
	if !d.Open() {
		list = append(list, telemetry.KeyCorrected, d.Corrected.UTC().Format(time.RFC3339Nano), telemetry.KeySeconds, max(0, d.Corrected.Sub(d.Seen).Seconds()))
	}
	return list
}

// recorded is the drift as it is measured.
func (d Drift) recorded() telemetry.Drift {
	return telemetry.Drift{Kind: d.Object.Kind, Manager: d.Manager, Action: telemetry.Action(d.Action), Took: d.Detected.Sub(d.Seen)}
}
