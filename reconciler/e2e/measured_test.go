package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestDriftIsMeasured has a real Prometheus ask the daemon, a real VictoriaLogs
// take its log records, and somebody change what Git wants: both can be asked
// for it.
func TestDriftIsMeasured(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	s.listen = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	prometheus, victoriaLogs := startPrometheus(t, s.listen), startVictoriaLogs(t)
	s.env = append(environment(t, "otlp/victoria-logs.env", "http://victoria-logs:9428", victoriaLogs), "OTEL_BLRP_SCHEDULE_DELAY=100")

	must(t, s.repos["home"].Write(map[string]string{
		"keep/stack.yaml": stackFile("keep"), "keep/kustomization.yaml": "resources: [app.yaml]", "keep/app.yaml": configMaps(1, "keep", "a"),
		"look/stack.yaml": strings.Replace(stackFile("look"), "spec: {", "spec: {drift: {mode: detect}, ", 1), "look/kustomization.yaml": "resources: [app.yaml]", "look/app.yaml": configMaps(1, "look", "a"),
	}))
	_, err := s.repos["home"].Push("first")
	must(t, err)
	must(t, s.run(t.Context(), s.plane.Plumbline))
	keep, look := s.stack("home", "keep"), s.stack("home", "look")
	must(t, s.expectReady(t.Context(), keep))
	must(t, s.expectReady(t.Context(), look))
	s.measures(t, prometheus, fmt.Sprintf(`plumbline_stack_ready{plumbline_stack=%q, plumbline_source=%q, job="plumbline"} == 1`, keep, s.source("home")))
	s.measures(t, prometheus, `plumbline_certificate_expiry_time_seconds{plumbline_certificate="kubernetes CA"} > time()`)
	s.measures(t, prometheus, `plumbline_certificate_expiry_time_seconds{plumbline_certificate="kubernetes client"} > time()`)

	changed := time.Now().Truncate(time.Second) // as managedFields have it
	for _, name := range []string{"keep-0", "look-0"} {
		must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, name, "{data: {value: moved}}"))
	}
	corrected := s.recorded(t, victoriaLogs, fmt.Sprintf(`{service.name="plumbline"} _msg:="drift" stack:=%q`, keep))
	left := s.recorded(t, victoriaLogs, fmt.Sprintf(`{service.name="plumbline"} _msg:="drift" stack:=%q`, look))
	for _, r := range []map[string]string{corrected, left} {
		for key, want := range map[string]string{"source": s.source("home"), "kind": "ConfigMap", "namespace": s.namespace, "what": "changed", "manager": "somebody", "operation": "Update",
			"fields": `data.value: "a" → "moved"`, "k8s.cluster.name": "home"} {
			if r[key] != want {
				t.Errorf("%s of %s is %q, not %q", key, r["name"], r[key], want)
			}
		}
		if at, err := time.Parse(time.RFC3339, r["changed"]); err != nil || at.Before(changed) || at.After(time.Now()) {
			t.Errorf("changed is %q, and it was at %s", r["changed"], changed)
		} else if seen, err := time.Parse(time.RFC3339, r["seen"]); err != nil || seen.Before(at) {
			t.Errorf("seen at %q, and it was changed at %q (%v)", r["seen"], r["changed"], err)
		}
	}
	if corrected["name"] != "keep-0" || corrected["action"] != "correct" || corrected["corrected"] == "" || corrected["seconds"] == "" {
		t.Errorf("the record doesn't say that it was put right: %v", corrected)
	}
	if left["name"] != "look-0" || left["action"] != "leave" || left["corrected"] != "" {
		t.Errorf("the record doesn't say that it was left: %v", left)
	}

	s.measures(t, prometheus, `plumbline_drift_detected_total{plumbline_kind="ConfigMap", plumbline_manager="somebody", plumbline_action="correct"} == 1`)
	s.measures(t, prometheus, `plumbline_drift_detected_total{plumbline_kind="ConfigMap", plumbline_manager="somebody", plumbline_action="leave"} == 1`)
	s.measures(t, prometheus, `plumbline_drift_detection_duration_seconds_count{plumbline_kind="ConfigMap"} == 2`)
	s.measures(t, prometheus, `plumbline_drift_correction_duration_seconds_count{plumbline_kind="ConfigMap"} == 1`)
	s.measures(t, prometheus, fmt.Sprintf(`plumbline_drift_objects{plumbline_stack=%q, plumbline_kind="ConfigMap"} == 1`, look))
	// What dashboards ask: the first of its kind counts, and counts as one.
	s.measures(t, prometheus, `sum((plumbline_drift_detected_total - plumbline_drift_detected_total offset 1h >= 0) or plumbline_drift_detected_total) == 2`)
	s.alerts(t, prometheus, look)
	s.gateIsMeasured(t, prometheus, victoriaLogs)
	must(t, s.stop()) // while there is somebody to tell the rest to
}

