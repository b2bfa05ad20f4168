package secrets_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

// Who looks makes nothing, renews nothing and ends nothing.
func TestLookingMakesNothing(t *testing.T) {
	s := theServer(t)
	creds, broker := s.rabbitmq("1h")
	issue := s.pki(document{})
	kv := s.kv2()
	s.do("POST", kv+"/data/web", document{"data": document{"password": "hunter2-hunter2"}})
	w := watched(t, s)
	b := w.client()
	now := time.Now()
	b.SetNow(func() time.Time { return now })
	login := secret("login", map[string]string{"user": "${bao:" + creds + "#username}"})
	req := request(login, secret("tls", map[string]string{"key": "${bao:" + issue + "#private_key?common_name=grafana.lan}"}),
		secret("kv", map[string]string{"key": "${bao:" + kv + "/web#password}"}))
	req.Look = true
	look := func() secrets.Resolved {
		t.Helper()
		w.since()
		out := resolve(t, b, req)
		for _, asked := range w.since() {
			if !strings.HasPrefix(asked, "GET ") || strings.HasPrefix(asked, "GET "+creds) {
				t.Errorf("who looks asked %q", asked)
			}
		}
		return out
	}
	out := look()
	if len(out.Objects) != 1 || len(out.Unresolved) != 2 || field(t, out.Objects[0], "stringData", "key") != "hunter2-hunter2" {
		t.Errorf("got %v, and not %v", out.Objects, out.Unresolved)
	}
	if want := issue + ", " + creds + " is made for whoever reads it: a plan doesn't"; out.Stale == nil || out.Stale.Error() != want || secrets.Unavailable(out.Stale) {
		t.Errorf("got %v, want %s", out.Stale, want)
	}
	if len(broker.users) > 0 {
		t.Errorf("made %q", broker.users)
	}

	made := resolve(t, b, request(login))
	now = now.Add(45 * time.Minute) // time to renew it
	out = look()
	if diff := cmp.Diff(made.Objects[0], out.Objects[0]); diff != "" {
		t.Errorf("what was made for the stack before: %s", diff)
	}
	now = now.Add(20 * time.Minute)
	if out = look(); len(out.Objects) != 1 {
		t.Errorf("after its end: %v", out.Objects)
	}
	req.Look = false
	if out = resolve(t, b, req); len(out.Objects) != 3 || out.Stale != nil {
		t.Errorf("who doesn't look: %v", out)
	}
}
