package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestDashboardsHaveData has a real Grafana provisioned with the shipped
// dashboards, and asks it for every panel: none is empty, and none fails. Loki has
// the log records there; the queries of the dashboards for VictoriaLogs go to a
// real one without Grafana, for its plugin can't be had as a module.
func TestDashboardsHaveData(t *testing.T) {
	if os.Getenv("PLUMBLINE_TEST_GRAFANA") == "" {
		t.Skip("make test-grafana builds a Grafana and a Loki for this (thirteen CPU minutes, once)")
	}
	s := start(t, shared, "home", "team")
	s.listen = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	w := watching{prometheus: startPrometheus(t, s.listen), victoriaLogs: startVictoriaLogs(t), loki: startLoki(t)}
	s.env = append(environment(t, "otlp/victoria-logs.env", "http://victoria-logs:9428/insert/opentelemetry", w.both(t)), "OTEL_BLRP_SCHEDULE_DELAY=100")
	w.grafana = startGrafana(t, w)
	s.everythingHappens(t)
	s.measures(t, w.prometheus, `count(plumbline_drift_detected_total{plumbline_action="contend"}) > 0`)

	asked := 0
	for _, store := range []string{"loki", "victoria-logs"} {
		for _, name := range []string{"overview", "drift", "rollouts", "gate"} {
			asked += w.look(t, store, name)
		}
	}
	t.Logf("%d queries were answered", asked)
	if asked < 150 {
		t.Errorf("only %d queries were found", asked)
	}
	must(t, s.stop()) // while there is somebody to tell the rest to
}

// everythingHappens drives a daemon through all that dashboards show.
func (s *scenario) everythingHappens(t *testing.T) {
	t.Helper()
	nobody := fmt.Sprintf("127.0.0.1:%d", freePort(t)) // a registry that can't be reached: its images are UNKNOWN
	s.scan = map[string]any{"images": map[string]any{"insecure": []string{nobody}}}
	image := func(name, image string) string {
		image = nobody + "/" + image
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: " + name + "}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: " + name + "}}\n" +
			"  template: {metadata: {labels: {app: " + name + "}}, spec: {containers: [{name: web, image: \"" + image + "\"}]}}\n"
	}
	files := map[string]string{}
	for name, spec := range map[string]string{"keep": "", "look": "drift: {mode: detect}", "hand": "drift: {mode: detect}", "late": "ready: {timeout: 2s}", "fight": "", "bad": "", "gated": "", "rest": "suspend: true"} {
		files[name+"/stack.yaml"] = "{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: " + name + "}, spec: {kustomize: {path: .}, " + spec + "}}"
		files[name+"/kustomization.yaml"] = "resources: [app.yaml]"
		files[name+"/app.yaml"] = configMaps(2, name, "a")
	}
	files["late/app.yaml"], files["fight/app.yaml"], files["gated/app.yaml"] = image("late", "late:v1"), image("fight", "fight:v1"), image("gated", "gated:v1")
	files["gated/.trivyignore.yaml"] = "misconfigurations: [{id: KSV-0014, statement: it writes, expired_at: " + time.Now().AddDate(0, 0, 100).Format(time.DateOnly) + "}]\n"
	must(t, s.repos["home"].Write(files))
	must(t, s.repos["team"].Write(map[string]string{"shop/stack.yaml": stackFile("shop"), "shop/kustomization.yaml": "resources: [app.yaml]", "shop/app.yaml": configMaps(1, "shop", "a")}))
	for _, repo := range []string{"home", "team"} {
		_, err := s.repos[repo].Push("first")
		must(t, err)
	}
	must(t, s.run(t.Context(), s.plane.Plumbline))
	for _, stack := range []string{"keep", "look", "hand", "late", "fight", "bad", "gated"} {
		must(t, s.expectReady(t.Context(), s.stack("home", stack)))
	}

	must(t, s.repos["home"].Write(map[string]string{"late/app.yaml": image("late", "late:does-not-exist"), "bad/app.yaml": strings.Replace(image("bad", "bad:v1"), "replicas: 2", "replicas: many", 1),
		"gated/app.yaml": image("gated", "gated:latest"), "broken/stack.yaml": "{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: broken}, spec: {kustomise: {}}}"}))
	_, err := s.repos["home"].Push("second")
	must(t, err)
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "bad"), "Refused", ""))
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "late"), "RolloutFailed", ""))
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "gated"), "Denied", "PLB-0002"))

	for _, name := range []string{"keep-0", "look-0"} {
		must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, name, "{data: {value: moved}}"))
	}
	must(t, s.expectLog(t.Context(), "msg", "drift", "name", "keep-0", "action", "correct"))
	must(t, s.expectLog(t.Context(), "msg", "drift", "name", "look-0", "action", "leave"))
	must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, "hand-0", "{data: {value: moved}}"))
	must(t, s.expectLog(t.Context(), "msg", "drift", "name", "hand-0", "action", "leave"))
	cmd := exec.CommandContext(t.Context(), binary, "reconcile", s.stack("home", "hand"))
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.plane.Kubeconfig)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("plumbline reconcile: %v\n%s", err, out)
	}
	must(t, s.expectLog(t.Context(), "msg", "drift resolved", "name", "hand-0"))
	must(t, s.insist(t.Context(), "Deployment", "fight", "{spec: {replicas: 5}}", "autoscaler"))
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "fight"), "Contended", ""))
}

