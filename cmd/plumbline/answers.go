package main

import (
	"bytes"
	"maps"
	"net/http"
	"sync/atomic"
	"time"
)

// Bounds on answers that are being read. Who reads slowly takes nothing from others
// but memory, and of that so much.
const (
	writePatience = 5 * time.Second
	unreadBytes   = 32 << 20 // of all large answers together
	smallAnswer   = 64 << 10 // always fits
)

// unread counts the bytes of large answers that somebody reads.
type unread struct{ bytes atomic.Int64 }

// add says whether there is room; if so, done gives it back. One answer always fits.
func (u *unread) add(bytes int) (done func(), ok bool) {
	n := int64(bytes)
	if n <= smallAnswer {
		return func() {}, true
	}
	if all := u.bytes.Add(n); all > unreadBytes && all != n {
		u.bytes.Add(-n)
		return nil, false
	}
	return func() { u.bytes.Add(-n) }, true
}

// answer is an http.ResponseWriter that keeps what is written.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{http.StatusOK, http.Header{}, bytes.Buffer{}} }

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// send writes it, for as long as somebody reads.
func (a *answer) send(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writePatience)) // a test's has none
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // who went away needs no answer
}

// finished lets h finish before anybody reads what it says: what bounds how many it
// answers at once doesn't count who reads slowly.
func finished(h http.Handler) http.Handler {
	var unread unread
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := newAnswer()
		h.ServeHTTP(a, r)
		done, ok := unread.add(a.body.Len())
		if !ok {
			http.Error(w, "busy: many read slowly", http.StatusServiceUnavailable)
			return
		}
		defer done()
		a.send(w)
	})
}
