package secrets_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/secrets"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if running.bao != nil {
		_ = running.bao.Stop()
		_ = os.RemoveAll(running.dir)
	}
	os.Exit(code)
}

// running is the real server that the tests share; each has its mounts to itself.
var running struct {
	once sync.Once
	bao  *lab.OpenBao
	dir  string
	err  error
}

// A server is OpenBao as whoever runs it sees it.
type server struct {
	t         *testing.T
	address   string
	token     string
	namespace string
}

func baoProgram() (string, error) {
	var errs bytes.Buffer
	cmd := exec.Command("../testdata/servers/build.sh", "openbao")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build openbao: %w\n%s", err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}

func startBao(dir string, flags ...string) (*lab.OpenBao, error) {
	program, err := baoProgram()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return lab.StartOpenBao(ctx, program, dir, flags...)
}

// theServer is the one that all tests share.
func theServer(t *testing.T) server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs OpenBao")
	}
	running.once.Do(func() {
		if running.dir, running.err = os.MkdirTemp("", "openbao"); running.err == nil {
			running.bao, running.err = startBao(running.dir)
		}
	})
	if running.err != nil {
		t.Fatal(running.err)
	}
	return server{t: t, address: running.bao.Address, token: running.bao.Token}
}

// ownServer is one that a test may seal and stop.
func ownServer(t *testing.T, flags ...string) (server, *lab.OpenBao) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs OpenBao")
	}
	bao, err := startBao(t.TempDir(), flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bao.Stop() })
	return server{t: t, address: bao.Address, token: bao.Token}, bao
}

// A document is JSON.
type document = map[string]any

// do asks the server, and fails the test where it refuses.
func (s server) do(method, path string, body any) document {
	s.t.Helper()
	status, out := s.try(method, path, body)
	if status >= 300 {
		s.t.Fatalf("%s %s: HTTP %d: %v", method, path, status, out)
	}
	return out
}

func (s server) try(method, path string, body any) (int, document) {
	s.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest(method, s.address+"/v1/"+path, bytes.NewReader(data))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", s.token)
	if s.namespace != "" {
		req.Header.Set("X-Vault-Namespace", s.namespace)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var out document
	_ = json.Unmarshal(data, &out) // nothing, of some
	return resp.StatusCode, out
}

var mounts atomic.Int64

// mount enables an engine at a path of the test's own.
func (s server) mount(kind string, options document) string {
	s.t.Helper()
	path := fmt.Sprintf("%s-%d", kind, mounts.Add(1))
	s.do("POST", "sys/mounts/"+path, document{"type": kind, "options": options})
	return path
}

// kv2 enables KV version 2, and waits until it has upgraded itself.
func (s server) kv2() string {
	s.t.Helper()
	path := s.mount("kv", document{"version": "2"})
	until(s.t, "KV version 2 is ready", func() bool {
		status, _ := s.try("GET", path+"/config", nil)
		return status == http.StatusOK
	})
	return path
}

// until waits for something to be so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tokenFile writes a token where a configuration may name it.
func tokenFile(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, token+"\n")
	return file
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// config is that of a client with a token.
func (s server) config() secrets.BaoConfig {
	s.t.Helper()
	return secrets.BaoConfig{Address: s.address, Namespace: s.namespace, Auth: secrets.BaoAuthConfig{TokenFile: tokenFile(s.t, s.token)}, Retries: -1}
}

func (s server) client() *secrets.Bao {
	s.t.Helper()
	return newBao(s.t, s.config())
}

func newBao(t *testing.T, c secrets.BaoConfig) *secrets.Bao {
	t.Helper()
	b, err := secrets.NewBao(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// secret is a Secret with fields in its stringData.
func secret(name string, stringData map[string]string) secrets.Object {
	data := document{}
	for key, value := range stringData {
		data[key] = value
	}
	return object(document{"apiVersion": "v1", "kind": "Secret", "metadata": document{"name": name, "namespace": "o11y"}, "stringData": data})
}

func object(content document) secrets.Object {
	return secrets.Object{Unstructured: &unstructured.Unstructured{Object: content}, Origin: "app/secret.yaml"}
}

// request asks for all that it names.
func request(objects ...secrets.Object) secrets.Request {
	return secrets.Request{Source: "home", Stack: "grafana", Objects: objects, Allow: []string{"+", "+/*"},
		Redactor: secrets.NewRedactor()}
}

func resolve(t *testing.T, b *secrets.Bao, req secrets.Request) secrets.Resolved {
	t.Helper()
	out, err := secrets.Resolve(t.Context(), b, req)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// field is a string in an object.
func field(t *testing.T, o secrets.Object, path ...string) string {
	t.Helper()
	text, _, err := unstructured.NestedString(o.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// value resolves one reference, in a Secret.
func value(t *testing.T, b *secrets.Bao, reference string) string {
	t.Helper()
	return field(t, resolve(t, b, request(secret("one", map[string]string{"key": reference}))).Objects[0], "stringData", "key")
}

// refused resolves one reference that can't be.
func refused(t *testing.T, b *secrets.Bao, reference string) error {
	t.Helper()
	out, err := secrets.Resolve(t.Context(), b, request(secret("one", map[string]string{"key": reference})))
	if err == nil {
		t.Fatalf("%s gave %v", reference, out.Objects)
	}
	return err
}
