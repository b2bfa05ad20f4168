package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

const (
	defaultMaxBytes = 1 << 30
	maxListing      = 64 << 20 // bytes of a ref listing: some 900,000 refs
	listTimeout     = time.Minute
	packTimeout     = 10 * time.Minute
)

// session is one conversation with a remote: a listing, then perhaps a pack.
type session struct {
	git     transport.UploadPackSession
	remote  remote
	adv     *packp.AdvRefs
	secrets []string
	// status is the last answer of an HTTP server, where there is one.
	status func() httpStatus
	// copy takes the place of a pack from the remote, where there is no remote.
	copy    func(ctx context.Context, to *store, want plumbing.Hash, limit int64) error
	timeout time.Duration
	limit   int64
}

// connect prepares a session. Each scheme brings its own go-git transport, made for this source alone: go-git's registry
// of protocols is global, so certificates and credentials of one source would be those of all.
func (m *Mirrors) connect(ctx context.Context, s Source) (*session, error) {
	r, err := parseURL(s.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: url: %w", ErrInvalid, err)
	}
	ses := &session{remote: r, timeout: s.Timeout, limit: s.MaxBytes}
	if ses.limit == 0 {
		ses.limit = defaultMaxBytes
	}
	switch r.scheme {
	case "https", "http":
		err = m.openHTTP(s, ses)
	case "ssh":
		ctx, cancel := ses.bound(ctx, listTimeout)
		defer cancel()
		err = openSSH(ctx, s, ses)
		err = ses.explain(ctx, err)
	case "file":
		err = openLocal(ses)
	}
	return ses, err
}

func (s *session) bound(ctx context.Context, fallback time.Duration) (context.Context, context.CancelFunc) {
	d := s.timeout
	if d == 0 {
		d = fallback
	}
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w after %s", context.DeadlineExceeded, d))
}

// list asks for the refs.
func (s *session) list(ctx context.Context) (*packp.AdvRefs, error) {
	ctx, cancel := s.bound(ctx, listTimeout)
	defer cancel()
	adv, err := s.git.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	s.adv = adv
	return adv, nil
}

// download stores everything that want leads to and have does not.
func (s *session) download(ctx context.Context, st *store, want plumbing.Hash, have []plumbing.Hash) error {
	ctx, cancel := s.bound(ctx, packTimeout)
	defer cancel()
	if s.copy != nil {
		return s.explain(ctx, s.copy(ctx, st, want, s.limit))
	}
	return s.explain(ctx, s.transfer(ctx, st, want, have))
}

func (s *session) transfer(ctx context.Context, st *store, want plumbing.Hash, have []plumbing.Hash) error {
	req := packp.NewUploadPackRequestFromCapabilities(s.adv.Capabilities)
	if s.adv.Capabilities.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	req.Wants = []plumbing.Hash{want}
	req.Haves = have
	res, err := s.git.UploadPack(ctx, req)
	if errors.Is(err, transport.ErrEmptyUploadPackRequest) {
		return fmt.Errorf("%w: the server sent no pack", ErrUnavailable)
	}
	if err != nil {
		return err
	}
	defer res.Close()
	return st.add(ctx, demux(req.Capabilities, res), s.limit)
}

func demux(caps *capability.List, r io.Reader) io.Reader {
	switch {
	case caps.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case caps.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}

func (s *session) close() {
	if s.git != nil {
		_ = s.git.Close()
	}
}

// explain turns what go-git and the network say into one of our errors, without secrets. Causes are kept as text only:
// they may hold requests, and with them headers.
func (s *session) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, ours := range append(terminal, ErrUnavailable, ErrCorrupt) {
		if errors.Is(err, ours) {
			return s.safe(err)
		}
	}
	text := s.redact(err.Error())
	if s.status != nil {
		if err := s.status().explain(s, text); err != nil {
			return err
		}
	}
	switch {
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return withHint(fmt.Errorf("%w: %s", ErrAuth, text), "check the files in auth, and what they may access")
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return withHint(fmt.Errorf("%w: %s", ErrNotFound, text), "check the url; servers also say this when the credentials may not see the repository")
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return withHint(ErrEmpty, "push a first commit")
	case garbled(err, text):
		return withHint(fmt.Errorf("%w: %s", ErrProtocol, text), "is the url that of a Git repository?")
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, text)
}

// garbled recognises go-git's complaints about answers that are not Git's.
func garbled(err error, text string) bool {
	var data *packp.ErrUnexpectedData
	if errors.As(err, &data) {
		return true
	}
	for _, s := range []string{"pkt-line", "pkt-len", "malformed", "unexpected content", "invalid", "unknown channel"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// safe keeps an error of ours, unless its text holds a secret.
func (s *session) safe(err error) error {
	for _, secret := range s.secrets {
		if strings.Contains(err.Error(), secret) {
			return fmt.Errorf("%w: %s", classOf(err), s.redact(err.Error()))
		}
	}
	return err
}

func classOf(err error) error {
	for _, ours := range terminal {
		if errors.Is(err, ours) {
			return ours
		}
	}
	return ErrUnavailable
}

const maxText = 500

func (s *session) redact(text string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "REDACTED")
	}
	return printable(text, maxText)
}
