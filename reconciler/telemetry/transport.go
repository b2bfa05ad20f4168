package telemetry

import (
	"net/http"
	"strconv"
	"strings"
)

// Transport counts the requests to the API server that go through next.
func (r *Recorder) Transport(next http.RoundTripper) http.RoundTripper {
	if r.off() {
		return next
	}
	return counting{r, next}
}

type counting struct {
	recorder *Recorder
	next     http.RoundTripper
}

// RoundTrip is http.RoundTripper.
func (c counting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := c.next.RoundTrip(request)
	status := "none"
	if err == nil {
		status = statusClass(response.StatusCode)
	}
	c.recorder.Requested(request.Context(), verb(request), status)
	return response, err
}

// WrappedRoundTripper lets client-go find what is below.
func (c counting) WrappedRoundTripper() http.RoundTripper { return c.next }

// statusClass is as in 2xx; that the server has enough is a class of its own.
func statusClass(code int) string {
	switch {
	case code == http.StatusTooManyRequests:
		return "429"
	case code < 100 || code > 599:
		return other
	}
	return strconv.Itoa(code/100) + "xx"
}

// verb is what the API server calls the request, but that a dry run is one.
func verb(request *http.Request) string {
	query := request.URL.Query()
	named, resource := named(request.URL.Path)
	switch request.Method {
	case http.MethodPatch, http.MethodPut, http.MethodPost, http.MethodDelete:
		if query.Get("dryRun") != "" {
			return "dry-run"
		}
	}
	switch {
	case request.Method == http.MethodGet && !resource:
		return "discover"
	case request.Method == http.MethodGet && query.Get("watch") != "" && query.Get("watch") != "false":
		return "watch"
	case request.Method == http.MethodGet && named:
		return "get"
	case request.Method == http.MethodGet:
		return "list"
	case request.Method == http.MethodPatch && strings.HasPrefix(request.Header.Get("Content-Type"), "application/apply-patch"):
		return "apply"
	}
	if name, ok := verbs[request.Method]; ok {
		return name
	}
	return other
}

var verbs = map[string]string{http.MethodPatch: "patch", http.MethodPost: "create", http.MethodPut: "update", http.MethodDelete: "delete"}

// named is true for the path of one object, resource for one that leads to objects.
// Both may be below a path of the server's own.
func named(path string) (named, resource bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for len(parts) > 0 && parts[0] != "api" && parts[0] != "apis" {
		parts = parts[1:]
	}
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		return false, false
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	return len(parts) > 1, true
}
