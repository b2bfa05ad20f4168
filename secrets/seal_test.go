package secrets_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/kms"
	"github.com/getsops/sops/v3/pgp"
	"github.com/getsops/sops/v3/shamir"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	sopsyaml "github.com/getsops/sops/v3/stores/yaml"

	"github.com/plumbline-dev/plumbline/secrets"
)

var errBoom = errors.New("boom")

// ageKey makes an identity, and its recipient as sops has it.
func ageKey(t testing.TB) (*age.X25519Identity, *sopsage.MasterKey) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id, recipientOf(t, id.Recipient().String())
}

func recipientOf(t testing.TB, text string) *sopsage.MasterKey {
	t.Helper()
	key, err := sopsage.MasterKeyFromRecipient(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// source hands out a copy each time, for what it hands out is overwritten.
func source(name, text string) secrets.KeySource {
	return secrets.KeySource{Name: name, Read: func(context.Context) ([]byte, error) { return []byte(text), nil }}
}

// ours opens with these age identities.
func ours(ids ...*age.X25519Identity) *secrets.SOPS {
	s := &secrets.SOPS{}
	for _, id := range ids {
		s.Age = append(s.Age, source("age key file /run/secrets/age.txt", id.String()+"\n"))
	}
	return s
}

// A sealing is how a test seals.
type sealing struct {
	groups []sops.KeyGroup
	edit   func(*sops.Metadata)
	pgp    openpgp.EntityList
	key    []byte // the data key; nil makes one up
}

func sealFor(keys ...*sopsage.MasterKey) sealing {
	var group sops.KeyGroup
	for _, key := range keys {
		group = append(group, key)
	}
	return sealing{groups: []sops.KeyGroup{group}}
}

func (s sealing) with(edit func(*sops.Metadata)) sealing {
	s.edit = edit
	return s
}

type testStore interface {
	sops.PlainFileLoader
	sops.EncryptedFileEmitter
}

func storeOf(name string) testStore {
	c := config.NewStoresConfig()
	switch formats.FormatForPath(name) {
	case formats.Yaml:
		return sopsyaml.NewStore(&c.YAML)
	case formats.Json:
		return sopsjson.NewStore(&c.JSON)
	case formats.Dotenv:
		return dotenv.NewStore(&c.Dotenv)
	case formats.Ini:
		return ini.NewStore(&c.INI)
	}
	return sopsjson.NewBinaryStore(&c.JSONBinary)
}

// seal does what sops does, in memory.
func (s sealing) seal(t testing.TB, name, plain string) string {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	store := storeOf(name)
	branches, err := store.LoadPlainFile([]byte(plain))
	must(err)
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{
		KeyGroups: s.groups, UnencryptedSuffix: sops.DefaultUnencryptedSuffix, Version: "3.13.3",
		LastModified: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
	if s.edit != nil {
		s.edit(&tree.Metadata)
	}
	key := s.key
	if key == nil {
		key = make([]byte, 32)
		_, _ = rand.Read(key)
	}
	s.sealKey(t, key, tree.Metadata.ShamirThreshold)
	mac, err := tree.Encrypt(key, aes.NewCipher())
	must(err)
	tree.Metadata.MessageAuthenticationCode, err = aes.NewCipher().Encrypt(mac, key, tree.Metadata.LastModified.Format(time.RFC3339))
	must(err)
	out, err := store.EmitEncryptedFile(tree)
	must(err)
	return string(out)
}

func (s sealing) sealKey(t testing.TB, key []byte, threshold int) {
	t.Helper()
	parts := [][]byte{key}
	if len(s.groups) > 1 {
		var err error
		if parts, err = shamir.Split(key, len(s.groups), threshold); err != nil {
			t.Fatal(err)
		}
	}
	for i, group := range s.groups {
		for _, to := range group {
			switch to := to.(type) {
			case *sopsage.MasterKey:
				if err := to.Encrypt(parts[i]); err != nil {
					t.Fatal(err)
				}
			case *pgp.MasterKey:
				to.EncryptedKey = s.sealPGP(t, parts[i])
			case *hcvault.MasterKey:
				to.EncryptedKey = sealTransit(parts[i])
			case *kms.MasterKey:
				to.EncryptedKey = "AQICAHh="
			}
		}
	}
}

func (s sealing) sealPGP(t testing.TB, part []byte) string {
	t.Helper()
	var b bytes.Buffer
	w, err := armor.Encode(&b, "PGP MESSAGE", nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := openpgp.Encrypt(w, s.pgp, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = plain.Write(part)
	_ = plain.Close()
	_ = w.Close()
	return b.String()
}

// tree is one file as a tree.
func tree(name, content string) fstest.MapFS {
	return fstest.MapFS{name: {Data: []byte(content)}}
}

func newRedactor() *secrets.Redactor { return secrets.NewRedactor() }

// read opens one file.
func read(t testing.TB, s *secrets.SOPS, name, content string) (string, error) {
	t.Helper()
	files := s.Files(t.Context(), tree(name, content), newRedactor())
	data, err := files.ReadFile(name)
	return string(data), err
}

func mustRead(t testing.TB, s *secrets.SOPS, name, content string) string {
	t.Helper()
	plain, err := read(t, s, name, content)
	if err != nil {
		t.Fatalf("%v\n%s", err, content)
	}
	return plain
}

// wantFault wants an error that blames the file, or does not, and says this.
func wantFault(t testing.TB, err error, fault bool, says ...string) {
	t.Helper()
	var sealed *secrets.SealedError
	if !errors.As(err, &sealed) {
		t.Fatalf("got %v, want a SealedError", err)
	}
	if sealed.InputFault() != fault {
		t.Errorf("InputFault is %t: %v", !fault, err)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error doesn't say %q: %v", text, err)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

// lines builds a text of lines.
func lines(text ...string) string { return strings.Join(text, "\n") + "\n" }

func replaced(t testing.TB, text, old, with string) string {
	t.Helper()
	out := strings.Replace(text, old, with, 1)
	if out == text {
		t.Fatalf("no %q in\n%s", old, text)
	}
	return out
}

// lineWith is the first line that holds a text.
func lineWith(t testing.TB, text, part string) string {
	t.Helper()
	all := strings.Split(text, "\n")
	i := slices.IndexFunc(all, func(l string) bool { return strings.Contains(l, part) })
	if i < 0 {
		t.Fatalf("no %q in\n%s", part, text)
	}
	return all[i]
}

// flipped changes one character of a sealed value's data.
func flipped(t testing.TB, line string) string {
	t.Helper()
	at := strings.Index(line, "data:") + len("data:")
	c := byte('A')
	if line[at] == c {
		c = 'B'
	}
	return line[:at] + string(c) + line[at+1:]
}

// sealTransit is what the transit of these tests makes of a data key.
func sealTransit(part []byte) string {
	return "vault:v1:" + base64.StdEncoding.EncodeToString(part)
}

func quoted(text string) string { return strconv.Quote(text) }

type sopsRecipient = *sopsage.MasterKey

// onlyData is the rule that most repositories have.
func onlyData(m *sops.Metadata) {
	m.UnencryptedSuffix, m.EncryptedRegex = "", "^(data|stringData)$"
}
