package images

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

func TestVulnerabilities(t *testing.T) {
	w := newWorld(t)
	someAdvice(t, w.database)
	debian := file{name: "usr/lib/os-release", text: "ID=debian\nVERSION_ID=\"12\"\n"}
	glibc := "Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9)\nVersion: 2.36-9+b1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
	goVersion := strings.TrimPrefix(runtime.Version(), "go")
	for _, test := range []struct {
		name  string
		image v1.Image
		want  []string
		not   string // looked at
	}{
		{"a package of Alpine", alpine(t, "openssl 3.5.1-r0", "musl 1.2.5-r11"), []string{"CVE-2026-0001 CRITICAL openssl 3.5.1-r0 → 3.5.4-r0 pkg:apk/alpine/openssl@3.5.1-r0?distro=3.22.1"}, ""},
		{"by its source", alpine(t, "musl-libs 1.2.5-r10"), []string{"CVE-2026-0002 HIGH musl-libs 1.2.5-r10 → 1.2.5-r11 pkg:apk/alpine/musl-libs@1.2.5-r10?distro=3.22.1"}, ""},
		{"mended above", image(t, "linux/amd64",
			layer(t, file{name: "etc/os-release", text: alpineRelease}, file{name: "lib/apk/db/installed", text: apkDatabase("openssl 3.5.1-r0")}),
			layer(t, file{name: "lib/apk/db/installed", text: apkDatabase("openssl 3.5.4-r0")})), nil, ""},
		{"taken away above", image(t, "linux/amd64",
			layer(t, file{name: "app/node_modules/left-pad/package.json", text: `{"name":"left-pad","version":"1.3.0"}`}),
			layer(t, file{name: "app/.wh.node_modules"})), nil, ""},
		{"made opaque above", image(t, "linux/amd64",
			layer(t, file{name: "app/node_modules/left-pad/package.json", text: `{"name":"left-pad","version":"1.3.0"}`}),
			layer(t, file{name: "app/.wh..wh..opq"}, file{name: "app/new"})), nil, ""},
		{"a package of npm", image(t, "linux/amd64", layer(t, file{name: "app/node_modules/left-pad/package.json", text: `{"name":"left-pad","version":"1.3.0"}`})),
			[]string{"CVE-2026-0005 LOW left-pad 1.3.0 → 2.0.0 pkg:npm/left-pad@1.3.0 app/node_modules/left-pad/package.json"}, ""},
		{"a package of PyPI", image(t, "linux/amd64", layer(t, file{name: "usr/lib/python3/site-packages/requests-2.0.dist-info/METADATA", text: "Metadata-Version: 2.1\nName: requests\nVersion: 2.0.0\n\nText.\n"})),
			[]string{"CVE-2026-0006 HIGH requests 2.0.0 → 3.0.0 pkg:pypi/requests@2.0.0 usr/lib/python3/site-packages/requests-2.0.dist-info/METADATA"}, ""},
		{"a Go program", image(t, "linux/amd64", layer(t, file{name: "bin/app", text: goProgram(t), mode: 0o755})), []string{"CVE-2026-0004 MEDIUM stdlib v" + goVersion + " → 99.0.0 pkg:golang/stdlib@v" + goVersion + " bin/app"}, ""},
		{"Debian, not mended", image(t, "linux/amd64", layer(t, debian, file{name: "var/lib/dpkg/status", text: glibc})), []string{"CVE-2026-0003 LOW libc6 2.36-9+b1 →  pkg:deb/debian/libc6@2.36-9%2Bb1?distro=debian-12"}, ""},
		{"distroless", image(t, "linux/amd64", layer(t, debian, file{name: "var/lib/dpkg/status.d/libc6", text: "Package: libc6\nSource: glibc\nVersion: 2.36-9\n"})), []string{"CVE-2026-0003 LOW libc6 2.36-9 →  pkg:deb/debian/libc6@2.36-9?distro=debian-12"}, ""},
		{"a release that the database doesn't know", image(t, "linux/amd64", layer(t, file{name: "etc/os-release", text: "ID=alpine\nVERSION_ID=3.99.0\n"}, file{name: "lib/apk/db/installed", text: apkDatabase("openssl 1-r0")})), nil, "alpine 3.99"},
		{"a distribution that nobody knows", image(t, "linux/amd64", layer(t, file{name: "lib/apk/db/installed", text: apkDatabase("openssl 1-r0")})), nil, "apk packages of an unknown distribution"},
		{"rpm", image(t, "linux/amd64", layer(t, file{name: "var/lib/rpm/rpmdb.sqlite", text: "x"})), nil, "rpm packages"},
		{"Java", image(t, "linux/amd64", layer(t, file{name: "opt/app.jar", text: "x"})), nil, "Java archives"},
		{"nothing in it", empty.Image, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.image == empty.Image {
				test.image = image(t, "linux/amd64", layer(t))
			}
			report := w.look(w.scanner(), w.push("made/"+strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(strings.ToLower(test.name))+":1", test.image))
			var got []string
			for _, v := range report.Vulnerabilities {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s → %s %s %s", v.ID, v.Severity, v.Package, v.Version, v.Fixed, v.PURL, v.Path)))
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if report.Missing != "" || (report.Unknown == "") != (test.not == "") || !strings.Contains(report.Unknown, test.not) {
				t.Errorf("missing %q, unknown %q: want %q", report.Missing, report.Unknown, test.not)
			}
		})
	}
}

