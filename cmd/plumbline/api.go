package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline-dev/plumbline/reconciler"
)

// live is what a daemon that leads knows, from memory.
type live interface {
	LiveStacks() reconciler.StackList
	LiveStack(name string) (reconciler.StackDetail, error)
	LiveDrift(reconciler.DriftQuery) (reconciler.DriftList, error)
}

// answersAtOnce bounds how many answers are made at the same time; each may be some
// megabytes. Who comes when there are so many is told to come again.
const answersAtOnce = 8

// api answers questions, and changes nothing.
type api struct {
	live   func() live // nil: standing by
	turns  chan struct{}
	unread *unread
}

// refusal is an error with the status that it is answered with.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// question is what is asked at one path: its answer, and the parameters that it takes.
type question struct {
	answer func(live, *http.Request, url.Values) (any, error)
	takes  []string
}

func newAPI(leads func() live) http.Handler {
	a := api{leads, make(chan struct{}, answersAtOnce), &unread{}}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/stacks", a.handler(question{answer: func(l live, _ *http.Request, _ url.Values) (any, error) { return l.LiveStacks(), nil }}))
	mux.Handle("/api/v1/stacks/{name}", a.handler(question{answer: func(l live, r *http.Request, _ url.Values) (any, error) { return l.LiveStack(r.PathValue("name")) }}))
	mux.Handle("/api/v1/drift", a.handler(question{drift, []string{"stack", "open", "limit"}}))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		encoded(http.StatusNotFound, problem("no such path: there are /api/v1/stacks, /api/v1/stacks/NAME and /api/v1/drift")).send(w)
	})
	return mux
}

func drift(l live, _ *http.Request, query url.Values) (any, error) {
	ask := reconciler.DriftQuery{Stack: query.Get("stack")}
	if text := query.Get("open"); text != "" {
		if ask.Open = text == "true"; !ask.Open && text != "false" {
			return nil, refusal{http.StatusBadRequest, "open: want true or false"}
		}
	}
	if text := query.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > reconciler.MostDrift {
			return nil, refusal{http.StatusBadRequest, fmt.Sprintf("limit: want a number from 1 to %d", reconciler.MostDrift)}
		}
		ask.Limit = n
	}
	return l.LiveDrift(ask)
}

func (a api) handler(q question) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := a.inTurn(q, r)
		done, ok := a.unread.add(answer.body.Len())
		if !ok {
			answer, done = busy("many read slowly"), func() {}
		}
		defer done()
		answer.send(w)
	})
}

func busy(why string) *answer {
	answer := encoded(http.StatusServiceUnavailable, problem("busy: "+why))
	answer.header.Set("Retry-After", "1")
	return answer
}

// inTurn makes an answer. The turn ends before anybody reads it: some read slowly.
func (a api) inTurn(q question, r *http.Request) *answer {
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	default:
		return busy("many ask at the same time")
	}
	value, err := a.ask(q, r)
	if err == nil {
		return encoded(http.StatusOK, value)
	}
	status := http.StatusInternalServerError
	var refused refusal
	var unknown *reconciler.NoStackError
	switch {
	case errors.As(err, &refused):
		status = refused.status
	case errors.As(err, &unknown):
		status = http.StatusNotFound
	}
	answer := encoded(status, problem(err.Error()))
	if status == http.StatusMethodNotAllowed {
		answer.header.Set("Allow", "GET, HEAD")
	}
	return answer
}

func (a api) ask(q question, r *http.Request) (any, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, refusal{http.StatusMethodNotAllowed, "this API only answers: use GET"}
	}
	query, err := parameters(r.URL.RawQuery, q.takes)
	if err != nil {
		return nil, err
	}
	l := a.live()
	if l == nil {
		return nil, refusal{http.StatusServiceUnavailable, "standing by: another daemon leads, or this one is starting; ask that one, or again"}
	}
	return q.answer(l, r, query)
}

// parameters refuses what nobody reads: a typo is not to look like an answer.
func parameters(raw string, takes []string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refusal{http.StatusBadRequest, "the parameters can't be read"}
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case !slices.Contains(takes, name) && len(takes) == 0:
			return nil, refusal{http.StatusBadRequest, fmt.Sprintf("unknown parameter %q: there are none here", cut(name))}
		case !slices.Contains(takes, name):
			return nil, refusal{http.StatusBadRequest, fmt.Sprintf("unknown parameter %q: there are %s", cut(name), strings.Join(takes, ", "))}
		case len(query[name]) > 1 || query[name][0] == "":
			return nil, refusal{http.StatusBadRequest, name + ": give it once, with a value"}
		}
	}
	return query, nil
}

func cut(s string) string { return fit(s, 100) }

func problem(text string) map[string]string { return map[string]string{"error": text} }

// encoded is an answer. What repositories and clusters say is escaped by the
// encoder, and nothing of it is for a browser to show or for another page to read:
// no CORS header is set, on purpose.
func encoded(status int, value any) *answer {
	a := newAnswer()
	a.status = status
	if err := json.NewEncoder(&a.body).Encode(value); err != nil {
		a.status = http.StatusInternalServerError
		a.body.Reset()
		a.body.WriteString(`{"error":"the answer can't be encoded"}` + "\n")
	}
	a.header.Set("Content-Type", "application/json; charset=utf-8")
	a.header.Set("X-Content-Type-Options", "nosniff")
	a.header.Set("Cross-Origin-Resource-Policy", "same-origin")
	a.header.Set("Cache-Control", "no-store")
	a.header.Set("Content-Length", strconv.Itoa(a.body.Len()))
	return a
}
