package secrets_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/secrets"
)

// broker is a fake of RabbitMQ's management interface. OpenBao's engine for it
// gives real leases, and makes and deletes users there.
type broker struct {
	mu    sync.Mutex
	users []string
}

func (s server) rabbitmq(ttl string) (path string, b *broker) {
	s.t.Helper()
	b = &broker{}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		user, ok := strings.CutPrefix(r.URL.Path, "/api/users/")
		switch {
		case ok && r.Method == http.MethodPut:
			b.users = append(b.users, user)
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodDelete:
			b.users = slices.DeleteFunc(b.users, func(u string) bool { return u == user })
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodGet:
			_, _ = w.Write([]byte("[]"))
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	s.t.Cleanup(api.Close)
	path = s.mount("rabbitmq", nil)
	s.do("POST", path+"/config/connection", document{"connection_uri": api.URL, "username": "root", "password": "root"})
	s.do("POST", path+"/config/lease", document{"ttl": ttl, "max_ttl": "24h"})
	s.do("POST", path+"/roles/app", document{"tags": "monitoring"})
	return path + "/creds/app", b
}

func (s server) leases(creds string) (ids []string) {
	s.t.Helper()
	status, out := s.try("LIST", "sys/leases/lookup/"+creds, nil)
	if status == http.StatusNotFound {
		return nil
	}
	for _, id := range out["data"].(document)["keys"].([]any) {
		ids = append(ids, creds+"/"+id.(string))
	}
	return ids
}

func TestLeases(t *testing.T) {
	s := theServer(t)
	creds, broker := s.rabbitmq("1h")
	w := watched(t, s)
	b := w.client()
	now := time.Now()
	b.SetNow(func() time.Time { return now })
	request := func(stack string) secrets.Request {
		req := request(secret("db", map[string]string{"login": "${bao:" + creds + "#username}:${bao:" + creds + "#password}"}))
		req.Stack = stack
		return req
	}
	login := func(out secrets.Resolved) string { return field(t, out.Objects[0], "stringData", "login") }

	first := resolve(t, b, request("grafana"))
	user, password, _ := strings.Cut(login(first), ":")
	if !slices.Contains(broker.users, user) || password == "" {
		t.Fatalf("got %q, the broker knows %q", login(first), broker.users)
	}
	if kept := b.Kept(); len(kept) == 0 || bytes.Contains(kept, []byte(user)) || bytes.Contains(kept, []byte(password)) {
		t.Error("credentials are not sealed")
	}
	w.since()
	if got := resolve(t, b, request("grafana")); login(got) != login(first) {
		t.Errorf("the next trip got %q, after %q", login(got), login(first))
	}
	if asked := w.since(); len(asked) > 0 {
		t.Errorf("a trip with a lease that lives asked %q", asked)
	}
	alone := request("grafana")
	alone.Objects = []secrets.Object{secret("db", map[string]string{"key": "${bao:" + creds + "#password}"})}
	if resolve(t, b, alone); !strings.Contains(alone.Redactor.Text(user+password), secrets.Mask) || strings.Contains(alone.Redactor.Text(user), user) {
		t.Error("the name that goes with a password is not known to the redactor")
	}
	if got := login(resolve(t, b, request("loki"))); got == login(first) {
		t.Error("two stacks share a lease")
	}
	w.since()

	fresh := request("grafana")
	fresh.Fresh = true
	if got := resolve(t, b, fresh); login(got) != login(first) {
		t.Errorf("a person got %q, after %q", login(got), login(first))
	}
	if asked := w.since(); !slices.Equal(asked, []string{"PUT sys/leases/lookup"}) {
		t.Errorf("for a person, %q was asked", asked)
	}

	now = now.Add(29 * time.Minute)
	if got := moved(t, b, first.Reads); len(got) > 0 {
		t.Errorf("nothing moved, but %v", got)
	}
	if asked := w.since(); !slices.Equal(asked, []string{"PUT sys/leases/lookup"}) {
		t.Errorf("before half of it was gone, %q was asked", asked)
	}
	now = now.Add(2 * time.Minute)
	if got := moved(t, b, first.Reads); len(got) > 0 {
		t.Errorf("nothing moved, but %v", got)
	}
	if asked := w.since(); !slices.Equal(asked, []string{"PUT sys/leases/renew"}) {
		t.Errorf("after half of it was gone, %q was asked", asked)
	}
	now = now.Add(55 * time.Minute) // longer than it lived without
	if got := resolve(t, b, request("grafana")); login(got) != login(first) {
		t.Errorf("after it was renewed, a trip got %q, after %q", login(got), login(first))
	}
}

func TestLeaseRevoked(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		s := theServer(t)
		creds, broker := s.rabbitmq("1h")
		b := s.client()
		req := request(secret("db", map[string]string{"user": "${bao:" + creds + "#username}"}))
		first := resolve(t, b, req)
		user := field(t, first.Objects[0], "stringData", "user")
		for _, id := range s.leases(creds) {
			s.do("PUT", "sys/leases/revoke", document{"lease_id": id, "sync": true})
		}
		if slices.Contains(broker.users, user) {
			t.Fatal("the broker still knows the user")
		}
		req.Fresh = fresh
		if !fresh {
			if got := moved(t, b, first.Reads)[creds]; got != "its lease was revoked" {
				t.Errorf("got %q", got)
			}
		}
		again := resolve(t, b, req)
		if got := field(t, again.Objects[0], "stringData", "user"); got == user || !slices.Contains(broker.users, got) {
			t.Errorf("fresh %v: after %q was revoked, a trip got %q", fresh, user, got)
		}
		if got := moved(t, b, first.Reads)[creds]; got != "there is a newer lease" {
			t.Errorf("what was read at first: %q", got)
		}
		if got := moved(t, b, again.Reads); len(got) > 0 {
			t.Errorf("what was read then: %v", got)
		}
	}
}

