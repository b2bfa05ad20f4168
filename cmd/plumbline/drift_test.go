package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func deployment(name string) reconciler.DriftOf {
	return reconciler.DriftOf{Kind: "Deployment.apps", Namespace: "o11y", Name: name}
}

func someDrift() reconciler.DriftList {
	return reconciler.DriftList{Stacks: 3, More: 4, Drift: []reconciler.Drift{
		{Stack: "home.web", Object: deployment("web"), What: apply.WayChanged, Manager: "kubectl-edit", Operation: "Update", Changed: noon.Add(-3 * time.Minute),
			Action: reconciler.ActionCorrect, Error: "the server says no", Fields: []apply.FieldChange{
				{Path: "spec.replicas", Have: "5", Want: "2"}, {Path: "spec.paused", Have: "true"}, {Path: "… and 3 more fields"},
				{Path: "data.config", Want: `"a: 1\nb: 2\nc: 3\n"`, Have: `"a: 1\nb: 9\nc: 3\nd: 4"`}}},
		{Stack: "home.db", Object: deployment("db"), What: apply.WayDeleted, Seen: noon.Add(-12 * time.Second), Action: reconciler.ActionLeave},
		{Stack: "home.web", Object: deployment("api"), What: apply.WayTaken, Manager: "helm", Operation: "Apply", Changed: noon.Add(-50 * time.Hour), Action: reconciler.ActionContend},
		{Stack: "home.web", Object: deployment("web"), What: apply.WayChanged, Manager: "hpa", Operation: "Update", Changed: noon.Add(-time.Hour),
			Seen: noon.Add(-time.Hour), Corrected: noon.Add(-time.Hour + 320*time.Millisecond), Action: reconciler.ActionCorrect},
	}}
}

func TestDriftTable(t *testing.T) {
	var out bytes.Buffer
	err := printDrift(printable{&out}, wideOutput{output: "table"}, someDrift(), noon, nil)
	want := `home.db: 1 object drifted
  OBJECT                   WHAT     WHO      WHEN          ACTION
  Deployment.apps o11y/db  deleted  unknown  seen 12s ago  leave
home.web: 2 objects drifted
  OBJECT                    WHAT        WHO           WHEN     ACTION
  Deployment.apps o11y/web  changed     kubectl-edit  3m ago   correct
      spec.replicas: 2 → 5
      spec.paused: (none) → true
      … and 3 more fields
      data.config
          a: 1
        - b: 2
        + b: 9
          c: 3
        + d: 4
      ! the server says no
  Deployment.apps o11y/api  taken-over  helm (Apply)  2d ago   contend
home.web: 1 object drifted lately
  OBJECT                    WHAT     WHO  WHEN    ACTION
  Deployment.apps o11y/web  changed  hpa  60m ago  corrected in 320 ms
and 4 more
`
	squeeze := func(s string) string { return strings.Join(strings.Fields(strings.ReplaceAll(s, "\n", " ⏎ ")), " ") }
	if diff := cmp.Diff(squeeze(want), squeeze(out.String())); diff != "" {
		t.Errorf("%s\n%s", diff, out.String())
	}
	if !errors.Is(err, errDiffers) {
		t.Error(err)
	}
}