// watching is what looks at a daemon, by its URLs.
type watching struct{ prometheus, victoriaLogs, loki, grafana string }

// both is an address that takes OTLP for VictoriaLogs and for Loki.
func (w watching) both(t *testing.T) string {
	t.Helper()
	lokis := environment(t, "otlp/loki.env", "http://loki:3100", w.loki)
	to, ok := strings.CutPrefix(lokis[0], "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=")
	if !ok {
		t.Fatal("templates/otlp/loki.env doesn't begin with the endpoint")
	}
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for _, to := range []string{w.victoriaLogs + "/insert/opentelemetry" + r.URL.Path, to} {
			copied, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to, bytes.NewReader(body))
			if err == nil {
				copied.Header = r.Header.Clone()
				err = answered(copied, func([]byte, any) error { return nil }, nil)
			}
			if err != nil && !strings.Contains(err.Error(), "204") {
				http.Error(rw, err.Error(), http.StatusBadRequest)
				t.Errorf("%s takes no logs: %v", to, err)
				return
			}
		}
	}))
	t.Cleanup(front.Close)
	return front.URL
}

// startLoki has one with the least that a Loki of one process needs.
func startLoki(t *testing.T) string {
	t.Helper()
	dir, grpc := t.TempDir(), freePort(t)
	return serve(t, "loki", "/ready", func(address string) []string {
		host, port, _ := strings.Cut(address, ":")
		config := fmt.Sprintf(`auth_enabled: false
server: {http_listen_address: %[1]s, http_listen_port: %[2]s, grpc_listen_address: %[1]s, grpc_listen_port: %[3]d, log_level: warn}
common: {path_prefix: %[4]q, replication_factor: 1, instance_addr: %[1]s, ring: {instance_addr: %[1]s, kvstore: {store: inmemory}}, storage: {filesystem: {chunks_directory: %[4]s/chunks, rules_directory: %[4]s/rules}}}
schema_config: {configs: [{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]}
analytics: {reporting_enabled: false}
`, host, port, grpc, dir)
		must(t, os.WriteFile(filepath.Join(dir, "loki.yaml"), []byte(config), 0o600))
		return []string{"-config.file=" + filepath.Join(dir, "loki.yaml")}
	})
}

// startGrafana provisions one as a person would.
func startGrafana(t *testing.T, w watching) string {
	t.Helper()
	dir := t.TempDir()
	dashboards, err := filepath.Abs(filepath.Join(templates, "dashboards", "loki"))
	must(t, err)
	for name, text := range map[string]string{
		"datasources/stores.yaml": fmt.Sprintf(`apiVersion: 1
datasources:
  - {name: Prometheus, uid: its-prometheus, type: prometheus, access: proxy, url: %q, isDefault: true, jsonData: {timeInterval: 1s, httpMethod: POST}}
  - {name: Loki, uid: its-loki, type: loki, access: proxy, url: %q}
`, w.prometheus, w.loki),
		"dashboards/plumbline.yaml": fmt.Sprintf("apiVersion: 1\nproviders: [{name: plumbline, folder: Plumbline, type: file, options: {path: %q}}]\n", dashboards),
	} {
		file := filepath.Join(dir, "provisioning", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	home, err := server("grafana")
	must(t, err)
	return serve(t, "grafana", "/api/dashboards/uid/plumbline-rollouts", func(address string) []string {
		host, port, _ := strings.Cut(address, ":")
		args := []string{"server", "--homepath", home + ".home"}
		for _, setting := range []string{"server.http_addr=" + host, "server.http_port=" + port, "paths.data=" + dir + "/data", "paths.logs=" + dir + "/logs", "paths.plugins=" + dir + "/plugins",
			"paths.provisioning=" + dir + "/provisioning", "auth.anonymous.enabled=true", "analytics.reporting_enabled=false", "analytics.check_for_updates=false", "analytics.check_for_plugin_updates=false", "log.level=warn"} {
			args = append(args, "cfg:default."+setting)
		}
		return args
	})
}

// board is a dashboard, as Grafana has it.
type board struct {
	Panels []struct {
		Title   string
		Targets []map[string]any
	}
	Annotations struct{ List []map[string]any }
	Templating  struct {
		List []struct{ Name, Type, Definition string }
	}
}

// look asks for all that a dashboard shows, and counts what was asked.
func (w watching) look(t *testing.T, store, name string) (asked int) {
	t.Helper()
	b := w.board(t, store, name)
	for _, p := range b.Panels {
		for _, target := range p.Targets {
			asked++
			w.shows(t, fmt.Sprintf("%s/%s: %s (%v)", store, name, p.Title, target["refId"]), target)
		}
	}
	for _, a := range b.Annotations.List {
		if a["expr"] != nil {
			asked++
			w.shows(t, fmt.Sprintf("%s/%s: %v", store, name, a["name"]), map[string]any{"refId": "Anno", "datasource": a["datasource"], "expr": a["expr"], "range": true})
		}
	}
	for _, v := range b.Templating.List {
		if v.Type == "query" {
			asked++
			expr, label, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(v.Definition, "label_values("), ")"), ", ")
			w.shows(t, fmt.Sprintf("%s/%s: the variable %s", store, name, v.Name), map[string]any{"refId": "A", "datasource": map[string]any{"type": "prometheus"}, "expr": "count by (" + label + ") (" + expr + ")", "instant": true})
		}
	}
	return asked
}

