package fetch_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
)

func newKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	return signer, writeFile(t, "id_ed25519", string(pem.EncodeToMemory(block)))
}

// newLockedKey is protected in the old PEM way: the key derivation of the newer one takes seconds under -race.
func newLockedKey(t testing.TB) (ssh.Signer, string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte(canary), x509.PEMCipherAES256) //nolint:staticcheck // see above
	if err != nil {
		t.Fatal(err)
	}
	return signer, writeFile(t, "id_ecdsa", string(pem.EncodeToMemory(block)))
}

// sshServer runs git upload-pack on root/<path> for whoever has the key. say, if set, is written to stderr instead.
type sshServer struct {
	t       *testing.T
	root    string
	host    ssh.Signer
	allowed ssh.PublicKey
	say     string
	hang    bool
	addr    string
}

func (s *sshServer) start() {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.t.Cleanup(func() { c.Close() })
			if !s.hang {
				go s.serve(c)
			}
		}
	}()
}

func (s *sshServer) serve(c net.Conn) {
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(s.allowed.Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(s.host)
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			for req := range reqs {
				var payload struct{ Command string }
				_ = ssh.Unmarshal(req.Payload, &payload)
				_ = req.Reply(req.Type == "exec", nil)
				if req.Type == "exec" {
					s.exec(ch, payload.Command)
				}
			}
		}()
	}
}

func (s *sshServer) exec(ch ssh.Channel, command string) {
	defer ch.Close()
	path, ok := strings.CutPrefix(command, "git-upload-pack '/")
	if !ok || s.say != "" {
		_, _ = ch.Stderr().Write([]byte(s.say + "\n"))
		_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 1})
		return
	}
	cmd := exec.Command("git", "upload-pack", s.root+"/"+strings.TrimSuffix(path, "'"))
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	in, err := cmd.StdinPipe() // as for sshd, the end of the command ends the session, whatever the client sends
	if err != nil || cmd.Start() != nil {
		return
	}
	go func() { _, _ = io.Copy(in, ch); in.Close() }()
	_ = cmd.Wait()
	_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
}

func TestSSH(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "/does/not/exist")
	r := newRepo(t)
	first := r.commit("first", "a", "1")
	host, _ := newKey(t)
	key, keyFile := newKey(t)
	locked, lockedFile := newLockedKey(t)
	_, strangerFile := newKey(t)
	other, _ := newKey(t)
	pass := writeFile(t, "pass", canary+"\n")
	empty := writeFile(t, "known_hosts", "")

	for name, tc := range map[string]struct {
		auth      fetch.Auth
		hosts     func(addr string) string
		server    sshServer
		path      string
		err       error
		says      []string
		retryable bool
	}{
		"key":                     {auth: fetch.Auth{SSHKeyFile: keyFile}},
		"key with a passphrase":   {auth: fetch.Auth{SSHKeyFile: lockedFile, PasswordFile: pass}, server: sshServer{allowed: locked.PublicKey()}},
		"passphrase is missing":   {auth: fetch.Auth{SSHKeyFile: lockedFile}, err: fetch.ErrInvalid, says: []string{"passphrase"}},
		"passphrase is wrong":     {auth: fetch.Auth{SSHKeyFile: lockedFile, PasswordFile: writeFile(t, "p", "c4n4ry")}, err: fetch.ErrInvalid},
		"not a key":               {auth: fetch.Auth{SSHKeyFile: pass}, err: fetch.ErrInvalid},
		"key that nobody knows":   {auth: fetch.Auth{SSHKeyFile: strangerFile}, err: fetch.ErrAuth, says: []string{`"git"`}},
		"host that nobody knows":  {auth: fetch.Auth{SSHKeyFile: keyFile, KnownHostsFile: empty}, err: fetch.ErrHostKey, says: []string{"127.0.0.1", ssh.FingerprintSHA256(host.PublicKey()), "ssh-keyscan"}},
		"host with a new key":     {auth: fetch.Auth{SSHKeyFile: keyFile}, hosts: func(addr string) string { return knownhosts.Line([]string{addr}, other.PublicKey()) }, err: fetch.ErrHostKey, says: []string{ssh.FingerprintSHA256(host.PublicKey()), ssh.FingerprintSHA256(other.PublicKey())}},
		"host that is revoked":    {auth: fetch.Auth{SSHKeyFile: keyFile}, hosts: func(addr string) string { return "@revoked " + knownhosts.Line([]string{addr}, host.PublicKey()) }, err: fetch.ErrHostKey, says: []string{"revoked"}},
		"repository that is gone": {auth: fetch.Auth{SSHKeyFile: keyFile}, path: "/other.git", err: fetch.ErrNotFound},
		"server that denies":      {auth: fetch.Auth{SSHKeyFile: keyFile}, server: sshServer{say: "FATAL: DENIED by rule"}, err: fetch.ErrAuth},
		"server that is sorry":    {auth: fetch.Auth{SSHKeyFile: keyFile}, server: sshServer{say: "maintenance"}, err: fetch.ErrUnavailable, says: []string{"maintenance"}, retryable: true},
		"server that hangs":       {auth: fetch.Auth{SSHKeyFile: keyFile}, server: sshServer{hang: true}, err: context.DeadlineExceeded, retryable: true},
		"host in another form": {auth: fetch.Auth{SSHKeyFile: keyFile}, hosts: func(addr string) string {
			return knownhosts.HashHostname(knownhosts.Normalize(addr)) + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host.PublicKey())))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := tc.server
			srv.t, srv.root, srv.host = t, strings.TrimSuffix(r.bare, "/remote.git"), host
			if srv.allowed == nil {
				srv.allowed = key.PublicKey()
			}
			srv.start()
			src := fetch.Source{Name: "apps", URL: "ssh://git@" + srv.addr + "/remote.git", Auth: tc.auth, Timeout: 20 * time.Second}
			if tc.path != "" {
				src.URL = "ssh://" + srv.addr + tc.path
			}
			if srv.hang {
				src.Timeout = 300 * time.Millisecond
			}
			if src.Auth.KnownHostsFile == "" {
				line := knownhosts.Line([]string{srv.addr}, host.PublicKey())
				if tc.hosts != nil {
					line = tc.hosts(srv.addr)
				}
				src.Auth.KnownHostsFile = writeFile(t, "known_hosts", line+"\n")
			}
			m := newMirrors(t)
			snap, err := m.Fetch(context.Background(), src)
			if !errors.Is(err, tc.err) || fetch.Retryable(err) != tc.retryable {
				t.Fatalf("error %v (retryable %t), want %v (%t)", err, fetch.Retryable(err), tc.err, tc.retryable)
			}
			assertNoSecret(t, err)
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
			if tc.err != nil {
				return
			}
			if snap.Commit != first {
				t.Errorf("commit %s, want %s", snap.Commit, first)
			}
			mustFetch(t, m, src) // nothing new
		})
	}
	t.Run("incremental", func(t *testing.T) {
		srv := sshServer{t: t, root: strings.TrimSuffix(r.bare, "/remote.git"), host: host, allowed: key.PublicKey()}
		srv.start()
		src := fetch.Source{Name: "apps", URL: "ssh://git@" + srv.addr + "/remote.git", Auth: fetch.Auth{SSHKeyFile: keyFile, KnownHostsFile: writeFile(t, "k", knownhosts.Line([]string{srv.addr}, host.PublicKey()))}}
		m := newMirrors(t)
		mustFetch(t, m, src)
		second := r.commit("second", "b", "2")
		if snap := mustFetch(t, m, src); snap.Commit != second {
			t.Errorf("commit %s, want %s", snap.Commit, second)
		}
	})
}
