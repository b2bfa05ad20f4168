package observe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

func kind(group, version, resource, kind string, namespaced bool) Kind {
	return Kind{schema.GroupVersionResource{Group: group, Version: version, Resource: resource}, kind, namespaced}
}

var (
	deployments    = kind("apps", "v1", "deployments", "Deployment", true)
	replicaSets    = kind("apps", "v1", "replicasets", "ReplicaSet", true)
	services       = kind("", "v1", "services", "Service", true)
	endpointSlices = kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true)
	crds           = kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false)
)

// A cluster is a namespace of the lab, and the stack of that name.
type cluster struct {
	*witness
	client    dynamic.Interface
	namespace string
	mu        sync.Mutex
	asked     []string
	conns     []net.Conn
}

func inCluster(t *testing.T, kinds ...Kind) *cluster {
	t.Helper()
	c := &cluster{}
	config := lab(t)
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns = append(c.conns, conn)
		return conn, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			c.mu.Lock()
			c.asked = append(c.asked, r.Method+" "+r.URL.RequestURI())
			c.mu.Unlock()
			return next.RoundTrip(r)
		})
	})
	watching, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if c.client, err = dynamic.NewForConfig(lab(t)); err != nil {
		t.Fatal(err)
	}
	ns := &unstructured.Unstructured{Object: object("apiVersion", "v1", "kind", "Namespace", "metadata", object("generateName", "observe-"))}
	ns, err = c.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.namespace = ns.GetName()
	c.witness = observing(t, watching, kinds...)
	c.sync()
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *cluster) on(k Kind) dynamic.ResourceInterface {
	if !k.Namespaced {
		return c.client.Resource(k.GroupVersionResource)
	}
	return c.client.Resource(k.GroupVersionResource).Namespace(c.namespace)
}

// apply applies a document as our manager, labelled as the namespace's stack.
func (c *cluster) apply(k Kind, document string, options ...string) *unstructured.Unstructured {
	c.t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(document), &obj.Object); err != nil {
		c.t.Fatal(err)
	}
	obj.SetLabels(map[string]string{StackLabel: c.namespace})
	obj, err := c.on(k).Apply(c.t.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "plumbline", Force: true, DryRun: options})
	if err != nil {
		c.t.Fatal(err)
	}
	return obj
}

// patch changes an object as somebody else does.
func (c *cluster) patch(k Kind, name, patch string, subresources ...string) {
	c.t.Helper()
	if _, err := c.on(k).Patch(c.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"}, subresources...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) delete(k Kind, name string) {
	c.t.Helper()
	if err := c.on(k).Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for a change in this stack that fits, and returns it and those before it. Other tests' stacks are not ours.
func (c *cluster) until(fits func(Change) bool) (changes []Change) {
	c.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case change := <-c.changes:
			if change.Entry.Stack != c.namespace {
				continue
			}
			changes = append(changes, change)
			if fits(change) {
				return changes
			}
		case <-deadline:
			c.t.Fatalf("waited in vain; changes: %+v", changes)
		}
	}
}

func named(name string) func(Change) bool { return func(c Change) bool { return c.Entry.Name == name } }

