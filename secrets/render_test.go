package secrets_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/secrets"
)

// sealedStack has everything sealed that a stack can have: a manifest down to its kind, a patch, what
// generators read, and a component's.
func sealedStack(t *testing.T, to sopsRecipient) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	plain := func(name, text string) { files["app/"+name] = &fstest.MapFile{Data: []byte(text)} }
	sealed := func(name, text string) { plain(name, sealFor(to).seal(t, name, text)) }
	plain("kustomization.yaml", `
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [secret.sops.yaml, deployment.yaml, two.sops.json]
patches: [{path: patch.sops.yaml}]
components: [component]
generatorOptions: {disableNameSuffixHash: true}
secretGenerator:
  - name: env
    envs: [db.sops.env]
  - name: files
    files: [ca.bin, nested=certs/key.pem]
configMapGenerator:
  - name: ini
    files: [grafana.ini]
`)
	plain("deployment.yaml", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  template:
    spec:
      containers: [{name: web, image: web:1}]
`)
	sealed("secret.sops.yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: db\nstringData:\n    password: correct-horse\n    port: \"5432\"\n")
	sealed("two.sops.json", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"two"},"data":{"pass":"Y29ycmVjdC1ob3JzZQ=="}}`)
	sealed("patch.sops.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n    name: web\nspec:\n    replicas: 3\n    template:\n        spec:\n            containers:\n                - name: web\n                  env:\n                    - name: TOKEN\n                      value: tick-tock-token\n")
	sealed("db.sops.env", "PASSWORD=correct=horse\nN=7\n")
	sealed("ca.bin", "\x00binary\xff")
	sealed("certs/key.pem", "-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n")
	sealed("grafana.ini", "[auth]\npassword = correct-horse\n")
	plain("component/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [more.sops.yaml]\n")
	sealed("component/more.sops.yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: more\nstringData:\n    a: correct-horse\n---\napiVersion: v1\nkind: Secret\nmetadata:\n    name: most\nstringData:\n    b: battery-staple\n")
	return files
}

func TestRendersWhatIsSealed(t *testing.T) {
	id, to := ageKey(t)
	all := sealedStack(t, to)
	r := newRedactor()
	files := ours(id).Files(t.Context(), all, r)
	out, err := render.Kustomize(t.Context(), render.Request{FS: files, Stack: "web", File: "app/stack.yaml", Path: "."})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, o := range out.Objects {
		for _, field := range []string{"data", "stringData", "spec"} {
			if value, ok := o.Object[field]; ok {
				got[o.GetKind()+" "+o.GetName()+" "+field] = value
			}
		}
	}
	b64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	want := map[string]any{
		"Secret db stringData":   map[string]any{"password": "correct-horse", "port": "5432"},
		"Secret two data":        map[string]any{"pass": b64("correct-horse")},
		"Secret more stringData": map[string]any{"a": "correct-horse"},
		"Secret most stringData": map[string]any{"b": "battery-staple"},
		"Secret env data":        map[string]any{"PASSWORD": b64("correct=horse"), "N": b64("7")},
		"Secret files data":      map[string]any{"ca.bin": b64("\x00binary\xff"), "nested": b64("-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n")},
		"ConfigMap ini data":     map[string]any{"grafana.ini": "[auth]\npassword = correct-horse\n"},
		"Deployment web spec": map[string]any{"replicas": int64(3), "template": map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"name": "web", "image": "web:1", "env": []any{map[string]any{"name": "TOKEN", "value": "tick-tock-token"}}},
		}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := len(files.Opened()); n != 8 {
		t.Errorf("%d files opened: %v", n, files.Opened())
	}
	for name, hash := range out.Inputs.Files {
		if sealed, err := secrets.Closed(all).Hash(name); err != nil || sealed != hash {
			t.Errorf("%s goes by %s, not by the hash of what Git holds", name, hash)
		}
	}
	if changed, err := out.Inputs.Changed(all); changed != "" || err != nil {
		t.Errorf("%q changed, %v", changed, err)
	}
	shown := r.Text(fmt.Sprint(got))
	for _, value := range []string{"correct-horse", "battery-staple", "tick-tock-token", b64("correct=horse"), b64("correct-horse")} {
		if strings.Contains(shown, value) {
			t.Errorf("%q isn't masked in %s", value, shown)
		}
	}
}

// Whether to try again is asked of the error that render gives.
func TestRenderSaysWhatIsWrongWithASealedFile(t *testing.T) {
	_, to := ageKey(t)
	id, _ := ageKey(t)
	_, err := render.Kustomize(t.Context(), render.Request{FS: ours(id).Files(t.Context(), sealedStack(t, to), newRedactor()), Stack: "web", File: "app/stack.yaml", Path: "."})
	var sealed *secrets.SealedError
	if !errors.As(err, &sealed) || sealed.InputFault() || !strings.Contains(err.Error(), to.Recipient) {
		t.Errorf("got %v", err)
	}
}

// Without keys a stack can be seen, but for the values.
func TestRendersClosed(t *testing.T) {
	_, to := ageKey(t)
	all := fstest.MapFS{
		"kustomization.yaml": {Data: []byte("resources: [secret.yaml]\n")},
		"secret.yaml": {Data: []byte(sealFor(to).with(onlyData).seal(t, "secret.yaml",
			"apiVersion: v1\nkind: Secret\nmetadata:\n    name: db\nstringData:\n    password: correct-horse\n"))},
	}
	out, err := render.Kustomize(t.Context(), render.Request{FS: secrets.Closed(all), Stack: "web", File: "stack.yaml", Path: "."})
	if err != nil || len(out.Objects) != 1 {
		t.Fatalf("%v, %v", out.Objects, err)
	}
	o := out.Objects[0]
	value := fmt.Sprint(o.Object["stringData"])
	if o.GetName() != "db" || !strings.Contains(value, "password:ENC[AES256_GCM,data:") || o.Object["sops"] != nil {
		t.Errorf("got %v", o.Object)
	}
}
