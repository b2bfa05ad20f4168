package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// canaries are plaintexts that can be found again, however they are written.
type canaries struct {
	cores   map[string]string
	missing string // an image that isn't there
}

// value makes a plaintext of its own for a place. What escapes change stands
// around a core that none changes.
func (c *canaries) value(place string) string {
	core := fmt.Sprintf("%016x%08x", rand.Uint64(), rand.Uint32())
	c.cores[place] = core
	return "Cq/" + core + "&<%+"
}

// known makes a secret of somebody else's making a canary.
func (c *canaries) known(place, value string) { c.cores[place] = value }

// in lists the places whose plaintext stands in some text: as it is, in hex, and
// in base64 wherever in that it begins. Looking has nothing of masking's code.
func (c *canaries) in(text []byte) (found []string) {
	for place, core := range c.cores {
		forms := []string{core, hex.EncodeToString([]byte(core)), base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString([]byte("Cq/" + core))))[:24]}
		for shift := range 3 {
			whole := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + core))
			forms = append(forms, whole[4:len(whole)-4])
		}
		for i, form := range forms {
			if bytes.Contains(text, []byte(form)) {
				found = append(found, fmt.Sprintf("%s (form %d)", place, i))
			}
		}
	}
	return found
}

// heard is all that left the process.
type heard struct {
	t        *testing.T
	canaries *canaries
	said     map[string][]byte
	mu       sync.Mutex
	otlp     map[string][]byte // by the path it was sent to
}

func (h *heard) add(where string, text []byte) { h.said[where] = append(h.said[where], text...) }

// found says where a plaintext stands, and what stands before it.
func (h *heard) found() (leaks []string) {
	total := 0
	for where, text := range h.said {
		total += len(text)
		for _, place := range h.canaries.in(text) {
			i := max(0, bytes.Index(text, []byte(h.canaries.cores[strings.Fields(place)[0]])))
			leaks = append(leaks, fmt.Sprintf("%s shows the plaintext of: %s\n…%s", where, place, text[max(0, i-300):i]))
		}
	}
	h.t.Logf("looked for %d plaintexts in %d bytes from %d places", len(h.canaries.cores), total, len(h.said))
	slices.Sort(leaks)
	return leaks
}

// TestCanary drives every feature with plaintexts that can be found again, makes
// every step fail, and then looks for them in all that left the process.
func TestCanary(t *testing.T) {
	for _, leak := range driveCanary(t) {
		t.Error(leak)
	}
}

