package images

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/semaphore"
)

// Options say what to find out of images, and how.
type Options struct {
	// Database is a directory with trivy.db, or oci://REGISTRY/REPOSITORY:TAG. Empty:
	// images have to be there, and nothing is asked of what is in them.
	Database string
	// CacheDir keeps what is in images, and the database if it is from a registry.
	CacheDir string
	// Platforms have to be there, as OS/ARCH[/VARIANT].
	Platforms []string
	// DockerConfig is a file with credentials, in Docker's format.
	DockerConfig string
	// Insecure registries, as HOST[:PORT], may speak plain HTTP, and be on loopback or link-local addresses.
	Insecure []string
	// Timeout bounds how long an image is read. Default 10 minutes.
	Timeout time.Duration
	// Now is the clock; nil: the real one.
	Now func() time.Time

	maxBytes int64 // of an image, uncompressed
}

// Report is what is known of an image.
type Report struct {
	Reference string
	Digest    string // of what the reference leads to
	Missing   string // what is not there; empty: all is
	Unknown   string // what could not be found out, and why; empty: all was
	// Vulnerabilities are those that the database has, without doubles.
	Vulnerabilities []Vulnerability
	// Retry is when it is worth asking again; zero: nothing is missing or unknown.
	Retry time.Time
}

// Vulnerability is of a package in an image.
type Vulnerability struct {
	ID, Severity, Title, Package, Version, Fixed, URL, PURL string
	Path                                                    string // within the image, of what is no package of the distribution
}

// How long answers hold, and how many images are read at once.
const (
	tagFor     = 10 * time.Minute // what a tag leads to
	digestFor  = 24 * time.Hour
	retryFirst = time.Minute
	retryLast  = 30 * time.Minute
	findFor    = time.Minute // where an image is
	perHost    = 2           // images of one registry that are found, and that are read, at a time: a slow one keeps nobody else waiting
	reading    = 8           // images that are read at a time
	references = 10_000      // answers that are kept, whether they hold or not
)

// Scanner looks at images. It may be used by any number of goroutines.
type Scanner struct {
	options  Options
	registry *registry
	database *database
	store    store
	slots    *semaphore.Weighted
	stop     context.CancelFunc
	ctx      context.Context //nolint:containedctx // of what is asked for while nobody waits: it ends with Close
	running  sync.WaitGroup

	mu      sync.Mutex
	answers map[string]*answer
	hosts   map[string]*semaphore.Weighted
	most    int // answers, before old ones are looked for
}

// answer is to one reference.
type answer struct {
	done   chan struct{} // closed: report may be read
	report Report
	until  time.Time
	failed int // how often in a row something was missing or unknown
}

