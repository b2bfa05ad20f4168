package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// sshSession speaks upload-pack over ssh. go-git's own ssh transport reads the configuration, agent and proxy settings
// of whoever runs the process, and does not bound the handshake.
type sshSession struct {
	client *ssh.Client
	sess   *ssh.Session
	in     io.WriteCloser
	out    io.Reader
	errs   *shortBuffer
	adv    *packp.AdvRefs
	asked  bool
}

func openSSH(ctx context.Context, s Source, ses *session) error {
	host := &hostCheck{file: s.Auth.KnownHostsFile}
	config, err := sshConfig(s, ses, host)
	if err != nil {
		return err
	}
	addr := net.JoinHostPort(ses.remote.host, strconv.Itoa(orDefault(ses.remote.port, 22)))
	if err := host.load(addr, config); err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, channels, requests, err := ssh.NewClientConn(conn, addr, config)
	if err != nil {
		conn.Close()
		if host.err != nil {
			return host.err
		}
		if strings.Contains(err.Error(), "unable to authenticate") {
			return withHint(fmt.Errorf("%w: the server did not accept the key of auth.sshKeyFile for user %q", ErrAuth, config.User), "add its public key on the server")
		}
		return err
	}
	g := &sshSession{client: ssh.NewClient(c, channels, requests), errs: &shortBuffer{}}
	if err := g.start(ses.remote.path); err != nil {
		g.client.Close()
		return err
	}
	ses.git = g
	return nil
}

func sshConfig(s Source, ses *session, host *hostCheck) (*ssh.ClientConfig, error) {
	key, err := readFile(s.Auth.SSHKeyFile, maxSecretFile)
	if err != nil {
		return nil, fmt.Errorf("%w: auth.sshKeyFile: %w", ErrInvalid, err)
	}
	var signer ssh.Signer
	if s.Auth.PasswordFile != "" {
		pass, err := readSecret(s.Auth.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("%w: auth.passwordFile: %w", ErrInvalid, err)
		}
		ses.secrets = append(ses.secrets, pass)
		signer, err = ssh.ParsePrivateKeyWithPassphrase(key, []byte(pass))
		if err != nil {
			return nil, fmt.Errorf("%w: auth.sshKeyFile: %s: cannot be opened with the passphrase in auth.passwordFile", ErrInvalid, s.Auth.SSHKeyFile)
		}
	} else if signer, err = ssh.ParsePrivateKey(key); err != nil {
		var locked *ssh.PassphraseMissingError
		if errors.As(err, &locked) {
			return nil, withHint(fmt.Errorf("%w: auth.sshKeyFile: %s is protected by a passphrase", ErrInvalid, s.Auth.SSHKeyFile), "name a file that holds it in auth.passwordFile")
		}
		return nil, fmt.Errorf("%w: auth.sshKeyFile: %s is not a private key", ErrInvalid, s.Auth.SSHKeyFile)
	}
	return &ssh.ClientConfig{
		User: orDefault(ses.remote.user, "git"), Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: host.check,
	}, nil
}

// hostCheck compares the key of a host with a known_hosts file, and remembers why it was refused.
type hostCheck struct {
	file  string
	known ssh.HostKeyCallback
	err   error
}

// load reads the file, and asks the server for keys of the kinds that it holds for addr.
func (h *hostCheck) load(addr string, config *ssh.ClientConfig) error {
	var err error
	if h.known, err = knownhosts.New(h.file); err != nil {
		return fmt.Errorf("%w: auth.knownHostsFile: %w", ErrInvalid, err)
	}
	var unknown *knownhosts.KeyError
	if err := h.known(addr, &net.TCPAddr{IP: net.IPv4zero}, noKey{}); errors.As(err, &unknown) {
		for _, k := range unknown.Want {
			config.HostKeyAlgorithms = append(config.HostKeyAlgorithms, algorithms(k.Key.Type())...)
		}
	}
	return nil
}

func algorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

func (h *hostCheck) check(addr string, at net.Addr, key ssh.PublicKey) error {
	err := h.known(addr, at, key)
	if err == nil {
		return nil
	}
	host := knownhosts.Normalize(addr)
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		h.err = fmt.Errorf("%w: %s shows %s, which %s marks as revoked", ErrHostKey, host, shown, h.file)
	case errors.As(err, &unknown) && len(unknown.Want) == 0:
		h.err = withHint(fmt.Errorf("%w: %s is not in %s; it shows %s", ErrHostKey, host, h.file, shown),
			"compare the fingerprint with the one its operator publishes, then add the host's line from ssh-keyscan to the file")
	case errors.As(err, &unknown):
		want := make([]string, len(unknown.Want))
		for i, k := range unknown.Want {
			want[i] = k.Key.Type() + " " + ssh.FingerprintSHA256(k.Key)
		}
		h.err = withHint(fmt.Errorf("%w: %s shows %s, but %s holds %s", ErrHostKey, host, shown, h.file, strings.Join(want, ", ")),
			"somebody may be listening in; replace its lines in the file only if its operator announced a new key")
	default:
		h.err = fmt.Errorf("%w: %s shows %s: %s", ErrHostKey, host, shown, printable(err.Error(), maxText))
	}
	return h.err
}