func driveCanary(t *testing.T) (leaks []string) {
	t.Helper()
	s := start(t, shared)
	c := &canaries{cores: map[string]string{}}
	h := &heard{t: t, canaries: c, said: map[string][]byte{}, otlp: map[string][]byte{}}
	prepareCanary(t, s, c)
	h.collect(s)
	run := func(wantReady string) {
		must(t, s.repos["home"].Write(nil))
		_, err := s.repos["home"].Push("canary " + wantReady)
		must(t, err)
	}

	writeCanary(t, s, c)
	run("first")
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	for _, stack := range []string{"sealed", "refers", "watched"} {
		must(t, s.stillReady(t.Context(), s.stack("home", stack)))
	}
	canaryArrived(t, s, c)
	for stack, reason := range canaryFailures {
		must(t, s.expectReason(t.Context(), "Stack", s.stack("home", stack), reason, ""))
	}
	must(t, s.expectLog(t.Context(), "msg", "finding", "finding", "PLB-0005", "container", "missing"))
	h.page(s)
	h.commands(s, "while it runs")

	t.Log("drift, put right and looked at")
	for _, kind := range []string{"ConfigMap", "Secret"} {
		must(t, s.cluster.patch(t.Context(), kind, s.namespace, "sealed", "{metadata: {labels: {moved: 'yes'}}, data: {password: "+base64.StdEncoding.EncodeToString([]byte(c.value("by-hand-"+kind)))+"}}"))
		must(t, s.cluster.patch(t.Context(), kind, s.namespace, "watched", "{data: {password: "+base64.StdEncoding.EncodeToString([]byte(c.value("watched-by-hand-"+kind)))+"}}"))
	}
	must(t, s.cluster.patch(t.Context(), "Secret", s.namespace, "plain", "{data: {password: "+base64.StdEncoding.EncodeToString([]byte(c.value("plain-by-hand")))+"}}"))
	must(t, s.expectLog(t.Context(), "msg", "drift", "kind", "Secret", "name", "plain"))
	must(t, s.expectLog(t.Context(), "msg", "run", "trigger", "drift"))

	t.Log("rotation, an outage, a refusal, a restart")
	_, err := s.baoCommand(t.Context(), "kv", "put", "secret/app", "password="+c.value("rotated"), "user="+c.value("rotated-user"), "pin=q~7^z")
	must(t, err)
	must(t, s.expectLog(t.Context(), "msg", "run", "trigger", "secrets"))
	s.seals.front.away.Store(true)
	s.seals.front.CloseClientConnections()
	must(t, s.expectLog(t.Context(), "msg", "secrets unavailable"))
	must(t, s.kill(t.Context()))
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	must(t, s.expectLog(t.Context(), "msg", "source moved"))
	s.seals.front.away.Store(false)
	must(t, s.stillReady(t.Context(), s.stack("home", "refers")))
	h.cluster(s)

	t.Log("one that is refused by itself, and so by no dry run")
	must(t, s.repos["home"].Write(map[string]string{"refused/app.yaml": canaryFile(t, s, `{apiVersion: v1, kind: ConfigMap, metadata: {name: refused}, data: {ok: "no", password: "`+c.value("refused-alone")+`"}}`, "--encrypted-regex", "^data$")}))
	run("refused")
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "refused"), "Refused", ""))

	h.page(s)
	t.Log("keys that don't fit, and a token that is none")
	must(t, s.stop())
	must(t, os.WriteFile(filepath.Join(s.dir, "token.txt"), []byte("no token "+c.value("token-file")+"\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(s.dir, "age.txt"), []byte("AGE-SECRET-KEY-1"+c.value("age-file")+"\n"), 0o600))
	must(t, s.run(t.Context(), s.proxy.Kubeconfig))
	must(t, s.expectReason(t.Context(), "Stack", s.stack("home", "sealed"), "RenderFailed", ""))
	h.cluster(s)
	must(t, s.stop())
	h.commands(s, "without keys")
	h.leftovers(s)
	return h.found()
}

// canaryFailures are the stacks that fail, one at each step, and how.
var canaryFailures = map[string]string{
	"gated":    "Denied",       // the gate quotes a sealed image, and looks at a sealed ConfigMap
	"patched":  "RenderFailed", // a sealed patch finds nothing to patch
	"kindless": "RenderFailed", // a sealed document is no object
	"vars":     "RenderFailed", // a sealed value has a ${…} that is none
	"mistyped": "Refused",      // the schema refuses a sealed value
	"type":     "Refused",      // the validation does
	"policy":   "Refused",      // a policy quotes it
	"missing":  "SecretsRefused",
	"denied":   "SecretsRefused",
	"loop":     "SecretsRefused",
	"number":   "SecretsRefused",
	"metadata": "SecretsRefused",
}

func prepareCanary(t *testing.T, s *scenario, c *canaries) {
	t.Helper()
	must(t, s.repo("home", ""))
	must(t, s.ageKey())
	identity, err := os.ReadFile(filepath.Join(s.dir, "age.txt"))
	must(t, err)
	c.known("age-identity", strings.TrimPrefix(strings.TrimSpace(string(identity)), "AGE-SECRET-KEY-1"))
	must(t, s.startBao(context.Background()))
	for _, args := range [][]string{
		{"kv", "put", "secret/app", "password=" + c.value("kv-password"), "user=" + c.value("kv-user"), "pin=q~7^z"},
		{"kv", "put", "secret/other", "password=" + c.value("kv-other")},
		{"kv", "put", "secret/loop", "password=${bao:secret/loop#password} " + c.value("kv-loop")},
		{"secrets", "enable", "transit"},
		{"write", "-f", "transit/keys/sops"},
		{"secrets", "enable", "-version=1", "-path=old", "kv"},
		{"kv", "put", "old/app", "password=" + c.value("kv1-password")},
	} {
		_, err := s.baoCommand(t.Context(), args...)
		must(t, err)
	}
	number := filepath.Join(s.dir, "number.json")
	must(t, os.WriteFile(number, []byte(`{"password": {"nested": "`+c.value("kv-number")+`"}}`), 0o600))
	_, err = s.baoCommand(t.Context(), "kv", "put", "secret/number", "@"+number)
	must(t, err)
	must(t, os.Remove(number))
	token, err := s.baoCommand(t.Context(), "token", "create", "-policy=root", "-field=token", "-period=1h")
	must(t, err)
	c.known("bao-token", strings.TrimSpace(token)[2:])
	canaryRegistry(t, s, c)
	must(t, os.WriteFile(filepath.Join(s.dir, "token.txt"), []byte(strings.TrimSpace(token)), 0o600))
	s.secrets(map[string]any{"openbao": map[string]any{"address": s.seals.front.URL, "auth": map[string]any{"tokenFile": "token.txt"}, "interval": "300ms",
		"allow": map[string]any{s.source("home"): []any{"secret/app", "secret/loop", "secret/number", "secret/missing", "old/*", "transit/decrypt/sops"}}}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.listen = listener.Addr().String()
	must(t, listener.Close())
	s.temp = filepath.Join(s.dir, "tmp")
	must(t, os.Mkdir(s.temp, 0o700))
	must(t, s.cluster.create(t.Context(), "", s.expand(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: canary-$ID}
spec:
  failurePolicy: Fail
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps, secrets]}]}
  validations: [{expression: "!('ok' in object.data) || object.data.ok != 'no'", messageExpression: "'too weak: ' + string(object.data)"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: canary-$ID}
spec: {policyName: canary-$ID, validationActions: [Deny], matchResources: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NS}}}}
`)))
}

// canaryRegistry has the daemon log in to a registry, for an image that isn't there.
func canaryRegistry(t *testing.T, s *scenario, c *canaries) {
	t.Helper()
	registry, credentials := startRegistry(t), base64.StdEncoding.EncodeToString([]byte("me:"+c.value("registry")))
	registry.auth = "Basic " + credentials
	c.known("registry-credentials", credentials[8:40])
	file := filepath.Join(s.dir, "docker.json")
	must(t, os.WriteFile(file, []byte(`{"auths": {"`+registry.host+`": {"auth": "`+credentials+`"}}}`), 0o600))
	s.scan = map[string]any{"images": map[string]any{"insecure": []string{registry.host}, "dockerConfig": file, "database": filepath.Join(s.dir, "gone")}}
	c.value("gated-missing")
	c.missing = registry.host + "/" + c.cores["gated-missing"] + ":1"
}

// canaryFile seals a text for the scenario's key.
func canaryFile(t *testing.T, s *scenario, text string, flags ...string) string {
	t.Helper()
	return canaryNamed(t, s, "x.yaml", text, flags...)
}

func canaryNamed(t *testing.T, s *scenario, name, text string, flags ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(file, []byte(text), 0o600))
	must(t, s.seal(t.Context(), file, flags...))
	sealed, err := os.ReadFile(file)
	must(t, err)
	return string(sealed)
}

// writeCanary writes the stacks: three that work, and one for each failure.
func writeCanary(t *testing.T, s *scenario, c *canaries) {
	t.Helper()
	sealedValue := func(text string) string {
		return canaryFile(t, s, text, "--encrypted-regex", "^(data|stringData|replicas|env)$")
	}
	files := map[string]string{}
	for stack, spec := range map[string]string{"sealed": "", "refers": "secrets: {references: [ConfigMap], restart: true}", "watched": "drift: {mode: detect}", "refused": "", "gated": "",
		"patched": "", "kindless": "", "vars": "vars: {A: b}", "mistyped": "", "type": "", "policy": "", "missing": "", "denied": "", "loop": "", "number": "", "metadata": ""} {
		files[stack+"/stack.yaml"] = "{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: " + stack + "}, spec: {kustomize: {path: .}, " + spec + "}}"
		files[stack+"/kustomization.yaml"] = "resources: [app.yaml]"
	}
	both := func(name string) (secret, config string) {
		return sealedValue("apiVersion: v1\nkind: Secret\nmetadata: {name: " + name + "}\nstringData: {password: \"" + c.value(name+"-secret") + "\", pin: \"q~7^z\"}\n"),
			sealedValue("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {password: \"" + c.value(name+"-configmap") + "\", long: \"" + strings.Repeat("x", 400) + c.value(name+"-long") + "\"}\n")
	}
	files["sealed/secret.yaml"], files["sealed/config.yaml"] = both("sealed")
	files["watched/secret.yaml"], files["watched/config.yaml"] = both("watched")
	files["sealed/kustomization.yaml"] = "resources: [secret.yaml, config.yaml, web.yaml, transit.yaml]\npatches: [{path: patch.yaml}]\ngeneratorOptions: {disableNameSuffixHash: true}\n" +
		"secretGenerator: [{name: generated, envs: [a.env], files: [b.json, c.ini, d.bin, e.pem]}]\nconfigMapGenerator: [{name: generated, envs: [f.env]}]\n"
	files["watched/kustomization.yaml"] = "resources: [secret.yaml, config.yaml, plain.yaml]"
	files["watched/plain.yaml"] = "{apiVersion: v1, kind: Secret, metadata: {name: plain}, stringData: {password: \"" + c.value("plain") + "\"}}" // not sealed, and nobody's business all the same
	files["sealed/a.env"] = canaryNamed(t, s, "a.env", "A="+c.value("env")+"\n")
	files["sealed/f.env"] = canaryNamed(t, s, "f.env", "A="+c.value("env-configmap")+"\nB=q~7^z\n")
	files["sealed/b.json"] = canaryNamed(t, s, "b.json", `{"a": {"b": ["`+c.value("json")+`"]}}`)
	files["sealed/c.ini"] = canaryNamed(t, s, "c.ini", "[a]\nb = "+c.value("ini")+"\n")
	files["sealed/d.bin"] = canaryNamed(t, s, "d.bin", "\x00\xff"+c.value("binary"))
	files["sealed/e.pem"] = canaryNamed(t, s, "e.pem", "-----BEGIN X-----\n"+c.value("line-1")+"\n"+c.value("line-2")+"\n-----END X-----\n")
	files["sealed/transit.yaml"] = canaryFile(t, s, "apiVersion: v1\nkind: Secret\nmetadata: {name: transit}\nstringData: {password: \""+c.value("transit")+"\"}\n", "--encrypted-regex", "^stringData$",
		"--hc-vault-transit", s.seals.front.URL+"/v1/transit/keys/sops")
	files["sealed/web.yaml"] = strings.Replace(webYAML, "$V", "1", 1)
	files["sealed/patch.yaml"] = sealedValue("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, env: [{name: A, value: \"" + c.value("patch") + "\"}]}]}}}\n")
	files["refers/app.yaml"] = `apiVersion: v1
kind: Secret
metadata: {name: refers}
stringData: {password: "${bao:secret/app#password}", pin: "${bao:secret/app#pin}", both: "x ${bao:secret/app#user} ${bao:old/app#password}"}
data: {encoded: ` + base64.StdEncoding.EncodeToString([]byte("${bao:secret/app#user}")) + `}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: refers}, data: {dsn: "db://${bao:secret/app#user}:${bao:secret/app#password}@host"}}
`
	files["refused/app.yaml"] = sealedValue(`{apiVersion: v1, kind: ConfigMap, metadata: {name: refused}, data: {ok: "yes", password: "` + c.value("refused") + `"}}`)
	files["gated/kustomization.yaml"] = "resources: [app.yaml, web.yaml]"
	files["gated/app.yaml"] = sealedValue("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gated}\ndata: {password: \"" + c.value("gated") + "\", env: \"username: " + c.value("gated-user") + "\"}\n")
	files["gated/web.yaml"] = canaryFile(t, s, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: gated}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: web, image: \""+
		c.value("gated-image")+"\"}, {name: long, image: \""+strings.Repeat("x", 180)+c.value("gated-long")+"\"}, {name: missing, image: \""+c.missing+"\"}]}}}\n", "--encrypted-regex", "^image$")
	files["patched/kustomization.yaml"] = "resources: [app.yaml]\npatches: [{path: patch.yaml}]\n"
	files["patched/app.yaml"] = "{apiVersion: v1, kind: ConfigMap, metadata: {name: patched}}"
	files["patched/patch.yaml"] = canaryFile(t, s, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \""+c.value("patched-name")+"\"}\ndata: {a: \""+c.value("patched-value")+"\"}\n")
	files["kindless/app.yaml"] = canaryFile(t, s, "apiVersion: v1\nkund: \""+c.value("kindless")+"\"\n")
	files["vars/app.yaml"] = sealedValue("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: vars}\ndata: {a: b}\nenv: \"${" + c.value("vars") + "}\"\n")
	files["mistyped/app.yaml"] = sealedValue("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: mistyped}\nspec: {replicas: \"" + c.value("mistyped") + "\"}\n")
	files["type/app.yaml"] = sealedValue("apiVersion: v1\nkind: Secret\nmetadata: {name: type}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: \"" + c.value("type") + "\"}\n")
	files["policy/app.yaml"] = sealedValue("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: policy}\ndata: {ok: \"no\", password: \"" + c.value("policy") + "\", pin: \"q~7^z\"}\n")
	for stack, reference := range map[string]string{"missing": "secret/missing#password", "denied": "secret/other#password", "loop": "secret/loop#password", "number": "secret/number#password"} {
		files[stack+"/app.yaml"] = "{apiVersion: v1, kind: Secret, metadata: {name: " + stack + "}, stringData: {a: \"${bao:" + reference + "}\", b: \"${bao:secret/app#password}\"}}"
	}
	files["metadata/app.yaml"] = "{apiVersion: v1, kind: Secret, metadata: {name: metadata, annotations: {a: \"${bao:secret/app#password}\"}}}"
	must(t, s.repos["home"].Write(files))
}

const webYAML = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: $V
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: registry.example.org/web:v1}]}}
`

