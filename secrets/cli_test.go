package secrets_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/secrets"
)

// A sopsCLI is the real program, with a home and keys of its own.
type sopsCLI struct {
	t       *testing.T
	program string
	home    string
	env     []string
}

func newSopsCLI(t *testing.T, env ...string) *sopsCLI {
	t.Helper()
	if testing.Short() {
		t.Skip("builds sops")
	}
	var errs bytes.Buffer
	cmd := exec.Command(filepath.Join("..", "testdata", "servers", "build.sh"), "sops")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build sops: %v\n%s", err, errs.String())
	}
	home := t.TempDir()
	return &sopsCLI{t, strings.TrimSpace(string(out)), home, append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "GNUPGHOME=" + home}, env...)}
}

func (c *sopsCLI) write(name, text string) {
	c.t.Helper()
	file := filepath.Join(c.home, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *sopsCLI) run(args ...string) string {
	c.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(c.program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.home, c.env, &out, &errs
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("sops %q: %v\n%s", args, err, errs.String())
	}
	return out.String()
}

// seal seals with the program; what it opens itself is what we shall open.
func (c *sopsCLI) seal(name, plain string) (sealed, opened string) {
	c.t.Helper()
	c.write(name, plain)
	sealed = c.run("encrypt", name)
	c.write(name, sealed)
	return sealed, c.run("decrypt", name)
}

func TestOpensWhatSopsSealed(t *testing.T) {
	id, to := ageKey(t)
	cli := newSopsCLI(t, "SOPS_AGE_KEY="+id.String())
	inline := strings.ReplaceAll(manifest, "correct-horse\n", "correct-horse # rotated in May\n") + "---\n# the second\nother: plumb-user-1\n"
	type sample struct{ file, plain string }
	samples := []sample{{"inline.sops.yaml", inline}, {"wide.yaml", "a: {b: [1, 2.5, true, null, 2026-01-02, 0x10]}\nlong: " + strings.Repeat("word ", 60) + "\n"}}
	for _, c := range everyFormat {
		samples = append(samples, sample{c.file, c.plain})
	}
	for name, rule := range map[string]string{
		"all":                 "",
		"encrypted regex":     "encrypted_regex: ^(data|stringData|password|PASSWORD)$",
		"unencrypted regex":   "unencrypted_regex: ^(apiVersion|metadata|kind|type)$",
		"encrypted suffix":    "encrypted_suffix: word",
		"unencrypted suffix":  "unencrypted_suffix: user",
		"MAC of sealed alone": "encrypted_regex: ^password$\n    mac_only_encrypted: true",
		"encrypted comment":   "encrypted_comment_regex: who asks",
		"unencrypted comment": "unencrypted_comment_regex: who asks",
	} {
		for _, c := range samples {
			t.Run(name+"/"+c.file, func(t *testing.T) {
				sub := *cli
				sub.t, sub.home = t, t.TempDir()
				sub.write(".sops.yaml", "creation_rules:\n  - age: "+to.Recipient+"\n    "+rule+"\n")
				sealed, want := sub.seal(c.file, c.plain)
				if diff := cmp.Diff(want, mustRead(t, ours(id), c.file, sealed)); diff != "" {
					t.Errorf("(-sops +we)\n%s\n%s", diff, sealed)
				}
			})
		}
	}
}

func TestOpensWhatSopsSealedForOtherKeys(t *testing.T) {
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	id, to := ageKey(t)
	entity := pgpKey(t)
	ssh := sshKeys(t, "")
	fingerprint := fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint)
	rules := `creation_rules:
  - shamir_threshold: 2
    key_groups:
      - age: [` + to.Recipient + `]
      - pgp: [` + fingerprint + `]
      - age: [` + hybrid.Recipient().String() + `]
`
	ageOnly := func(text string) *secrets.SOPS { return &secrets.SOPS{Age: []secrets.KeySource{source("age", text)}} }
	pgpOnly := &secrets.SOPS{PGP: []secrets.KeySource{source("PGP", string(armored(t, entity)))}}
	both := &secrets.SOPS{Age: []secrets.KeySource{source("age", id.String())}, PGP: pgpOnly.PGP}
	two := ageOnly(id.String() + "\n" + hybrid.String())
	for _, c := range []struct {
		name  string
		rules string
		args  []string
		opens []*secrets.SOPS
		not   []*secrets.SOPS
	}{
		{"post-quantum", "", []string{"--age", hybrid.Recipient().String()}, []*secrets.SOPS{ageOnly(hybrid.String())}, []*secrets.SOPS{both}},
		{"ssh ed25519", "", []string{"--age", ssh["ed25519"][1]}, []*secrets.SOPS{ageOnly(ssh["ed25519"][0])}, []*secrets.SOPS{ageOnly(ssh["RSA"][0])}},
		{"ssh RSA", "", []string{"--age", ssh["RSA"][1]}, []*secrets.SOPS{ageOnly(ssh["RSA"][0])}, []*secrets.SOPS{ageOnly(ssh["ed25519"][0])}},
		{"PGP", "", []string{"--pgp", fingerprint}, []*secrets.SOPS{pgpOnly, both}, []*secrets.SOPS{two}},
		{"age or PGP", "", []string{"--age", to.Recipient, "--pgp", fingerprint}, []*secrets.SOPS{pgpOnly, two}, []*secrets.SOPS{ageOnly(hybrid.String())}},
		{"2 of 3 groups", rules, nil, []*secrets.SOPS{both, two}, []*secrets.SOPS{pgpOnly, ageOnly(id.String())}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cli := newSopsCLI(t, "SOPS_AGE_KEY="+id.String()+" "+hybrid.String(), "SOPS_AGE_SSH_PRIVATE_KEY_FILE=key")
			var public bytes.Buffer
			if err := entity.Serialize(&public); err != nil {
				t.Fatal(err)
			}
			cli.write("pubring.gpg", public.String()) // with this sops needs no gpg
			cli.write("a.yaml", password)
			if c.rules != "" {
				cli.write(".sops.yaml", c.rules)
			}
			sealed := cli.run(append(append([]string{"encrypt"}, c.args...), "a.yaml")...)
			for i, s := range c.opens {
				if got := mustRead(t, s, "a.yaml", sealed); got != password {
					t.Errorf("%d: got %q", i, got)
				}
			}
			for _, s := range c.not {
				_, err := read(t, s, "a.yaml", sealed)
				wantFault(t, err, false, "no key of ours opens it")
			}
		})
	}
}

