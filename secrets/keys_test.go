package secrets_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/kms"
	"github.com/getsops/sops/v3/pgp"
	"golang.org/x/crypto/ssh"

	"github.com/plumbline-dev/plumbline/secrets"
)

const password = "password: correct-horse\n"

func TestAgeSources(t *testing.T) {
	id, to := ageKey(t)
	another, _ := ageKey(t)
	sealed := sealFor(to).seal(t, "a.yaml", password)
	for name, texts := range map[string][]string{
		"as age-keygen writes it": {"# created: 2026-01-02T03:04:05Z\n# public key: " + to.Recipient + "\n" + id.String() + "\n"},
		"several in one":          {another.String() + "\n\n" + id.String()},
		"in the second source":    {another.String(), id.String()},
		"with blanks":             {"\r\n  \r\n# x\r\n  " + id.String() + "  \r\n"},
		"after one that is wrong": {"AGE-SECRET-KEY-1WRONG", id.String()},
		"after one that is empty": {"", id.String()},
	} {
		t.Run(name, func(t *testing.T) {
			s := &secrets.SOPS{}
			for i, text := range texts {
				s.Age = append(s.Age, source(fmt.Sprint("source ", i), text))
			}
			if got := mustRead(t, s, "a.yaml", sealed); got != password {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestPostQuantumAge(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	sealed := sealFor(recipientOf(t, id.Recipient().String())).seal(t, "a.yaml", password)
	s := &secrets.SOPS{Age: []secrets.KeySource{source("pq", "# public key: "+id.Recipient().String()+"\n"+id.String()+"\n")}}
	if got := mustRead(t, s, "a.yaml", sealed); got != password {
		t.Errorf("got %q", got)
	}
	other, _ := ageKey(t)
	_, err = read(t, ours(other), "a.yaml", sealed)
	wantFault(t, err, false, id.Recipient().String()[:40]+"…")
	if len(err.Error()) > 600 {
		t.Errorf("%d characters: %v", len(err.Error()), err)
	}
}

func sshKeys(t *testing.T, passphrase string) map[string][2]string {
	t.Helper()
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][2]string{}
	for name, key := range map[string]any{"ed25519": edwards, "RSA": rsaKey} {
		block, err := ssh.MarshalPrivateKey(key, "")
		if passphrase != "" {
			block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
		}
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(key)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = [2]string{string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}
	}
	return out
}

func TestSSHKeys(t *testing.T) {
	for name, key := range sshKeys(t, "") {
		t.Run(name, func(t *testing.T) {
			sealed := sealFor(recipientOf(t, key[1])).seal(t, "a.yaml", password)
			s := &secrets.SOPS{Age: []secrets.KeySource{source("id", key[0])}}
			if got := mustRead(t, s, "a.yaml", sealed); got != password {
				t.Errorf("got %q", got)
			}
			_, err := read(t, &secrets.SOPS{}, "a.yaml", sealed)
			wantFault(t, err, false, key[1][:30])
		})
	}
}

func TestSourcesThatCannotBeUsed(t *testing.T) {
	id, to := ageKey(t)
	other, _ := ageKey(t)
	sealed := sealFor(to).seal(t, "a.yaml", password)
	locked := sshKeys(t, "secret phrase")["ed25519"][0]
	for _, c := range []struct{ name, text, says string }{
		{"another key", other.String(), "(" + other.Recipient().String() + ")"},
		{"empty", "\n# nothing\n", "holds no age identity"},
		{"not a key", "# x\nhunter2-hunter2\n", "line 2 is no age identity"},
		{"a wrong key", strings.ToLower(id.String()), "line 1 is no age identity"},
		{"a plugin", "AGE-PLUGIN-YUBIKEY-1QQPQZZZ\n", "plugin"},
		{"a recipient", to.Recipient, "line 1 is no age identity"},
		{"sealed with a passphrase", "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n", "passphrase"},
		{"sealed, binary", "age-encryption.org/v1\n-> scrypt", "passphrase"},
		{"an ssh key with a passphrase", locked, "passphrase"},
		{"an ssh key that is broken", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "no ssh key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &secrets.SOPS{Age: []secrets.KeySource{source("age key file /run/secrets/age.txt", c.text)}}
			_, err := read(t, s, "a.yaml", sealed)
			wantFault(t, err, false, "a.yaml", to.Recipient, "age key file /run/secrets/age.txt (", c.says)
			for _, no := range []string{id.String(), other.String(), "hunter2"} {
				if strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(no)) {
					t.Errorf("it says the key: %v", err)
				}
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		s := &secrets.SOPS{Age: []secrets.KeySource{{Name: "age key file /gone", Read: func(context.Context) ([]byte, error) { return nil, errBoom }}}}
		_, err := read(t, s, "a.yaml", sealed)
		wantFault(t, err, false, "age key file /gone (boom)")
	})
	t.Run("none", func(t *testing.T) {
		_, err := read(t, &secrets.SOPS{}, "a.yaml", sealed)
		wantFault(t, err, false, to.Recipient, "no key")
	})
}

// sops itself would find this key in the environment, in the home directory, or by a program.
func TestLooksNowhereElse(t *testing.T) {
	id, to := ageKey(t)
	home := t.TempDir()
	file := filepath.Join(home, ".config", "sops", "age", "keys.txt")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(id.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(home, "ran")
	for key, value := range map[string]string{
		"HOME": home, "XDG_CONFIG_HOME": filepath.Join(home, ".config"), "SOPS_AGE_KEY": id.String(), "SOPS_AGE_KEY_FILE": file,
		"SOPS_AGE_KEY_CMD": "touch " + ran, "SOPS_GPG_EXEC": "touch " + ran, "GNUPGHOME": home, "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_TOKEN": "x",
	} {
		t.Setenv(key, value)
	}
	entity := pgpKey(t)
	for name, s := range map[string]sealing{
		"age": sealFor(to),
		"PGP": {groups: []sops.KeyGroup{{pgpRecipient(entity)}}, pgp: openpgp.EntityList{entity}},
		"AWS": {groups: []sops.KeyGroup{{&kms.MasterKey{Arn: "arn:aws:kms:eu-west-1:1:key/1"}}}},
		"bao": {groups: []sops.KeyGroup{{hcvault.NewMasterKey("http://127.0.0.1:1", "transit", "k")}}},
	} {
		_, err := read(t, &secrets.SOPS{}, "a.yaml", s.seal(t, "a.yaml", password))
		if err == nil {
			t.Errorf("%s: opened with a key that it was not given", name)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran a program")
	}
}

// What a source hands out is overwritten.
func TestKeyBytesAreCleared(t *testing.T) {
	id, to := ageKey(t)
	entity := pgpKey(t)
	handed := map[string][]byte{"age": []byte(id.String()), "PGP": armored(t, entity), "binary PGP": serialized(t, entity), "wrong": []byte("AGE-SECRET-KEY-1WRONG")}
	s := &secrets.SOPS{}
	for name, data := range handed {
		source := secrets.KeySource{Name: name, Read: func(context.Context) ([]byte, error) { return data, nil }}
		if strings.Contains(name, "PGP") {
			s.PGP = append(s.PGP, source)
		} else {
			s.Age = append(s.Age, source)
		}
	}
	another := pgpKey(t)
	both := sealing{groups: []sops.KeyGroup{{pgpRecipient(another)}, {to}}, pgp: openpgp.EntityList{another}}.with(func(m *sops.Metadata) { m.ShamirThreshold = 2 })
	if _, err := read(t, s, "a.yaml", both.seal(t, "a.yaml", password)); err == nil {
		t.Fatal("no error")
	}
	for name, data := range handed {
		if len(bytes.Trim(data, "\x00")) > 0 {
			t.Errorf("%s: %q", name, data)
		}
	}
}

// A source is read when something needs it, once in a run, and anew in the next.
func TestSourcesAreReadWhenNeeded(t *testing.T) {
	id, to := ageKey(t)
	reads := 0
	s := &secrets.SOPS{
		Age: []secrets.KeySource{{Name: "age", Read: func(context.Context) ([]byte, error) { reads++; return []byte(id.String()), nil }}},
		PGP: []secrets.KeySource{{Name: "PGP", Read: func(context.Context) ([]byte, error) { t.Error("PGP key read"); return nil, errBoom }}},
	}
	all := tree("a.yaml", sealFor(to).seal(t, "a.yaml", password))
	all["b.yaml"], all["plain.yaml"] = tree("b.yaml", sealFor(to).seal(t, "b.yaml", password))["b.yaml"], tree("", "a: b")[""]
	for run, want := range []int{1, 2} {
		files := s.Files(t.Context(), all, newRedactor())
		if _, err := files.ReadFile("plain.yaml"); err != nil || reads != run {
			t.Errorf("%d reads for a plain file, %v", reads, err)
		}
		for _, name := range []string{"a.yaml", "b.yaml", "a.yaml"} {
			if _, err := files.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
		if reads != want {
			t.Errorf("%d reads after run %d", reads, run+1)
		}
	}
}

func pgpKey(t testing.TB) *openpgp.Entity {
	t.Helper()
	entity, err := openpgp.NewEntity("plumb", "", "plumb@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	return entity
}

func pgpRecipient(e *openpgp.Entity) *pgp.MasterKey {
	return pgp.NewMasterKeyFromFingerprint(fmt.Sprintf("%X", e.PrimaryKey.Fingerprint))
}

func serialized(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func armored(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	return armor1(t, openpgp.PrivateKeyType, serialized(t, e))
}

func armor1(t testing.TB, kind string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(data)
	_ = w.Close()
	return append(b.Bytes(), '\n')
}

func TestPGP(t *testing.T) {
	entity, another := pgpKey(t), pgpKey(t)
	sealed := sealing{groups: []sops.KeyGroup{{pgpRecipient(entity)}}, pgp: openpgp.EntityList{entity}}.seal(t, "a.yaml", password)
	for name, data := range map[string][]byte{
		"armored":           armored(t, entity),
		"binary":            serialized(t, entity),
		"two, armored":      append(armored(t, another), armored(t, entity)...),
		"two, binary":       append(serialized(t, another), serialized(t, entity)...),
		"text before armor": append([]byte("my key\n\n"), armored(t, entity)...),
	} {
		t.Run(name, func(t *testing.T) {
			s := &secrets.SOPS{PGP: []secrets.KeySource{source("key", string(data))}}
			if got := mustRead(t, s, "a.yaml", sealed); got != password {
				t.Errorf("got %q", got)
			}
		})
	}

	public := &bytes.Buffer{}
	if err := entity.Serialize(public); err != nil {
		t.Fatal(err)
	}
	locked := pgpKey(t)
	lockedFor := sealing{groups: []sops.KeyGroup{{pgpRecipient(locked)}}, pgp: openpgp.EntityList{locked}}.seal(t, "a.yaml", password)
	if err := locked.EncryptPrivateKeys([]byte("secret phrase"), nil); err != nil {
		t.Fatal(err)
	}
	fingerprint := fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint)
	for _, c := range []struct{ name, sealed, key, says string }{
		{"another key", sealed, string(armored(t, another)), fmt.Sprintf("(%X)", another.PrimaryKey.Fingerprint)},
		{"a public key", sealed, string(armor1(t, openpgp.PublicKeyType, public.Bytes())), "holds no private PGP key"},
		{"with a passphrase", lockedFor, string(armored(t, locked)), "passphrase"},
		{"not a key", sealed, "hunter2-hunter2", "is no PGP key"},
		{"half a key", sealed, string(armored(t, entity)[:200]), "is no PGP key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &secrets.SOPS{PGP: []secrets.KeySource{source("PGP key file /k", c.key)}}
			_, err := read(t, s, "a.yaml", c.sealed)
			wantFault(t, err, false, "PGP key file /k (", c.says, "PGP ")
			if c.sealed == sealed && !strings.Contains(err.Error(), fingerprint) {
				t.Errorf("it doesn't say %s: %v", fingerprint, err)
			}
		})
	}
}

// A message that isn't sealed is readable by everybody, and so no proof that anybody sealed it for us.
func TestPGPMessageInClear(t *testing.T) {
	entity := pgpKey(t)
	s := sealing{groups: []sops.KeyGroup{{pgpRecipient(entity)}}, pgp: openpgp.EntityList{entity}, key: bytes.Repeat([]byte("k"), 32)}
	var b bytes.Buffer
	w, err := packet.SerializeLiteral(nopCloser{&b}, true, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(s.key)
	_ = w.Close()
	sealed := s.seal(t, "a.yaml", password)
	from, to := strings.Index(sealed, "-----BEGIN PGP"), strings.Index(sealed, "-----END PGP MESSAGE-----")
	clear := strings.ReplaceAll(strings.TrimSpace(string(armor1(t, "PGP MESSAGE", b.Bytes()))), "\n", "\n            ")
	sealed = sealed[:from] + clear + sealed[to+len("-----END PGP MESSAGE-----"):]
	_, err = read(t, &secrets.SOPS{PGP: []secrets.KeySource{source("key", string(armored(t, entity)))}}, "a.yaml", sealed)
	wantFault(t, err, true, "damaged data key")
}

type nopCloser struct{ *bytes.Buffer }

func (nopCloser) Close() error { return nil }

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