// canaryArrived makes sure that there is something to leak: the values are in the
// cluster where they belong.
func canaryArrived(t *testing.T, s *scenario, c *canaries) {
	t.Helper()
	var all []byte
	for _, ref := range [][2]string{{"Secret", "sealed"}, {"ConfigMap", "sealed"}, {"Secret", "generated"}, {"ConfigMap", "generated"}, {"Secret", "transit"}, {"Secret", "refers"}, {"ConfigMap", "refers"}, {"Deployment", "web"}} {
		u, err := s.cluster.get(t.Context(), ref[0], s.namespace, ref[1])
		must(t, err)
		for _, field := range []string{"data", "spec"} {
			raw, err := yaml.Marshal(u.Object[field])
			must(t, err)
			all = append(all, raw...)
		}
	}
	found := strings.Join(c.in(all), ", ")
	for _, place := range []string{"sealed-secret", "sealed-configmap", "env", "env-configmap", "json", "ini", "binary", "line-2", "patch", "transit", "kv-password", "kv-user", "kv1-password"} {
		if !strings.Contains(found, place+" ") {
			t.Errorf("the value of %s is not in the cluster, so nothing could leak it", place)
		}
	}
}

// commands runs what a person could.
func (h *heard) commands(s *scenario, when string) {
	h.t.Helper()
	dir, source := s.repos["home"].Dir, s.source("home")
	file, err := s.config("plumbline", s.plane.Plumbline)
	must(h.t, err)
	other := h.t.TempDir()
	must(h.t, os.CopyFS(filepath.Join(other, "old"), os.DirFS(dir)))
	must(h.t, os.WriteFile(filepath.Join(other, "old", "refers", "app.yaml"), []byte("{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}"), 0o600))
	must(h.t, os.RemoveAll(filepath.Join(other, "old", "sealed")))
	for _, args := range [][]string{
		{"render", "--path", dir, "--source", source, "--config", file},
		{"render", "--path", dir},
		{"scan", dir, "--source", source, "--config", file, "--all"}, {"scan", dir, "--source", source, "--config", file, "--images"}, {"scan", dir, "-o", "json"}, {"scan", dir, "--source", source, "-o", "sarif"}, {"scan", dir, "--report"},
		{"plan", "--path", dir, "--source", source, "--config", file},
		{"plan", "--path", dir, "--source", source, "--config", file, "-o", "json"},
		{"plan", "--path", dir, "--source", source, "--config", file, "--against", filepath.Join(other, "old")},
		{"plan", "--path", filepath.Join(other, "old"), "--source", source, "--config", file},
		{"apply", "--path", dir, "--source", source, "--config", file, "--timeout", "20s", "--stack", "sealed"},
		{"drift", "--config", file}, {"drift", "--path", dir, "--source", source, "--config", file, "-o", "json"}, {"drift", "--daemon", "http://" + s.listen, "-o", "json"},
		{"status"}, {"status", "-o", "json"}, {"status", s.stack("home", "policy")}, {"status", s.stack("home", "sealed"), "-o", "yaml"},
		{"reconcile", s.stack("home", "type"), "--timeout", "10s"},
		{"suspend", s.stack("home", "sealed")}, {"resume", s.stack("home", "sealed")}, {"reconcile", "source/" + source, "--timeout", "5s"},
		{"secrets", "check", "--path", dir}, {"secrets", "check", "--path", dir, "-o", "json"},
	} {
		cmd := exec.CommandContext(h.t.Context(), binary, args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+s.plane.Kubeconfig, "TMPDIR="+s.temp, "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "SOPS_AGE_KEY_FILE="+filepath.Join(s.dir, "age.txt"))
		out, err := cmd.CombinedOutput()
		if len(out) == 0 {
			h.t.Errorf("plumbline %s says nothing: %v", strings.Join(args, " "), err)
		}
		h.add("plumbline "+args[0]+" "+when, out)
	}
}

// collect takes what the daemon tells a collector, as it comes over the wire.
func (h *heard) collect(s *scenario) {
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.otlp[r.URL.Path] = append(h.otlp[r.URL.Path], body...)
	}))
	h.t.Cleanup(collector.Close)
	s.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
		"OTEL_METRIC_EXPORT_INTERVAL=1000", "OTEL_BSP_SCHEDULE_DELAY=500", "OTEL_BLRP_SCHEDULE_DELAY=500"}
}

