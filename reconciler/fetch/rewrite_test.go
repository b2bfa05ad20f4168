package fetch_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1" //nolint:gosec // Git's pack format
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

// signHead replaces the last commit by a signed one.
func (r *repo) signHead(key ssh.Signer) string {
	r.t.Helper()
	plain := r.raw("commit", r.git("rev-parse", "HEAD"))
	id := r.replaceHead("commit", withSignature(plain, sshArmored(r.t.(*testing.T), key, "git", plain)), "refs/heads/main")
	r.git("reset", "-q", "--hard", id)
	return id
}

// signedRepo has two signed commits. Its source wants signatures.
func signedRepo(t *testing.T, key ssh.Signer) (r *repo, old, fixed string, verify fetch.Verify) {
	t.Helper()
	r = newRepo(t)
	r.commit("old, with a hole", "a", "vulnerable")
	old = r.signHead(key)
	r.commit("fixed", "a", "fixed")
	return r, old, r.signHead(key), fetch.Verify{SSHAllowedSignersFile: writeFile(t, "signers", "ada "+publicKey(key))}
}

// What the signature does not cover must not give an old commit a new id.
func TestSignedCommitCannotBeVaried(t *testing.T) {
	key, _ := newKey(t)
	const begin, end = "-----BEGIN SSH SIGNATURE-----\n", "-----END SSH SIGNATURE-----\n"
	for name, tc := range map[string]struct {
		old, new string
		says     string // nothing: it is accepted
	}{
		"as it is":                     {},
		"empty line at the end":        {end, end + " \n", ""}, // as GitHub has it
		"two empty lines at the end":   {end, end + " \n \n", "behind its end"},
		"another signature header":     {"\ngpgsig ", "\ngpgsig-sha256 junk\ngpgsig ", "gpgsig-sha256"},
		"another one behind":           {end, end + "gpgsig-sha256 junk\n", "gpgsig-sha256"},
		"a header behind":              {end, end + "x y\n", "behind its signature"},
		"text behind the end":          {end, end + " trailing\n", "behind its end"},
		"text in the line of the end":  {end, "-----END SSH SIGNATURE----- x\n", "behind its end"},
		"text in the line before":      {begin, "-----BEGIN SSH SIGNATURE----- \n", "neither"},
		"empty line at the beginning":  {begin, begin + " \n", "do not belong"},
		"space at the end of a line":   {"\n " + end, " \n " + end, "base64"},
		"carriage return":              {"\n " + end, "\r\n " + end, "base64"},
		"empty line before the end":    {end, "\n " + end, "do not belong"},
		"header of OpenPGP":            {begin, begin + " Comment: x\n", "do not belong"},
		"signature before the headers": {"author ", "gpgsig x\nauthor ", "behind its signature"},
	} {
		t.Run(name, func(t *testing.T) {
			r, old, _, verify := signedRepo(t, key)
			src := r.source(r.serve(nil))
			src.Verify = verify
			known := newMirrors(t)
			mustFetch(t, known, src)
			raw := r.raw("commit", old)
			varied := strings.Replace(raw, tc.old, tc.new, 1)
			if tc.old != "" && varied == raw {
				t.Fatal("nothing was varied")
			}
			r.replaceHead("commit", varied, "refs/heads/main")
			if _, err := known.Fetch(context.Background(), src); !errors.Is(err, fetch.ErrRollback) {
				t.Errorf("after a newer one: error %v, want ErrRollback", err)
			}
			_, err := newMirrors(t).Fetch(context.Background(), src)
			if tc.says == "" && err != nil || tc.says != "" && (!errors.Is(err, fetch.ErrUnverified) || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("as the first one: error %v, want ErrUnverified saying %q", err, tc.says)
			}
		})
	}
}

