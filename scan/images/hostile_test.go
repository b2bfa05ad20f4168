package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	dbtypes "github.com/aquasecurity/trivy-db/pkg/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// TestHostileImages are those that would fill memory or disk.
func TestHostileImages(t *testing.T) {
	long := strings.Repeat("x", nameBytes+1)
	release := file{name: "etc/os-release", text: alpineRelease}
	for name, made := range map[string]v1.Image{
		"the name of a package": image(t, "linux/amd64", layer(t, release, file{name: "lib/apk/db/installed", text: apkDatabase(long + " 1")})),
		"a path":                image(t, "linux/amd64", layer(t, file{name: long})),
		"a layer of nothing but what it takes away": func() v1.Image {
			files := make([]file, hiddenPaths+2)
			for i := range files {
				files[i] = file{name: fmt.Sprintf("d/.wh.%d", i)}
			}
			return image(t, "linux/amd64", layer(t, files...))
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			someAdvice(t, w.database)
			if report := w.look(w.scanner(), w.push("app:1", made)); report.Unknown == "" || len(report.Unknown) > 500 {
				t.Errorf("%+v", report)
			}
		})
	}
	t.Run("a configuration that says to be large", func(t *testing.T) {
		w := newWorld(t)
		w.options.Database = ""
		large, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64", Author: strings.Repeat("x", configBytes)})
		must(t, err)
		app := w.push("app:1", large)
		w.seen()
		if report := w.look(w.scanner(), app); !strings.Contains(report.Unknown, "has a configuration of ") {
			t.Errorf("%+v", report)
		}
		for _, r := range w.seen() {
			if strings.Contains(r, "/blobs/") {
				t.Error("it was asked for all the same")
			}
		}
	})
	t.Run("a program that is mostly holes", func(t *testing.T) {
		if _, err := onDisk(t.TempDir(), io.LimitReader(zeros{}, 2*diskBytes)); err == nil {
			t.Error("the disk takes it")
		}
	})
}

// TestHostileRegistries are those that say something else than they serve.
func TestHostileRegistries(t *testing.T) {
	platform := func(arch string) *v1.Platform { return &v1.Platform{OS: "linux", Architecture: arch} }
	raw := func(t *testing.T, of interface{ RawManifest() ([]byte, error) }) string {
		t.Helper()
		text, err := of.RawManifest()
		must(t, err)
		return string(text)
	}
	for _, test := range []struct {
		name string
		with func(t *testing.T, w *world) // what is at app:1
		want string
	}{
		{"an index in an index", func(t *testing.T, w *world) {
			inner := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: alpine(t), Descriptor: v1.Descriptor{Platform: platform("amd64")}})
			w.push("app:1", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: inner, Descriptor: v1.Descriptor{Platform: platform("amd64")}}))
		}, "which is no image"},
		{"a configuration without a size", func(t *testing.T, w *world) {
			made := alpine(t)
			w.push("app:1", made)
			text := regexp.MustCompile(`("config":\{"mediaType":"[^"]*","size":)\d+`).ReplaceAllString(raw(t, made), "${1}-1")
			w.instead(serves(text, "application/vnd.docker.distribution.manifest.v2+json"))
		}, "has a configuration of -1 bytes"},
		{"an image that is said to be an index", func(t *testing.T, w *world) {
			made := alpine(t)
			w.push("app:1", made)
			w.instead(serves(raw(t, made), "application/vnd.oci.image.index.v1+json"))
		}, "is not of the type that its registry says"},
		{"an index that is said to be an image", func(t *testing.T, w *world) {
			w.instead(serves(raw(t, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: alpine(t)})), "application/vnd.oci.image.manifest.v1+json"))
		}, "is not of the type that its registry says"},
		{"an index of nothing", func(t *testing.T, w *world) {
			w.push("app:1", empty.Index)
		}, "an index without images"},
		{"a manifest of the first schema", func(t *testing.T, w *world) {
			w.instead(serves(`{"schemaVersion":1,"fsLayers":[]}`, "application/vnd.docker.distribution.manifest.v1+prettyjws"))
		}, "ask "},
		{"no registry at all", func(t *testing.T, w *world) {
			w.instead(func(out http.ResponseWriter, r *http.Request) bool { http.NotFound(out, r); return true })
		}, "is no registry now"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			someAdvice(t, w.database)
			test.with(t, w)
			report := w.look(w.scanner(), w.host+"/app:1")
			if !has(report.Unknown, test.want) || report.Missing != "" {
				t.Errorf("missing %q, unknown %q: want %q", report.Missing, report.Unknown, test.want)
			}
			kept, err := filepath.Glob(filepath.Join(w.options.CacheDir, "manifests", "*"))
			if must(t, err); len(kept) > 0 && !strings.Contains(test.name, "index in an index") {
				t.Errorf("kept for others: %v", kept)
			}
		})
	}
}