// gateIsMeasured has something denied, beside an exception.
func (s *scenario) gateIsMeasured(t *testing.T, prometheus, victoriaLogs string) {
	t.Helper()
	ends := time.Now().AddDate(0, 0, 100)
	must(t, s.repos["home"].Write(map[string]string{"keep/app.yaml": strings.Replace(widePod, "$IMAGE", "web:latest", 1),
		"keep/.trivyignore.yaml": "misconfigurations: [{id: KSV-0014, statement: it writes, expired_at: " + ends.Format(time.DateOnly) + "}]\n"}))
	_, err := s.repos["home"].Push("latest")
	must(t, err)
	keep := s.stack("home", "keep")
	must(t, s.expectReason(t.Context(), "Stack", keep, "Denied", "PLB-0002"))
	for _, query := range []string{`denies:=true`, `denies:="true"`} {
		if r := s.recorded(t, victoriaLogs, fmt.Sprintf(`{service.name="plumbline"} _msg:="finding" %s stack:=%q`, query, keep)); r["finding"] != "PLB-0002" || r["findingSeverity"] != "CRITICAL" || r["file"] != "keep/app.yaml" {
			t.Errorf("%s: %v", query, r)
		}
	}
	s.measures(t, prometheus, fmt.Sprintf(`plumbline_gate_denied{plumbline_stack=%q, plumbline_source=%q} == 1`, keep, s.source("home")))
	s.measures(t, prometheus, fmt.Sprintf(`plumbline_gate_findings{plumbline_stack=%q, plumbline_severity="CRITICAL"} == 1`, keep))
	s.measures(t, prometheus, fmt.Sprintf(`plumbline_gate_exception_expiry_time_seconds{plumbline_stack=%q, plumbline_exception="KSV-0014"} == %d`, keep, ends.UTC().Truncate(24*time.Hour).Unix()))
}

const widePod = "{apiVersion: v1, kind: Pod, metadata: {name: wide}, spec: {containers: [{name: web, image: \"$IMAGE\"}]}}\n"

// measures waits until Prometheus has an answer, which has one series.
func (s *scenario) measures(t *testing.T, prometheus, expr string) {
	t.Helper()
	err := eventually(t.Context(), func(ctx context.Context) error {
		samples, err := promQL(ctx, prometheus, expr)
		if err == nil && len(samples) != 1 {
			err = fmt.Errorf("%s has %d series: %v", expr, len(samples), samples)
		}
		return err
	})
	must(t, err)
}

// recorded waits for a record in VictoriaLogs. There is only one.
func (s *scenario) recorded(t *testing.T, victoriaLogs, query string) (record map[string]string) {
	t.Helper()
	err := eventually(t.Context(), func(ctx context.Context) error {
		records, err := logsQL(ctx, victoriaLogs, query)
		if err == nil && len(records) != 1 {
			err = fmt.Errorf("%s finds %d records: %v", query, len(records), records)
		}
		if err == nil {
			record = records[0]
		}
		return err
	})
	must(t, err)
	return record
}

// alerts looks at the shipped rules: all are evaluated, and the one that the drift
// which stays is for waits for its time.
func (s *scenario) alerts(t *testing.T, prometheus, stack string) {
	t.Helper()
	type rule struct {
		Name, Health, LastError, State string
		Alerts                         []struct{ Labels map[string]string }
	}
	err := eventually(t.Context(), func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, prometheus+"/api/v1/rules", http.NoBody)
		if err != nil {
			return err
		}
		var answer struct {
			Data struct{ Groups []struct{ Rules []rule } }
		}
		if err := answered(request, json.Unmarshal, &answer); err != nil {
			return err
		}
		rules := map[string]rule{}
		for _, group := range answer.Data.Groups {
			for _, r := range group.Rules {
				rules[r.Name] = r
				if r.Health != "ok" {
					return fmt.Errorf("%s is not evaluated: %s %s", r.Name, r.Health, r.LastError)
				}
			}
		}
		unresolved := rules["PlumblineDriftUnresolved"]
		switch {
		case len(rules) < 11:
			return fmt.Errorf("only %d rules are loaded", len(rules))
		case unresolved.State != "pending" || len(unresolved.Alerts) != 1 || unresolved.Alerts[0].Labels["plumbline_stack"] != stack:
			return fmt.Errorf("the drift that stays raises no alert: %+v", unresolved)
		case rules["PlumblineDown"].State != "inactive" || rules["PlumblineNotLeading"].State != "inactive" || rules["PlumblineStackNotReady"].State != "inactive":
			return errors.New("an alert is raised although all is well")
		}
		return nil
	})
	must(t, err)
}
