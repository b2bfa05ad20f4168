package secrets_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/hcvault"

	"github.com/plumbline-dev/plumbline/secrets"
)

// fakeTransit opens what sealTransit sealed.
type fakeTransit struct {
	address string
	err     error
	asked   []string
}

func (f *fakeTransit) Address() string { return f.address }

func (f *fakeTransit) Decrypt(_ context.Context, mount, key, ciphertext string) ([]byte, error) {
	f.asked = append(f.asked, mount+" "+key)
	if f.err != nil {
		return nil, f.err
	}
	return base64.StdEncoding.DecodeString(strings.TrimPrefix(ciphertext, "vault:v1:"))
}

type faulty struct{}

func (faulty) Error() string    { return "ciphertext is invalid" }
func (faulty) InputFault() bool { return true }

func TestTransit(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    *hcvault.MasterKey
		transit *fakeTransit
		asked   string // none: an error
		fault   bool
		says    string
	}{
		{"opens", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "transit sops", false, ""},
		{"slash at the end", hcvault.NewMasterKey("https://bao.lan:8200/", "team/transit/", "sops-1.a"), &fakeTransit{address: "https://bao.lan:8200"}, "team/transit sops-1.a", false, ""},
		{"slash at the end of ours", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200/"}, "transit sops", false, ""},
		{"another host", hcvault.NewMasterKey("https://evil.example:8200", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "not at our OpenBao https://bao.lan:8200"},
		{"longer host", hcvault.NewMasterKey("https://bao.lan:8200.evil.example", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "not at our OpenBao"},
		{"no host", hcvault.NewMasterKey("", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "not at our OpenBao"},
		{"another scheme", hcvault.NewMasterKey("http://bao.lan:8200", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "not at our OpenBao"},
		{"path that climbs", hcvault.NewMasterKey("https://bao.lan:8200", "transit/../sys", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "no path"},
		{"key that climbs", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "../../secret"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "no path"},
		{"key with a question", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops?x=y"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "no path"},
		{"no mount", hcvault.NewMasterKey("https://bao.lan:8200", "", "sops"), &fakeTransit{address: "https://bao.lan:8200"}, "", true, "no path"},
		{"none configured", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops"), nil, "", false, "no OpenBao is configured"},
		{"away", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200", err: errBoom}, "transit sops", false, "boom"},
		{"ciphertext refused", hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops"), &fakeTransit{address: "https://bao.lan:8200", err: faulty{}}, "transit sops", true, "ciphertext is invalid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &secrets.SOPS{}
			if c.transit != nil {
				s.Transit = c.transit
			}
			plain, err := read(t, s, "a.yaml", sealing{groups: []sops.KeyGroup{{c.file}}}.seal(t, "a.yaml", password))
			if c.says == "" && (err != nil || plain != password) {
				t.Errorf("got %q, %v", plain, err)
			}
			if c.says != "" {
				wantFault(t, err, c.fault, c.says)
			}
			if c.transit != nil && strings.Join(c.transit.asked, ",") != c.asked {
				t.Errorf("asked for %q", c.transit.asked)
			}
			if c.transit != nil && errors.Is(c.transit.err, errBoom) && !errors.Is(err, errBoom) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestKeyGroups(t *testing.T) {
	id1, to1 := ageKey(t)
	_, to2 := ageKey(t)
	entity := pgpKey(t)
	bao := hcvault.NewMasterKey("https://bao.lan:8200", "transit", "sops")
	withAge := func(s *secrets.SOPS) { s.Age = ours(id1).Age }
	withPGP := func(s *secrets.SOPS) {
		s.PGP = []secrets.KeySource{source("PGP key file /k", string(armored(t, entity)))}
	}
	transit := &fakeTransit{address: "https://bao.lan:8200"}
	withBao := func(s *secrets.SOPS) { s.Transit = transit }
	three := sealing{groups: []sops.KeyGroup{{to1}, {to2, pgpRecipient(entity)}, {bao}}, pgp: openpgp.EntityList{entity}}
	for _, c := range []struct {
		name      string
		threshold int
		have      []func(*secrets.SOPS)
		asks      bool
		says      []string // none: opens
	}{
		{"2 of 3, age and PGP", 2, []func(*secrets.SOPS){withAge, withPGP}, false, nil},
		{"2 of 3, OpenBao not needed", 2, []func(*secrets.SOPS){withAge, withPGP, withBao}, false, nil},
		{"2 of 3, age and OpenBao", 2, []func(*secrets.SOPS){withAge, withBao}, true, nil},
		{"2 of 3, PGP and OpenBao", 2, []func(*secrets.SOPS){withPGP, withBao}, true, nil},
		{"3 of 3", 3, []func(*secrets.SOPS){withAge, withPGP, withBao}, true, nil},
		{"2 of 3, one", 2, []func(*secrets.SOPS){withAge}, false, []string{"any 2 of 3 key groups", "group 1 (open): " + to1.Recipient, "group 2 (closed): PGP ", " or " + to2.Recipient + ", group 3", "(closed): OpenBao transit key https://bao.lan:8200/v1/transit/keys/sops", id1.Recipient().String()}},
		{"3 of 3, two", 3, []func(*secrets.SOPS){withAge, withPGP}, false, []string{"any 3 of 3", "group 2 (open)", "group 3 (closed)"}},
		{"2 of 3, none", 2, nil, false, []string{"any 2 of 3", "no key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			transit.asked = nil
			sealed := three.with(func(m *sops.Metadata) { m.ShamirThreshold = c.threshold }).seal(t, "a.yaml", password)
			s := &secrets.SOPS{}
			for _, have := range c.have {
				have(s)
			}
			plain, err := read(t, s, "a.yaml", sealed)
			if c.says == nil && (err != nil || plain != password) {
				t.Errorf("got %q, %v", plain, err)
			}
			if c.says != nil {
				wantFault(t, err, false, c.says...)
			}
			if asked := len(transit.asked) > 0; asked != c.asks {
				t.Errorf("asked OpenBao: %t", asked)
			}
		})
	}
	sealed := three.with(func(m *sops.Metadata) { m.ShamirThreshold = 2 }).seal(t, "a.yaml", password)
	s := &secrets.SOPS{}
	withAge(s)
	withPGP(s)
	for _, wrong := range []string{"1", "4", "-2", "300"} {
		_, err := read(t, s, "a.yaml", replaced(t, sealed, "shamir_threshold: 2", "shamir_threshold: "+wrong))
		wantFault(t, err, true, "shamir_threshold is "+wrong)
	}
}

// Where OpenBao is away, the key is the right one, and another is no help.
func TestTransitAwayIsNoMatterOfKeys(t *testing.T) {
	_, to := ageKey(t)
	c := nowhere(t)
	bao := newBao(t, c)
	file := hcvault.NewMasterKey(c.Address, "transit", "sops")
	for name, group := range map[string]sops.KeyGroup{"alone": {file}, "or another": {file, to}, "after another": {to, file}} {
		s := &secrets.SOPS{Transit: bao.Transit([]string{"transit/decrypt/sops"})}
		_, err := read(t, s, "a.yaml", sealing{groups: []sops.KeyGroup{group}}.seal(t, "a.yaml", password))
		wantFault(t, err, false, "tried no key, for none of these keys is configured", "connection refused")
		if !secrets.Unavailable(err) || strings.Contains(err.Error(), "updatekeys") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
