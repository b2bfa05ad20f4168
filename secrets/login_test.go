package secrets_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/secrets"
)

// stored writes a value that a login may read, and gives its reference and the
// policy for it.
func (s server) stored() (reference, policy string) {
	s.t.Helper()
	kv := s.mount("kv", document{"version": "1"})
	s.do("POST", kv+"/web", document{"password": "hunter2-hunter2"})
	return "${bao:" + kv + "/web#password}", `path "` + kv + `/*" { capabilities = ["read"] }`
}

func TestLogins(t *testing.T) {
	for name, login := range map[string]func(s server, policy string, mount string) (secrets.BaoAuthConfig, string){
		"token": func(s server, policy, _ string) (secrets.BaoAuthConfig, string) {
			file := tokenFile(s.t, s.tokenFor(document{}, policy))
			return secrets.BaoAuthConfig{TokenFile: file}, file
		},
		"token that is given": func(s server, policy, _ string) (secrets.BaoAuthConfig, string) {
			token := s.tokenFor(document{}, policy)
			return secrets.BaoAuthConfig{Token: func() (string, error) { return token, nil }}, ""
		},
		"approle": func(s server, policy, mount string) (secrets.BaoAuthConfig, string) {
			id, secret := s.appRole(mount, policy, document{})
			file := tokenFile(s.t, secret)
			return secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: file, Mount: mount}}, file
		},
		"kubernetes": func(s server, policy, mount string) (secrets.BaoAuthConfig, string) {
			file := tokenFile(s.t, s.kubernetes(mount, policy))
			return secrets.BaoAuthConfig{Kubernetes: &secrets.KubernetesAuthConfig{Role: "plumbline", TokenFile: file, Mount: mount}}, file
		},
		"jwt": func(s server, policy, mount string) (secrets.BaoAuthConfig, string) {
			file := tokenFile(s.t, s.jwt(mount, policy))
			return secrets.BaoAuthConfig{JWT: &secrets.JWTConfig{Role: "plumbline", TokenFile: file, Mount: mount}}, file
		},
		"userpass": func(s server, policy, mount string) (secrets.BaoAuthConfig, string) {
			s.do("POST", "sys/auth/"+mount, document{"type": "userpass"})
			s.do("POST", "auth/"+mount+"/users/plumbline", document{"password": " pass word ", "token_policies": s.withPolicy(document{}, policy)["policies"]})
			file := filepath.Join(s.t.TempDir(), "password")
			write(s.t, file, " pass word \n")
			return secrets.BaoAuthConfig{Userpass: &secrets.UserpassConfig{Username: "plumbline", PasswordFile: file, Mount: mount}}, file
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := theServer(t)
			reference, policy := s.stored()
			c := s.config()
			var file string
			c.Auth, file = login(s, policy, "login-"+strings.ReplaceAll(name, " ", "-"))
			if got := value(t, newBao(t, c), reference); got != "hunter2-hunter2" {
				t.Errorf("got %q", got)
			}
			if file == "" {
				return
			}
			for what, text := range map[string]string{"another": "wrong-hunter2", "two words": "wrong hunter2", "binary": "\x00hunter2\xff", "nothing": "", "long": strings.Repeat("hunter2", 20000)} {
				write(t, file, text)
				err := refused(t, newBao(t, c), reference)
				if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "wrong") {
					t.Errorf("%s: the error says what is in the file: %v", what, err)
				}
				if secrets.Unavailable(err) && what != "another" { // the fake of Kubernetes may be away
					t.Errorf("%s: %v", what, err)
				}
				if !strings.Contains(err.Error(), "log in to openbao: ") {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func (s server) appRole(mount, policy string, role document) (id, secret string) {
	s.t.Helper()
	s.do("POST", "sys/auth/"+mount, document{"type": "approle"})
	role["token_policies"] = s.withPolicy(document{}, policy)["policies"]
	s.do("POST", "auth/"+mount+"/role/plumbline", role)
	id = s.do("GET", "auth/"+mount+"/role/plumbline/role-id", nil)["data"].(document)["role_id"].(string)
	return id, s.do("POST", "auth/"+mount+"/role/plumbline/secret-id", nil)["data"].(document)["secret_id"].(string)
}

// kubernetes enables the method, with a fake of the one endpoint of the API server
// that it asks.
func (s server) kubernetes(mount, policy string) (token string) {
	s.t.Helper()
	token, _ = s.signed(document{"iss": "https://kubernetes.default.svc", "aud": []string{"https://kubernetes.default.svc"},
		"sub": "system:serviceaccount:plumbline-system:plumbline", "iat": time.Now().Unix(), "nbf": time.Now().Unix() - 5, "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": document{"namespace": "plumbline-system", "serviceaccount": document{"name": "plumbline", "uid": "1234"}}})
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var review document
		_ = json.Unmarshal(body, &review)
		good := review["spec"].(document)["token"] == token
		review["status"] = document{"authenticated": good, "audiences": review["spec"].(document)["audiences"]}
		if good {
			review["status"].(document)["user"] = document{"username": "system:serviceaccount:plumbline-system:plumbline", "uid": "1234",
				"groups": []string{"system:serviceaccounts", "system:serviceaccounts:plumbline-system"}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}))
	s.t.Cleanup(api.Close)
	s.do("POST", "sys/auth/"+mount, document{"type": "kubernetes"})
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	s.do("POST", "auth/"+mount+"/config", document{"kubernetes_host": api.URL, "kubernetes_ca_cert": string(ca), "disable_local_ca_jwt": true, "token_reviewer_jwt": "reviewer"})
	s.do("POST", "auth/"+mount+"/role/plumbline", document{"bound_service_account_names": "plumbline", "bound_service_account_namespaces": "plumbline-system",
		"token_policies": s.withPolicy(document{}, policy)["policies"]})
	return token
}

// jwt enables the method with a key of the test's own, and signs a token.
func (s server) jwt(mount, policy string) string {
	s.t.Helper()
	token, public := s.signed(document{"sub": "plumbline", "aud": "openbao", "iat": time.Now().Unix(), "nbf": time.Now().Unix() - 5, "exp": time.Now().Add(time.Hour).Unix()})
	s.do("POST", "sys/auth/"+mount, document{"type": "jwt"})
	s.do("POST", "auth/"+mount+"/config", document{"jwt_validation_pubkeys": []string{public}})
	s.do("POST", "auth/"+mount+"/role/plumbline", document{"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"openbao"},
		"token_policies": s.withPolicy(document{}, policy)["policies"]})
	return token
}

// signed makes a token, and the key that it is checked with.
func (s server) signed(claims document) (token, public string) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		s.t.Fatal(err)
	}
	part := func(claims document) string {
		data, _ := json.Marshal(claims)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := part(document{"alg": "ES256", "typ": "JWT"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// One login for many trips; renewed when a third is left; made anew when it can't be.
func TestSessionIsRenewed(t *testing.T) {
	for name, test := range map[string]struct {
		role document
		want []string
	}{
		"renewable":     {document{"token_ttl": "1h"}, []string{"POST auth/token/renew-self"}},
		"not renewable": {document{"token_ttl": "1h", "token_type": "batch"}, []string{"POST auth/MOUNT/login"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := theServer(t)
			reference, policy := s.stored()
			mount := "renewed-" + strings.ReplaceAll(name, " ", "-")
			id, secret := s.appRole(mount, policy, test.role)
			w := watched(t, s)
			c := w.config()
			c.Auth = secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: tokenFile(t, secret), Mount: mount}}
			b := newBao(t, c)
			now := time.Now()
			b.SetNow(func() time.Time { return now })
			auths := func() []string {
				return slices.DeleteFunc(w.since(), func(path string) bool { return !strings.Contains(path, " auth/") })
			}
			value(t, b, reference)
			if got := auths(); !slices.Equal(got, []string{"POST auth/" + mount + "/login"}) {
				t.Errorf("at first: %q", got)
			}
			now = now.Add(39 * time.Minute)
			value(t, b, reference)
			if got := auths(); len(got) > 0 {
				t.Errorf("with more than a third left: %q", got)
			}
			now = now.Add(2 * time.Minute)
			value(t, b, reference)
			want := []string{strings.ReplaceAll(test.want[0], "MOUNT", mount)}
			if got := auths(); !slices.Equal(got, want) {
				t.Errorf("with a third left: %q, want %q", got, want)
			}
			value(t, b, reference)
			if got := auths(); len(got) > 0 {
				t.Errorf("and then again: %q", got)
			}
		})
	}
}

// A token that is revoked in the middle of a run costs one login.
func TestTokenRevoked(t *testing.T) {
	s := theServer(t)
	reference, policy := s.stored()
	id, secret := s.appRole("revoked", policy, document{})
	w := watched(t, s)
	c := w.config()
	c.Auth = secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: tokenFile(t, secret), Mount: "revoked"}}
	b := newBao(t, c)
	value(t, b, reference)
	s.do("POST", "sys/leases/revoke-prefix/auth/revoked/login", nil)
	w.since()
	if got := value(t, b, reference); got != "hunter2-hunter2" {
		t.Errorf("got %q", got)
	}
	path := strings.TrimPrefix(strings.TrimSuffix(reference, "#password}"), "${bao:")
	if got, want := w.since(), []string{"GET auth/token/lookup-self", "GET auth/token/lookup-self", "GET " + path, "GET " + path, "POST auth/revoked/login"}; !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// Reads that are denied at the same time find out together.
