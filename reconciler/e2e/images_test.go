package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/aquasecurity/trivy-db/pkg/db"
	dbtypes "github.com/aquasecurity/trivy-db/pkg/types"
	"github.com/google/go-containerregistry/pkg/name"
	oci "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	bolt "go.etcd.io/bbolt"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// images is a registry on loopback.
type images struct {
	host string

	mu   sync.Mutex
	held map[string]chan struct{} // what of a repository is asked for waits for it
	out  bool                     // of order
	auth string                   // what has to be in the Authorization; "": nothing
}

func startRegistry(t *testing.T) *images {
	t.Helper()
	r := &images{held: map[string]chan struct{}{}}
	real := oci.New(oci.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		auth, out := r.auth, r.out
		held := r.held[strings.Split(strings.TrimPrefix(request.URL.Path, "/v2/"), "/")[0]]
		r.mu.Unlock()
		if held != nil {
			<-held
		}
		if auth != "" && request.Header.Get("Authorization") != auth {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if out {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		real.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *images) hold(repository string) (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held[repository] = held
	return sync.OnceFunc(func() { close(held) })
}

func (r *images) outOfOrder(out bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out = out
}

// push makes an image of Alpine with a version of openssl.
func (r *images) push(t *testing.T, at, version string) {
	t.Helper()
	var raw bytes.Buffer
	files := tar.NewWriter(&raw)
	for name, text := range map[string]string{"etc/os-release": "ID=alpine\nVERSION_ID=3.22.1\n", "lib/apk/db/installed": "P:openssl\nV:" + version + "\no:openssl\n\n"} {
		must(t, files.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644, Typeflag: tar.TypeReg}))
		_, err := files.Write([]byte(text))
		must(t, err)
	}
	must(t, files.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw.Bytes())), nil })
	must(t, err)
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	must(t, err)
	image, err = mutate.AppendLayers(image, layer)
	must(t, err)
	ref, err := name.ParseReference(r.host+"/"+at, name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, image))
}

// vulnerabilities makes a database that knows of one, in openssl before 3.5.4.
func vulnerabilities(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	must(t, db.Init(dir))
	config := db.Config{}
	must(t, config.BatchUpdate(func(tx *bolt.Tx) error {
		must(t, config.PutDataSource(tx, "alpine 3.22", dbtypes.DataSource{ID: "alpine"}))
		must(t, config.PutAdvisoryDetail(tx, "CVE-2026-0001", "openssl", []string{"alpine 3.22"}, dbtypes.Advisory{FixedVersion: "3.5.4-r0"}))
		return config.PutVulnerability(tx, "CVE-2026-0001", dbtypes.Vulnerability{Title: "reads too much", VendorSeverity: dbtypes.VendorSeverity{"nvd": dbtypes.SeverityCritical}})
	}))
	must(t, config.BatchUpdate(func(tx *bolt.Tx) error { return config.SaveAdvisoryDetails(tx, "CVE-2026-0001") }))
	must(t, db.Close())
	return dir
}

// TestImages has the daemon look images up, in a registry that is slow, has nothing yet, has something
// vulnerable, and breaks down.
func TestImages(t *testing.T) {
	t.Parallel()
	ctx, registry := t.Context(), startRegistry(t)
	registry.push(t, "slow:1", "3.5.4-r0")
	registry.push(t, "fast:1", "3.5.4-r0")
	registry.push(t, "fast:2", "3.5.1-r0")
	s := start(t, shared, "home")
	s.scan = map[string]any{"images": map[string]any{"insecure": []string{registry.host}, "database": vulnerabilities(t), "onUnknown": "deny", "platforms": []string{"linux/amd64"}}}
	release := registry.hold("slow")
	defer release()
	must(t, s.run(ctx, s.plane.Plumbline))
	slow, fast := s.stack("home", "slow"), s.stack("home", "fast")

	s.pushImages(t, registry.host+"/slow:1", registry.host+"/fast:1")
	must(t, s.expectReady(ctx, fast)) // it doesn't wait for the other
	must(t, s.expectReason(ctx, "Stack", slow, "Scanning", "looks at 1 images before anything is applied: "+registry.host+"/slow:1"))
	must(t, s.expect(ctx, "Stack", slow, `.status.conditions[?(@.type=="Gated")].status`, "Unknown"))
	_, err := s.cluster.get(ctx, "ConfigMap", s.namespace, "slow")
	must(t, gone(err))
	release()
	must(t, s.expectReady(ctx, slow))
	must(t, s.expect(ctx, "ConfigMap", "slow", ".data.image", registry.host+"/slow:1"))

	s.pushImages(t, registry.host+"/slow:1", registry.host+"/fast:2")
	must(t, s.expectReason(ctx, "Stack", fast, "Denied", "CVE-2026-0001 CRITICAL Deployment.apps "+s.namespace+"/fast container app: openssl 3.5.1-r0: reads too much.*use an image with openssl 3.5.4-r0.*stays applied"))
	must(t, s.expect(ctx, "ConfigMap", "fast", ".data.image", registry.host+"/fast:1"))

	s.pushImages(t, registry.host+"/slow:1", registry.host+"/fast:3")
	must(t, s.expectReason(ctx, "Stack", fast, "Denied", "PLB-0005 CRITICAL .*"+registry.host+" doesn't have it"))
	registry.push(t, "fast:3", "3.5.4-r0")
	must(t, s.cluster.patch(ctx, "Stack", "", fast, "{metadata: {annotations: {"+reconciler.RequestAnnotation+": now}}}"))
	must(t, s.expectReady(ctx, fast))
	must(t, s.expect(ctx, "ConfigMap", "fast", ".data.image", registry.host+"/fast:3"))

	must(t, s.stop())
	registry.outOfOrder(true)
	must(t, s.run(ctx, s.plane.Plumbline))
	must(t, s.cluster.patch(ctx, "ConfigMap", s.namespace, "fast", "{data: {image: edited}}"))
	must(t, s.expect(ctx, "ConfigMap", "fast", ".data.image", registry.host+"/fast:3")) // what is applied stays, and is put right
	must(t, s.expectReason(ctx, "Stack", fast, "Denied", "PLB-0006 CRITICAL .*answers with status 500.*stays applied"))
	must(t, s.cluster.patch(ctx, "ConfigMap", s.namespace, "fast", "{data: {image: again}}"))
	must(t, s.expect(ctx, "ConfigMap", "fast", ".data.image", registry.host+"/fast:3"))
	registry.outOfOrder(false)
	must(t, s.expectReady(ctx, fast)) // a minute later, by itself
}

// pushImages pushes two stacks, each with a Deployment of that image.
func (s *scenario) pushImages(t *testing.T, slow, fast string) {
	t.Helper()
	files := map[string]string{}
	for name, image := range map[string]string{"slow": slow, "fast": fast} {
		files[name+"/stack.yaml"], files[name+"/kustomization.yaml"] = stackFile(name), "resources: [app.yaml]"
		files[name+"/app.yaml"] = "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + "}, data: {image: '" + image + "'}}\n---\n" +
			"{apiVersion: apps/v1, kind: Deployment, metadata: {name: " + name + "}, spec: {replicas: 0, selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: app, image: '" + image + "'}]}}}}\n"
	}
	must(t, s.repos["home"].Write(files))
	_, err := s.repos["home"].Push(slow + " and " + fast)
	must(t, err)
}
