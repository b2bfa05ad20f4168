package secrets

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// ReferenceError says of one reference why it can't be resolved.
type ReferenceError struct {
	Origin    string // file
	Object    string // kind, namespace and name
	Field     string // /stringData/password
	Reference string // as written
	Err       error

	others int  // that failed for the same reason
	fault  bool // an input's
}

// mostText bounds the message of one error, in bytes.
const mostText = 1 << 10

// InputFault is true where only a commit, or another configuration, cures it: a
// reference that is none, or where none may stand, that is not granted, or one of
// too many. It is false where OpenBao may give the value later.
func (e *ReferenceError) InputFault() bool { return e.fault }

func (e *ReferenceError) input() *ReferenceError {
	e.fault = true
	return e
}

func (e *ReferenceError) Error() string {
	text := ""
	if e.Origin != "" {
		text = cutTo(e.Origin, mostText/8) + ": "
	}
	text += fmt.Sprintf("%s %s: %s: ", cutTo(e.Object, mostText/8), cutTo(e.Field, mostText/8), cutTo(e.Reference, mostText/4))
	text += cutTo(e.Err.Error(), mostText-len(text)-32)
	if e.others > 0 {
		text += fmt.Sprintf(" (and so for %d more)", e.others)
	}
	return text
}

// cutTo is the beginning of a text, of so many bytes at the most.
func cutTo(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}

// Unwrap gives the cause.
func (e *ReferenceError) Unwrap() error { return e.Err }

// Unavailable is true when err, or one of those that it joins, is that OpenBao
// can't be asked: it is away, sealed, too busy or too slow, or something else
// answers in its place. Trying again may help. Any other error is of the request,
// and holds until somebody changes it, or something in OpenBao.
func Unavailable(err error) bool {
	var away *baoAway
	return errors.As(err, &away)
}

// baoAway is that a call has no answer. Its cause may be that of many calls.
type baoAway struct {
	call   call
	cause  error
	silent bool // nobody can be asked anything, not this alone
}

func (e *baoAway) Error() string { return fmt.Sprintf("openbao: %s: %v", e.call, e.cause) }
func (e *baoAway) Unwrap() error { return e.cause }

// refusal is an answer that blames the request.
type refusal struct {
	call   call
	status int
	said   string
}

func (e *refusal) Error() string {
	switch e.status {
	case http.StatusForbidden:
		return fmt.Sprintf("openbao: %s: permission denied%s", e.call, without(e.said, "permission denied"))
	case http.StatusNotFound:
		return fmt.Sprintf("openbao: %s: there is nothing%s", e.call, colon(e.said))
	}
	return fmt.Sprintf("openbao: %s: HTTP %d%s", e.call, e.status, colon(e.said))
}

// asked is err, which may be of somebody else's question, as that of a call.
func asked(err error, c call) error {
	var login *loginError
	var away *baoAway
	if errors.As(err, &login) || !errors.As(err, &away) {
		return err
	}
	return &baoAway{c, away.cause, away.silent}
}

func without(said, known string) string {
	if said == known {
		return ""
	}
	return colon(said)
}

func refusedAs(err error, status int) bool {
	r := refusalOf(err)
	return r != nil && r.status == status
}

// refusalOf is the refusal of a call, not that of the login before it.
func refusalOf(err error) *refusal {
	var login *loginError
	var r *refusal
	if errors.As(err, &login) || !errors.As(err, &r) {
		return nil
	}
	return r
}

// loginError is that of all references alike.
type loginError struct{ err error }

func (e *loginError) Error() string { return "log in to openbao: " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

type redirectError struct {
	status int
	host   string
}

func (e *redirectError) Error() string {
	return fmt.Sprintf("answered with a redirect (HTTP %d) to %q, which is not followed: set secrets.openbao.address to where OpenBao is", e.status, e.host)
}

// redirected names the host and nothing else: the rest may hold anything.
func redirected(resp *http.Response) error {
	host := "nowhere"
	if to, err := resp.Location(); err == nil {
		host = (&url.URL{Scheme: to.Scheme, Host: to.Host}).String()
	}
	return &redirectError{resp.StatusCode, host}
}

func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
}