// Credentials end with the token that they were issued under, however long their
// lease.
func TestLeaseDiesWithItsToken(t *testing.T) {
	s := theServer(t)
	creds, _ := s.rabbitmq("10h")
	policy := `path "` + creds + `" { capabilities = ["read"] }`
	c := s.config()
	c.Auth.TokenFile = tokenFile(t, s.tokenFor(document{"ttl": "1h", "renewable": false}, policy))
	b := newBao(t, c)
	now := time.Now()
	b.SetNow(func() time.Time { return now })
	req := request(secret("db", map[string]string{"user": "${bao:" + creds + "#username}"}))
	first := resolve(t, b, req)
	now = now.Add(39 * time.Minute)
	if got := moved(t, b, first.Reads); len(got) > 0 {
		t.Errorf("nothing moved, but %v", got)
	}
	write(t, c.Auth.TokenFile, s.tokenFor(document{"ttl": "100h"}, policy))
	now = now.Add(2 * time.Minute)
	if got := moved(t, b, first.Reads)[creds]; !strings.Contains(got, "nearly over") {
		t.Errorf("got %q", got)
	}
	again := resolve(t, b, req)
	if field(t, again.Objects[0], "stringData", "user") == field(t, first.Objects[0], "stringData", "user") {
		t.Error("the credentials are those of a token that ends")
	}
	now = now.Add(2 * time.Hour)
	if got := moved(t, b, again.Reads); len(got) > 0 {
		t.Errorf("under the new token nothing moved, but %v", got)
	}
}

func TestRevokedTokenTakesItsLeases(t *testing.T) {
	s := theServer(t)
	creds, broker := s.rabbitmq("10h")
	id, secretID := s.appRole("lease-revoked", `path "`+creds+`" { capabilities = ["read"] }`, document{})
	c := s.config()
	c.Auth = secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: tokenFile(t, secretID), Mount: "lease-revoked"}}
	b := newBao(t, c)
	first := resolve(t, b, request(secret("db", map[string]string{"user": "${bao:" + creds + "#username}"})))
	s.do("POST", "sys/leases/revoke-prefix/auth/lease-revoked/login", document{"sync": true})
	until(t, "the broker has lost the user", func() bool {
		broker.mu.Lock()
		defer broker.mu.Unlock()
		return len(broker.users) == 0
	})
	if got := moved(t, b, first.Reads)[creds]; got != "its lease was revoked" && got != "its lease has ended" {
		t.Errorf("got %q", got)
	}
}

// Credentials that are nearly over are good until they are over: without OpenBao,
// a trip gets them.
func TestLeaseNearlyOverAndOpenBaoAway(t *testing.T) {
	s := theServer(t)
	issue := s.pki(document{})
	w := watched(t, s)
	b := w.client()
	now := time.Now()
	b.SetNow(func() time.Time { return now })
	reference := "${bao:" + issue + "#certificate?common_name=grafana.lan&ttl=72h}"
	first := value(t, b, reference)
	w.cut(true)
	now = now.Add(70 * time.Hour)
	if got := value(t, b, reference); got != first {
		t.Error("another certificate out of nowhere")
	}
	now = now.Add(3 * time.Hour)
	if err := refused(t, b, reference); !secrets.Unavailable(err) {
		t.Errorf("after its end: %v", err)
	}
	w.cut(false)
	answered(t, b)
	if got := value(t, b, reference); got == first {
		t.Error("no new certificate")
	}
}

