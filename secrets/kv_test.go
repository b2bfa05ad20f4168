package secrets_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

func TestKVVersion2(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/team/web", document{"data": document{"password": "first-hunter2", "user": "grafana"}})
	b := s.client()
	reference := "${bao:" + kv + "/team/web#password}"
	if got := value(t, b, reference); got != "first-hunter2" {
		t.Errorf("got %q", got)
	}
	s.do("POST", kv+"/data/team/web", document{"data": document{"password": "second-hunter2"}})
	if got := value(t, b, reference); got != "second-hunter2" {
		t.Errorf("after a rotation: got %q", got)
	}
	out := resolve(t, b, request(secret("one", map[string]string{"key": "${bao:" + kv + "/team/web#password?version=1}"})))
	if got := field(t, out.Objects[0], "stringData", "key"); got != "first-hunter2" {
		t.Errorf("pinned: got %q", got)
	}
	for read, version := range out.Reads {
		want := secrets.Read{Source: "home", Stack: "grafana", Path: kv + "/team/web", Query: "version=1", Keys: "password"}
		if read != want || !strings.HasPrefix(string(version), "v2:1@") {
			t.Errorf("got %+v: %s", read, version)
		}
	}
}

func TestKVVersion1(t *testing.T) {
	s := theServer(t)
	kv := s.mount("kv", document{"version": "1"})
	s.do("POST", kv+"/team/web", document{"password": "hunter2-hunter2", "ttl": "1h"})
	b := s.client()
	if got := value(t, b, "${bao:"+kv+"/team/web#password}"); got != "hunter2-hunter2" {
		t.Errorf("got %q", got)
	}
	if err := refused(t, b, "${bao:"+kv+"/team/web#password?version=1}"); !strings.Contains(err.Error(), "is not in KV version 2") {
		t.Errorf("got %v", err)
	}
	if err := refused(t, b, "${bao:"+kv+"/team/web#password?ttl=1h}"); !strings.Contains(err.Error(), "only certificates") {
		t.Errorf("got %v", err)
	}
}

func TestKVRefusals(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	for range 3 {
		s.do("POST", kv+"/data/web", document{"data": document{"password": "hunter2-hunter2"}})
	}
	s.do("PUT", kv+"/destroy/web", document{"versions": []int{1}})
	s.do("PUT", kv+"/delete/web", document{"versions": []int{2}})
	s.do("POST", kv+"/data/gone", document{"data": document{"password": "hunter2-hunter2"}})
	s.do("DELETE", kv+"/data/gone", nil)
	s.do("POST", kv+"/data/kinds", document{"data": document{
		"number": 47114711, "list": []any{"hunter2-list"}, "object": document{"a": "hunter2-object"}, "true": true, "null": nil, "empty": "",
		"loop": "see ${bao:" + kv + "/web#password}", "nested": "see $${bao:x}"}})
	s.do("POST", kv+"/data/long", document{"data": document{"long": strings.Repeat("hunter2-long", 90000)}})
	s.do("POST", kv+"/data/longest", document{"data": document{"longest": strings.Repeat("x", 1<<20)}})
	s.do("POST", kv+"/data/longer", document{"data": document{"a": strings.Repeat("hunter2-a", 120000), "b": strings.Repeat("hunter2-b", 120000)}})
	b := s.client()
	for name, test := range map[string]struct{ reference, want string }{
		"destroyed":      {"/web#password?version=1", "version 1 of " + kv + "/web was destroyed"},
		"deleted":        {"/web#password?version=2", "version 2 of " + kv + "/web was deleted"},
		"newest deleted": {"/gone#password", "version 1 of " + kv + "/gone was deleted"},
		"no version":     {"/web#password?version=9", "there is no version 9 of " + kv + "/web"},
		"no secret":      {"/none#password", "there is nothing at " + kv + "/none"},
		"with data":      {"/data/web#password", "write it without data/"},
		"no key":         {"/web#user", kv + `/web has no key "user"`},
		"engine":         {"#password", "is the whole of a secrets engine"},
		"parameter":      {"/web#password?ttl=1h", "only certificates"},
		"number":         {"/kinds#number", "is a number, and only text"},
		"list":           {"/kinds#list", "is a list"},
		"object":         {"/kinds#object", "is an object"},
		"boolean":        {"/kinds#true", "is a boolean"},
		"null":           {"/kinds#null", "is null"},
		"empty":          {"/kinds#empty", "is an empty string in OpenBao"},
		"loop":           {"/kinds#loop", "holds a reference itself"},
		"escaped loop":   {"/kinds#nested", "holds a reference itself"},
		"long":           {"/long#long", "has 1080000 bytes, and 1048576 are the most"},
		"longer":         {"/longer#a", "answered with more than 2 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			err := refused(t, b, "${bao:"+kv+test.reference+"}")
			if !strings.Contains(err.Error(), test.want) || secrets.Unavailable(err) {
				t.Errorf("got %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "4711") {
				t.Error("the value is in the error")
			}
		})
	}
	if got := value(t, b, "${bao:"+kv+"/longest#longest}"); len(got) != 1<<20 {
		t.Errorf("the longest value has %d bytes", len(got))
	}
	if err := refused(t, b, "${bao:no-such-engine/web#password}"); !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), "or there is no secrets engine") {
		t.Errorf("no engine: %v", err)
	}
}