// board is what Grafana serves or, of a plugin that it hasn't got, what is in the file.
func (w watching) board(t *testing.T, store, name string) (b board) {
	t.Helper()
	if store == "victoria-logs" {
		must(t, json.Unmarshal([]byte(template(t, "dashboards/"+store+"/"+name+".json")), &b))
		return b
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.grafana+"/api/dashboards/uid/plumbline-"+name, http.NoBody)
	must(t, err)
	var served struct{ Dashboard board }
	must(t, answered(request, json.Unmarshal, &served))
	return served.Dashboard
}

// shows waits until the query has an answer.
func (w watching) shows(t *testing.T, where string, target map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := eventually(ctx, func(ctx context.Context) error { return w.answers(ctx, target) }); err != nil {
		t.Errorf("%s: %v\n%v", where, err, target["expr"])
	}
}

var errEmpty = errors.New("it is empty")

// everything chosen, as Grafana's page would put it in.
var chosen = strings.NewReplacer("${stack:regex}", ".*", "${source:regex}", ".*", "$stack", ".*", "$source", ".*")

func (w watching) answers(ctx context.Context, target map[string]any) error {
	target = maps.Clone(target)
	target["expr"] = chosen.Replace(target["expr"].(string))
	source, _ := target["datasource"].(map[string]any)
	if source["type"] == "victoriametrics-logs-datasource" {
		return w.logsQL(ctx, target)
	}
	target["datasource"] = map[string]any{"type": source["type"], "uid": fmt.Sprintf("its-%v", source["type"])}
	target["intervalMs"], target["maxDataPoints"] = 15000, 1000
	// What ended within the last step is in the next one.
	body, err := json.Marshal(map[string]any{"queries": []any{target}, "from": fmt.Sprint(time.Now().Add(-30 * time.Minute).UnixMilli()), "to": fmt.Sprint(time.Now().Add(time.Minute).UnixMilli())})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.grafana+"/api/ds/query", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	var answer struct {
		Results map[string]struct {
			Error  string
			Frames []struct {
				Data struct{ Values [][]any }
			}
		}
	}
	if err := answered(request, json.Unmarshal, &answer); err != nil {
		return err
	}
	for _, result := range answer.Results {
		if result.Error != "" {
			return errors.New(result.Error)
		}
		for _, frame := range result.Frames {
			columns := frame.Data.Values // the value is the last one; what is no number is null
			if len(columns) > 1 && slices.ContainsFunc(columns[len(columns)-1], func(value any) bool { return value != nil }) {
				return nil
			}
		}
	}
	return errEmpty
}

// logsQL asks as the plugin would: "instant" is for records, "stats" for numbers.
func (w watching) logsQL(ctx context.Context, target map[string]any) error {
	path, form := "/select/logsql/query", url.Values{"query": {target["expr"].(string)}, "limit": {"1000"}}
	if target["queryType"] == "stats" {
		path = "/select/logsql/stats_query"
	}
	form.Set("start", fmt.Sprint(time.Now().Add(-30*time.Minute).Unix()))
	form.Set("end", fmt.Sprint(time.Now().Unix()+1))
	return ask(ctx, w.victoriaLogs+path, form, func(body []byte, _ any) error {
		if len(bytes.TrimSpace(body)) == 0 || bytes.Contains(body, []byte(`"result":[]`)) {
			return errEmpty
		}
		return nil
	}, nil)
}
