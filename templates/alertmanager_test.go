package templates_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const alertmanagerFile = "alertmanager/alertmanager.yaml"

// TestAlertmanagerRoutes asks amtool whom each alert goes to.
func TestAlertmanagerRoutes(t *testing.T) {
	amtool := program(t, "amtool")
	if out, ok := run(t, amtool, "check-config", alertmanagerFile); !ok {
		t.Fatalf("amtool refuses it:\n%s", out)
	}
	goes := func(labels ...string) string {
		out, ok := run(t, amtool, append([]string{"config", "routes", "test", "--config.file=" + alertmanagerFile}, labels...)...)
		if !ok {
			t.Fatal(out)
		}
		return strings.TrimSpace(out)
	}
	special := map[string]string{"PlumblineCertificateExpiring": "email", "PlumblineGateExceptionExpiring": "email"}
	for _, rule := range alertRules(t) {
		want := map[string]string{"critical": "slack-and-email", "warning": "discord"}[rule.Labels["severity"]]
		if other := special[rule.Alert]; other != "" {
			want = other
		}
		if got := goes("alertname="+rule.Alert, "severity="+rule.Labels["severity"]); got != want {
			t.Errorf("%s goes to %s, not %s", rule.Alert, got, want)
		}
	}
	if got := goes("alertname=Watchdog", "severity=none"); got != "email" {
		t.Errorf("somebody else's alert goes to %s", got)
	}
	for name, broken := range map[string]func(string) string{
		"a receiver that is not there": func(s string) string { return strings.Replace(s, "receiver: discord", "receiver: discrod", 1) },
		"an unknown field":             func(s string) string { return strings.Replace(s, "webhook_url_file", "webhook_file", 1) },
		"a matcher that is none":       func(s string) string { return strings.Replace(s, "'severity = critical'", "'severity critical'", 1) },
	} {
		if out, ok := run(t, amtool, "check-config", rewritten(t, broken)); ok {
			t.Errorf("%s goes unseen:\n%s", name, out)
		}
	}
}

// rewritten is the configuration, changed, beside its templates.
func rewritten(t *testing.T, change func(string) string) string {
	t.Helper()
	text, err := os.ReadFile(alertmanagerFile)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(text))
	if changed == string(text) {
		t.Error("nothing was changed")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("alertmanager")); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "alertmanager.yaml")
	if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// mailbox is where the messages to Discord and Slack end up.
type mailbox struct {
	mu       sync.Mutex
	messages map[string][]string // by the path that they were sent to
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages[r.URL.Path] = append(m.messages[r.URL.Path], string(body))
	if r.URL.Path == "/slack" {
		fmt.Fprint(w, "ok")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (m *mailbox) at(path string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string{}, m.messages[path]...)
}

// TestAlertmanagerDelivers has a real Alertmanager read the credentials, group, inhibit, and write the messages.
func TestAlertmanagerDelivers(t *testing.T) {
	t.Parallel()
	box := &mailbox{messages: map[string][]string{}}
	server := httptest.NewServer(box)
	t.Cleanup(server.Close)
	secrets := t.TempDir()
	for name, text := range map[string]string{"discord-webhook": server.URL + "/discord", "slack-webhook": server.URL + "/slack", "smtp-password": "x"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := rewritten(t, strings.NewReplacer("/etc/alertmanager-secrets", secrets, "group_wait: 30s", "group_wait: 1s", "group_wait: 10s", "group_wait: 1s").Replace)
	address := startAlertmanager(t, file)

	alerts := []object{}
	for _, labels := range []map[string]string{
		{"alertname": "PlumblineStackStalled", "plumbline_source": "home", "plumbline_stack": "home.grafana"},
		{"alertname": "PlumblineStackNotReady", "plumbline_source": "home", "plumbline_stack": "home.grafana"}, // stalled says why
		{"alertname": "PlumblineStackContended", "plumbline_source": "home", "plumbline_stack": "home.grafana"},
		{"alertname": "PlumblineGateDenied", "plumbline_source": "home", "plumbline_stack": "home.tempo"},
		{"alertname": "PlumblineStackStalled", "plumbline_source": "home", "plumbline_stack": "home.tempo"}, // denied says why
		{"alertname": "PlumblineDriftUnresolved", "plumbline_stack": "home.loki", "plumbline_kind": "ConfigMap"},
		{"alertname": "PlumblineSourceFailing", "plumbline_source": "team"},
		{"alertname": "PlumblineSourceStale", "plumbline_source": "team"},                                   // failing says why
		{"alertname": "PlumblineStackNotReady", "plumbline_source": "team", "plumbline_stack": "team.shop"}, // no push can mend it
	} {
		labels["severity"] = "warning"
		alerts = append(alerts, object{"labels": labels, "annotations": map[string]string{"summary": "summary of " + labels["alertname"], "description": "described", "runbook_url": "https://example.org/" + labels["alertname"]}})
	}
	post(t, address, alerts)
	wait(t, "four messages to Discord", func() bool { return len(box.at("/discord")) >= 4 })
	said := strings.Join(box.at("/discord"), "\n")
	for _, want := range []string{"2 firing: stack home.grafana", "summary of PlumblineStackStalled", "summary of PlumblineStackContended", "described", "What to do: https://example.org/PlumblineStackStalled",
		"1 firing: summary of PlumblineDriftUnresolved", "1 firing: summary of PlumblineGateDenied", "1 firing: summary of PlumblineSourceFailing"} {
		if !strings.Contains(said, want) {
			t.Errorf("no message says %q:\n%s", want, said)
		}
	}
	for _, not := range []string{"PlumblineStackNotReady", "PlumblineSourceStale"} {
		if strings.Contains(said, not) {
			t.Errorf("%s was told, although something else says why:\n%s", not, said)
		}
	}

	// Nobody leads: one message, and nothing more about stacks.
	down := object{"labels": map[string]string{"alertname": "PlumblineDown", "severity": "critical"}, "annotations": map[string]string{"summary": "nobody is there", "runbook_url": "https://example.org/down"}}
	post(t, address, []object{down})
	wait(t, "a message to Slack", func() bool { return len(box.at("/slack")) >= 1 })
	if said := box.at("/slack")[0]; !strings.Contains(said, "1 firing: nobody is there") || !strings.Contains(said, `"title_link":"https://example.org/down"`) || !strings.Contains(said, `"color":"danger"`) {
		t.Errorf("Slack is told: %s", said)
	}
	wait(t, "the alerts about stacks are inhibited", func() bool {
		var list []struct {
			Labels map[string]string
			Status struct{ InhibitedBy []string }
		}
		get(t, address+"/api/v2/alerts", &list)
		inhibited := map[string]bool{}
		for _, a := range list {
			if len(a.Status.InhibitedBy) > 0 {
				inhibited[a.Labels["alertname"]] = true
			}
		}
		return len(list) == 10 && len(inhibited) == 7 && !inhibited["PlumblineDown"]
	})
}

func startAlertmanager(t *testing.T, file string) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	_ = listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program(t, "alertmanager"), "--config.file="+file, "--storage.path="+t.TempDir(), "--cluster.listen-address=", "--web.listen-address="+address)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	wait(t, "Alertmanager is ready", func() bool {
		resp, err := http.Get("http://" + address + "/-/ready")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return "http://" + address
}

func post(t *testing.T, address string, alerts []object) {
	t.Helper()
	raw, err := json.Marshal(alerts)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(address+"/api/v2/alerts", "application/json", strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
}

func get(t *testing.T, url string, into any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// wait waits for other processes, whose clock is the real one.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
