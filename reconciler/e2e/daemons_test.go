package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plumbline-dev/plumbline/lab"
)

// TestTwoDaemons has two daemons with one Lease: one leads, the other takes over
// when it is killed.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	s := start(t, shared, "home")
	must(t, s.run(t.Context(), s.plane.Plumbline))
	must(t, s.expectLog(t.Context(), "msg", "leading"))
	second, err := s.runAs(t.Context(), "second", s.plane.Plumbline)
	must(t, err)
	t.Cleanup(func() { _ = second.Stop() })

	s.pushMaps(t, "1")
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	for _, r := range second.Records() {
		if r.Text("msg") != "standing by" {
			t.Errorf("the second daemon did something: %v", r)
		}
	}
	died := time.Now()
	s.daemon.Kill()
	s.pushMaps(t, "2")
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	must(t, s.expect(t.Context(), "ConfigMap", "app-0", ".data.value", "2"))
	t.Logf("taken over after %s", time.Since(died).Round(time.Millisecond))

	// It stops, and gives the Lease back at once: the next one needs not wait.
	must(t, second.Stop())
	stopped := time.Now()
	must(t, s.run(t.Context(), s.plane.Plumbline))
	must(t, s.expectLog(t.Context(), "msg", "leading"))
	if took := time.Since(stopped); took > 10*time.Second {
		t.Errorf("the Lease was not given back: %s until the next one led", took)
	}
}

func (s *scenario) pushMaps(t *testing.T, value string) {
	t.Helper()
	must(t, s.repos["home"].Write(map[string]string{"app/stack.yaml": stackFile("app"), "app/kustomization.yaml": "resources: [app.yaml]",
		"app/app.yaml": configMaps(40, "app", value)}))
	_, err := s.repos["home"].Push(value)
	must(t, err)
}

// TestOutage has an API server of its own, and takes it away in the middle of an
// apply, for longer than the Lease lasts.
func TestOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	port := freePort(t)
	plane := startPlane(t, dir, port)
	s := start(t, plane, "home")
	must(t, s.run(t.Context(), plane.Plumbline))
	s.pushMaps(t, "1")
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	s.asksNothing(t)

	// Gone as soon as the first change is in.
	before := s.objects(t, "app")
	s.pushMaps(t, "2")
	must(t, s.expect(t.Context(), "ConfigMap", "app-0", ".data.value", "2"))
	plane.Kill()
	must(t, s.expectLog(t.Context(), "msg", "not leading any more"))
	s.pushMaps(t, "3") // nobody can hear of it yet
	<-time.After(outage)
	if err := context.Cause(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.daemon.Ended():
		t.Fatal("the daemon ended")
	default:
	}

	s.plane = startPlane(t, dir, port)
	must(t, s.expectReady(t.Context(), s.stack("home", "app")))
	if after := s.objects(t, "app"); fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("not the same objects: before %v, after %v", before, after)
	}
	for _, name := range []string{"app-0", "app-39"} {
		must(t, s.expect(t.Context(), "ConfigMap", name, ".data.value", "3"))
	}
	must(t, s.cluster.patch(t.Context(), "ConfigMap", s.namespace, "app-7", `{data: {value: edited}}`))
	must(t, s.expect(t.Context(), "ConfigMap", "app-7", ".data.value", "3")) // the watches are back too
}

// outage comes on top of the ten seconds after which a leader gives up.
const outage = 25 * time.Second

// asksNothing has the daemon go through a stack in which nothing moved, and
// counts the requests as the API server does, which is not shared here.
func (s *scenario) asksNothing(t *testing.T) {
	t.Helper()
	must(t, s.stop())
	s.resync = "1s"
	must(t, s.run(t.Context(), s.plane.Plumbline))
	must(t, s.expectLog(t.Context(), "msg", "run", "trigger", "interval", "unchanged", "40"))
	s.seen = len(s.daemon.Records())
	before := s.dispatched(t)
	for range 3 {
		must(t, s.expectLog(t.Context(), "msg", "run", "trigger", "interval", "unchanged", "40"))
		s.seen = len(s.daemon.Records())
	}
	if asked := s.dispatched(t) - before; asked != 0 {
		t.Errorf("three resyncs of 40 objects made %d requests, want none", asked)
	}
	must(t, s.stop())
	s.resync = ""
	must(t, s.run(t.Context(), s.plane.Plumbline))
	must(t, s.expectLog(t.Context(), "msg", "run"))
}

// dispatched is how many requests of the user plumbline the API server has
// counted, but for those about Leases.
func (s *scenario) dispatched(t *testing.T) (n int) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.plane.Kubeconfig)
	must(t, err)
	client, err := kubernetes.NewForConfig(config)
	must(t, err)
	text, err := client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "apiserver_flowcontrol_dispatched_requests_total{") && strings.Contains(line, `flow_schema="plumbline"`) {
			fields := strings.Fields(line)
			count, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			must(t, err)
			n += int(count)
		}
	}
	if n == 0 {
		t.Fatal("the API server counts no requests of the user plumbline")
	}
	return n
}

func startPlane(t *testing.T, dir string, port int) *lab.Plane {
	t.Helper()
	plane, err := lab.StartPlane(t.Context(), labBinary, lab.PlaneOptions{Dir: dir, Port: port, Nodes: 1})
	must(t, err)
	t.Cleanup(plane.Kill)
	client, err := openCluster(plane.Kubeconfig)
	must(t, err)
	must(t, eventually(t.Context(), func(ctx context.Context) error {
		on, err := client.on("Namespace", "")
		if err != nil {
			return err
		}
		list, err := on.List(ctx, metav1.ListOptions{})
		if err == nil && len(list.Items) == 0 {
			err = errors.New("no namespaces yet")
		}
		return err
	}))
	return plane
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}