// goProgram is the one that runs.
func goProgram(t *testing.T) string {
	t.Helper()
	at, err := os.Executable()
	must(t, err)
	data, err := os.ReadFile(at)
	must(t, err)
	return string(data)
}

// TestThere is what is said of images that are there, and of those that are not.
func TestThere(t *testing.T) {
	w := newWorld(t)
	w.options.Database = ""
	amd, arm := image(t, "linux/amd64"), image(t, "linux/arm64/v8")
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: image(t, "linux/amd64", layer(t, file{name: "attestation"})), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	one, both := w.push("one:1", amd), w.push("both:1", index)
	digest, err := amd.Digest()
	must(t, err)
	for _, test := range []struct {
		name, reference string
		platforms       []string
		missing         string
		unknown         string
	}{
		{"one for the platform", one, []string{"linux/amd64"}, "", ""},
		{"of several", both, []string{"linux/amd64", "linux/arm64"}, "", ""},
		{"any variant", both, []string{"linux/arm64"}, "", ""},
		{"another variant", both, []string{"linux/arm64/v7"}, "is not there for linux/arm64/v7, but for linux/amd64, linux/arm64/v8", ""},
		{"not for the platform", one, []string{"linux/arm64"}, "is not there for linux/arm64, but for linux/amd64", ""},
		{"one of the platforms", both, []string{"linux/amd64", "linux/riscv64"}, "is not there for linux/riscv64, but for linux/amd64, linux/arm64/v8", ""},
		{"by digest", w.host + "/one@" + digest.String(), []string{"linux/amd64"}, "", ""},
		{"by tag and digest", w.host + "/one:1@" + digest.String(), []string{"linux/amd64"}, "", ""},
		{"another digest", w.host + "/one@sha256:" + strings.Repeat("0", 64), []string{"linux/amd64"}, w.host + " doesn't have it", ""},
		{"a short digest", w.host + "/one@sha256:abc", []string{"linux/amd64"}, "no registry can have one of that name", ""},
		{"no such tag", w.host + "/one:2", []string{"linux/amd64"}, w.host + " doesn't have it", ""},
		{"no such repository", w.host + "/two:1", []string{"linux/amd64"}, w.host + " doesn't have it", ""},
		{"no such host", "registry.invalid/one:1", []string{"linux/amd64"}, "", "ask registry.invalid: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.options.Platforms = test.platforms
			report := w.look(w.scanner(), test.reference)
			if !strings.HasSuffix(report.Missing, test.missing) || !has(report.Missing, test.missing) || !has(report.Unknown, test.unknown) {
				t.Errorf("missing %q, unknown %q: want %q, %q", report.Missing, report.Unknown, test.missing, test.unknown)
			}
			if (report.Missing+report.Unknown == "") != report.Retry.IsZero() {
				t.Errorf("asked again at %v", report.Retry)
			}
		})
	}
}

func has(got, want string) bool { return (got == "") == (want == "") && strings.Contains(got, want) }