// New makes a Scanner. It asks nothing of anybody yet.
func New(o Options) (*Scanner, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if len(o.Platforms) == 0 {
		o.Platforms = []string{"linux/" + runtime.GOARCH}
	}
	if o.maxBytes == 0 {
		o.maxBytes = 8 << 30
	}
	registry, err := newRegistry(o)
	if err != nil {
		return nil, err
	}
	s := &Scanner{options: o, registry: registry, store: store{o.CacheDir}, slots: semaphore.NewWeighted(reading),
		answers: map[string]*answer{}, hosts: map[string]*semaphore.Weighted{}}
	if o.Database != "" {
		if s.database, err = newDatabase(o.Database, s.store, registry); err != nil {
			return nil, err
		}
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close ends all that is being asked for.
func (s *Scanner) Close() {
	s.stop()
	s.running.Wait()
}

// Look tells what is known of an image. If that takes asking, it is asked for, and wait
// is closed when there is an answer to Look for. anew has it ask at once for what was
// missing or unknown, not only when it is time to.
func (s *Scanner) Look(reference string, anew bool) (report Report, wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, ok := s.answers[reference]
	if ok {
		select {
		case <-before.done:
			if s.options.Now().Before(before.until) && (!anew || before.report.Retry.IsZero()) {
				return before.report, nil
			}
		default:
			return Report{}, before.done
		}
	}
	now := &answer{done: make(chan struct{})}
	if ok {
		now.failed = before.failed
	}
	s.forget()
	s.answers[reference] = now
	s.running.Go(func() { s.ask(reference, now) })
	return Report{}, now.done
}

// forget drops the answers that hold no longer, each time that they have become twice as many.
func (s *Scanner) forget() {
	if len(s.answers) < max(s.most, references) {
		return
	}
	for reference, a := range s.answers {
		select {
		case <-a.done:
			if !s.options.Now().Before(a.until) {
				delete(s.answers, reference)
			}
		default:
		}
	}
	s.most = 2 * len(s.answers)
}

// ask finds an answer. Whatever happens, there is one.
func (s *Scanner) ask(reference string, a *answer) {
	defer close(a.done)
	a.report = s.find(s.ctx, reference)
	a.report.Reference = reference
	now := s.options.Now()
	switch {
	case a.report.Missing != "" || a.report.Unknown != "":
		a.until = now.Add(min(retryFirst<<min(a.failed, 10), retryLast))
		a.report.Retry = a.until
		a.failed++
	case strings.Contains(reference, "@"):
		a.until, a.failed = now.Add(digestFor), 0
	default:
		a.until, a.failed = now.Add(tagFor), 0
	}
}

func (s *Scanner) find(ctx context.Context, reference string) (report Report) {
	defer func() {
		if p := recover(); p != nil {
			report.Unknown = cut(fmt.Sprintf("can't be looked at: %v", p))
		}
	}()
	ref, err := s.registry.parse(reference)
	if err != nil {
		return Report{Missing: "no registry can have one of that name"}
	}
	found, err := s.locate(ctx, ref)
	report.Digest = found.digest
	if err == nil && s.database != nil {
		err = s.vulnerabilities(ctx, found, &report)
	}
	var missing *missingError
	switch {
	case errors.As(err, &missing):
		report.Missing = missing.text
	case err != nil:
		report.Unknown = cut(err.Error())
	}
	return report
}

func (s *Scanner) locate(ctx context.Context, ref name.Reference) (located, error) {
	leave, err := s.enter(ctx, "find "+ref.Context().RegistryStr())
	if err != nil {
		return located{}, err
	}
	defer leave()
	return within(ctx, findFor, func(ctx context.Context) (located, error) { return s.registry.find(ctx, ref, s.store) })
}

// enter waits until a registry may be asked for something.
func (s *Scanner) enter(ctx context.Context, what string) (leave func(), err error) {
	s.mu.Lock()
	slots, ok := s.hosts[what]
	if !ok {
		slots = semaphore.NewWeighted(perHost)
		s.hosts[what] = slots
	}
	s.mu.Unlock()
	if err := slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { slots.Release(1) }, nil
}

// within does something in a given time.
func within[T any](ctx context.Context, most time.Duration, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	out, err := do(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		first, _, _ := strings.Cut(err.Error(), ": ") // the rest is about contexts
		return out, fmt.Errorf("%s: not within %s", cut(first), most)
	}
	return out, err
}

// vulnerabilities reads the image for each platform, and asks the database.
func (s *Scanner) vulnerabilities(ctx context.Context, found located, report *Report) error {
	if err := s.database.ready(ctx); err != nil {
		return err
	}
	known := map[Vulnerability]bool{}
	for _, digest := range found.images {
		inventory, err := s.inventory(ctx, found, digest)
		if err != nil {
			return err
		}
		vulnerabilities, err := s.database.detect(ctx, inventory)
		for _, v := range vulnerabilities {
			if !known[v] {
				known[v] = true
				report.Vulnerabilities = append(report.Vulnerabilities, v)
			}
		}
		if err != nil {
			return err
		}
		if len(inventory.Unread) > 0 {
			report.Unknown = "holds what is not looked at: " + strings.Join(inventory.Unread, ", ")
		}
	}
	return nil
}

// inventory is what is in an image: as it was kept, or read now.
func (s *Scanner) inventory(ctx context.Context, found located, digest v1.Hash) (inventory, error) {
	var in inventory
	if s.store.load("inventories", digest.Hex, &in) && in.Format == inventoryFormat {
		return in, nil
	}
	leave, err := s.enter(ctx, "read "+found.repository.RegistryStr()) // who is slow to give is quick to tell
	if err != nil {
		return in, err
	}
	defer leave()
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return in, err
	}
	defer s.slots.Release(1)
	in, err = within(ctx, s.options.Timeout, func(ctx context.Context) (inventory, error) {
		image, err := s.registry.image(ctx, found, digest)
		if err != nil {
			return inventory{}, err
		}
		return read(ctx, image, s.options.maxBytes, s.store.place())
	})
	if err != nil {
		return in, err
	}
	s.store.save("inventories", digest.Hex, in)
	return in, nil
}