func TestTokenRevokedForMany(t *testing.T) {
	s := theServer(t)
	kv := s.mount("kv", document{"version": "1"})
	data := map[string]string{}
	for _, name := range strings.Split("abcd", "") {
		s.do("POST", kv+"/"+name, document{"password": "hunter2-hunter2"})
		data[name] = "${bao:" + kv + "/" + name + "#password}"
	}
	id, secretID := s.appRole("revoked-for-many", `path "`+kv+`/*" { capabilities = ["read"] }`, document{})
	w := watched(t, s)
	c := w.config()
	c.Auth = secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: tokenFile(t, secretID), Mount: "revoked-for-many"}}
	b := newBao(t, c)
	resolve(t, b, request(secret("one", data)))
	s.do("POST", "sys/leases/revoke-prefix/auth/revoked-for-many/login", nil)
	w.since()
	var all sync.WaitGroup // nobody is answered before all have asked
	all.Add(len(data))
	var reads atomic.Int64
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/"+kv+"/") && reads.Add(1) <= int64(len(data)) {
			all.Done()
			all.Wait()
		}
		return false
	})
	resolve(t, b, request(secret("one", data)))
	if logins := slices.DeleteFunc(w.since(), func(path string) bool { return path != "POST auth/revoked-for-many/login" }); len(logins) != 1 {
		t.Errorf("logged in %d times", len(logins))
	}
}

