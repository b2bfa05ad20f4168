package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// projectedToken is where Kubernetes puts the token of a pod's service account.
const projectedToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

const largestCredential = 64 << 10

var lookSelf = call{method: http.MethodGet, path: "auth/token/lookup-self"}

// patience is how long nothing new is tried with a session that nears its end.
const patience = 5 * time.Second

func (a BaoAuthConfig) validate() (errs []error) {
	methods := 0
	for _, set := range []bool{a.TokenFile != "", a.Token != nil, a.AppRole != nil, a.Kubernetes != nil, a.JWT != nil, a.Userpass != nil} {
		if set {
			methods++
		}
	}
	if methods != 1 {
		return []error{errors.New("auth: must be exactly one of tokenFile, tokenEnv, appRole, kubernetes, jwt and userpass")}
	}
	need := func(field, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("auth.%s: is missing", field))
		}
	}
	path := func(field, value string) {
		if value != "" && checkSegments(strings.Trim(value, "/")) != nil {
			errs = append(errs, fmt.Errorf("auth.%s: %q is no path", field, value))
		}
	}
	switch {
	case a.AppRole != nil:
		need("appRole.roleID", a.AppRole.RoleID)
		need("appRole.secretIDFile", a.AppRole.SecretIDFile)
		path("appRole.mount", a.AppRole.Mount)
	case a.Kubernetes != nil:
		need("kubernetes.role", a.Kubernetes.Role)
		path("kubernetes.mount", a.Kubernetes.Mount)
	case a.JWT != nil:
		need("jwt.role", a.JWT.Role)
		need("jwt.tokenFile", a.JWT.TokenFile)
		path("jwt.mount", a.JWT.Mount)
	case a.Userpass != nil:
		need("userpass.username", a.Userpass.Username)
		path("userpass.username", a.Userpass.Username)
		need("userpass.passwordFile", a.Userpass.PasswordFile)
		path("userpass.mount", a.Userpass.Mount)
	}
	return errs
}

// request is what to send to log in.
func (a BaoAuthConfig) request() (call, error) {
	switch {
	case a.AppRole != nil:
		secret, err := credential(a.AppRole.SecretIDFile, true)
		return loginCall(a.AppRole.Mount, "approle", "", secret, map[string]any{"role_id": a.AppRole.RoleID, "secret_id": secret}), err
	case a.Kubernetes != nil:
		file := a.Kubernetes.TokenFile
		if file == "" {
			file = projectedToken
		}
		token, err := credential(file, true)
		return loginCall(a.Kubernetes.Mount, "kubernetes", "", token, map[string]any{"role": a.Kubernetes.Role, "jwt": token}), err
	case a.JWT != nil:
		token, err := credential(a.JWT.TokenFile, true)
		return loginCall(a.JWT.Mount, "jwt", "", token, map[string]any{"role": a.JWT.Role, "jwt": token}), err
	default:
		password, err := credential(a.Userpass.PasswordFile, false)
		return loginCall(a.Userpass.Mount, "userpass", "/"+a.Userpass.Username, password, map[string]any{"password": password}), err
	}
}

func loginCall(mount, fallback, name, secret string, body map[string]any) call {
	if mount = strings.Trim(mount, "/"); mount == "" {
		mount = fallback
	}
	return call{method: http.MethodPost, path: "auth/" + mount + "/login" + name, body: body, hide: []string{secret}}
}

// credential reads a file that holds one, and quotes none of it. A word is
// printable and without spaces, as all tokens are.
func credential(file string, word bool) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, largestCredential+1))
	defer clear(data)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	text := bytes.TrimRight(data, "\r\n")
	if word {
		text = bytes.TrimSpace(data)
	}
	switch {
	case len(data) > largestCredential:
		return "", fmt.Errorf("%s is longer than %d KiB, and so no credential", file, largestCredential>>10)
	case len(text) == 0:
		return "", fmt.Errorf("%s is empty", file)
	case word && bytes.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s holds something else than one token", file)
	}
	return string(text), nil
}

// session is a login: a token and how long it lives.
type session struct {
	token string

	mu        sync.Mutex
	ttl       time.Duration // from its beginning, or its last renewal; 0: it doesn't end
	expires   time.Time
	renewable bool
	ending    bool      // it can't be made longer
	patient   time.Time // until then, nothing new is tried
}

// due is true when a third of it is left, or less.
func (s *session) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl > 0 && now.Add(s.ttl/3).After(s.expires) && !now.Before(s.patient)
}

func (s *session) alive(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl == 0 || now.Before(s.expires)
}

func (s *session) canRenew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewable && !s.ending
}

// lasting says when what was issued under the session ends with it, at the
// latest; the zero time: not while it is renewed.
func (s *session) lasting() (end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ttl > 0 && (s.ending || !s.renewable) {
		return s.expires
	}
	return time.Time{}
}

// extend notes what a renewal, or another look, gave. Less than before means that
// the end can't be moved any more.
func (s *session) extend(now time.Time, ttl time.Duration, renewable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = s.ending || ttl+time.Second < s.ttl
	s.expires, s.renewable = now.Add(ttl), renewable
}

func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
}

func (s *session) is(expires time.Time, renewable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expires, s.renewable = expires, renewable
}

// die is what a token does that somebody revoked, or whose time has come.
func (s *session) die(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending, s.ttl, s.expires = true, 1, now
}

func (s *session) wait(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.patient = until
}