func TestDriftWide(t *testing.T) {
	var out bytes.Buffer
	_ = printDrift(&out, wideOutput{"table", true}, someDrift(), noon, nil)
	for _, want := range []string{"2026-03-01T11:57:00Z", "seen 2026-03-01T11:59:48Z"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

func TestNoDrift(t *testing.T) {
	past := reconciler.DriftList{Stacks: 2, Drift: someDrift().Drift[3:]}
	for _, test := range []struct {
		name   string
		list   reconciler.DriftList
		format wideOutput
		failed error
		want   string
		err    error
	}{
		{"none", reconciler.DriftList{Stacks: 1}, wideOutput{output: "table"}, nil, "no drift (1 stack)\n", nil},
		{"none, for programs", reconciler.DriftList{Stacks: 1, Drift: []reconciler.Drift{}}, wideOutput{output: "yaml"}, nil, "drift: []\nmore: 0\nstacks: 1\n", nil},
		{"lately", past, wideOutput{output: "table"}, nil, "no drift (2 stacks)\nhome.web: 1 object drifted lately\n", nil},
		{"and something could not be looked at", someDrift(), wideOutput{output: "table"}, errBoom, "home.db: 1 object drifted\n", errBoom},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := printDrift(&out, test.format, test.list, noon, test.failed); !errors.Is(err, test.err) || !strings.HasPrefix(out.String(), test.want) {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// TestDriftIsPrintable: who names a field, a manager or a value rules no terminal,
// and makes up no row.
func TestDriftIsPrintable(t *testing.T) {
	hostile := "a\x1b[2J\x1b]0;title\a\r\n  Deployment.apps o11y/fake\tdeleted\u202e\x9b"
	long := strings.Repeat("x", 1<<20)
	list := reconciler.DriftList{Drift: []reconciler.Drift{{Stack: "home.web", Object: reconciler.DriftOf{Kind: "A", Name: hostile}, What: apply.Way(hostile),
		Manager: hostile, Operation: hostile, Action: reconciler.DriftAction(hostile), Error: hostile, Changed: noon, Fields: []apply.FieldChange{
			{Path: hostile, Have: hostile, Want: hostile}, {Path: hostile}, {Path: "data." + long, Have: long, Want: `"` + long + `"`},
			{Path: hostile, Have: `"one\ntwo\u001b[2J"`, Want: `"` + `one\n\u009b2J` + `"`}}}}}
	var out bytes.Buffer
	_ = printDrift(printable{&out}, wideOutput{output: "table"}, list, noon, nil)
	if strings.ContainsAny(out.String(), "\x1b\a\r\t\v\f\u009b\u202e") {
		t.Errorf("%.2000q", out.String())
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if strings.HasPrefix(line, "  Deployment.apps o11y/fake") {
			t.Errorf("a row is made up: %q", line)
		}
	}
}

func TestLinesOf(t *testing.T) {
	for value, want := range map[string][]string{
		``: nil, `"a"`: {"a"}, `"a\nb\n"`: {"a", "b"}, `…x\nb"`: {"…x", "b"}, `"a\nb…`: {"a", "b…"}, `"a\nb\…`: {"a", "b…"}, `…a\nb…`: {"…a", "b…"},
	} {
		if got, ok := linesOf(value); !ok || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %q, %v", value, got, ok)
		}
	}
	for _, value := range []string{`5`, `{"a": "b\nc"}`, `"a\u00…`, `true`} {
		if got, ok := linesOf(value); ok {
			t.Errorf("%s: %q", value, got)
		}
	}
}

func TestDriftOf(t *testing.T) {
	for _, test := range []struct {
		name   string
		change apply.Change
		sure   bool
		want   apply.Way
	}{
		{"a field", apply.Change{Action: apply.ActionUpdate, Drift: apply.WayChanged}, true, apply.WayChanged},
		{"a field, of what may be newer", apply.Change{Action: apply.ActionUpdate, Drift: apply.WayChanged}, false, apply.WayChanged},
		{"an immutable field", apply.Change{Action: apply.ActionReplace, Drift: apply.WayChanged}, true, apply.WayChanged},
		{"without our labels", apply.Change{Action: apply.ActionAdopt, Drift: apply.WayStripped}, true, apply.WayStripped},
		{"deleted", apply.Change{Action: apply.ActionCreate, Drift: apply.WayDeleted}, true, apply.WayDeleted},
		{"new in Git, maybe", apply.Change{Action: apply.ActionCreate, Drift: apply.WayDeleted}, false, ""},
		{"somebody else's, maybe", apply.Change{Action: apply.ActionAdopt, Drift: apply.WayStripped}, false, ""},
		{"as it should be", apply.Change{Action: apply.ActionNone}, true, ""},
		{"not in Git", apply.Change{Action: apply.ActionDelete}, true, ""},
		{"not known", apply.Change{Action: apply.ActionLeave}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			look := reconciler.Look{Plan: apply.Plan{Stack: "home.web", Changes: []apply.Change{test.change}}, Action: reconciler.ActionLeave}
			if !test.sure {
				look.Unsure = "who knows"
			}
			got := driftsOf(look, noon)
			switch {
			case test.want == "" && len(got) == 0:
			case len(got) != 1 || got[0].What != test.want || got[0].Stack != "home.web" || got[0].Action != reconciler.ActionLeave || !got[0].Open():
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAskDaemon(t *testing.T) {
	answer := func(code int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	good := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/plumbline/api/v1/drift?limit=1000&stack=home.web" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(someDrift())
	}
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"drift", good, ""},
		{"no such stack", answer(404, "application/json", `{"error":"no stack \"home.web\": there are home.db"}`), `no stack "home.web": there are home.db`},
		{"standing by", answer(503, "application/json", `{"error":"standing by: ask another"}`), "standing by: ask another"},
		{"something else listens", answer(404, "text/html", "<html>"), "it says 404 Not Found: is that Plumbline's listen address?"},
		{"a page", answer(200, "text/html", "<html>"), "what it says is no answer of Plumbline's API"},
		{"sent elsewhere", answer(302, "text/html", ""), "it says 302 Found"},
		{"half an answer", answer(200, "application/json", `{"drift":[`), "read the answer: unexpected end of JSON input"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(test.answer)
			defer server.Close()
			got, err := askDaemon(context.Background(), server.URL+"/plumbline/", "home.web")
			if test.want == "" {
				if diff := cmp.Diff(someDrift(), got); err != nil || diff != "" {
					t.Errorf("%v %s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	for _, base := range []string{"localhost:8080", "ftp://x", "http://", "http://user:pw@x", "http://x?y=z", "%"} {
		if _, err := askDaemon(context.Background(), base, ""); err == nil || !strings.Contains(err.Error(), "has to be like") || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v", base, err)
		}
	}
}

// TestDriftIsBounded: somebody else who listens at the daemon's address gets no time
// and no memory for it.
func TestDriftIsBounded(t *testing.T) {
	var hostile reconciler.DriftList
	lines := `"` + strings.Repeat(`\n`, 5000) + `"`
	for range reconciler.MostDrift + 5 {
		hostile.Drift = append(hostile.Drift, reconciler.Drift{Stack: "home.web"})
	}
	for range 60 {
		hostile.Drift[999].Fields = append(hostile.Drift[999].Fields, apply.FieldChange{Path: lines, Have: lines, Want: lines[2:]})
	}
	hostile.Drift[999].Error = lines
	hostile.Stacks, hostile.More = -1, -1
	got := bounded(hostile)
	if d := got.Drift[999]; len(got.Drift) != 1000 || got.More != 5 || got.Stacks != 0 || len(d.Fields) != 50 || len(d.Fields[49].Want) > 2*daemonText || len(d.Error) > 2*daemonText {
		t.Errorf("%d records, %d more", len(got.Drift), got.More)
	}
	if want, have, ok := textLines(apply.FieldChange{Have: lines, Want: lines}); ok {
		t.Errorf("%d and %d lines are compared", len(want), len(have))
	}
	if _, _, ok := textLines(apply.FieldChange{Want: `"` + strings.Repeat(`\n`, comparedLines) + `"`}); !ok {
		t.Error("a few lines are not compared")
	}
}
