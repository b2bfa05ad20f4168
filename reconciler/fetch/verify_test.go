package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// replaceHead commits data as it is, and pushes it as the branch or tag name.
func (r *repo) replaceHead(kind, data, ref string) string {
	r.t.Helper()
	file := writeFile(r.t, "object", data)
	id := r.git("hash-object", "-t", kind, "-w", "--literally", file)
	r.git("push", "-q", "--force", "origin", id+":"+ref)
	return id
}

// raw is the object as Git stores it, without the trim of run.
func (r *repo) raw(kind, id string) string {
	r.t.Helper()
	cmd := exec.Command("git", "cat-file", kind, id)
	cmd.Dir = r.dir
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatal(err)
	}
	return string(out)
}

// withSignature inserts a gpgsig header as git does.
func withSignature(commit, armored string) string {
	head, message, _ := strings.Cut(commit, "\n\n")
	return head + "\ngpgsig " + strings.ReplaceAll(strings.TrimRight(armored, "\n"), "\n", "\n ") + "\n\n" + message
}

func sshArmored(t *testing.T, key ssh.Signer, namespace, payload string) string {
	t.Helper()
	sig, err := sshsig.Sign(strings.NewReader(payload), key, sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return string(sshsig.Armor(sig))
}

func publicKey(key ssh.Signer) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
}

func TestSSHSignatures(t *testing.T) {
	good, goodFile := newKey(t)
	bad, _ := newKey(t)
	line := "ada@example.org " + publicKey(good) + " her laptop"
	sign := func(key ssh.Signer, namespace string) func(*testing.T, *repo) string {
		return func(t *testing.T, r *repo) string {
			plain := r.raw("commit", r.commit("signed", "a", "2"))
			return r.replaceHead("commit", withSignature(plain, sshArmored(t, key, namespace, plain)), "refs/heads/main")
		}
	}
	tampered := func(change func(signed string) string) func(*testing.T, *repo) string {
		return func(t *testing.T, r *repo) string {
			plain := r.raw("commit", r.commit("signed", "a", "2"))
			return r.replaceHead("commit", change(withSignature(plain, sshArmored(t, good, "git", plain))), "refs/heads/main")
		}
	}
	for name, tc := range map[string]struct {
		signers string
		push    func(*testing.T, *repo) string
		err     error
		says    string
	}{
		"by git itself": {signers: line, push: func(t *testing.T, r *repo) string {
			if _, err := exec.LookPath("ssh-keygen"); err != nil {
				t.Skip("needs ssh-keygen")
			}
			r.git("config", "gpg.format", "ssh")
			r.git("config", "user.signingkey", goodFile)
			r.git("config", "commit.gpgsign", "true")
			return r.commit("signed by git", "a", "2")
		}},
		"good":                  {signers: line, push: sign(good, "git")},
		"second line":           {signers: "# comment\n\nbob@example.org " + publicKey(bad) + "\n" + line + "\n", push: sign(good, "git")},
		"unsigned":              {signers: line, push: func(_ *testing.T, r *repo) string { return r.commit("u", "a", "2") }, err: fetch.ErrUnverified, says: "not signed"},
		"unknown key":           {signers: line, push: sign(bad, "git"), err: fetch.ErrUnverified, says: ssh.FingerprintSHA256(bad.PublicKey())},
		"other namespace":       {signers: line, push: sign(good, "file"), err: fetch.ErrUnverified, says: `"file"`},
		"namespace not allowed": {signers: `ada@example.org namespaces="file,!git" ` + publicKey(good), push: sign(good, "git"), err: fetch.ErrUnverified, says: "namespace"},
		"namespace by pattern":  {signers: `ada@example.org namespaces="g*" ` + publicKey(good), push: sign(good, "git")},
		"key expired":           {signers: `ada@example.org valid-before="20240101Z" ` + publicKey(good), push: sign(good, "git"), err: fetch.ErrUnverified, says: "2024-01-01"},
		"key not yet valid":     {signers: `ada@example.org valid-after="20300101000000Z" ` + publicKey(good), push: sign(good, "git"), err: fetch.ErrUnverified, says: "2030-01-01"},
		"key within its time":   {signers: `ada@example.org valid-after="20240101Z",valid-before="203001010000Z" ` + publicKey(good), push: sign(good, "git")},
		"certificate authority": {signers: `*@example.org cert-authority ` + publicKey(good), push: sign(good, "git"), err: fetch.ErrInvalid, says: "line 1: cert-authority is not supported"},
		"unknown option":        {signers: `ada@example.org no-such ` + publicKey(good), push: sign(good, "git"), err: fetch.ErrInvalid, says: "no-such"},
		"no key":                {signers: "# nothing\n", push: sign(good, "git"), err: fetch.ErrInvalid, says: "no key"},
		"message changed":       {signers: line, push: tampered(func(s string) string { return s + "evil\n" }), err: fetch.ErrUnverified, says: "changed"},
		"author changed":        {signers: line, push: tampered(func(s string) string { return strings.Replace(s, "author Ada", "author Eve", 1) }), err: fetch.ErrUnverified, says: "Eve"},
		"two signatures": {signers: line, push: tampered(func(s string) string {
			return withSignature(s, "-----BEGIN SSH SIGNATURE-----\nx\n-----END SSH SIGNATURE-----")
		}), err: fetch.ErrUnverified, says: "more than one"},
		"signature is garbage": {signers: line, push: tampered(func(s string) string { return strings.Replace(s, "U1NIU0lH", "AAAAAAAA", 1) }), err: fetch.ErrUnverified, says: "malformed"},
		"another commit's signature": {signers: line, push: func(t *testing.T, r *repo) string {
			first := r.raw("commit", r.git("rev-parse", "HEAD"))
			plain := r.raw("commit", r.commit("next", "a", "2"))
			return r.replaceHead("commit", withSignature(plain, sshArmored(t, good, "git", first)), "refs/heads/main")
		}, err: fetch.ErrUnverified},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			plain := r.raw("commit", r.commit("first", "a", "1"))
			first := r.replaceHead("commit", withSignature(plain, sshArmored(t, good, "git", plain)), "refs/heads/main")
			r.git("reset", "-q", "--hard", first)
			src, m := r.source(r.serve(nil)), newMirrors(t)
			src.Verify.SSHAllowedSignersFile = writeFile(t, "signers", line)
			if snap := mustFetch(t, m, src); snap.Signer != "ada@example.org "+ssh.FingerprintSHA256(good.PublicKey()) {
				t.Errorf("signer %q", snap.Signer)
			}
			if err := os.WriteFile(src.Verify.SSHAllowedSignersFile, []byte(tc.signers), 0o600); err != nil {
				t.Fatal(err)
			}
			want := tc.push(t, r)
			snap, err := m.Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if tc.err == nil {
				if snap.Commit != want {
					t.Errorf("commit %s, want %s", snap.Commit, want)
				}
				return
			}
			if !strings.Contains(err.Error(), tc.says) || fetch.Retryable(err) {
				t.Errorf("error %q does not say %q, or is retryable", err, tc.says)
			}
			// The last good commit stays in force, after a restart too.
			if err := os.WriteFile(src.Verify.SSHAllowedSignersFile, []byte(line), 0o600); err != nil {
				t.Fatal(err)
			}
			if snap, err := (&fetch.Mirrors{Dir: m.Dir}).Last(src); err != nil || snap.Commit != first {
				t.Errorf("Last: %s, %v, want %s", snap.Commit, err, first)
			}
		})
	}
}