const web = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}},
 template: {metadata: {labels: {app: web}}, spec: {securityContext: {}, containers: [{name: web, image: "web:1", args: [a, b],
 resources: {}, env: [{name: A, value: "1"}, {name: B, value: "2"}], ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}]}]}}}}`

func TestClusterDeployment(t *testing.T) {
	c := inCluster(t, deployments)
	applied := entryOf(c.apply(deployments, web), "plumbline", newJudge())
	ready := c.until(func(ch Change) bool { return ch.Entry.Status == status.CurrentStatus })
	for i, change := range ready {
		if change.Entry.Fingerprint != applied.Fingerprint || change.Entry.UID != applied.UID || change.Gone {
			t.Errorf("on the way to Current, change %d is %+v", i, change)
		}
	}
	if first := ready[0]; first.Before != (Entry{}) || first.Entry.Status != status.InProgressStatus || first.Entry.Message == "" {
		t.Errorf("the first change is %+v", first)
	}
	if dry := entryOf(c.apply(deployments, web, metav1.DryRunAll), "plumbline", newJudge()); dry.Fingerprint != applied.Fingerprint {
		t.Error("a dry run of the same alters the fingerprint")
	}

	drifts := []struct {
		name, patch  string
		subresources []string
	}{
		{"image", `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"web:2"}]}}}}`, nil},
		{"replicas", `{"spec":{"replicas":1}}`, []string{"scale"}},
		{"a label of pods, and replicas", `{"spec":{"template":{"metadata":{"labels":{"app":"web","x":"y"}}},"replicas":3}}`, nil},
	}
	for _, drift := range drifts {
		c.patch(deployments, "web", drift.patch, drift.subresources...)
		c.until(func(ch Change) bool { return ch.Entry.Fingerprint != applied.Fingerprint })
		healed := c.Saw(c.apply(deployments, web))
		if healed.Fingerprint != applied.Fingerprint {
			t.Errorf("%s: the fingerprint is another after healing", drift.name)
		}
		if now, _ := c.Get(applied.ID); older(now.ResourceVersion, healed.ResourceVersion) || now.Fingerprint != applied.Fingerprint {
			t.Errorf("%s: read %+v after writing %+v", drift.name, now, healed)
		}
	}

	// None of this is ours.
	c.patch(deployments, "web", `{"metadata":{"labels":{"team":"a"},"annotations":{"x":"y"}},"spec":{"revisionHistoryLimit":3}}`)
	c.patch(deployments, "web", `{"spec":{"strategy":{"rollingUpdate":{"maxSurge":"50%"}}}}`)
	if _, err := c.on(deployments).Patch(t.Context(), "web", types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"securityContext":{"runAsUser":1},
		"containers":[{"name":"web","resources":{"limits":{"cpu":"1"}},"env":[{"name":"C","value":"3"}]},{"name":"proxy","image":"proxy:1"}]}}}}`),
		metav1.PatchOptions{FieldManager: "vpa"}); err != nil {
		t.Fatal(err)
	}
	obj, err := c.on(deployments).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := FingerprintOf(obj, "plumbline"); got != applied.Fingerprint {
		managed, _ := yaml.Marshal(obj.Object)
		t.Errorf("what others own alters the fingerprint:\n%s", managed)
	}

	c.patch(deployments, "web", `{"metadata":{"labels":{"`+StackLabel+`":null}}}`)
	c.until(func(ch Change) bool { return ch.Gone })
	c.Saw(c.apply(deployments, web))
	c.delete(deployments, "web")
	c.until(func(ch Change) bool { return ch.Gone })
	if left := c.OfStack(c.namespace); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}

	for _, request := range c.asked {
		if !strings.Contains(request, "sendInitialEvents=true") {
			t.Errorf("did more than to stream: %s", request)
		}
	}
}

// Controllers copy labels: what they made is not of the stack.
func TestClusterIgnoresWhatControllersMade(t *testing.T) {
	c := inCluster(t, services, endpointSlices, deployments, replicaSets)
	c.apply(deployments, strings.ReplaceAll(web, "labels: {app: web}", "labels: {app: web, "+StackLabel+": "+c.namespace+"}"))
	c.apply(services, `{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}`)
	for _, k := range []Kind{endpointSlices, replicaSets} {
		made, err := c.on(k).Watch(t.Context(), metav1.ListOptions{LabelSelector: StackLabel + "=" + c.namespace})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-made.ResultChan():
		case <-time.After(patience):
			t.Fatalf("the cluster made no %s with our label", k.Kind)
		}
		made.Stop()
	}
	c.apply(endpointSlices, `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: last}, addressType: IPv4, endpoints: [], ports: []}`)
	c.apply(replicaSets, `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: last}, spec: {replicas: 0, selector: {matchLabels: {app: last}}, template: {metadata: {labels: {app: last}}, spec: {containers: [{name: x, image: "x:1"}]}}}}`)
	c.until(func(ch Change) bool {
		_, a := c.Get(ID{"discovery.k8s.io", "EndpointSlice", c.namespace, "last"})
		_, b := c.Get(ID{"apps", "ReplicaSet", c.namespace, "last"})
		return a && b
	})
	var got []string
	for _, e := range c.OfStack(c.namespace) {
		got = append(got, e.Kind+" "+e.Name)
	}
	if want := []string{"Service web", "Deployment web", "ReplicaSet last", "EndpointSlice last"}; !slices.Equal(got, want) {
		t.Errorf("entries %v, want %v", got, want)
	}
}