// noKey is no host's key: asking for it yields the ones that are known.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return nil }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("not a key") }

func (g *sshSession) start(path string) error {
	var err error
	if g.sess, err = g.client.NewSession(); err != nil {
		return err
	}
	if g.in, err = g.sess.StdinPipe(); err != nil {
		return err
	}
	if g.out, err = g.sess.StdoutPipe(); err != nil {
		return err
	}
	g.sess.Stderr = g.errs
	return g.sess.Start("git-upload-pack " + shellQuote(path))
}

// shellQuote is Git's sq_quote_buf.
func shellQuote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s) + "'"
}

func (g *sshSession) AdvertisedReferences() (*packp.AdvRefs, error) {
	return g.AdvertisedReferencesContext(context.Background())
}

func (g *sshSession) AdvertisedReferencesContext(ctx context.Context) (*packp.AdvRefs, error) {
	if g.adv != nil {
		return g.adv, nil
	}
	defer context.AfterFunc(ctx, func() { g.client.Close() })()
	adv := packp.NewAdvRefs()
	err := adv.Decode(&boundedBody{ReadCloser: io.NopCloser(g.out), left: maxListing, limit: maxListing})
	switch {
	case errors.Is(err, packp.ErrEmptyInput):
		_ = g.in.Close()
		_ = g.sess.Wait() // for all of stderr
		return nil, sshRefusal(g.errs.String())
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && adv.IsEmpty():
		return nil, transport.ErrEmptyRemoteRepository
	case err != nil:
		var line *pktline.ErrorLine
		if errors.As(err, &line) {
			return nil, sshRefusal(line.Text)
		}
		return nil, err
	}
	transport.FilterUnsupportedCapabilities(adv.Capabilities)
	g.adv = adv
	return adv, nil
}

// sshRefusal classifies what servers write instead of refs; there are no status codes.
func sshRefusal(text string) error {
	lower := strings.ToLower(text)
	text = printable(text, maxText)
	for _, s := range []string{"not found", "does not exist", "not appear to be a git repository", "no such", "could not be found", "not a git repository"} {
		if strings.Contains(lower, s) {
			return withHint(fmt.Errorf("%w: the server says: %s", ErrNotFound, text), "check the url; servers also say this when the key may not see the repository")
		}
	}
	for _, s := range []string{"denied", "access", "permission", "unauthorized"} {
		if strings.Contains(lower, s) {
			return fmt.Errorf("%w: the server says: %s", ErrAuth, text)
		}
	}
	if text == "" {
		text = "nothing"
	}
	return fmt.Errorf("%w: the server closed the connection and says: %s", ErrUnavailable, text)
}

func (g *sshSession) UploadPack(ctx context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	stop := context.AfterFunc(ctx, func() { g.client.Close() })
	g.asked = true
	if err := g.ask(req); err != nil {
		stop()
		return nil, err
	}
	res := packp.NewUploadPackResponse(req)
	if err := res.Decode(closeFunc{g.out, stop}); err != nil {
		stop()
		return nil, err
	}
	return res, nil
}

func (g *sshSession) ask(req *packp.UploadPackRequest) error {
	if err := req.UploadRequest.Encode(g.in); err != nil {
		return err
	}
	if err := req.UploadHaves.Encode(g.in, true); err != nil {
		return err
	}
	if err := pktline.NewEncoder(g.in).Encodef("done\n"); err != nil {
		return err
	}
	return g.in.Close()
}

type closeFunc struct {
	io.Reader
	stop func() bool
}

func (c closeFunc) Close() error { c.stop(); return nil }

func (g *sshSession) Close() error {
	if !g.asked && g.adv != nil {
		_, _ = g.in.Write(pktline.FlushPkt) // politely: nothing is wanted
	}
	return g.client.Close()
}

// shortBuffer keeps the beginning of what is written to it.
type shortBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *shortBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if room := 4096 - b.buf.Len(); room > 0 {
		b.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *shortBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