// currentSession is one that lives: the one there is, renewed where it is time, or
// a new one. Only who knocks tries so while OpenBao is silent.
func (b *Bao) currentSession(ctx context.Context, c call, knocks bool) (*session, error) {
	if err := b.lockLogin(ctx); err != nil {
		return nil, err
	}
	defer b.unlockLogin()
	if cause := b.breaker.why(); cause != nil && !knocks { // found out while this one waited
		return nil, &baoAway{c, cause, true}
	}
	s := b.session
	if s == nil {
		return b.logIn(ctx)
	}
	if !s.due(b.now()) {
		return s, nil
	}
	if s.canRenew() {
		if err := b.renewSession(ctx, s); silence(err) != nil {
			return nil, &loginError{err}
		}
	}
	if !s.due(b.now()) {
		return s, nil
	}
	fresh, err := b.logIn(ctx)
	if err != nil && s.alive(b.now()) {
		s.wait(b.now().Add(patience))
		return s, nil
	}
	return fresh, err
}

// distrust looks at a token that was denied something. A nil session, without an
// error, says that the token is good.
func (b *Bao) distrust(ctx context.Context, s *session) (*session, error) {
	if err := b.lockLogin(ctx); err != nil {
		return nil, err
	}
	defer b.unlockLogin()
	switch {
	case b.session != s:
		return b.session, nil // somebody else found out
	case b.now().Before(b.blind):
		return nil, nil // as far as can be known
	}
	denied, err := b.deniedLook(ctx, s.token)
	if !denied {
		return nil, err
	}
	fresh, err := b.logIn(ctx)
	if err != nil {
		s.die(b.now())
		return nil, err
	}
	if denied, _ = b.deniedLook(ctx, fresh.token); denied {
		s.end() // its policies may be to blame: what was issued under it may live
		b.blind = b.now().Add(mountsHold)
	} else {
		s.die(b.now())
	}
	return fresh, nil
}

// deniedLook is true when a token may not be looked at: it has ended, or none of
// its policies lets it.
func (b *Bao) deniedLook(ctx context.Context, token string) (bool, error) {
	got, err := b.send(ctx, token, lookSelf)
	got.wipe()
	if refusedAs(err, http.StatusForbidden) {
		return true, nil
	}
	return false, err
}

func (b *Bao) lockLogin(ctx context.Context) error {
	select {
	case b.login <- struct{}{}:
		return nil
	case <-ctx.Done():
		return call{method: http.MethodPost, path: "auth"}.away(ctx, ctx.Err())
	}
}

func (b *Bao) unlockLogin() { <-b.login }

func (b *Bao) renewSession(ctx context.Context, s *session) error {
	got, err := b.send(ctx, s.token, call{method: http.MethodPost, path: "auth/token/renew-self", body: map[string]any{}})
	defer got.wipe()
	switch {
	case err == nil && got.Auth != nil:
		s.extend(b.now(), time.Duration(got.Auth.LeaseDuration)*time.Second, got.Auth.Renewable)
	case err != nil && !Unavailable(err):
		s.end()
	}
	return err
}

// logIn makes a new session and puts it in place of the old one, which lives on
// for what was issued under it.
func (b *Bao) logIn(ctx context.Context) (*session, error) {
	fresh, err := b.newSession(ctx)
	if err != nil {
		return nil, &loginError{err}
	}
	if old := b.session; old != nil {
		if old.token == fresh.token { // the same file
			old.is(fresh.expires, fresh.renewable)
			old.wait(b.now().Add(patience))
			return old, nil
		}
		old.end()
	}
	b.session = fresh
	return fresh, nil
}

func (b *Bao) newSession(ctx context.Context) (*session, error) {
	a := b.config.Auth
	if a.TokenFile != "" || a.Token != nil {
		return b.adopt(ctx)
	}
	c, err := a.request()
	if err != nil {
		return nil, err
	}
	got, err := b.send(ctx, "", c)
	defer got.wipe()
	switch {
	case err != nil:
		return nil, err
	case got.Auth == nil || got.Auth.ClientToken == "":
		return nil, fmt.Errorf("%s gave no token: is a second factor asked for?", c.path)
	}
	return b.sessionOf(got.Auth.ClientToken, time.Duration(got.Auth.LeaseDuration)*time.Second, got.Auth.Renewable), nil
}

func (b *Bao) sessionOf(token string, ttl time.Duration, renewable bool) *session {
	return &session{token: token, ttl: ttl, expires: b.now().Add(ttl), renewable: renewable}
}

// adopt makes a session of a token that was given.
func (b *Bao) adopt(ctx context.Context) (*session, error) {
	token, from, err := b.givenToken()
	if err != nil {
		return nil, err
	}
	got, err := b.send(ctx, token, lookSelf)
	defer got.wipe()
	switch {
	case refusedAs(err, http.StatusForbidden):
		return nil, fmt.Errorf("the token %s is not valid, or has ended (or its policies lack default)", from)
	case err != nil:
		return nil, err
	}
	var ttl, whole int64
	var renewable bool
	if json.Unmarshal(got.Data["ttl"], &ttl) != nil || json.Unmarshal(got.Data["creation_ttl"], &whole) != nil || json.Unmarshal(got.Data["renewable"], &renewable) != nil {
		return nil, &baoAway{lookSelf, errors.New("answered with something else than a token"), false}
	}
	s := b.sessionOf(token, time.Duration(ttl)*time.Second, renewable)
	if ttl > 0 {
		s.ttl = time.Duration(max(ttl, whole)) * time.Second
	}
	return s, nil
}

func (b *Bao) givenToken() (token, from string, err error) {
	if file := b.config.Auth.TokenFile; file != "" {
		token, err = credential(file, true)
		return token, "in " + file, err
	}
	token, err = b.config.Auth.Token()
	token = strings.TrimSpace(token)
	switch {
	case err != nil:
		return "", "", err
	case token == "":
		return "", "", errors.New("there is no token")
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", "", errors.New("what was given is no token")
	}
	return token, "that was given", nil
}