// A lease is not known to another process, and what was read there is read anew.
func TestLeaseOfAnotherProcess(t *testing.T) {
	s := theServer(t)
	creds, _ := s.rabbitmq("1h")
	out := resolve(t, s.client(), request(secret("db", map[string]string{"user": "${bao:" + creds + "#username}"})))
	if got := moved(t, s.client(), out.Reads)[creds]; got != "its lease is not known to this process" {
		t.Errorf("got %q", got)
	}
	b := s.client()
	again := resolve(t, b, request(secret("db", map[string]string{"user": "${bao:" + creds + "#username}"})))
	b.Forget("home", "other")
	if got := moved(t, b, again.Reads); len(got) > 0 {
		t.Errorf("another stack was forgotten, and %v", got)
	}
	b.Forget("home", "grafana")
	if b.KeptCount() > 0 {
		t.Error("something is kept of a stack that was forgotten")
	}
}

func (s server) pki(role document) string {
	s.t.Helper()
	path := s.mount("pki", nil)
	s.do("POST", path+"/root/generate/internal", document{"common_name": "lab", "ttl": "87600h"})
	role["allowed_domains"], role["allow_subdomains"], role["allow_bare_domains"] = "lan", true, true
	role["max_ttl"] = "720h"
	s.do("POST", path+"/roles/web", role)
	return path + "/issue/web"
}

func TestCertificates(t *testing.T) {
	for name, role := range map[string]document{"with a lease": {"generate_lease": true}, "without": {}} {
		t.Run(name, func(t *testing.T) {
			s := theServer(t)
			issue := s.pki(role)
			w := watched(t, s)
			b := w.client()
			now := time.Now()
			b.SetNow(func() time.Time { return now })
			tls2 := func(params, again string) secrets.Object {
				return secret("tls", map[string]string{"tls.crt": "${bao:" + issue + "#certificate?" + params + "}", "tls.key": "${bao:" + issue + "#private_key?" + again + "}"})
			}
			req := request(tls2("common_name=grafana.lan&ttl=72h", "ttl=72h&common_name=grafana.lan"))
			out := resolve(t, b, req)
			certificate, key := field(t, out.Objects[0], "stringData", "tls.crt"), field(t, out.Objects[0], "stringData", "tls.key")
			if _, err := tls.X509KeyPair([]byte(certificate), []byte(key)); err != nil {
				t.Fatalf("certificate and key don't belong together: %v", err)
			}
			block, _ := pem.Decode([]byte(certificate))
			parsed, err := x509.ParseCertificate(block.Bytes)
			if err != nil || parsed.Subject.CommonName != "grafana.lan" || time.Until(parsed.NotAfter).Round(time.Hour) != 72*time.Hour {
				t.Errorf("%v until %v, %v", parsed.Subject, parsed.NotAfter, err)
			}
			if asked := slices.DeleteFunc(w.since(), func(path string) bool {
				return !strings.Contains(path, "/issue/") || strings.HasPrefix(path, "GET sys/")
			}); !slices.Equal(asked, []string{"PUT " + issue}) {
				t.Errorf("asked %q", asked)
			}
			now = now.Add(47 * time.Hour)
			if got := field(t, resolve(t, b, req).Objects[0], "stringData", "tls.crt"); got != certificate {
				t.Error("a new certificate while the old one lived")
			}
			if got := moved(t, b, out.Reads); len(got) > 0 {
				t.Errorf("nothing moved, but %v", got)
			}
			now = now.Add(2 * time.Hour)
			if got := moved(t, b, out.Reads); len(got) != 1 {
				t.Errorf("with two thirds gone, %v moved", got)
			}
			if got := field(t, resolve(t, b, req).Objects[0], "stringData", "tls.crt"); got == certificate {
				t.Error("no new certificate when the old one was nearly over")
			}
			if err := refused(t, b, "${bao:"+issue+"#certificate?common_name=example.org}"); !strings.Contains(err.Error(), "not allowed by this role") || secrets.Unavailable(err) {
				t.Errorf("got %v", err)
			}
			if err := refused(t, b, "${bao:"+issue+"#ca_chain?common_name=grafana.lan}"); !strings.Contains(err.Error(), "no key \"ca_chain\"") && !strings.Contains(err.Error(), "is a list") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Only issue makes something: no other path is ever written to.
func TestNothingElseIsWritten(t *testing.T) {
	s := theServer(t)
	pki := strings.TrimSuffix(s.pki(document{}), "/issue/web")
	w := watched(t, s)
	b := w.client()
	for _, path := range []string{pki + "/root/generate/exported", pki + "/roles/web", pki + "/sign/web", pki + "/issue/web/more"} {
		if err := refused(t, b, "${bao:"+path+"#certificate?common_name=grafana.lan}"); !strings.Contains(err.Error(), "only certificates, at issue/ROLE") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got := value(t, b, "${bao:"+pki+"/cert/ca#certificate}"); !strings.HasPrefix(got, "-----BEGIN CERTIFICATE") {
		t.Errorf("got %q", got)
	}
	for _, asked := range w.since() {
		if !strings.HasPrefix(asked, "GET ") {
			t.Errorf("sent %s", asked)
		}
	}
}
