package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	bolt "go.etcd.io/bbolt"
)

// world is a registry on loopback, and a database beside it.
type world struct {
	t        *testing.T
	host     string
	database string
	options  Options

	mu       sync.Mutex
	requests []string
	answer   func(http.ResponseWriter, *http.Request) bool // instead of the registry, if it returns true
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, database: t.TempDir()}
	real := oci.New(oci.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.requests = append(w.requests, r.Method+" "+r.URL.Path)
		answer := w.answer
		w.mu.Unlock()
		if answer == nil || !answer(out, r) {
			real.ServeHTTP(out, r)
		}
	}))
	t.Cleanup(server.Close)
	w.host = strings.TrimPrefix(server.URL, "http://")
	w.options = Options{Database: w.database, CacheDir: t.TempDir(), Platforms: []string{"linux/amd64"}, Insecure: []string{w.host}}
	return w
}

// instead has the registry answer otherwise.
func (w *world) instead(answer func(http.ResponseWriter, *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// seen returns the requests since the last call.
func (w *world) seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.requests
	w.requests = nil
	return seen
}

func (w *world) scanner() *Scanner {
	w.t.Helper()
	s, err := New(w.options)
	must(w.t, err)
	w.t.Cleanup(s.Close)
	return s
}

// look waits for what is known of an image of this registry.
func (w *world) look(s *Scanner, reference string) Report {
	w.t.Helper()
	for range 3 {
		report, wait := s.Look(reference, false)
		if wait == nil {
			return report
		}
		<-wait
	}
	w.t.Fatal("asked three times, and still no answer")
	return Report{}
}

// file is one of an image.
type file struct {
	name, text string
	mode       int64
}

func layer(t *testing.T, files ...file) v1.Layer {
	t.Helper()
	var raw bytes.Buffer
	out := tar.NewWriter(&raw)
	for _, f := range files {
		must(t, out.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: max(f.mode, 0o644), Typeflag: tar.TypeReg}))
		_, err := out.Write([]byte(f.text))
		must(t, err)
	}
	must(t, out.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw.Bytes())), nil })
	must(t, err)
	return l
}

// image makes one for a platform. The first layer is the lowest.
func image(t *testing.T, platform string, layers ...v1.Layer) v1.Image {
	t.Helper()
	p, err := v1.ParsePlatform(platform)
	must(t, err)
	made, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	must(t, err)
	made, err = mutate.AppendLayers(made, layers...)
	must(t, err)
	return made
}

func (w *world) push(at string, what remote.Taggable) string {
	w.t.Helper()
	ref, err := name.ParseReference(w.host+"/"+at, name.Insecure)
	must(w.t, err)
	switch what := what.(type) {
	case v1.Image:
		must(w.t, remote.Write(ref, what))
	case v1.ImageIndex:
		must(w.t, remote.WriteIndex(ref, what))
	}
	return w.host + "/" + at
}

const alpineRelease = "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.22.1\n"

func apkDatabase(packages ...string) string {
	var out strings.Builder
	for _, p := range packages {
		name, version, _ := strings.Cut(p, " ")
		fmt.Fprintf(&out, "C:Q1=\nP:%s\nV:%s\nA:x86_64\no:%s\n\n", name, version, strings.TrimSuffix(name, "-libs"))
	}
	return out.String()
}

func alpine(t *testing.T, packages ...string) v1.Image {
	t.Helper()
	return image(t, "linux/amd64", layer(t, file{name: "etc/os-release", text: alpineRelease}, file{name: "lib/apk/db/installed", text: apkDatabase(packages...)}))
}

// advise makes a small database. Advisories are BUCKET/PACKAGE/ID → the advisory.
func advise(t *testing.T, dir string, advisories map[string]dbtypes.Advisory, known map[string]dbtypes.Vulnerability) {
	t.Helper()
	handle.Lock()
	defer handle.Unlock()
	must(t, db.Init(dir))
	defer func() { must(t, db.Close()) }()
	config := db.Config{}
	must(t, config.BatchUpdate(func(tx *bolt.Tx) error {
		for at, advisory := range advisories {
			parts := strings.SplitN(at, "|", 3)
			if err := config.PutDataSource(tx, parts[0], dbtypes.DataSource{ID: dbtypes.SourceID(strings.Fields(strings.ReplaceAll(parts[0], "::", " "))[0])}); err != nil {
				return err
			}
			must(t, config.PutAdvisoryDetail(tx, parts[2], parts[1], []string{parts[0]}, advisory))
		}
		for id, vulnerability := range known {
			if err := config.PutVulnerability(tx, id, vulnerability); err != nil {
				return err
			}
		}
		return nil
	}))
	// What is collected as details is a database only after Trivy's build has put it in its places.
	must(t, config.BatchUpdate(func(tx *bolt.Tx) error {
		for id := range known {
			if err := config.SaveAdvisoryDetails(tx, id); err != nil {
				return err
			}
		}
		return nil
	}))
}

// someAdvice is about musl and openssl of Alpine, a module of Go, and a package of npm and of PyPI.
func someAdvice(t *testing.T, dir string) {
	t.Helper()
	severe := func(title, severity string) dbtypes.Vulnerability {
		rank, err := dbtypes.NewSeverity(severity)
		must(t, err)
		return dbtypes.Vulnerability{Title: title, VendorSeverity: dbtypes.VendorSeverity{"nvd": rank}}
	}
	advise(t, dir, map[string]dbtypes.Advisory{
		"alpine 3.22|openssl|CVE-2026-0001":                        {FixedVersion: "3.5.4-r0"},
		"alpine 3.22|musl|CVE-2026-0002":                           {FixedVersion: "1.2.5-r11"},
		"debian 12|glibc|CVE-2026-0003":                            {FixedVersion: ""},
		"go::GitHub Security Advisory Go|stdlib|CVE-2026-0004":     {VulnerableVersions: []string{"<99.0.0"}, PatchedVersions: []string{"99.0.0"}},
		"npm::GitHub Security Advisory npm|left-pad|CVE-2026-0005": {VulnerableVersions: []string{"<2.0.0"}, PatchedVersions: []string{"2.0.0"}},
		"pip::GitHub Security Advisory pip|requests|CVE-2026-0006": {VulnerableVersions: []string{"<3.0.0"}, PatchedVersions: []string{"3.0.0"}},
	}, map[string]dbtypes.Vulnerability{
		"CVE-2026-0001": severe("openssl: a handshake reads what it should not", "CRITICAL"),
		"CVE-2026-0002": severe("musl: iconv writes beyond its buffer", "HIGH"),
		"CVE-2026-0003": severe("glibc: something nobody mends", "LOW"),
		"CVE-2026-0004": severe("stdlib: panics", "MEDIUM"),
		"CVE-2026-0005": severe("left-pad: pads right", "LOW"),
		"CVE-2026-0006": severe("requests: follows too far", "HIGH"),
	})
}

// databaseImage is a database as a registry has it.
func databaseImage(t *testing.T, dir string) v1.Image {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "trivy.db"))
	must(t, err)
	content, err := layer(t, file{name: "trivy.db", text: string(data)}, file{name: "metadata.json", text: `{"Version":2}`}).Compressed()
	must(t, err)
	packed, err := io.ReadAll(content)
	must(t, err)
	made, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(packed, "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"))
	must(t, err)
	return made
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
