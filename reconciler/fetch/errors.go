package fetch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// What can be wrong with a fetch; errors.Is finds them in what Fetch and Last return.
var (
	ErrInvalid     = errors.New("invalid source")                              // Source.Validate failed, or a file it names cannot be used
	ErrAuth        = errors.New("not authorised")                              // the remote refused the credentials, or asked for some
	ErrHostKey     = errors.New("host key not accepted")                       // ssh: unknown or changed
	ErrTLS         = errors.New("certificate not accepted")                    // https
	ErrNotFound    = errors.New("repository not found")                        // gone, renamed, or hidden from these credentials
	ErrRefNotFound = errors.New("ref not found")                               // no such branch or tag, no tag in the range
	ErrEmpty       = errors.New("repository is empty")                         // no commit yet
	ErrUnverified  = errors.New("commit is not signed by a known key")         // Source.Verify
	ErrRollback    = errors.New("ref was rolled back")                         // to an ancestor of the accepted commit; with Verify: to anything but a descendant
	ErrTooLarge    = errors.New("too large")                                   // a budget was exceeded
	ErrProtocol    = errors.New("not understood")                              // the answer is not Git's
	ErrUnavailable = errors.New("unavailable")                                 // network, 429, 5xx: later it may work
	ErrCorrupt     = errors.New("mirror is damaged")                           // noticed while reading; the next Fetch clones anew
	ErrNoSnapshot  = errors.New("no snapshot of this source was accepted yet") // Last
)

// Error is what Fetch and Last return: which source, doing what, why, and what to do about it.
// Its text holds no credentials.
type Error struct {
	Source string // Source.Name
	Op     string // such as "list refs of https://host/repo.git"
	Err    error  // wraps one of the sentinels of this package, or a context's error
	Hint   string // what a person can do; may be empty
}

func (e *Error) Error() string {
	s := fmt.Sprintf("source %q: %s: %v", e.Source, e.Op, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// terminal errors stay until the source, its files or the remote are changed by somebody.
var terminal = []error{
	ErrInvalid, ErrAuth, ErrHostKey, ErrTLS, ErrNotFound, ErrRefNotFound, ErrEmpty, ErrUnverified, ErrRollback,
	ErrTooLarge, ErrProtocol, ErrNoSnapshot, context.Canceled,
}

// Retryable reports whether the same call may succeed a little later without anybody changing anything:
// network trouble, timeouts, 429 and 5xx answers, a full disk, a damaged mirror.
func Retryable(err error) bool {
	if err == nil {
		return false
	}
	for _, t := range terminal {
		if errors.Is(err, t) {
			return false
		}
	}
	return true
}

// hinted carries what a person can do from where it is known to the Error that is returned.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// fail builds the error that leaves the package.
func fail(s Source, op string, err error) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return err
	}
	var h hinted
	hint := ""
	if errors.As(err, &h) {
		hint = h.hint
	}
	return &Error{Source: s.Name, Op: op, Err: err, Hint: hint}
}

// printable makes text from outside fit for an error or a table: one line, no control characters, at most n runes.
func printable(s string, n int) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		if n--; n < 0 {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteRune('\uFFFD')
		}
	}
	return strings.TrimSpace(b.String())
}

func formatBytes(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.4g KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
