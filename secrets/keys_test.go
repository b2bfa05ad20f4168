package secrets_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/kms"
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
