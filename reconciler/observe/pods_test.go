package observe

import (
	"context"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	"sigs.k8s.io/yaml"
)

// whyOf is what Explain makes of a workload, its pods and their events, without asking for them.
func whyOf(t *testing.T, workload string, pods, events []string) string {
	t.Helper()
	w := served(t, workload)
	var all []corev1.Pod
	for _, text := range pods {
		var pod corev1.Pod
		decode(t, text, &pod)
		all = append(all, pod)
	}
	var said []corev1.Event
	for _, text := range events {
		var e corev1.Event
		decode(t, text, &e)
		said = append(said, e)
	}
	pod, unready := worst(all)
	return told(refusal(w, len(all), said), pod, said, unready)
}

// served is an object as it comes from a server.
func served(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// TestWhy is what people read when a rollout is stuck.
func TestWhy(t *testing.T) {
	const head = `metadata: {name: web-1}, spec: {nodeName: n, containers: [{name: app, readinessProbe: {periodSeconds: 1}}, {name: side}], initContainers: [{name: init}]}`
	app := func(status string) string {
		return `{` + head + `, status: {phase: Pending, containerStatuses: [{name: side, ready: true, state: {running: {}}}, {name: app, ` + status + `}]}}`
	}
	set := `{kind: StatefulSet, spec: {replicas: 1}}`
	for name, tt := range map[string]struct {
		workload     string
		pods, events []string
		want         string
	}{
		"all is well": {set, []string{`{metadata: {name: web-1}, status: {conditions: [{type: Ready, status: "True"}]}}`, `{metadata: {name: web-2}, status: {phase: Succeeded}}`}, nil, ""},
		"nothing":     {set, nil, nil, ""},
		"image": {set, []string{app(`state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image "web:7": ErrImagePull: not found'}}`)}, nil,
			`pod web-1: container app: ImagePullBackOff: Back-off pulling image "web:7": ErrImagePull: not found`},
		"image, by an old kubelet": {set, []string{app(`state: {waiting: {reason: ImagePullBackOff, message: 'Back-off pulling image "web:7"'}}`)},
			[]string{`{reason: Failed, message: 'Failed to pull image "web:7": denied', lastTimestamp: "2026-01-01T00:00:00Z"}`, `{reason: Failed, message: 'Error: ImagePullBackOff', lastTimestamp: "2026-01-01T00:00:01Z"}`},
			`pod web-1: container app: ImagePullBackOff: Failed to pull image "web:7": denied`},
		"configuration": {set, []string{app(`state: {waiting: {reason: CreateContainerConfigError, message: 'secret "db" not found'}}`)}, nil,
			`pod web-1: container app: CreateContainerConfigError: secret "db" not found`},
		"crash loop": {set, []string{app(`restartCount: 5, state: {waiting: {reason: CrashLoopBackOff, message: back-off 5m0s}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}`)}, nil,
			"pod web-1: container app: CrashLoopBackOff: exit code 137 (OOMKilled), restarted 5 times"},
		"crashed once": {set, []string{app(`restartCount: 1, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 2, reason: Error}}`)}, nil,
			"pod web-1: container app: CrashLoopBackOff: exit code 2, restarted once"},
		"ended": {`{kind: Job, spec: {parallelism: 1}}`, []string{`{metadata: {name: once-x}, spec: {nodeName: n, containers: [{name: once}]}, status: {phase: Failed, containerStatuses: [{name: once, state: {terminated: {exitCode: 3, reason: Error, message: "no such table"}}}]}}`}, nil,
			"pod once-x: container once: exit code 3: no such table"},
		"init container": {set, []string{`{` + head + `, status: {containerStatuses: [{name: app, state: {waiting: {reason: PodInitializing}}}], initContainerStatuses: [{name: init, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1}}}]}}`}, nil,
			"pod web-1: init container init: CrashLoopBackOff: exit code 1, restarted 2 times"},
		"init container that goes on": {set, []string{`{` + head + `, status: {initContainerStatuses: [{name: init, state: {running: {}}}]}}`}, nil, "pod web-1: init container init: still running"},
		"unschedulable": {set, []string{`{metadata: {name: web-1}, status: {phase: Pending, conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/3 nodes are available: 3 Insufficient cpu."}]}}`}, nil,
			"pod web-1: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu."},
		"a claim that waits": {set, []string{`{metadata: {name: web-1}, status: {conditions: [{type: PodScheduled, status: "False", reason: Unschedulable, message: "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."}]}}`}, nil,
			"pod web-1: Unschedulable: 0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims."},
		"a volume": {set, []string{`{` + head + `, status: {phase: Pending, containerStatuses: [{name: app, state: {waiting: {reason: ContainerCreating}}}]}}`},
			[]string{`{type: Warning, reason: FailedMount, message: 'MountVolume.SetUp failed: configmap "web" not found'}`, `{type: Normal, reason: Pulling, message: Pulling}`},
			`pod web-1: FailedMount: MountVolume.SetUp failed: configmap "web" not found`},
		"starting":          {set, []string{`{` + head + `, status: {containerStatuses: [{name: app, state: {waiting: {reason: ContainerCreating}}}]}}`}, nil, "pod web-1: starting"},
		"not scheduled yet": {set, []string{`{metadata: {name: web-1}}`}, nil, "pod web-1: not scheduled yet"},
		"probe":             {set, []string{app(`state: {running: {}}`)}, nil, "pod web-1: container app: readiness probe fails"},
		"probe, with an event": {set, []string{app(`state: {running: {}}`)},
			[]string{`{reason: Unhealthy, message: "Readiness probe failed: HTTP probe failed with statuscode: 500", lastTimestamp: "2026-01-01T00:00:00Z"}`,
				`{reason: Unhealthy, message: "Readiness probe failed: HTTP probe failed with statuscode: 503", lastTimestamp: "2026-01-01T00:00:09Z", involvedObject: {fieldPath: "spec.containers{app}"}}`,
				`{reason: Unhealthy, message: "Readiness probe failed: of another container", lastTimestamp: "2026-01-01T00:00:10Z", involvedObject: {fieldPath: "spec.containers{side}"}}`},
			"pod web-1: container app: readiness probe fails: HTTP probe failed with statuscode: 503"},
		"liveness": {set, []string{app(`restartCount: 3, state: {running: {}}, lastState: {terminated: {exitCode: 143}}`)},
			[]string{`{reason: Unhealthy, message: "Liveness probe failed: timeout"}`}, "pod web-1: container app: liveness probe fails: timeout, after exit code 143, restarted 3 times"},
		"no probe": {set, []string{`{metadata: {name: web-1}, spec: {nodeName: n, containers: [{name: app}]}, status: {containerStatuses: [{name: app, state: {running: {}}}]}}`}, nil, "pod web-1: container app: running, not ready"},
		"startup": {set, []string{`{metadata: {name: web-1}, spec: {nodeName: n, containers: [{name: app, startupProbe: {}}]}, status: {containerStatuses: [{name: app, started: false, state: {running: {}}}]}}`}, nil,
			"pod web-1: container app: startup probe fails"},
		"gate": {set, []string{`{metadata: {name: web-1}, spec: {nodeName: n, readinessGates: [{conditionType: example.org/up}]}, status: {conditions: [{type: ContainersReady, status: "True"}, {type: example.org/up, status: "False", message: no target}]}}`}, nil,
			"pod web-1: readiness gate example.org/up is not met: no target"},
		"evicted": {set, []string{`{metadata: {name: web-1}, spec: {nodeName: n}, status: {phase: Failed, reason: Evicted, message: "The node was low on resource: memory."}}`}, nil,
			"pod web-1: Evicted: The node was low on resource: memory."},
		"quota, of a Deployment": {`{kind: Deployment, spec: {replicas: 1}, status: {conditions: [{type: Progressing, status: "True"}, {type: ReplicaFailure, status: "True", reason: FailedCreate, message: 'pods "web-x" is forbidden: exceeded quota: few'}]}}`, nil, nil,
			`FailedCreate: pods "web-x" is forbidden: exceeded quota: few`},
		"quota, of a StatefulSet": {`{kind: StatefulSet, spec: {replicas: 2}}`, []string{`{metadata: {name: web-0}, status: {conditions: [{type: Ready, status: "True"}]}}`},
			[]string{`{type: Warning, reason: FailedCreate, message: 'create Pod web-1 failed: exceeded quota'}`}, "FailedCreate: create Pod web-1 failed: exceeded quota"},
		"a quota of the past": {`{kind: DaemonSet, status: {desiredNumberScheduled: 1}}`, []string{app(`state: {waiting: {reason: ErrImagePull, message: gone}}`)},
			[]string{`{type: Warning, reason: FailedCreate, message: 'exceeded quota'}`}, "pod web-1: container app: ErrImagePull: gone"},
		"of many, the most telling": {set, []string{`{metadata: {name: a}}`, `{metadata: {name: b}, spec: {nodeName: n, containers: [{name: app}]}, status: {containerStatuses: [{name: app, state: {waiting: {reason: InvalidImageName, message: "no"}}}]}}`, `{metadata: {name: c}}`,
			`{metadata: {name: going, deletionTimestamp: "2026-01-01T00:00:00Z"}}`}, nil, "pod b (and 2 more pods): container app: InvalidImageName: no"},
		"of equals, the newest": {set, []string{`{metadata: {name: a, creationTimestamp: "2026-01-01T00:00:00Z"}}`, `{metadata: {name: b, creationTimestamp: "2026-01-02T00:00:00Z"}}`}, nil, "pod b (and 1 more pod): not scheduled yet"},
		"odd":                   {`{kind: DaemonSet, spec: {replicas: text}, status: {conditions: [7, {type: ReplicaFailure, status: "True", reason: 7}]}}`, []string{`{metadata: {name: a}, status: {containerStatuses: [{name: unknown, state: {waiting: {reason: X}}}]}}`}, nil, "pod a: not scheduled yet"},
	} {
		t.Run(name, func(t *testing.T) {
			if have := whyOf(t, tt.workload, tt.pods, tt.events); have != tt.want {
				t.Errorf("have %q\nwant %q", have, tt.want)
			}
		})
	}
	long := whyOf(t, set, []string{app(`state: {waiting: {reason: ErrImagePull, message: "` + strings.Repeat("x", 5000) + `"}}`)}, nil)
	if len(long) > messageLimit+messageMargin {
		t.Errorf("%d bytes", len(long))
	}
}

// TestExplain asks for what a workload controls, and for nothing else.
func TestExplain(t *testing.T) {
	pod := func(name, owner, hash string) string {
		return `{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `, namespace: o11y, uid: ` + name + `, labels: {app: web, pod-template-hash: ` + hash + `}, ownerReferences: [` + owner + `]}}`
	}
	objects := []string{
		`{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: o11y, uid: d}, spec: {selector: {matchLabels: {app: web}}}}`,
		`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: node, namespace: o11y, uid: ds}, spec: {selector: {matchLabels: {app: web}}}, status: {desiredNumberScheduled: 2}}`,
		pod("mine", "{kind: ReplicaSet, name: web-h1, uid: r, controller: true}", "h1"),
		pod("not-mine", "{kind: ReplicaSet, name: other-h2, uid: r2, controller: true}", "h2"),
		pod("of-the-set", "{kind: DaemonSet, name: node, uid: ds, controller: true}", "h1"),
		pod("of-nobody", "", "h1"),
	}
	var items []runtime.Object
	for _, text := range objects {
		items = append(items, served(t, text))
	}
	client := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{podResource: "PodList", eventResource: "EventList"}, items...)
	for id, want := range map[ID]string{
		{"apps", "Deployment", "o11y", "web"}: "pod mine: not scheduled yet",
		{"apps", "DaemonSet", "o11y", "node"}: "pod of-the-set: not scheduled yet",
	} {
		if have, err := Explain(t.Context(), client, id); err != nil || have != want {
			t.Errorf("%s: %q, %v, want %q", id, have, err, want)
		}
	}
	if n := len(client.Actions()); n != 7 {
		t.Errorf("%d requests: %v", n, client.Actions())
	}
	if _, err := Explain(t.Context(), client, ID{"apps", "Deployment", "o11y", "gone"}); err == nil {
		t.Error("a workload that is gone is no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := newAPIServer(t)
	s.hinder(func(_ string, w http.ResponseWriter, _ *http.Request) bool { return refuse(w, 403, "Forbidden", "no") })
	if _, err := Explain(ctx, s.client(t), ID{"apps", "Deployment", "o11y", "web"}); err == nil {
		t.Error("nobody asked")
	}
}
