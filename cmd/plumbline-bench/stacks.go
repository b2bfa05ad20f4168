package main

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	namespace      = "bench" // of the daemon's objects
	floorNamespace = "floor" // of the same objects, applied by a bare loop
	otherNamespace = "other" // of as many objects of the daemon again, which come while others drift
	sourceName     = "bench"
	nameLabel      = "app.kubernetes.io/name"
)

// stackFiles is one stack: four objects, in a directory of its own.
func stackFiles(i int, tag string) map[string]string { return stackFilesIn(namespace, i, tag) }

func stackFilesIn(namespace string, i int, tag string) map[string]string {
	app := appName(i)
	dir := "stacks/" + app + "/"
	files := map[string]string{
		dir + "stack.yaml": "apiVersion: plumbline.dev/v1alpha1\nkind: Stack\nmetadata: {name: " + app + "}\nspec:\n  kustomize: {path: .}\n",
		dir + "kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: " + namespace +
			"\nresources: [deployment.yaml, serviceaccount.yaml, service.yaml, ingress.yaml]\n",
	}
	for kind, text := range manifests(app, tag) {
		files[dir+kind+".yaml"] = text
	}
	return files
}

func appName(i int) string { return fmt.Sprintf("app-%04d", i) }

func imageOf(tag string) string { return "registry.example/app:" + tag }

// objects are what the stack renders to, but for its namespace and labels.
func objects(i int, tag, namespace string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	texts := manifests(appName(i), tag)
	for _, kind := range []string{"serviceaccount", "deployment", "ingress", "service"} {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(texts[kind]), &u.Object); err != nil {
			return nil, fmt.Errorf("read the %s: %w", kind, err)
		}
		u.SetNamespace(namespace)
		out = append(out, u)
	}
	return out, nil
}

// manifests are the four objects of the public Flux benchmark. No pods: those
// would measure the kubelets.
func manifests(app, tag string) map[string]string {
	fill := strings.NewReplacer("APP", app, "IMAGE", imageOf(tag))
	return map[string]string{
		"deployment":     fill.Replace(deploymentManifest),
		"serviceaccount": fill.Replace(serviceAccountManifest),
		"service":        fill.Replace(serviceManifest),
		"ingress":        fill.Replace(ingressManifest),
	}
}

const deploymentManifest = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: APP
  labels: {app.kubernetes.io/name: APP}
spec:
  replicas: 0
  selector: {matchLabels: {app.kubernetes.io/name: APP}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: APP}
      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9797"}
    spec:
      serviceAccountName: APP
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: app
          image: IMAGE
          args: [--port=9898, --port-metrics=9797, --level=info]
          ports:
            - {name: http, containerPort: 9898}
            - {name: metrics, containerPort: 9797}
          livenessProbe: {httpGet: {path: /healthz, port: http}}
          readinessProbe: {httpGet: {path: /readyz, port: http}}
          resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 256Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
`

const serviceAccountManifest = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: APP
  labels: {app.kubernetes.io/name: APP}
automountServiceAccountToken: false
`

const serviceManifest = `apiVersion: v1
kind: Service
metadata:
  name: APP
  labels: {app.kubernetes.io/name: APP}
spec:
  selector: {app.kubernetes.io/name: APP}
  ports:
    - {name: http, port: 9898, targetPort: http}
`

const ingressManifest = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: APP
  labels: {app.kubernetes.io/name: APP}
spec:
  rules:
    - host: APP.example
      http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: APP, port: {name: http}}}}
`
