package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
)

// The real programs that the daemon's telemetry goes to, set up with what is in
// templates.
const templates = "../../templates"

// serve starts a real program on an address that is free, and returns its URL.
func serve(t *testing.T, name, ready string, args func(address string) []string) string {
	t.Helper()
	program, err := server(name)
	must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	log := &buffer{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	started, err := lab.StartServer(ctx, program, args(address), "http://"+address+ready, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		started.Kill()
		if t.Failed() {
			text := log.String()
			t.Logf("%s said:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return "http://" + address
}

// template is a file of templates, with what a person would change.
func template(t *testing.T, name string, changes ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(templates, filepath.FromSlash(name)))
	must(t, err)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(string(text), changes[i]) {
			t.Fatalf("templates/%s has no %q to change", name, changes[i])
		}
	}
	return strings.NewReplacer(changes...).Replace(string(text))
}

// environment is a template of variables.
func environment(t *testing.T, name string, changes ...string) (env []string) {
	t.Helper()
	for line := range strings.Lines(template(t, name, changes...)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			env = append(env, line)
		}
	}
	return env
}

// startPrometheus has one ask the daemon each second, and evaluate the alert rules.
func startPrometheus(t *testing.T, daemon string) string {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(templates, "alerts", "plumbline.rules.yaml"))
	must(t, err)
	for name, text := range map[string]string{
		"scrape.yaml":     template(t, "prometheus/scrape.yaml", "plumbline.lan:8080", daemon),
		"prometheus.yaml": "global: {scrape_interval: 1s, evaluation_interval: 1s}\nscrape_config_files: [scrape.yaml]\nrule_files: ['" + rules + "']\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return serve(t, "prometheus", "/-/ready", func(address string) []string {
		return []string{"--config.file=" + filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address}
	})
}

func startVictoriaLogs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	return serve(t, "victoria-logs", "/health", func(address string) []string {
		return []string{"-httpListenAddr=" + address, "-storageDataPath=" + dir}
	})
}

// sample is one of an answer's series, at its end.
type sample struct {
	Metric map[string]string
	Value  float64
}

// promQL asks Prometheus.
func promQL(ctx context.Context, prometheus, expr string) ([]sample, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := ask(ctx, prometheus+"/api/v1/query", url.Values{"query": {expr}}, json.Unmarshal, &answer); err != nil {
		return nil, err
	}
	var samples []sample
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		samples = append(samples, sample{r.Metric, value})
	}
	return samples, nil
}

// logsQL asks VictoriaLogs for records.
func logsQL(ctx context.Context, victoriaLogs, query string) (records []map[string]string, err error) {
	err = ask(ctx, victoriaLogs+"/select/logsql/query", url.Values{"query": {query}}, func(body []byte, _ any) error {
		for line := range strings.Lines(string(body)) {
			var r map[string]string
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				return fmt.Errorf("%w: %s", err, line)
			}
			records = append(records, r)
		}
		return nil
	}, nil)
	return records, err
}

func ask(ctx context.Context, address string, form url.Values, decode func([]byte, any) error, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return answered(request, decode, into)
}

func answered(request *http.Request, decode func([]byte, any) error, into any) error {
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", request.URL.Path, answer.Status, body)
	}
	return decode(body, into)
}
