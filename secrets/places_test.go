package secrets_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

func TestPlaces(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/db", document{"data": document{"user": "grafana-user", "password": "hunter2-hunter2", "pin": "4711"}})
	b := s.client()
	encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	user, password := "${bao:"+kv+"/db#user}", "${bao:"+kv+"/db#password}"
	binary := encode("\x00\xff\x01")

	before := object(document{"apiVersion": "v1", "kind": "Secret",
		"metadata": document{"name": "db", "annotations": document{"note": "write $${bao:PATH#KEY}"}},
		"data": document{"whole": encode(password), "within": encode("p=" + password + ";"), "binary": binary, "literal": encode("$${bao:x#y}"), "rubbish": "%%%",
			"folded": "aGVs\nbG8="},
		"stringData": document{"url": "postgres://" + user + ":" + password + "@db", "literal": "$" + password, "plain": "plain"}})
	copied := before.DeepCopy()
	got := resolve(t, b, request(before)).Objects[0]
	want := document{"apiVersion": "v1", "kind": "Secret",
		"metadata": document{"name": "db", "annotations": document{"note": "write ${bao:PATH#KEY}"}},
		"data": document{"whole": encode("hunter2-hunter2"), "within": encode("p=hunter2-hunter2;"), "binary": binary, "literal": encode("${bao:x#y}"), "rubbish": "%%%",
			"folded": "aGVs\nbG8="},
		"stringData": document{"url": "postgres://grafana-user:hunter2-hunter2@db", "literal": password, "plain": "plain"}}
	if diff := cmp.Diff(want, got.Object); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(copied.Object, before.Object); diff != "" {
		t.Errorf("the request's object was changed: %s", diff)
	}
}

func TestOtherKinds(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/db", document{"data": document{"password": "hunter2-hunter2"}})
	reference := "${bao:" + kv + "/db#password}"
	deployment := object(document{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": document{"name": "web", "namespace": "o11y"},
		"spec": document{"args": []any{"run", "--password=" + reference}}})

	_, err := secrets.Resolve(t.Context(), s.client(), request(deployment))
	var wrong *secrets.ReferenceError
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v", err)
	}
	text := `app/secret.yaml: Deployment o11y/web /spec/args/1: ` + reference + `: whoever may read a Deployment would see the value: ` +
		`put it into a Secret, or allow it in stack.yaml by spec.secrets.references: [Deployment.apps]`
	if wrong.Error() != text {
		t.Errorf("got %s", wrong)
	}

	for kinds, allowed := range map[string]bool{"Deployment.apps": true, "Deployment": false, "StatefulSet.apps": false} {
		req := request(deployment)
		req.Kinds = []string{kinds}
		out, err := secrets.Resolve(t.Context(), s.client(), req)
		if (err == nil) != allowed {
			t.Errorf("%s: %v", kinds, err)
		}
		if allowed && !cmp.Equal(out.Objects[0].Object["spec"], any(document{"args": []any{"run", "--password=hunter2-hunter2"}})) {
			t.Errorf("%v", out.Objects[0].Object)
		}
	}
}

