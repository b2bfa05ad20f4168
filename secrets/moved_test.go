package secrets_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

// moved asks what would be different, and gives it by path.
func moved(t *testing.T, b *secrets.Bao, reads map[secrets.Read]secrets.Version) map[string]string {
	t.Helper()
	found, err := b.Moved(t.Context(), reads)
	if err != nil {
		t.Fatal(err)
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
	found, err := b.Moved(t.Context(), out.Reads)
	if err == nil || secrets.Unavailable(err) || !strings.Contains(err.Error(), "a policy that grants read "+kv+"/metadata/web tells when it changes") {
		t.Errorf("got %v", err)
	}
	if got := slices.Collect(maps.Values(found)); !slices.Equal(got, []string{"version 2 is new"}) {
		t.Errorf("got %v", found)
	}
}

func TestMovedOfNothing(t *testing.T) {
	var none *secrets.Bao
	for name, b := range map[string]*secrets.Bao{"no client": none, "no reads": newBao(t, nowhere(t))} {
		if got, err := b.Moved(t.Context(), nil); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	found, err := newBao(t, nowhere(t)).Moved(t.Context(), map[secrets.Read]secrets.Version{{Path: "kv/web", Keys: "password"}: "v2:1@"})
	if found != nil || !secrets.Unavailable(err) {
		t.Errorf("away: %v, %v", found, err)
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