func TestOpenPGPArmor(t *testing.T) {
	const begin, end = "-----BEGIN PGP SIGNATURE-----\n", "-----END PGP SIGNATURE-----\n"
	for name, tc := range map[string]struct {
		armor string
		ok    bool
	}{
		"plain":             {begin + "\nAAAA\nAAAA\nAA==\n=abcd\n" + end, true},
		"no checksum":       {begin + "\nAAAA\nAA==\n" + end, true},
		"old gpg":           {begin + "Version: GnuPG v1\nComment: x\n\nAAAA\n=abcd\n" + end, true},
		"GitHub":            {begin + "\nAAAA\n=abcd\n" + end + "\n", true},
		"no empty line":     {begin + "AAAA\n=abcd\n" + end, false},
		"two empty lines":   {begin + "\n\nAAAA\n=abcd\n" + end, false},
		"other header":      {begin + "X: y\n\nAAAA\n" + end, false},
		"empty":             {begin + "\n" + end, false},
		"behind":            {begin + "\nAAAA\n" + end + "x\n", false},
		"bits in the end":   {begin + "\nAAAA\nAB==\n" + end, false},
		"ragged":            {begin + "\nAAAA\nAA\nAA==\n" + end, false},
		"another block":     {begin + "\nAAAA\n" + end + begin + "\nAAAA\n" + end, false},
		"end of another":    {begin + "\nAAAA\n-----END SSH SIGNATURE-----\n", false},
		"checksum in front": {begin + "\n=abcd\nAAAA\n" + end, false},
	} {
		if err := fetch.CheckArmor(tc.armor); (err == nil) != tc.ok {
			t.Errorf("%s: %v, want it accepted: %t", name, err, tc.ok)
		}
	}
}

// An old commit of another branch is signed, too.
func TestSignedHistoryDoesNotDiverge(t *testing.T) {
	key, _ := newKey(t)
	r, old, fixed, verify := signedRepo(t, key)
	src, m := r.source(r.serve(nil)), newMirrors(t)
	src.Verify = verify
	mustFetch(t, m, src)
	r.git("reset", "-q", "--hard", old)
	r.commit("experiment", "a", "experiment")
	side := r.signHead(key)
	_, err := m.Fetch(context.Background(), src)
	if !errors.Is(err, fetch.ErrRollback) || fetch.Retryable(err) {
		t.Fatalf("error %v, want ErrRollback", err)
	}
	for _, s := range []string{side, fixed, "allowRewrite", "descendant"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("error %q does not say %q", err, s)
		}
	}
	if snap, err := (&fetch.Mirrors{Dir: m.Dir}).Last(src); err != nil || snap.Commit != fixed {
		t.Errorf("Last: %s, %v, want %s", snap.Commit, err, fixed)
	}
	src.AllowRewrite = true
	if snap := mustFetch(t, m, src); snap.Commit != side {
		t.Errorf("commit %s, want %s", snap.Commit, side)
	}
}

// onePack answers with a pack of one commit, whatever is asked for.
func onePack(id, commit string) http.Handler {
	var b bytes.Buffer
	b.WriteString("PACK\x00\x00\x00\x02\x00\x00\x00\x01")
	size := len(commit)
	head := []byte{1<<4 | byte(size&15)}
	for size >>= 4; size > 0; size >>= 7 {
		head[len(head)-1] |= 0x80
		head = append(head, byte(size&0x7f))
	}
	b.Write(head)
	z := zlib.NewWriter(&b)
	_, _ = z.Write([]byte(commit))
	z.Close()
	sum := sha1.Sum(b.Bytes()) //nolint:gosec // as above
	b.Write(sum[:])
	return rawRemote(id, b.Bytes())
}

// rawRemote has one branch, and one pack.
func rawRemote(id string, pack []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			fmt.Fprint(w, pkt("# service=git-upload-pack\n")+"0000"+pkt(id+" refs/heads/main\x00ofs-delta\n")+"0000")
			return
		}
		w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
		fmt.Fprint(w, pkt("NAK\n"))
		_, _ = w.Write(pack)
	})
}

