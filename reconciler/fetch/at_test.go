package fetch_test

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

func TestAt(t *testing.T) {
	r := newRepo(t)
	first := r.commit("first", "a", "1")
	second := r.commit("second", "a", "2")
	blob := r.git("rev-parse", "HEAD:a")
	src, m := r.source(r.serve(nil)), newMirrors(t)
	if _, err := m.At(src, first); !errors.Is(err, fetch.ErrNoSnapshot) {
		t.Errorf("before the first fetch: %v", err)
	}
	mustFetch(t, m, src)
	snap, err := m.At(src, first)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := fs.ReadFile(snap.FS, "a"); string(text) != "1" || err != nil || snap.Commit != first || snap.Subject != "first" {
		t.Errorf("%+v: %q, %v", snap, text, err)
	}
	for _, id := range []string{strings.Repeat("0", 40), blob, "main", "", first[:8], first + "\n"} {
		if _, err := m.At(src, id); !errors.Is(err, fetch.ErrNoSnapshot) {
			t.Errorf("%q: %v, want ErrNoSnapshot", id, err)
		}
	}
	if last, err := m.Last(src); err != nil || last.Commit != second {
		t.Errorf("afterwards %s, %v is accepted, want %s", last.Commit, err, second)
	}
}

func TestAtWantsSignaturesToo(t *testing.T) {
	key, _ := newKey(t)
	r := newRepo(t)
	unsigned := r.commit("first", "a", "1")
	plain := r.raw("commit", r.commit("second", "a", "2"))
	signed := r.replaceHead("commit", withSignature(plain, sshArmored(t, key, "git", plain)), "refs/heads/main")
	src, m := r.source(r.serve(nil)), newMirrors(t)
	src.Verify.SSHAllowedSignersFile = writeFile(t, "signers", "ada "+publicKey(key))
	mustFetch(t, m, src)
	if snap, err := m.At(src, signed); err != nil || !strings.HasPrefix(snap.Signer, "ada ") {
		t.Errorf("%q, %v", snap.Signer, err)
	}
	if _, err := m.At(src, unsigned); !errors.Is(err, fetch.ErrUnverified) {
		t.Errorf("%v, want ErrUnverified", err)
	}
}