// page asks everything that the daemon serves.
func (h *heard) page(s *scenario) {
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/api/v1/stacks", "/api/v1/stacks/" + s.stack("home", "policy"), "/api/v1/stacks/" + s.stack("home", "sealed"), "/api/v1/drift", "/debug/pprof/", "/debug/vars", "/"} {
		resp, err := http.Get("http://" + s.listen + path)
		must(h.t, err)
		var b bytes.Buffer
		_, err = b.ReadFrom(resp.Body)
		must(h.t, err)
		must(h.t, resp.Body.Close())
		h.add(path, b.Bytes())
	}
}

// cluster reads what was written there, but for the fields in which the values
// belong.
func (h *heard) cluster(s *scenario) {
	for _, resource := range []schema.GroupVersionResource{
		{Group: "plumbline.dev", Version: "v1alpha1", Resource: "stacks"}, {Group: "plumbline.dev", Version: "v1alpha1", Resource: "sources"},
		{Version: "v1", Resource: "events"}, {Group: "events.k8s.io", Version: "v1", Resource: "events"}, {Version: "v1", Resource: "secrets"},
		{Version: "v1", Resource: "configmaps"}, {Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "coordination.k8s.io", Version: "v1", Resource: "leases"},
	} {
		list, err := s.cluster.client.Resource(resource).List(h.t.Context(), metav1.ListOptions{})
		must(h.t, err)
		for _, u := range list.Items {
			switch resource.Resource {
			case "secrets", "configmaps":
				delete(u.Object, "data")
				delete(u.Object, "binaryData")
			case "deployments":
				u.Object["spec"], _, _ = unstructured.NestedMap(u.Object, "spec", "template", "metadata")
			}
			raw, err := yaml.Marshal(u.Object)
			must(h.t, err)
			h.add("the cluster's "+resource.Resource, raw)
		}
	}
}

