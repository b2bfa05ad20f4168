package secrets_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/pgp"

	"github.com/plumbline-dev/plumbline/secrets"
)

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