func TestAKeyThatIsRemovedLosesItsPower(t *testing.T) {
	key, _ := newKey(t)
	other, _ := newKey(t)
	r := newRepo(t)
	plain := r.raw("commit", r.commit("first", "a", "1"))
	r.replaceHead("commit", withSignature(plain, sshArmored(t, key, "git", plain)), "refs/heads/main")
	src, m := r.source(r.serve(nil)), newMirrors(t)
	src.Verify.SSHAllowedSignersFile = writeFile(t, "signers", "ada "+publicKey(key))
	mustFetch(t, m, src)
	if err := os.WriteFile(src.Verify.SSHAllowedSignersFile, []byte("eve "+publicKey(other)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Fetch(context.Background(), src); !errors.Is(err, fetch.ErrUnverified) {
		t.Errorf("Fetch: %v, want ErrUnverified", err)
	}
	if _, err := m.Last(src); !errors.Is(err, fetch.ErrUnverified) {
		t.Errorf("Last: %v, want ErrUnverified", err)
	}
}

func TestSignedTags(t *testing.T) {
	key, _ := newKey(t)
	for name, tc := range map[string]struct {
		tag  func(plain string) string // makes the tag object of v1.0.0
		ref  string
		err  error
		says string
	}{
		"signed":              {tag: func(p string) string { return p + sshArmored(t, key, "git", p) }, ref: "v1.0.0"},
		"unsigned":            {tag: func(p string) string { return p }, ref: "v1.0.0", err: fetch.ErrUnverified, says: "its tag"},
		"changed":             {tag: func(p string) string { return p + "evil\n" + sshArmored(t, key, "git", p) }, ref: "v1.0.0", err: fetch.ErrUnverified, says: "changed"},
		"served as a newer v": {tag: func(p string) string { return p + sshArmored(t, key, "git", p) }, ref: "v2.0.0", err: fetch.ErrUnverified, says: `"v1.0.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			id := r.commit("first", "a", "1") // not signed itself
			plain := "object " + id + "\ntype commit\ntag v1.0.0\ntagger Ada <ada@example.org> 1750000000 +0000\n\nrelease\n"
			r.replaceHead("tag", tc.tag(plain), "refs/tags/"+tc.ref)
			src := r.source(r.serve(nil))
			src.Ref = fetch.Ref{Semver: "*"}
			src.Verify.SSHAllowedSignersFile = writeFile(t, "signers", "ada "+publicKey(key))
			_, err := newMirrors(t).Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %v saying %q", err, tc.err, tc.says)
			}
		})
	}
}

func gpgKey(t *testing.T, lifetime time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Ada", "", "ada@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: uint32(lifetime.Seconds()),
		Time: func() time.Time { return time.Now().Add(-time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// revokedCopy leaves the key itself able to sign.
func revokedCopy(t *testing.T, e *openpgp.Entity) *openpgp.Entity {
	t.Helper()
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := openpgp.ReadKeyRing(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys[0].RevokeKey(packet.KeyCompromised, "", nil); err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

func gpgPublic(t *testing.T, armored bool, keys ...*openpgp.Entity) string {
	t.Helper()
	var out bytes.Buffer
	for _, e := range keys {
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		if !armored {
			out.Write(b.Bytes())
			continue
		}
		w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(b.Bytes())
		w.Close()
		out.WriteString("\n")
	}
	return out.String()
}

func TestGPGSignatures(t *testing.T) {
	good, bad, expired, revoked := gpgKey(t, 0), gpgKey(t, 0), gpgKey(t, 30*time.Minute), gpgKey(t, 0)
	sshKey, _ := newKey(t)
	sign := func(e *openpgp.Entity) func(string) string {
		return func(plain string) string {
			var b bytes.Buffer
			at := &packet.Config{Time: func() time.Time { return time.Now().Add(-50 * time.Minute) }}
			if err := openpgp.ArmoredDetachSign(&b, e, strings.NewReader(plain), at); err != nil {
				t.Fatal(err)
			}
			return withSignature(plain, b.String())
		}
	}
	for name, tc := range map[string]struct {
		keyring string
		ssh     string
		commit  func(string) string
		err     error
		says    string
	}{
		"armored keyring":           {keyring: gpgPublic(t, true, good), commit: sign(good)},
		"binary keyring":            {keyring: gpgPublic(t, false, bad, good), commit: sign(good)},
		"exports behind each other": {keyring: gpgPublic(t, true, bad, good), commit: sign(good)},
		"unknown key":               {keyring: gpgPublic(t, true, good), commit: sign(bad), err: fetch.ErrUnverified, says: "not in the keyring"},
		"expired key":               {keyring: gpgPublic(t, true, expired), commit: sign(expired), err: fetch.ErrUnverified, says: "expired"},
		"revoked key":               {keyring: gpgPublic(t, true, revokedCopy(t, revoked)), commit: sign(revoked), err: fetch.ErrUnverified, says: "revoked"},
		"changed": {keyring: gpgPublic(t, true, good), commit: func(p string) string {
			return strings.Replace(sign(good)(p), "author Ada", "author Eve", 1)
		}, err: fetch.ErrUnverified, says: "wrong"},
		"unsigned":           {keyring: gpgPublic(t, true, good), commit: func(p string) string { return p }, err: fetch.ErrUnverified, says: "not signed"},
		"not a keyring":      {keyring: "hello", commit: sign(good), err: fetch.ErrInvalid, says: "gpg --export"},
		"ssh, without keys":  {keyring: gpgPublic(t, true, good), commit: func(p string) string { return withSignature(p, sshArmored(t, sshKey, "git", p)) }, err: fetch.ErrUnverified, says: "sshAllowedSignersFile"},
		"either one is fine": {keyring: gpgPublic(t, true, good), ssh: "ada " + publicKey(sshKey), commit: func(p string) string { return withSignature(p, sshArmored(t, sshKey, "git", p)) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			plain := r.raw("commit", r.commit("first", "a", "1"))
			r.replaceHead("commit", tc.commit(plain), "refs/heads/main")
			src := r.source(r.serve(nil))
			src.Verify.GPGKeyringFile = writeFile(t, "keys", tc.keyring)
			if tc.ssh != "" {
				src.Verify.SSHAllowedSignersFile = writeFile(t, "signers", tc.ssh)
			}
			snap, err := newMirrors(t).Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("error %v, want %v saying %q", err, tc.err, tc.says)
			}
			if err == nil && tc.ssh == "" && !strings.HasPrefix(snap.Signer, "Ada <ada@example.org> ") {
				t.Errorf("signer %q", snap.Signer)
			}
		})
	}
}