// leftovers reads the daemon's log, its state directory, and where it may have put
// files.
func (h *heard) leftovers(s *scenario) {
	h.add("the daemon's log", []byte(s.log.String()))
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, signal := range []string{"traces", "metrics", "logs"} { // all was sent when the daemon had stopped
		if len(h.otlp["/v1/"+signal]) == 0 {
			h.t.Errorf("no %s came over OTLP", signal)
		}
		h.add("OTLP "+signal, h.otlp["/v1/"+signal])
	}
	for _, part := range []string{"kind: Stack", "reason: SecretsRefused", "reason: Refused", "reason: RenderFailed", "objects ready, "} {
		if !bytes.Contains(h.said["the cluster's events"], []byte(part)) {
			h.t.Errorf("no Event has %q", part)
		}
	}
	if !bytes.Contains(s.proxy.said, []byte("objects ready, ")) { // in whatever encoding
		h.t.Error("what was written to Events was not seen")
	}
	h.add("what was written to Stacks, Sources and Events", s.proxy.said)
	for _, dir := range []string{filepath.Join(s.dir, "plumbline"), s.temp, filepath.Join(s.dir, "sops")} {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				text, err := os.ReadFile(path)
				must(h.t, err)
				h.add("files below "+filepath.Base(dir), text)
			}
			return nil
		})
	}
}
