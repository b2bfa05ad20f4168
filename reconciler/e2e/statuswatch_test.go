package e2e

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestStatusWatch follows one stack where there is no terminal: a line a change,
// and no failure when it is interrupted.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	must(t, s.repos["home"].Write(map[string]string{"app/stack.yaml": stackFile("app"), "app/kustomization.yaml": "resources: [app.yaml]",
		"app/app.yaml": configMaps(2, "app", "1")}))
	_, err := s.repos["home"].Push("first")
	must(t, err)
	must(t, s.run(t.Context(), s.plane.Plumbline))
	app := s.stack("home", "app")
	must(t, s.expectReady(t.Context(), app))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "status", "--watch", app)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.plane.Kubeconfig)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	until := func(pattern string) {
		t.Helper()
		match := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ` + regexp.QuoteMeta(app) + ": " + pattern + "$")
		for lines.Scan() {
			if strings.ContainsRune(lines.Text(), '\x1b') {
				t.Errorf("no terminal is there: %q", lines.Text())
			}
			if match.MatchString(lines.Text()) {
				return
			}
		}
		t.Fatalf("ended without %s: %v", pattern, lines.Err())
	}
	until("Ready: 2/2 ready")
	must(t, s.cluster.patch(t.Context(), "Stack", "", app, "{metadata: {annotations: {plumbline.dev/suspend: 'true'}}}"))
	until("Suspended: suspended by hand; to go on: plumbline resume " + regexp.QuoteMeta(app))
	must(t, s.cluster.patch(t.Context(), "Stack", "", app, "{metadata: {annotations: {plumbline.dev/suspend: null}}}"))
	until("Ready: 2/2 ready")
	interrupted := time.Now()
	must(t, cmd.Process.Signal(os.Interrupt))
	for lines.Scan() {
	}
	must(t, cmd.Wait())
	if took := time.Since(interrupted); took > 5*time.Second {
		t.Errorf("it went on for %s", took)
	}
}