func TestClusterCustomResources(t *testing.T) {
	c := inCluster(t, crds)
	group := c.namespace + ".example.org"
	pipelines := kind(group, "v1", "pipelines", "Pipeline", true)
	c.Watch(pipelines) // before it is served
	c.expectTrouble("the server could not find the requested resource")
	crd := "pipelines." + group
	c.apply(crds, `{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: `+crd+`}, spec: {group: `+group+`, scope: Namespaced,
		names: {kind: Pipeline, plural: pipelines}, versions: [{name: v1, served: true, storage: true, subresources: {status: {}},
		schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}`)
	c.until(func(ch Change) bool { return ch.Entry.Name == crd && ch.Entry.Status == status.CurrentStatus })
	c.sync()

	applied := entryOf(c.apply(pipelines, `{apiVersion: `+group+`/v1, kind: Pipeline, metadata: {name: logs}, spec: {stages: [{name: a}], ratio: 0.5}}`), "plumbline", newJudge())
	c.until(named("logs"))
	c.patch(pipelines, "logs", `{"status":{"conditions":[{"type":"Ready","status":"False","message":"wait"}]}}`, "status")
	changes := c.until(named("logs"))
	if got := changes[0].Entry; got.Status != status.InProgressStatus || got.Message != "wait" || got.Fingerprint != applied.Fingerprint {
		t.Errorf("not ready: %+v", got)
	}
	c.patch(pipelines, "logs", `{"spec":{"stages":[{"name":"b"}]}}`)
	c.until(func(ch Change) bool { return ch.Entry.Fingerprint != applied.Fingerprint })

	c.delete(crds, crd)
	gone := map[string]bool{}
	c.until(func(ch Change) bool { gone[ch.Entry.Name] = ch.Gone; return gone["logs"] && gone[crd] })
	c.expectTrouble("the server could not find the requested resource")
	c.Unwatch(pipelines.GroupKind())
}

func TestClusterBrokenConnections(t *testing.T) {
	c := inCluster(t, configMaps)
	for i := range 3 {
		c.mu.Lock()
		for _, conn := range c.conns {
			conn.Close()
		}
		c.conns = nil
		c.mu.Unlock()
		name := fmt.Sprintf("after-%d", i)
		c.apply(configMaps, `{apiVersion: v1, kind: ConfigMap, metadata: {name: `+name+`}, data: {a: b}}`)
		if changes := c.until(named(name)); len(changes) != 1 {
			t.Errorf("after a cut: %+v", changes)
		}
	}
}

// BenchmarkClusterChange measures from the server's answer to somebody's write to our being told, and before.
func BenchmarkClusterChange(b *testing.B) {
	client, err := dynamic.NewForConfig(lab(b))
	if err != nil {
		b.Fatal(err)
	}
	told := make(chan Change, 10000)
	o := New(b.Context(), Options{Client: client, Manager: "plumbline", Changed: func(c Change) { told <- c }})
	o.Watch(configMaps)
	obj := seen(fmt.Sprint("bench-", time.Now().UnixNano()), "", 0, "", func(obj *unstructured.Unstructured) {
		obj.SetNamespace("default")
		for _, field := range []string{"uid", "resourceVersion", "managedFields"} {
			unstructured.RemoveNestedField(obj.Object, "metadata", field)
		}
	})
	on := client.Resource(configMaps.GroupVersionResource).Namespace("default")
	if _, err := on.Apply(b.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "plumbline"}); err != nil {
		b.Fatal(err)
	}
	for change := range told {
		if change.Entry.Name == obj.GetName() {
			break
		}
	}
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		patch := fmt.Sprintf(`{"data":{"key":"%d"}}`, len(took))
		if _, err := on.Patch(b.Context(), obj.GetName(), types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: fmt.Sprint("somebody", len(took)%2)}); err != nil {
			b.Fatal(err)
		}
		if len(took) > 0 { // after the first one, the value is not ours any more
			obj.Object["data"] = object("key", fmt.Sprint("ours", len(took)))
		}
		if _, err := on.Apply(b.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "plumbline", Force: true}); err != nil {
			b.Fatal(err)
		}
		<-told
		<-told
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