// TestUnknown is about what can't be found out: it is never taken for good.
func TestUnknown(t *testing.T) {
	answers := func(status int, body string) func(*world) {
		return func(w *world) {
			w.instead(func(out http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/manifests/") {
					return false
				}
				out.WriteHeader(status)
				fmt.Fprint(out, body)
				return true
			})
		}
	}
	for _, test := range []struct {
		name string
		with func(*world)
		want string
	}{
		{"access denied", answers(401, `{"errors":[{"code":"UNAUTHORIZED","message":"sesame"}]}`), "denies access: it isn't there, or takes credentials (scan.images.dockerConfig)"},
		{"forbidden", answers(403, "sesame"), "denies access"},
		{"too many requests", answers(429, "sesame"), "too many requests"},
		{"out of order", answers(500, "sesame"), "answers with status 500"},
		{"garbage", answers(200, "{sesame"), "ask "},
		{"no database", func(w *world) { must(w.t, os.Remove(filepath.Join(w.database, "trivy.db"))) }, "no vulnerability database in "},
		{"an empty database", func(w *world) { must(w.t, os.Truncate(filepath.Join(w.database, "trivy.db"), 0)) }, "is empty"},
		{"a database cut short", func(w *world) { must(w.t, os.Truncate(filepath.Join(w.database, "trivy.db"), 8192)) }, "the vulnerability database in "},
		{"garbage for a database", func(w *world) {
			must(w.t, os.WriteFile(filepath.Join(w.database, "trivy.db"), []byte(strings.Repeat("garbage ", 9000)), 0o600))
		}, "can't be opened"},
		{"a bomb", func(w *world) { w.options.maxBytes = 1000 }, "is larger than what is looked at"},
		{"a layer that is another", func(w *world) {
			w.instead(func(out http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
					out.(http.Flusher).Flush() // no length
					fmt.Fprint(out, "not what its digest says")
					return true
				}
				return false
			})
		}, "verifying"},
		{"a registry that is gone", func(w *world) {
			w.options.Platforms = nil
			w.host = "127.0.0.1:1"
			w.options.Insecure = []string{w.host}
		}, "ask 127.0.0.1:1: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			someAdvice(t, w.database)
			w.push("app:1", alpine(t, "openssl 3.5.1-r0"))
			test.with(w)
			report := w.look(w.scanner(), w.host+"/app:1")
			if !has(report.Unknown, test.want) || report.Missing != "" || strings.Contains(report.Unknown, "sesame") {
				t.Errorf("missing %q, unknown %q: want %q", report.Missing, report.Unknown, test.want)
			}
			if len(report.Vulnerabilities) != 0 || report.Retry.IsZero() {
				t.Errorf("%+v", report)
			}
			if _, err := os.Stat(w.database); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCredentials come from a file of Docker's, and are said nowhere.
func TestCredentials(t *testing.T) {
	w := newWorld(t)
	w.options.Database = ""
	w.push("app:1", alpine(t))
	w.instead(func(out http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); ok && user == "me" && password == "sesame" {
			return false
		}
		out.Header().Set("WWW-Authenticate", `Basic realm="here"`)
		out.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if report := w.look(w.scanner(), w.host+"/app:1"); !strings.Contains(report.Unknown, "denies access") {
		t.Errorf("%+v", report)
	}
	w.options.DockerConfig = filepath.Join(t.TempDir(), "config.json")
	must(t, os.WriteFile(w.options.DockerConfig, []byte(`{"credsStore":"does-not-exist","auths":{"`+w.host+`":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("me:sesame"))+`"}}}`), 0o600))
	if report := w.look(w.scanner(), w.host+"/app:1"); report.Missing+report.Unknown != "" {
		t.Errorf("%+v", report)
	}
	must(t, os.WriteFile(w.options.DockerConfig, []byte(`{"auths":{"x":{"auth":"sesame`), 0o600))
	report := w.look(w.scanner(), w.host+"/app:1")
	if !strings.Contains(report.Unknown, "is no configuration of Docker") || strings.Contains(report.Unknown, "sesame") {
		t.Errorf("%+v", report)
	}
}

// TestOnce counts what is asked of a registry.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	someAdvice(t, w.database)
	app := w.push("app:1", alpine(t, "openssl 3.5.1-r0"))
	other := w.push("other:1", alpine(t, "openssl 3.5.1-r0")) // the same, by another name
	w.seen()
	s := w.scanner()
	gets := func() (n int) {
		for _, r := range w.seen() {
			if strings.HasPrefix(r, "GET ") && r != "GET /v2/" {
				n++
			}
		}
		return n
	}
	w.look(s, app)
	if n := gets(); n != 4 { // the manifest, the configuration for its platform, the manifest once more, the layer
		t.Errorf("first: %d requests", n)
	}
	w.look(s, app)
	if seen := w.seen(); len(seen) != 0 {
		t.Errorf("again: %v", seen)
	}
	w.look(s, other)
	if n := gets(); n != 0 {
		t.Errorf("same digest: %d requests", n)
	}
	again := w.scanner() // another process
	if report := w.look(again, app); len(report.Vulnerabilities) != 1 || gets() != 0 {
		t.Errorf("after a restart: %+v", report)
	}
}

// TestNobodyWaits has a registry that doesn't answer, beside one that does.
func TestNobodyWaits(t *testing.T) {
	slow, fast := newWorld(t), newWorld(t)
	release := make(chan struct{})
	slow.instead(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
	fast.options.Database, fast.options.Insecure = "", []string{slow.host, fast.host}
	app := fast.push("app:1", alpine(t))
	s := fast.scanner()
	var waits []<-chan struct{}
	for i := range 50 {
		_, wait := s.Look(fmt.Sprintf("%s/app:%d", slow.host, i), false)
		waits = append(waits, wait)
	}
	if report := fast.look(s, app); report.Missing+report.Unknown != "" {
		t.Errorf("%+v", report)
	}
	for i, wait := range waits {
		select {
		case <-wait:
			t.Fatalf("%d: there is an answer", i)
		default:
		}
	}
	close(release)
	for _, wait := range waits {
		<-wait
	}
}

// TestRetries: what is missing is asked for again, later and later; what was there is asked for again, too.
func TestRetries(t *testing.T) {
	w := newWorld(t)
	w.options.Database = ""
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC).Unix())
	w.options.Now = func() time.Time { return time.Unix(now.Load(), 0) }
	s := w.scanner()
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		report := w.look(s, w.host+"/app:1")
		if got := report.Retry.Sub(w.options.Now()); report.Missing == "" || got != want*time.Minute {
			t.Fatalf("%d: %q, again after %s", i, report.Missing, got)
		}
		now.Add(int64(want * 60))
	}
	w.push("app:1", alpine(t))
	now.Add(-1)
	if report := w.look(s, w.host+"/app:1"); report.Missing == "" {
		t.Errorf("asked before it was time to: %+v", report)
	}
	if _, wait := s.Look(w.host+"/app:1", true); wait == nil {
		t.Error("it was to be asked anew")
	}
	if report := w.look(s, w.host+"/app:1"); report.Missing != "" || !report.Retry.IsZero() {
		t.Errorf("%+v", report)
	}
	w.seen()
	if _, wait := s.Look(w.host+"/app:1", true); wait != nil {
		t.Error("what is there is asked for anew")
	}
	now.Add(int64(tagFor/time.Second) + 1)
	if w.look(s, w.host+"/app:1"); len(w.seen()) == 0 {
		t.Error("a tag is taken for what it was")
	}
}

// TestDatabaseFromRegistry downloads a database, keeps it, and renews it.
func TestDatabaseFromRegistry(t *testing.T) {
	w := newWorld(t)
	someAdvice(t, w.database)
	w.options.Database = "oci://" + w.host + "/db:2"
	app := w.push("app:1", alpine(t, "openssl 3.5.1-r0"))
	if report := w.look(w.scanner(), app); !strings.Contains(report.Unknown, "no vulnerability database: "+w.host+" doesn't have it") {
		t.Errorf("%+v", report)
	}
	w.push("db:2", databaseImage(t, w.database))
	s := w.scanner()
	if report := w.look(s, app); len(report.Vulnerabilities) != 1 || report.Unknown != "" {
		t.Fatalf("%+v", report)
	}
	w.instead(func(out http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/db/") {
			out.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	})
	if report := w.look(w.scanner(), app); len(report.Vulnerabilities) != 1 || report.Unknown != "" { // what an earlier process has left
		t.Errorf("%+v", report)
	}
	w.instead(nil)
	second := t.TempDir()
	someAdvice(t, second)
	advise(t, second, nil, nil)
	content, err := random.Image(1000, 2)
	must(t, err)
	w.push("db:2", content)
	if report := w.look(w.scanner(), app); len(report.Vulnerabilities) != 1 { // what is no database doesn't take its place
		t.Errorf("%+v", report)
	}
	left, err := os.ReadDir(filepath.Join(w.options.CacheDir, "databases"))
	if must(t, err); len(left) != 1 {
		t.Errorf("%d databases are left: %v", len(left), left)
	}
}

// TestDamage: what is kept and can't be read is found out again.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	someAdvice(t, w.database)
	app := w.push("app:1", alpine(t, "openssl 3.5.1-r0"))
	w.look(w.scanner(), app)
	var kept int
	must(t, filepath.WalkDir(w.options.CacheDir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			kept++
			return os.WriteFile(p, []byte(`{"Format": "gar`), 0o600)
		}
		return err
	}))
	if report := w.look(w.scanner(), app); kept != 2 || len(report.Vulnerabilities) != 1 {
		t.Errorf("%d kept, %+v", kept, report)
	}
}

// TestClose ends what is being asked for.
func TestClose(t *testing.T) {
	w := newWorld(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.instead(func(http.ResponseWriter, *http.Request) bool { <-release; return false })
	s := w.scanner()
	_, wait := s.Look(w.host+"/app:1", false)
	s.Close()
	<-wait
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"platform": {Platforms: []string{"arm64"}}, "no reference": {Database: "oci://UPPER", CacheDir: "x"}, "nowhere to keep it": {Database: "oci://ghcr.io/a/b:2"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