// A token file is read again when its token has ended; the same token in it is
// not tried for ever.
func TestTokenFileRotates(t *testing.T) {
	s := theServer(t)
	reference, policy := s.stored()
	short := s.tokenFor(document{"ttl": "1s", "renewable": false}, policy)
	w := watched(t, s)
	c := w.config()
	c.Auth.TokenFile = tokenFile(t, short)
	b := newBao(t, c)
	value(t, b, reference)
	until(t, "the token has ended", func() bool {
		ended := s
		ended.token = short
		status, _ := ended.try("GET", "auth/token/lookup-self", nil)
		return status == http.StatusForbidden
	})
	err := refused(t, b, reference)
	if !strings.Contains(err.Error(), "the token in "+c.Auth.TokenFile+" is not valid, or has ended") || strings.Contains(err.Error(), short) || secrets.Unavailable(err) {
		t.Errorf("got %v", err)
	}
	write(t, c.Auth.TokenFile, s.tokenFor(document{"ttl": "1h"}, policy))
	if got := value(t, b, reference); got != "hunter2-hunter2" {
		t.Errorf("got %q", got)
	}
}

// What a policy denies is the reference's to answer for, and costs no login.
func TestDenied(t *testing.T) {
	s := theServer(t)
	reference, policy := s.stored()
	kv := s.kv2()
	s.do("POST", kv+"/data/web", document{"data": document{"password": "hunter2-hunter2"}})
	w := watched(t, s)
	c := w.config()
	c.Auth.TokenFile = tokenFile(t, s.tokenFor(document{}, policy+` path "`+kv+`/metadata/*" { capabilities = ["read"] }`))
	b := newBao(t, c)
	value(t, b, reference)
	w.since()
	err := refused(t, b, "${bao:"+kv+"/web#password}")
	if !strings.Contains(err.Error(), "read "+kv+"/data/web: permission denied") || secrets.Unavailable(err) {
		t.Errorf("got %v", err)
	}
	want := []string{"GET auth/token/lookup-self", "GET " + kv + "/data/web", "GET sys/internal/ui/mounts/" + kv + "/web"}
	if got := w.since(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
}

// A login that fails while the session still lives is no error yet.
func TestLoginFailsWhileSessionLives(t *testing.T) {
	s := theServer(t)
	reference, policy := s.stored()
	id, secret := s.appRole("lives-on", policy, document{"token_ttl": "1h", "token_type": "batch"})
	file := tokenFile(t, secret)
	w := watched(t, s)
	c := w.config()
	c.Auth = secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: file, Mount: "lives-on"}}
	b := newBao(t, c)
	now := time.Now()
	b.SetNow(func() time.Time { return now })
	value(t, b, reference)
	write(t, file, "wrong")
	w.since()
	now = now.Add(50 * time.Minute)
	for range 3 {
		value(t, b, reference)
	}
	if logins := slices.DeleteFunc(w.since(), func(path string) bool { return path != "POST auth/lives-on/login" }); len(logins) != 1 {
		t.Errorf("tried to log in %d times at once", len(logins))
	}
	now = now.Add(11 * time.Minute)
	if err := refused(t, b, reference); !strings.Contains(err.Error(), "log in to openbao: ") || secrets.Unavailable(err) {
		t.Errorf("after its end: %v", err)
	}
	write(t, file, secret)
	value(t, b, reference)
}