// A remote that sends an incomplete pack has the mirror cloned anew, and may leave out of it what was accepted.
func TestRollbackIsNoticedInANewClone(t *testing.T) {
	key, _ := newKey(t)
	for name, tc := range map[string]struct {
		unsigned, diverged bool
		allow, stranger    bool // AllowRewrite; the new tip is not signed by a known key
		err                error
	}{
		"allowed":                {diverged: true, allow: true},
		"allowed, by a stranger": {diverged: true, allow: true, stranger: true, err: fetch.ErrUnverified},
		"back, signed":           {err: fetch.ErrRollback},
		"back, unsigned":         {unsigned: true, err: fetch.ErrRollback},
		"diverged, signed":       {diverged: true, err: fetch.ErrRollback},
		"diverged, unsigned":     {unsigned: true, diverged: true},
	} {
		t.Run(name, func(t *testing.T) {
			r, old, fixed, verify := signedRepo(t, key)
			honest := r.handler()
			h := honest
			src, m := r.source(r.serve(func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { h.ServeHTTP(w, q) })
			})), newMirrors(t)
			if !tc.unsigned {
				src.Verify = verify
			}
			src.AllowRewrite = tc.allow
			mustFetch(t, m, src)
			evil := "tree " + strings.Repeat("12", 20) + "\nparent " + fixed + "\nauthor E <e@e> 1750000100 +0000\ncommitter E <e@e> 1750000100 +0000\n\nx\n"
			h = onePack(r.git("hash-object", "-t", "commit", "--literally", writeFile(t, "evil", evil)), evil)
			if _, err := m.Fetch(context.Background(), src); !errors.Is(err, fetch.ErrCorrupt) {
				t.Fatalf("error %v, want ErrCorrupt", err)
			}
			was := &repo{t: t, bare: filepath.Join(t.TempDir(), "remote.git"), dir: r.dir} // has never heard of fixed
			r.git("reset", "-q", "--hard", old)
			if tc.diverged {
				r.write("a", "other")
				r.git("commit", "-q", "-a", "-m", "side")
				if !tc.stranger {
					r.signHead(key)
				}
			}
			was.run(r.dir, "clone", "-q", "--bare", "--no-local", "--single-branch", "-b", "main", "file://"+r.dir, was.bare)
			h = was.handler()
			for range 2 {
				if _, err := m.Fetch(context.Background(), src); !errors.Is(err, tc.err) {
					t.Fatalf("error %v, want %v", err, tc.err)
				}
			}
			if tc.err == nil {
				return
			}
			if snap, err := (&fetch.Mirrors{Dir: m.Dir}).Last(src); err != nil || snap.Commit != fixed {
				t.Errorf("Last: %s, %v, want %s", snap.Commit, err, fixed)
			}
			r.git("push", "-q", "--force", "origin", fixed+":main")
			h = honest
			r.git("reset", "-q", "--hard", fixed)
			r.commit("next", "a", "next")
			next := r.signHead(key)
			if snap := mustFetch(t, m, src); snap.Commit != next {
				t.Errorf("commit %s, want %s", snap.Commit, next)
			}
		})
	}
}

func TestPackOfManyObjects(t *testing.T) {
	r := newRepo(t)
	id := r.commit("first", "a", "1") // with its tree and blob
	m := newMirrors(t)
	m.MaxObjects = 2
	if _, err := m.Fetch(context.Background(), r.source(r.serve(nil))); !errors.Is(err, fetch.ErrTooLarge) || !strings.Contains(err.Error(), "3 objects, limit 2") {
		t.Errorf("error %v, want ErrTooLarge", err)
	}
	m.MaxObjects = 3
	mustFetch(t, m, r.source(r.serve(nil)))

	pack := append(binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), 1_000_001), make([]byte, 9<<20)...)
	src := r.source(r.serve(func(http.Handler) http.Handler { return rawRemote(id, pack) }))
	if _, err := newMirrors(t).Fetch(context.Background(), src); !errors.Is(err, fetch.ErrTooLarge) || !strings.Contains(err.Error(), "limit 1000000") {
		t.Errorf("error %v, want ErrTooLarge by default", err)
	}
}