// gpg makes its keys and messages in its own way.
func TestOpensWithKeysOfGnuPG(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("no gpg here; TestPGP has keys that need none")
	}
	cli := newSopsCLI(t)
	gpg := func(args ...string) []byte {
		t.Helper()
		var errs bytes.Buffer
		cmd := exec.Command("gpg", append([]string{"--batch", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
		cmd.Env, cmd.Stderr = cli.env, &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("gpg %q: %v\n%s", args, err, errs.String())
		}
		return out
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "gpg-agent")
		cmd.Env = cli.env
		_ = cmd.Run()
	})
	for _, kind := range []string{"default", "rsa2048"} {
		t.Run(kind, func(t *testing.T) {
			name := kind + "@example.org"
			gpg("--quick-gen-key", name, kind, map[string]string{"rsa2048": "encr", "default": "default"}[kind], "never")
			var fingerprint string
			for line := range strings.Lines(string(gpg("--with-colons", "--list-keys", name))) {
				if fields := strings.Split(line, ":"); fields[0] == "fpr" && fingerprint == "" {
					fingerprint = fields[9]
				}
			}
			cli.write("a.yaml", password)
			sealed := cli.run("encrypt", "--pgp", fingerprint, "a.yaml")
			for _, args := range [][]string{{"--armor", "--export-secret-keys", name}, {"--export-secret-keys", name}, {"--armor", "--export-secret-subkeys", name}} {
				if kind == "rsa2048" && args[1] == "--export-secret-subkeys" {
					continue // it has none
				}
				s := &secrets.SOPS{PGP: []secrets.KeySource{source("PGP", string(gpg(args...)))}}
				if got := mustRead(t, s, "a.yaml", sealed); got != password {
					t.Errorf("%q: got %q", args, got)
				}
			}
			_, err := read(t, &secrets.SOPS{PGP: []secrets.KeySource{source("PGP", string(armored(t, pgpKey(t))))}}, "a.yaml", sealed)
			wantFault(t, err, false, fingerprint)
		})
	}
}