// A token whose policies don't even let it look at itself: a denial says nothing
// about it, and neither logins nor leases are made again and again.
func TestWithoutDefaultPolicy(t *testing.T) {
	s := theServer(t)
	creds, broker := s.rabbitmq("1h")
	id, secretID := s.appRole("no-default", `path "`+creds+`" { capabilities = ["read"] }`, document{"token_no_default_policy": true, "token_ttl": "10h"})
	s.do("POST", "auth/no-default/role/plumbline", document{"token_policies": s.withPolicy(document{}, `path "`+creds+`" { capabilities = ["read"] }`)["policies"].([]string)[1:]})
	w := watched(t, s)
	c := w.config()
	c.Auth = secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{RoleID: id, SecretIDFile: tokenFile(t, secretID), Mount: "no-default"}}
	b := newBao(t, c)
	out := resolve(t, b, request(secret("db", map[string]string{"user": "${bao:" + creds + "#username}"})))
	w.since()
	for range 5 {
		if got := moved(t, b, out.Reads); len(got) > 0 {
			t.Errorf("nothing moved, but %v", got)
		}
	}
	if logins := slices.DeleteFunc(w.since(), func(path string) bool { return path != "POST auth/no-default/login" }); len(logins) > 1 {
		t.Errorf("logged in %d times", len(logins))
	}
	if len(broker.users) != 1 {
		t.Errorf("%d users were made", len(broker.users))
	}
}