func TestMisplaced(t *testing.T) {
	const reference = "${bao:kv/db#password}"
	with := func(kind string, more document) secrets.Object {
		content := document{"apiVersion": "v1", "kind": kind, "metadata": document{"name": "x"}}
		for key, value := range more {
			content[key] = value
		}
		return object(content)
	}
	for name, test := range map[string]struct {
		object secrets.Object
		want   string
	}{
		"annotation":           {with("Secret", document{"metadata": document{"name": "x", "annotations": document{"a/b": reference}}}), "Secret x /metadata/annotations/a~1b: " + reference + ": there are no references in metadata"},
		"label":                {with("Secret", document{"metadata": document{"labels": document{"a": reference}}}), "no references in metadata"},
		"annotation, opted in": {with("ConfigMap", document{"metadata": document{"annotations": document{"a": reference}}}), "no references in metadata"},
		"name of a key":        {with("Secret", document{"stringData": document{reference: "x"}}), "can't be the name of a field"},
		"type of a Secret":     {with("Secret", document{"type": reference}), "stand in stringData or data"},
		"data without base64":  {with("Secret", document{"data": document{"a": reference}}), "holds base64: put the reference into stringData"},
		"binaryData":           {with("ConfigMap", document{"binaryData": document{"a": reference}}), "holds base64"},
		"malformed in data":    {with("Secret", document{"data": document{"a": base64.StdEncoding.EncodeToString([]byte("${bao:kv/db}"))}}), "names no key"},
		"malformed elsewhere":  {with("Service", document{"spec": document{"a": "${bao:kv/db}"}}), "names no key"},
		"status":               {with("ConfigMap", document{"status": reference}), "no references in status"},
		"not configured":       {with("ConfigMap", document{"data": document{"a": reference}}), "secrets.openbao is not configured"},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(test.object)
			req.Kinds = []string{"ConfigMap"}
			_, err := secrets.Resolve(t.Context(), nil, req)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNothingToResolve(t *testing.T) {
	req := request(secret("plain", map[string]string{"a": "${HOME} $${HOME}"}))
	out := resolve(t, nil, req)
	if out.Objects[0].Unstructured != req.Objects[0].Unstructured {
		t.Error("an object without references was copied")
	}
	if len(out.Reads) > 0 || out.Stale != nil || req.Redactor.Opened() {
		t.Errorf("got %+v", out)
	}
}

// All that is wrong with a stack is said at once, in the same order each time.
func TestAllErrorsTogether(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/db", document{"data": document{"password": "hunter2-hunter2", "port": 5432}})
	req := request(
		secret("b", map[string]string{"missing": "${bao:" + kv + "/db#user}", "number": "${bao:" + kv + "/db#port}", "fine": "${bao:" + kv + "/db#password}"}),
		secret("a", map[string]string{"malformed": "${bao:" + kv + "/db}", "denied": "${bao:other/db#password}", "nothing": "${bao:" + kv + "/web#password}"}),
	)
	req.Allow = []string{kv + "/*"}
	b := s.client()
	_, err := secrets.Resolve(t.Context(), b, req)
	var got []string
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		var wrong *secrets.ReferenceError
		if !errors.As(err, &wrong) {
			t.Fatalf("%T", err)
		}
		got = append(got, wrong.Object+wrong.Field)
	}
	want := []string{"Secret o11y/a/stringData/denied", "Secret o11y/a/stringData/malformed", "Secret o11y/a/stringData/nothing",
		"Secret o11y/b/stringData/missing", "Secret o11y/b/stringData/number"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if secrets.Unavailable(err) {
		t.Error("nothing is wrong with OpenBao")
	}
	for range 5 {
		if _, again := secrets.Resolve(t.Context(), b, req); again.Error() != err.Error() {
			t.Errorf("another order: %v", again)
		}
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "5432") {
		t.Error("a value is in the error")
	}
}

func TestRedactorKnowsValues(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/db", document{"data": document{"password": "hunter2-hunter2", "pin": "4711", "other": "not-asked-for"}})
	req := request(secret("db", map[string]string{"password": "${bao:" + kv + "/db#password}", "pin": "${bao:" + kv + "/db#pin}", "login": "me:${bao:" + kv + "/db#pin}"}))
	resolve(t, s.client(), req)
	r := req.Redactor
	if got := r.Text("the hunter2-hunter2 thing"); strings.Contains(got, "hunter2") {
		t.Errorf("got %q", got)
	}
	for key, text := range map[string]string{"pin": "4711", "login": "me:4711"} {
		if !r.Leaf(key, text) || !r.Leaf(key, base64.StdEncoding.EncodeToString([]byte(text))) {
			t.Errorf("%s, %s is not known", key, text)
		}
	}
	if r.Leaf("other", "not-asked-for") {
		t.Error("what no reference names was opened")
	}
}
