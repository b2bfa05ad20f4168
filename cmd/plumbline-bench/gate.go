package main

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/scan"
)

const (
	gateCount = 1000
	// gateEnv is set in the process that measures the gate, and nothing else.
	gateEnv = "PLUMBLINE_BENCH_GATE"
)

func gateName() string { return fmt.Sprintf("Gate/objects=%d", gateCount) }

func gateSelected(pattern *regexp.Regexp) bool { return pattern.MatchString(gateName()) }

// measureGate has a new process do it. Neither OPA nor Trivy keeps checks that it
// compiled, but a process that has done it before has its memory, its pools and some
// regular expressions, and may be faster. And of what a gate leaves in the heap, nothing
// is the floor's then.
func measureGate(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), gateEnv+"=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	fmt.Fprintf(o.log, "%s", text)
	_, err = o.out.Write(text)
	return err
}

// gateProcess is all that the new process does.
func gateProcess(ctx context.Context, stdout, stderr io.Writer) int {
	values, err := timeGate(ctx, gateCount)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprint(stdout, line(gateName(), values))
	return 0
}

// timeGate measures a gate from nothing to its first verdict, and then how long it
// takes for objects of which each is another than before.
func timeGate(ctx context.Context, count int) ([]value, error) {
	one, err := gateObjects(len(gateKinds), tagInstall)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	gate := &scan.Gate{}
	if err := judge(ctx, gate, one[:1]); err != nil {
		return nil, err
	}
	first := time.Since(start)
	var took time.Duration
	for _, tag := range []string{tagInstall, tagUpgrade} { // the first is to warm up
		all, err := gateObjects(count, tag)
		if err != nil {
			return nil, err
		}
		runtime.GC() // of what it took to make them
		start := time.Now()
		if err := judge(ctx, gate, all); err != nil {
			return nil, err
		}
		took = time.Since(start)
	}
	return []value{{"first-ms", first.Seconds() * 1000}, {"gate-s", took.Seconds()}}, nil
}

// judge is one verdict. It makes sure that there was something to measure: every
// Deployment has findings, and no check gave up.
func judge(ctx context.Context, gate *scan.Gate, all []scan.Object) error {
	var none embed.FS // no exceptions, and no checks of somebody's own
	verdict, err := gate.Scan(ctx, scan.Request{Stack: sourceName, Objects: all, FS: none, Dir: "."})
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, f := range verdict.Findings {
		if f.Kind == scan.KindGate {
			return fmt.Errorf("the gate itself: %s %s: %s", f.ID, f.Object, f.Message)
		}
		found[f.Object] = true
	}
	for _, o := range all {
		if object := "Deployment.apps " + o.GetNamespace() + "/" + o.GetName(); o.GetKind() == "Deployment" && !found[object] {
			return fmt.Errorf("nothing was found in %s", object)
		}
	}
	return nil
}

// gateKinds are what a stack has here: those of the other benchmarks, and a ConfigMap.
var gateKinds = []string{"deployment", "service", "serviceaccount", "ingress", "configmap"}

// gateObjects are those of count/5 stacks, a Deployment first. All have the tag in a
// label, as kustomizations and charts put it there: a new tag changes each of them.
func gateObjects(count int, tag string) ([]scan.Object, error) {
	var out []scan.Object
	for i := range count / len(gateKinds) {
		app := appName(i)
		fill := strings.NewReplacer("APP", app, "IMAGE", imageOf(tag))
		texts := manifests(app, tag)
		texts["configmap"] = fill.Replace(configMapManifest)
		if i%2 == 1 {
			texts["deployment"] = fill.Replace(usualManifest)
		}
		for _, kind := range gateKinds {
			u := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(texts[kind]), &u.Object); err != nil {
				return nil, fmt.Errorf("read the %s: %w", kind, err)
			}
			u.SetNamespace(namespace)
			u.SetLabels(map[string]string{nameLabel: app, "app.kubernetes.io/version": tag})
			out = append(out, scan.Object{Unstructured: u, Origin: "stacks/" + app + "/" + kind + ".yaml"})
		}
	}
	return out, nil
}

// usualManifest is a Deployment as most are: nobody thought of a securityContext.
const usualManifest = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: APP
spec:
  replicas: 2
  selector: {matchLabels: {app.kubernetes.io/name: APP}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: APP}
    spec:
      serviceAccountName: APP
      initContainers:
        - name: migrate
          image: IMAGE
          args: [migrate, --wait]
          envFrom: [{configMapRef: {name: APP}}]
      containers:
        - name: app
          image: IMAGE
          env:
            - {name: LOG_LEVEL, value: info}
            - {name: DATABASE_HOST, value: APP-db.bench.svc}
            - {name: DATABASE_PASSWORD, valueFrom: {secretKeyRef: {name: APP-db, key: password}}}
          ports: [{name: http, containerPort: 9898}]
          readinessProbe: {httpGet: {path: /readyz, port: http}}
          resources: {requests: {cpu: 50m, memory: 64Mi}}
          volumeMounts:
            - {name: config, mountPath: /etc/app}
            - {name: cache, mountPath: /var/cache/app}
        - name: exporter
          image: registry.example/exporter:1.9.0
          args: [--target=http://localhost:9898]
          ports: [{name: metrics, containerPort: 9797}]
      volumes:
        - {name: config, configMap: {name: APP}}
        - {name: cache, emptyDir: {}}
`

// configMapManifest has a file in it, as most have: it is searched for secrets, line by line.
const configMapManifest = `apiVersion: v1
kind: ConfigMap
metadata:
  name: APP
data:
  LOG_FORMAT: json
  config.yaml: |
    server:
      listen: 0.0.0.0:9898
      metrics: 0.0.0.0:9797
      timeouts: {read: 10s, write: 30s, idle: 2m}
    database:
      host: APP-db.bench.svc
      port: 5432
      name: APP
      pool: {min: 2, max: 20, lifetime: 30m}
    cache:
      directory: /var/cache/app
      size: 256Mi
    tracing:
      endpoint: http://otel-collector.o11y.svc:4317
      ratio: 0.1
    features: [search, export, audit]
`