// serves answers for every manifest with this text.
func serves(text, mediaType string) func(http.ResponseWriter, *http.Request) bool {
	digest, _, _ := v1.SHA256(strings.NewReader(text))
	return func(out http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		out.Header().Set("Content-Type", mediaType)
		out.Header().Set("Docker-Content-Digest", digest.String())
		out.Header().Set("Content-Length", strconv.Itoa(len(text)))
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(out, text)
		}
		return true
	}
}

// TestTwoForAPlatform: a node takes the first.
func TestTwoForAPlatform(t *testing.T) {
	w := newWorld(t)
	someAdvice(t, w.database)
	amd64 := v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}
	app := w.push("app:1", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: alpine(t, "openssl 3.5.1-r0"), Descriptor: amd64},
		mutate.IndexAddendum{Add: alpine(t, "openssl 3.5.4-r0"), Descriptor: amd64}))
	if report := w.look(w.scanner(), app); len(report.Vulnerabilities) != 1 {
		t.Errorf("%+v", report)
	}
}

// TestManyOfOne: each of many packages is of the one that has most advisories.
func TestManyOfOne(t *testing.T) {
	w := newWorld(t)
	advisories, about := map[string]dbtypes.Advisory{}, map[string]dbtypes.Vulnerability{}
	for i := range 100 {
		id := fmt.Sprintf("CVE-2026-%d", i)
		advisories["alpine 3.22|linux|"+id], about[id] = dbtypes.Advisory{FixedVersion: "9"}, dbtypes.Vulnerability{Title: id}
	}
	advise(t, w.database, advisories, about)
	var installed strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&installed, "P:p%d\nV:1-r0\no:linux\n\n", i)
	}
	app := w.push("app:1", image(t, "linux/amd64", layer(t, file{name: "etc/os-release", text: alpineRelease}, file{name: "lib/apk/db/installed", text: installed.String()})))
	if report := w.look(w.scanner(), app); !strings.Contains(report.Unknown, "has more than 10000 vulnerabilities") {
		t.Errorf("%d vulnerabilities, %q", len(report.Vulnerabilities), report.Unknown)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestWhereNot is about where no reference leads: loopback, and plain HTTP.
func TestWhereNot(t *testing.T) {
	w := newWorld(t)
	w.options.Database = ""
	w.push("app:1", alpine(t))
	w.options.Insecure = nil
	var connections atomic.Int64
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = c.Close()
		}
	}()
	at := listener.Addr().String()
	_, port, _ := strings.Cut(at, ":")
	for _, host := range []string{at, "localhost:" + port, "[::ffff:127.0.0.1]:" + port, "169.254.169.254", "0.0.0.0:" + port} {
		report := w.look(w.scanner(), host+"/app:1")
		if !strings.Contains(report.Unknown, "scan.images.insecure") && report.Missing == "" { // a reference can't have every address
			t.Errorf("%s: %+v", host, report)
		}
	}
	if n := connections.Load(); n > 0 {
		t.Errorf("%d connections", n)
	}
	other := newWorld(t) // a registry that sends on to where it may not
	w.options.Insecure = []string{w.host}
	w.instead(func(out http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			http.Redirect(out, r, "http://"+other.host+r.URL.Path+"?token=sesame", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	report := w.look(w.scanner(), w.host+"/app:1")
	if !strings.Contains(report.Unknown, "plain HTTP") || strings.Contains(report.Unknown, "sesame") || len(other.seen()) > 0 {
		t.Errorf("%+v", report)
	}
}

// FuzzLayer reads what may be a layer: it ends with packages or with an error, and doesn't crash.
func FuzzLayer(f *testing.F) {
	for _, files := range [][]file{
		{{name: "etc/os-release", text: alpineRelease}, {name: "lib/apk/db/installed", text: apkDatabase("openssl 3.5.1-r0")}},
		{{name: "var/lib/dpkg/status", text: "Package: a\nVersion: 1\nSource: b (2)\n\n"}, {name: "a/.wh.b"}, {name: "a/.wh..wh..opq"}},
		{{name: "a/node_modules/b/package.json", text: `{"name":"b","version":"1"}`}, {name: "a.dist-info/METADATA", text: "Name: a\nVersion: 1\n"}, {name: "bin/a", text: "\x7fELF" + strings.Repeat("x", goBytes), mode: 0o755}},
	} {
		var raw bytes.Buffer
		out := tar.NewWriter(&raw)
		for _, entry := range files {
			if err := out.WriteHeader(&tar.Header{Name: entry.name, Size: int64(len(entry.text)), Mode: max(entry.mode, 0o644), Typeflag: tar.TypeReg}); err != nil {
				f.Fatal(err)
			}
			if _, err := out.Write([]byte(entry.text)); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(raw.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		plain, stop, err := decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer stop()
		left := int64(16 << 20)
		w := walk{seen: map[string]bool{}, gone: map[string]bool{}, collect: newCollector(t.TempDir())}
		_, _ = w.entries(t.Context(), tar.NewReader(&boundedReader{t.Context(), plain, &left}))
		for _, p := range w.collect.inventory().Packages {
			if p.Name == "" || p.Version == "" || p.Source == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
