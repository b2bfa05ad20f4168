package e2e

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	logspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// span is a span as it came over the wire.
type span struct {
	name, trace, id, parent string
	began, ended            time.Time
	attributes              map[string]string
	failed                  bool
	text                    string
	links                   []string // the spans it is linked to
}

// logged is a log record as it came over the wire.
type logged struct {
	message, stack, trace, span string
}

// collector keeps what the daemon tells.
type collector struct {
	mu    sync.Mutex
	spans []span
	logs  []logged
}

func (c *collector) listen(t *testing.T, s *scenario) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		switch r.URL.Path {
		case "/v1/traces":
			c.takeSpans(body)
		case "/v1/logs":
			c.takeLogs(body)
		}
	}))
	t.Cleanup(server.Close)
	s.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + server.URL, "OTEL_METRICS_EXPORTER=none", "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_BLRP_SCHEDULE_DELAY=100"}
}

func (c *collector) takeSpans(body []byte) {
	var request tracepb.ExportTraceServiceRequest
	_ = proto.Unmarshal(body, &request) // what can't be read is missed below
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				one := span{name: s.Name, trace: hex.EncodeToString(s.TraceId), id: hex.EncodeToString(s.SpanId), parent: hex.EncodeToString(s.ParentSpanId),
					began: time.Unix(0, int64(s.StartTimeUnixNano)), ended: time.Unix(0, int64(s.EndTimeUnixNano)),
					attributes: textsOf(s.Attributes), failed: s.Status.GetCode() == 2, text: s.Status.GetMessage()}
				for _, link := range s.Links {
					one.links = append(one.links, hex.EncodeToString(link.SpanId))
				}
				c.spans = append(c.spans, one)
			}
		}
	}
}

func (c *collector) takeLogs(body []byte) {
	var request logspb.ExportLogsServiceRequest
	_ = proto.Unmarshal(body, &request)
	for _, resource := range request.ResourceLogs {
		for _, scope := range resource.ScopeLogs {
			for _, l := range scope.LogRecords {
				c.logs = append(c.logs, logged{l.Body.GetStringValue(), textsOf(l.Attributes)["stack"], hex.EncodeToString(l.TraceId), hex.EncodeToString(l.SpanId)})
			}
		}
	}
}

func textsOf(attributes []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range attributes {
		out[kv.Key] = kv.Value.GetStringValue()
	}
	return out
}

// find waits for a span with these attributes: key, value, key, value…
func (c *collector) find(t *testing.T, name string, attributes ...string) (found span) {
	t.Helper()
	must(t, eventually(t.Context(), func(context.Context) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, s := range c.spans {
			has := s.name == name
			for i := 0; i+1 < len(attributes); i += 2 {
				has = has && s.attributes[attributes[i]] == attributes[i+1]
			}
			if has {
				found = s
				return nil
			}
		}
		return fmt.Errorf("no span %s %v", name, attributes)
	}))
	return found
}

// children are the names of the spans below one, as they began; all of them lie within it.
func (c *collector) children(t *testing.T, of span) (names []string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	below := slices.DeleteFunc(slices.Clone(c.spans), func(s span) bool { return s.parent != of.id })
	slices.SortFunc(below, func(a, b span) int { return a.began.Compare(b.began) })
	for _, s := range below {
		names = append(names, s.name)
		if s.trace != of.trace || s.began.Before(of.began) || s.ended.After(of.ended) || s.ended.Before(s.began) {
			t.Errorf("%s (%s to %s) is not within %s (%s to %s)", s.name, s.began, s.ended, of.name, of.began, of.ended)
		}
	}
	return names
}

// same complains of spans that are not these, whatever their order.
func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: $NAME}
spec:
  replicas: 1
  selector: {matchLabels: {app: $NAME}}
  template:
    metadata: {labels: {app: $NAME}, annotations: {$ANNOTATIONS}}
    spec: {containers: [{name: web, image: "web:$V"}]}
