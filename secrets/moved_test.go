package secrets_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

// moved asks what would be different, and gives it by path.
func moved(t *testing.T, b *secrets.Bao, reads map[secrets.Read]secrets.Version) map[string]string {
	t.Helper()
	found, failed := b.Moved(t.Context(), reads)
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	out := map[string]string{}
	for read, why := range found {
		out[strings.TrimSuffix(read.Path+"?"+read.Query, "?")] = why
	}
	return out
}

// A rotation is noticed by metadata, one request for each path, and no value moves.
func TestMovedAsksForMetadata(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	put := func(name string) {
		s.do("POST", kv+"/data/"+name, document{"data": document{"password": "hunter2-" + name, "user": name}})
	}
	put("a")
	put("b")
	put("c")
	w := watched(t, s)
	b := w.client()
	out := resolve(t, b, request(secret("one", map[string]string{
		"a": "${bao:" + kv + "/a#password}", "b": "${bao:" + kv + "/b#password}", "b1": "${bao:" + kv + "/b#password?version=1}", "c1": "${bao:" + kv + "/c#password?version=1}"})))
	w.since()
	if got := moved(t, b, out.Reads); len(got) > 0 {
		t.Errorf("nothing moved, but %v", got)
	}
	want := []string{"GET " + kv + "/metadata/a", "GET " + kv + "/metadata/b", "GET " + kv + "/metadata/c"}
	if diff := cmp.Diff(want, w.since()); diff != "" {
		t.Errorf("asked for: %s", diff)
	}

	put("b")
	put("c")
	s.do("PUT", kv+"/delete/c", document{"versions": []int{1}})
	if diff := cmp.Diff(map[string]string{kv + "/b": "version 2 is new", kv + "/c?version=1": "version 1 was deleted"}, moved(t, b, out.Reads)); diff != "" {
		t.Error(diff)
	}

	s.do("DELETE", kv+"/metadata/a", nil)
	if got := moved(t, b, out.Reads)[kv+"/a"]; got != "it is gone" {
		t.Errorf("deleted with all versions: %q", got)
	}
	until(t, "version 1 of something else is another version 1", func() bool { // OpenBao notes seconds
		s.do("DELETE", kv+"/metadata/a", nil)
		put("a")
		return moved(t, b, out.Reads)[kv+"/a"] == "version 1 is new"
	})
	if asked := slices.DeleteFunc(w.since(), func(path string) bool { return strings.Contains(path, "/metadata/") }); len(asked) > 0 {
		t.Errorf("asked for more than metadata: %q", asked)
	}
}

// KV version 1 has no metadata. What counts there are the keys that references name.
func TestMovedWithoutVersions(t *testing.T) {
	s := theServer(t)
	kv := s.mount("kv", document{"version": "1"})
	s.do("POST", kv+"/web", document{"password": "hunter2-hunter2", "comment": "old"})
	b := s.client()
	out := resolve(t, b, request(secret("one", map[string]string{"key": "${bao:" + kv + "/web#password}"})))
	for _, version := range out.Reads {
		if strings.Contains(string(version), "hunter2") {
			t.Errorf("got %s", version)
		}
	}
	s.do("POST", kv+"/web", document{"password": "hunter2-hunter2", "comment": "new"})
	if got := moved(t, b, out.Reads); len(got) > 0 {
		t.Errorf("nothing that is referred to moved, but %v", got)
	}
	s.do("POST", kv+"/web", document{"password": "another-hunter2", "comment": "new"})
	if diff := cmp.Diff(map[string]string{kv + "/web": "it has other values"}, moved(t, b, out.Reads)); diff != "" {
		t.Error(diff)
	}
	if got := moved(t, s.client(), out.Reads); len(got) != 1 {
		t.Errorf("hashes of another key are the same: %v", got)
	}
	s.do("DELETE", kv+"/web", nil)
	if got := moved(t, b, out.Reads)[kv+"/web"]; !strings.Contains(got, "there is nothing at") {
		t.Errorf("deleted: %q", got)
	}
}

func TestHashesMayOutliveTheProcess(t *testing.T) {
	s := theServer(t)
	kv := s.mount("kv", document{"version": "1"})
	s.do("POST", kv+"/web", document{"password": "hunter2-hunter2"})
	c := s.config()
	c.Hashes = secrets.NewHashKey()
	out := resolve(t, newBao(t, c), request(secret("one", map[string]string{"key": "${bao:" + kv + "/web#password}"})))
	if got := moved(t, newBao(t, c), out.Reads); len(got) > 0 {
		t.Errorf("got %v", got)
	}
}