// What is below another namespace's auth/ is no secret, however it is reached.
func TestOnlySecretsEngines(t *testing.T) {
	s := theServer(t)
	s.do("POST", "sys/namespaces/only-secrets", nil)
	s.do("POST", "only-secrets/sys/auth/approle", document{"type": "approle"})
	s.do("POST", "only-secrets/auth/approle/role/x", document{})
	b := s.client()
	for _, path := range []string{"only-secrets/auth/token/lookup-self#id", "only-secrets/auth/approle/role/x/role-id#role_id", "only-secrets/sys/mounts#path", "only-secrets/cubbyhole/x#y", "only-secrets/identity/entity#x"} {
		if err := refused(t, b, "${bao:"+path+"}"); !strings.Contains(err.Error(), "is in no secrets engine") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestNamespaces(t *testing.T) {
	s := theServer(t)
	s.do("POST", "sys/namespaces/team-a", nil)
	inner := s
	inner.namespace = "team-a"
	kv := inner.mount("kv", document{"version": "1"})
	inner.do("POST", kv+"/web", document{"password": "hunter2-of-a"})
	if got := value(t, inner.client(), "${bao:"+kv+"/web#password}"); got != "hunter2-of-a" {
		t.Errorf("got %q", got)
	}
	if err := refused(t, s.client(), "${bao:"+kv+"/web#password}"); !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("from outside: %v", err)
	}
	if got := value(t, s.client(), "${bao:team-a/"+kv+"/web#password}"); got != "hunter2-of-a" {
		t.Errorf("by its whole path: %q", got)
	}
}

// An engine that is made anew, as another version, is found out by the first read
// that fails.
func TestEngineMadeAnew(t *testing.T) {
	s := theServer(t)
	kv := s.mount("kv", document{"version": "1"})
	s.do("POST", kv+"/web", document{"password": "hunter2-hunter2"})
	b := s.client()
	value(t, b, "${bao:"+kv+"/web#password}")
	s.do("DELETE", "sys/mounts/"+kv, nil)
	s.do("POST", "sys/mounts/"+kv, document{"type": "kv", "options": document{"version": "2"}})
	until(t, "it can be written to", func() bool {
		status, _ := s.try("POST", kv+"/data/web", document{"data": document{"password": "another-hunter2"}})
		return status == 200
	})
	_ = refused(t, b, "${bao:"+kv+"/web#password}")
	if got := value(t, b, "${bao:"+kv+"/web#password}"); got != "another-hunter2" {
		t.Errorf("got %q", got)
	}
}

// One read for all references to a path, one question about its engine for all
// trips.
func TestRequestsOfATrip(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	data := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		s.do("POST", kv+"/data/"+name, document{"data": document{"user": "user-" + name, "password": "password-" + name}})
		data[name] = "${bao:" + kv + "/" + name + "#user}:${bao:" + kv + "/" + name + "#password}"
	}
	w := watched(t, s)
	b := w.client()
	resolve(t, b, request(secret("one", data), secret("two", data)))
	reads := []string{"GET " + kv + "/data/a", "GET " + kv + "/data/b", "GET " + kv + "/data/c", "GET " + kv + "/data/d", "GET " + kv + "/data/e", "GET " + kv + "/data/f"}
	first := append([]string{"GET auth/token/lookup-self"}, reads...)
	asked := w.since()
	mounts := slices.DeleteFunc(slices.Clone(asked), func(path string) bool { return !strings.HasPrefix(path, "GET sys/internal/ui/mounts/"+kv) })
	if len(mounts) != 1 {
		t.Errorf("asked about the engine with %q", mounts)
	}
	if diff := cmp.Diff(first, slices.DeleteFunc(asked, func(path string) bool { return path == mounts[0] })); diff != "" {
		t.Errorf("the first trip: %s", diff)
	}
	resolve(t, b, request(secret("one", data), secret("two", data)))
	if diff := cmp.Diff(reads, w.since()); diff != "" {
		t.Errorf("the second trip: %s", diff)
	}
}

