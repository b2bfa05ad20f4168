package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Mirrors keeps one mirror per source. Only Dir is required. It may be used by any number of goroutines; fetches of one
// source follow each other, fetches of different sources run in parallel. A directory belongs to one process.
type Mirrors struct {
	// Dir holds the mirrors; it is created if it does not exist. Losing it costs a fetch.
	Dir string

	MaxFileBytes int64 // of a file that is read from a snapshot; 0: 10 MiB
	TreeBytes    int64 // decoded trees kept in memory per source; 0: 4 MiB
	MaxObjects   int   // of one pack: what is noted about each is in memory at once, some 150 bytes; 0: 1,000,000
	MaxPacks     int   // per mirror, before they are merged; 0: 24

	Retries      int           // of an HTTP request, on connection errors, 429 and 5xx; 0: 3, negative: none
	RetryWait    time.Duration // before the first retry, doubled for each further one; 0: 500 ms
	MaxRetryWait time.Duration // a server that asks for more patience (Retry-After) is not asked again; 0: 10 s

	// Transport is copied for each source, to restrict where connections may go, say. nil: net/http's default, which
	// honours HTTPS_PROXY and NO_PROXY.
	Transport *http.Transport

	mu      sync.Mutex
	mirrors map[string]*mirror // by directory name
	pools   map[poolKey]*http.Transport
	making  map[string]struct{} // temporary directories in use
}

// Fetch returns the commit that s.Ref points to at the remote. If it is the one accepted last, nothing but the ref
// listing is transferred, and the Snapshot has the FS it had before.
//
// Errors are an *Error; Retryable tells which of them may pass. A refused or failed fetch changes nothing: Last still
// returns what was accepted before.
func (m *Mirrors) Fetch(ctx context.Context, s Source) (Snapshot, error) {
	if err := s.Validate(); err != nil {
		return Snapshot{}, &Error{Source: s.Name, Op: "validate", Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
	}
	return m.mirror(s).fetch(ctx, s)
}

// Last returns the snapshot accepted last, from the disk, without network: after a restart, while the remote is gone,
// or while its newer commits are refused. errors.Is(err, ErrNoSnapshot) when there is none, also when Ref was changed
// since, or when the mirror is damaged; ErrUnverified when the commit does not satisfy s.Verify (any more).
func (m *Mirrors) Last(s Source) (Snapshot, error) {
	if err := s.Validate(); err != nil {
		return Snapshot{}, &Error{Source: s.Name, Op: "validate", Err: fmt.Errorf("%w: %w", ErrInvalid, err)}
	}
	return m.mirror(s).lastAccepted(s)
}

// Collect removes what no longer belongs to a known source: mirrors of sources that were removed or renamed or got
// another URL, and what a killed process left half made. Call it at start, before the first Fetch.
func (m *Mirrors) Collect(known []Source) error {
	keep := map[string]struct{}{}
	for _, s := range known {
		keep[dirName(s)] = struct{}{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	entries, err := os.ReadDir(m.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		_, wanted := keep[e.Name()]
		_, inUse := m.making[e.Name()]
		ours := strings.HasPrefix(e.Name(), tmpPrefix) || mirrorName.MatchString(e.Name())
		if wanted || inUse || !ours {
			continue
		}
		delete(m.mirrors, e.Name())
		if err := os.RemoveAll(filepath.Join(m.Dir, e.Name())); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

const tmpPrefix = "tmp-mirror-"

var mirrorName = regexp.MustCompile(`^[a-z0-9][-a-z0-9]*-[0-9a-f]{16}\.git$`)

func dirName(s Source) string {
	sum := sha256.Sum256([]byte(s.URL))
	return s.Name + "-" + hex.EncodeToString(sum[:8]) + ".git"
}

func (m *Mirrors) mirror(s Source) *mirror {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := dirName(s)
	if m.mirrors == nil {
		m.mirrors = map[string]*mirror{}
	}
	if m.mirrors[name] == nil {
		m.mirrors[name] = &mirror{owner: m, dir: filepath.Join(m.Dir, name), turn: make(chan struct{}, 1)}
	}
	return m.mirrors[name]
}

// prepare makes an empty mirror under a temporary name.
func (m *Mirrors) prepare() (dir string, err error) {
	if err := os.MkdirAll(m.Dir, 0o700); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir, err = os.MkdirTemp(m.Dir, tmpPrefix); err != nil {
		return "", err
	}
	if m.making == nil {
		m.making = map[string]struct{}{}
	}
	m.making[filepath.Base(dir)] = struct{}{}
	return dir, initBare(dir)
}

// discard removes a temporary directory.
func (m *Mirrors) discard(dir string) {
	_ = os.RemoveAll(dir) // Collect has another go
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.making, filepath.Base(dir))
}

// initBare lays out what git needs to see to take dir for a bare repository: people may look into it.
func initBare(dir string) error {
	for _, d := range []string{"objects/pack", "objects/info", "refs/heads", "refs/plumbline"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(d)), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte("[core]\n\trepositoryformatversion = 0\n\tbare = true\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "HEAD"), []byte("ref: refs/heads/none\n"), 0o600)
}