// A policy for values alone lets nobody see that they change. That is said, and
// the rest is known.
func TestMovedWithoutMetadata(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/web", document{"data": document{"password": "hunter2-hunter2"}})
	s.do("POST", kv+"/data/db", document{"data": document{"password": "hunter2-hunter2"}})
	c := s.config()
	c.Auth.TokenFile = tokenFile(t, s.tokenFor(document{}, `path "`+kv+`/data/*" { capabilities = ["read"] } path "`+kv+`/metadata/db" { capabilities = ["read"] }`))
	b := newBao(t, c)
	out := resolve(t, b, request(secret("one", map[string]string{"a": "${bao:" + kv + "/web#password}", "b": "${bao:" + kv + "/db#password}"})))
	s.do("POST", kv+"/data/db", document{"data": document{"password": "another-hunter2"}})
	found, failed := b.Moved(t.Context(), out.Reads)
	err := failed[secrets.Read{Source: "home", Stack: "grafana", Path: kv + "/web", Keys: "password"}]
	if len(failed) != 1 || err == nil || secrets.Unavailable(err) || !strings.Contains(err.Error(), "a policy that grants read "+kv+"/metadata/web tells when it changes") {
		t.Errorf("got %v", err)
	}
	if got := slices.Collect(maps.Values(found)); !slices.Equal(got, []string{"version 2 is new"}) {
		t.Errorf("got %v", found)
	}
}

func TestMovedOfNothing(t *testing.T) {
	var none *secrets.Bao
	for name, b := range map[string]*secrets.Bao{"no client": none, "no reads": newBao(t, nowhere(t))} {
		if got, failed := b.Moved(t.Context(), nil); got != nil || failed != nil {
			t.Errorf("%s: %v, %v", name, got, failed)
		}
	}
}

// Where nobody answers, nothing is known of any read, whatever is known of its kind.
func TestMovedWhereNobodyAnswers(t *testing.T) {
	reads := map[secrets.Read]secrets.Version{{Path: "kv/a"}: "v2:1@", {Path: "kv/b"}: "hash:1", {Path: "db/creds/a"}: "lease:1", {Path: "kv/c"}: ""}
	noLogin := nowhere(t)
	noLogin.Auth.TokenFile = "/nonexistent"
	for name, test := range map[string]struct {
		config secrets.BaoConfig
		away   bool
	}{"away": {nowhere(t), true}, "no login": {noLogin, false}} {
		b := newBao(t, test.config)
		for range 2 { // the second time, the breaker is open
			found, failed := b.Moved(t.Context(), reads)
			if len(found) > 0 || len(failed) != len(reads) {
				t.Errorf("%s: %v, %v", name, found, failed)
			}
			for read, err := range failed {
				if secrets.Unavailable(err) != test.away {
					t.Errorf("%s: %s: %v", name, read.Path, err)
				}
			}
		}
	}
}

// One engine that is broken says nothing about others, and neither does its error
// name what others read.
func TestMovedWithOneEngineBroken(t *testing.T) {
	_, c := faking(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1/kv/broken") {
			text(500, "application/json", `{"errors":["internal error"]}`)(w, r)
			return
		}
		text(200, "application/json", `{"data":{"password":"hunter2-hunter2"}}`)(w, r)
	})
	reads := map[secrets.Read]secrets.Version{}
	for _, name := range []string{"fine", "broken-a", "broken-b", "unknown"} {
		reads[secrets.Read{Source: name, Stack: name, Path: "kv/" + name, Keys: "password"}] = "hash:1"
	}
	reads[secrets.Read{Source: "unknown", Stack: "unknown", Path: "kv/unknown", Keys: "password"}] = ""
	found, failed := newBao(t, c).Moved(t.Context(), reads)
	why := map[string]string{}
	for read, text := range found {
		why[read.Path] = text
	}
	if diff := cmp.Diff(map[string]string{"kv/fine": "it has other values", "kv/unknown": "its version is not known here"}, why); diff != "" {
		t.Error(diff)
	}
	said := map[string]string{}
	for read, err := range failed {
		said[read.Path] = err.Error()
	}
	want := map[string]string{"kv/broken-a": "openbao: read kv/broken-a: HTTP 500: internal error", "kv/broken-b": "openbao: read kv/broken-b: HTTP 500: internal error"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

func TestMovedSurvivesAPanic(t *testing.T) {
	c := nowhere(t)
	c.Auth = secrets.BaoAuthConfig{Token: func() (string, error) { panic("hunter2") }}
	read := secrets.Read{Path: "kv/a"}
	for _, version := range []secrets.Version{"v2:1@", "hash:1", "lease:1", ""} {
		_, failed := newBao(t, c).Moved(t.Context(), map[secrets.Read]secrets.Version{read: version})
		if err := failed[read]; err == nil || !strings.Contains(err.Error(), "panicked") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", version, err)
		}
	}
	if err := refused(t, newBao(t, c), "${bao:kv/a#password}"); !strings.Contains(err.Error(), "panicked") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a trip: %v", err)
	}
}

// tokenFor makes a token with a policy of its own, beside default.
func (s server) tokenFor(options document, policy string) string {
	s.t.Helper()
	out := s.do("POST", "auth/token/create", s.withPolicy(options, policy))
	return out["auth"].(document)["client_token"].(string)
}

// withPolicy writes a policy, and names it among options.
func (s server) withPolicy(options document, policy string) document {
	s.t.Helper()
	name := "p" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(s.t.Name()))
	s.do("PUT", "sys/policies/acl/"+name, document{"policy": policy})
	out := maps.Clone(options)
	out["policies"] = []string{"default", name}
	return out
}