`

// pushTwo pushes first and second, which depends on it.
func (s *scenario) pushTwo(t *testing.T, version, annotations string) (commit string) {
	t.Helper()
	files := map[string]string{}
	for name, spec := range map[string]string{"first": "", "second": "dependsOn: [first]"} {
		files[name+"/stack.yaml"] = "{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: " + name + "}, spec: {kustomize: {path: .}, " + spec + "}}"
		files[name+"/kustomization.yaml"] = "resources: [app.yaml]"
		files[name+"/app.yaml"] = strings.NewReplacer("$NAME", name, "$V", version, "$ANNOTATIONS", annotations).Replace(deployment)
	}
	must(t, s.repos["home"].Write(files))
	commit, err := s.repos["home"].Push(version)
	must(t, err)
	return strings.TrimSpace(commit)
}

// TestTraces follows commits through a collector.
func TestTraces(t *testing.T) {
	t.Parallel()
	s, c := start(t, shared, "home"), &collector{}
	c.listen(t, s)
	first, second := s.stack("home", "first"), s.stack("home", "second")
	s.pushTwo(t, "1", "")
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	must(t, s.expectReady(t.Context(), second))

	pushed := time.Now()
	commit := s.pushTwo(t, "2", "")
	must(t, s.expectReady(t.Context(), second))
	push := c.find(t, "push", "vcs.ref.head.revision", commit)
	for key, want := range map[string]string{"vcs.ref.head.name": "main", "vcs.ref.head.type": "branch", "vcs.repository.url.full": s.repos["home"].URL, "plumbline.source": s.source("home")} {
		if push.attributes[key] != want {
			t.Errorf("push: %s is %q, want %q", key, push.attributes[key], want)
		}
	}
	if push.parent != "" || push.failed || push.began.Before(pushed.Add(-time.Second)) || push.ended.Before(pushed) || push.ended.After(time.Now()) {
		t.Errorf("push %+v", push)
	}
	same(t, "push", c.children(t, push), "fetch", "render", "render", "scan", "scan", "reconcile "+first, "reconcile "+second)
	var before span
	for _, stack := range []string{first, second} {
		reconcile := c.find(t, "reconcile "+stack, "vcs.ref.head.revision", commit)
		same(t, reconcile.name, c.children(t, reconcile), "resolve", "plan", "apply", "observe", "rollout")
		for key, want := range map[string]string{"cicd.pipeline.name": stack, "cicd.pipeline.run.id": reconcile.id, "cicd.pipeline.result": "success",
			"plumbline.stack": stack, "plumbline.trigger": "revision", "vcs.ref.head.name": "main"} {
			if reconcile.attributes[key] != want {
				t.Errorf("%s: %s is %q, want %q", reconcile.name, key, reconcile.attributes[key], want)
			}
		}
		apply, rollout := c.below(reconcile, "apply"), c.below(reconcile, "rollout")
		if rollout.ended.Before(apply.ended) || !apply.ended.After(apply.began) || rollout.attributes["cicd.pipeline.task.run.result"] != "success" {
			t.Errorf("the rollout of %s ended at %s, the apply at %s: %v", stack, rollout.ended, apply.ended, rollout.attributes)
		}
		if planned := c.below(reconcile, "plan").ended; rollout.began.Before(planned) || apply.began.Before(rollout.began) {
			t.Errorf("the rollout of %s began at %s, not between its plan (%s) and its apply (%s)", stack, rollout.began, planned, apply.began)
		}
		if stack == second && apply.began.Before(before.ended) {
			t.Error("second was applied before first was rolled out")
		}
		before = rollout
		c.logsIn(t, stack, reconcile, "run", "stack ready")
	}
	c.logsIn(t, "", push, "source moved")

	t.Log("drift is a trace of its own")
	must(t, s.cluster.patch(t.Context(), "Deployment", s.namespace, "first", "{spec: {replicas: 3}}"))
	drift := c.find(t, "reconcile "+first, "plumbline.trigger", "drift")
	if own := c.find(t, "reconcile "+first, "vcs.ref.head.revision", commit); drift.parent != "" || drift.trace == own.trace || !slices.Equal(drift.links, []string{own.id}) {
		t.Errorf("drift: parent %q, links %q, want those of %q", drift.parent, drift.links, own.id)
	}
	same(t, "drift", c.children(t, drift), "render", "resolve", "plan", "apply", "observe")
	c.logsIn(t, first, drift, "run")

	t.Log("one that doesn't get ready, and is superseded")
	stuck := s.pushTwo(t, "3", "lab.plumbline.dev/behaviour: never-ready")
	must(t, s.expect(t.Context(), "Deployment", "first", ".spec.template.spec.containers[0].image", "web:3"))
	must(t, s.expectReason(t.Context(), "Stack", first, "Progressing", ""))
	commit = s.pushTwo(t, "4", "")
	must(t, s.expectReady(t.Context(), second))
	old := c.find(t, "push", "vcs.ref.head.revision", stuck)
	for _, stack := range []string{first, second} {
		reconcile := c.find(t, "reconcile "+stack, "vcs.ref.head.revision", stuck)
		if reconcile.failed || reconcile.attributes["cicd.pipeline.result"] != "cancellation" || reconcile.parent != old.id {
			t.Errorf("%+v", reconcile)
		}
		c.children(t, reconcile)
	}
	if rollout := c.below(c.find(t, "reconcile "+first, "vcs.ref.head.revision", stuck), "rollout"); rollout.attributes["cicd.pipeline.task.run.result"] != "cancellation" {
		t.Errorf("rollout %+v", rollout)
	}
	c.find(t, "reconcile "+first, "vcs.ref.head.revision", commit, "cicd.pipeline.result", "success")

	t.Log("what has not ended ends with the daemon")
	stuck = s.pushTwo(t, "5", "lab.plumbline.dev/behaviour: never-ready")
	must(t, s.expect(t.Context(), "Deployment", "first", ".spec.template.spec.containers[0].image", "web:5"))
	must(t, s.stop())
	for _, name := range []string{"reconcile " + first, "reconcile " + second} {
		if open := c.find(t, name, "vcs.ref.head.revision", stuck); open.attributes["cicd.pipeline.result"] != "cancellation" {
			t.Errorf("%+v", open)
		}
	}
	c.children(t, c.find(t, "push", "vcs.ref.head.revision", stuck))
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	s.pushTwo(t, "6", "")
	must(t, s.expectReady(t.Context(), second))

	t.Log("one that doesn't render, and one that waits for it")
	must(t, s.repos["home"].Write(map[string]string{"first/kustomization.yaml": "resources: [none.yaml]",
		"second/app.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: second}}"}))
	broken, err := s.repos["home"].Push("broken")
	must(t, err)
	broken = strings.TrimSpace(broken)
	failing := c.find(t, "reconcile "+first, "vcs.ref.head.revision", broken, "cicd.pipeline.result", "failure")
	if !failing.failed || !strings.Contains(failing.text, "none.yaml") || failing.attributes["error.type"] != "input" {
		t.Errorf("%+v", failing)
	}
	push = c.find(t, "push", "vcs.ref.head.revision", broken) // ends although one waits
	same(t, "push", c.children(t, push), "fetch", "render", "render", "scan", "reconcile "+first, "reconcile "+second)
	c.find(t, "reconcile "+second, "vcs.ref.head.revision", broken, "cicd.pipeline.result", "skip")

	t.Log("a start is no push")
	must(t, s.stop())
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	restarted := c.find(t, "start", "vcs.ref.head.revision", broken)
	same(t, "start", c.children(t, restarted), "render", "render", "scan", "reconcile "+first, "reconcile "+second)
	must(t, s.stop())
	c.whole(t)
	must(t, s.run(t.Context(), s.proxy.Kubeconfig)) // for whoever stops it
	must(t, s.expectLog(t.Context(), "msg", "leading"))
}

// below is the only span of a name right below another.
func (c *collector) below(of span, name string) span {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.parent == of.id && s.name == name {
			return s
		}
	}
	return span{}
}

// whole complains of spans whose parent never came, and of steps that belong nowhere.
func (c *collector) whole(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	there := map[string]bool{}
	for _, s := range c.spans {
		there[s.id] = true
	}
	for _, s := range c.spans {
		if s.parent != "" && !there[s.parent] {
			t.Errorf("%s %v: its parent was never told", s.name, s.attributes)
		}
		if s.parent == "" && s.name != "push" && s.name != "start" && !strings.HasPrefix(s.name, "reconcile ") {
			t.Errorf("%s %v belongs nowhere", s.name, s.attributes)
		}
	}
}

// logsIn waits for records of a stack that were written in a span.
func (c *collector) logsIn(t *testing.T, stack string, in span, messages ...string) {
	t.Helper()
	for _, message := range messages {
		must(t, eventually(t.Context(), func(context.Context) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !slices.Contains(c.logs, logged{message, stack, in.trace, in.id}) {
				return errors.New(in.name + ": no record " + message + " in it")
			}
			return nil
		}))
	}
}

// TestEventsForbidden: what may not be told of doesn't stop anything.
func TestEventsForbidden(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	s.proxy.intervene(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if strings.Contains(r.URL.Path, "/events") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": "events is forbidden"}`)
			return
		}
		forward.ServeHTTP(w, r)
	})
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	for _, value := range []string{"1", "2", "3"} {
		s.pushMaps(t, value)
		must(t, s.expectReady(t.Context(), s.stack("home", "app")))
		must(t, s.expect(t.Context(), "ConfigMap", "app-0", ".data.value", value))
	}
	must(t, eventually(t.Context(), func(context.Context) error {
		if n := strings.Count(strings.Join(s.proxy.seen(), "\n"), "POST /api/v1/namespaces/default/events"); n != 3 {
			return fmt.Errorf("%d Events were tried, want 3", n)
		}
		return nil
	}))
	if n, err := s.logged("msg", "event not written"); n != 1 || err != nil {
		t.Errorf("it says so %d times, want 1: %v", n, err)
	}
}