func TestTransitAnswers(t *testing.T) {
	s := theServer(t)
	transit := s.mount("transit", nil)
	s.do("POST", transit+"/keys/sops", nil)
	s.do("POST", transit+"/keys/other", nil)
	sealed := func(key string) string {
		out := s.do("POST", transit+"/encrypt/"+key, document{"plaintext": "aHVudGVyMi1odW50ZXIy"})
		return out["data"].(document)["ciphertext"].(string)
	}
	b := s.client()
	with := b.Transit([]string{transit + "/decrypt/sops"})
	if with.Address() != s.address {
		t.Errorf("got %s", with.Address())
	}
	got, err := with.Decrypt(t.Context(), transit, "sops", sealed("sops"))
	if err != nil || string(got) != "hunter2-hunter2" {
		t.Errorf("got %q, %v", got, err)
	}
	kv := s.mount("kv", document{"version": "1"})
	w := watched(t, s)
	for name, test := range map[string]struct{ grant, mount, key, ciphertext, want string }{
		"not granted":       {transit + "/decrypt/sops", transit, "other", sealed("other"), "secrets.openbao.allow grants no " + transit + "/decrypt/other"},
		"all of the engine": {transit + "/*", transit, "sops", sealed("sops"), "secrets.openbao.allow grants no " + transit + "/decrypt/sops"},
		"all of all":        {"+/*", transit, "sops", sealed("sops"), "secrets.openbao.allow grants no"},
		"any segment":       {transit + "/+/sops", transit, "sops", sealed("sops"), "secrets.openbao.allow grants no"},
		"elsewhere":         {"decrypt/+/*", "decrypt", "sops", sealed("sops"), "secrets.openbao.allow grants no"},
		"up":                {transit + "/decrypt/sops", transit, "../decrypt/sops", "x", "is no key of the transit engine"},
		"path":              {transit + "/decrypt/sops", transit, "sops/x", "x", "is no key of the transit engine"},
	} {
		if _, err := w.client().Transit([]string{test.grant}).Decrypt(t.Context(), test.mount, test.key, test.ciphertext); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if asked := w.since(); asked != nil {
		t.Errorf("what is not granted was sent: %q", asked)
	}
	_, err = w.client().Transit([]string{"+/decrypt/*"}).Decrypt(t.Context(), kv, "x", "vault:v1:hunter2")
	if err == nil || !strings.Contains(err.Error(), `in an engine of the kind "kv"`) {
		t.Errorf("a path of KV: %v", err)
	}
	for _, asked := range w.since() {
		if !strings.HasPrefix(asked, "GET ") {
			t.Errorf("sent %s", asked)
		}
	}
	if status, _ := s.try("GET", kv+"/decrypt/x", nil); status != 404 {
		t.Errorf("a file has written into KV: HTTP %d", status)
	}
	if _, err := with.Decrypt(t.Context(), transit, "sops", "vault:v1:hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") || secrets.Unavailable(err) {
		t.Errorf("rubbish: %v", err)
	}
}

// A policy for the one path is enough, and an outage stops nothing that was opened
// before. Others have opened nothing.
func TestTransitWhileOpenBaoIsAway(t *testing.T) {
	s := theServer(t)
	transit := s.mount("transit", nil)
	s.do("POST", transit+"/keys/sops", nil)
	encrypt := func() string {
		return s.do("POST", transit+"/encrypt/sops", document{"plaintext": "aHVudGVyMi1odW50ZXIy"})["data"].(document)["ciphertext"].(string)
	}
	opened, never := encrypt(), encrypt()
	w := watched(t, s)
	c := w.config()
	c.Auth.TokenFile = tokenFile(t, s.tokenFor(document{}, `path "`+transit+`/decrypt/sops" { capabilities = ["update"] }`))
	b := newBao(t, c)
	grants := []string{transit + "/decrypt/sops"}
	open := func(grants []string, ciphertext string) (string, error) {
		plain, err := b.Transit(grants).Decrypt(t.Context(), transit, "sops", ciphertext)
		return string(plain), err
	}
	if got, err := open(grants, opened); got != "hunter2-hunter2" {
		t.Fatalf("got %q, %v", got, err)
	}
	if kept := b.Kept(); len(kept) == 0 || bytes.Contains(kept, []byte("hunter2")) || bytes.Contains(kept, []byte("aHVudGVyMi1odW50ZXIy")) {
		t.Error("a data key is not sealed")
	}
	w.cut(true)
	for range 2 {
		if got, err := open(grants, opened); got != "hunter2-hunter2" {
			t.Errorf("what was opened before: %q, %v", got, err)
		}
	}
	if _, err := open(grants, never); !secrets.Unavailable(err) {
		t.Errorf("what was not: %v", err)
	}
	if _, err := open([]string{transit + "/decrypt/*"}, opened); !secrets.Unavailable(err) {
		t.Errorf("others with other grants: %v", err)
	}
	if _, err := open([]string{transit + "/decrypt/other"}, opened); err == nil || secrets.Unavailable(err) {
		t.Errorf("without a grant: %v", err)
	}
	w.cut(false)
	answered(t, b)
	s.do("POST", transit+"/keys/sops/config", document{"deletion_allowed": true})
	s.do("DELETE", transit+"/keys/sops", nil)
	if _, err := open(grants, opened); err == nil || secrets.Unavailable(err) {
		t.Errorf("with a key that is gone: %v", err)
	}
	w.cut(true)
	if _, err := open(grants, opened); !secrets.Unavailable(err) {
		t.Errorf("what was refused in between: %v", err)
	}
}
