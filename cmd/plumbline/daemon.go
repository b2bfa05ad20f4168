package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	goio "io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// Bounds on a daemon's answer: it may be somebody else who listens there.
const (
	daemonPatience = 15 * time.Second
	daemonBytes    = 64 << 20
	daemonFields   = 50   // of an object
	daemonText     = 2000 // characters
)

// askDaemon reads drift from a daemon's API.
func askDaemon(ctx context.Context, base, stack string) (list reconciler.DriftList, err error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return list, errors.New("the daemon's URL has to be like http://localhost:8080")
	}
	query := url.Values{"limit": {strconv.Itoa(reconciler.MostDrift)}}
	if stack != "" {
		query.Set("stack", stack)
	}
	ask := u.JoinPath("api", "v1", "drift")
	ask.RawQuery = query.Encode()
	if err := getJSON(ctx, ask.String(), &list); err != nil {
		return list, fmt.Errorf("ask the daemon at %s: %w", u.Host, err)
	}
	return bounded(list), nil
}

// bounded is an answer as Plumbline gives one, or less: a daemon's own is left as it is.
func bounded(list reconciler.DriftList) reconciler.DriftList {
	list.Stacks, list.More = max(list.Stacks, 0), max(list.More, 0)
	if more := len(list.Drift) - reconciler.MostDrift; more > 0 {
		list.Drift, list.More = list.Drift[:reconciler.MostDrift], list.More+more
	}
	for i := range list.Drift {
		d := &list.Drift[i]
		d.Fields = d.Fields[:min(len(d.Fields), daemonFields)]
		for j, f := range d.Fields {
			d.Fields[j] = apply.FieldChange{Path: fit(f.Path, daemonText), Have: fit(f.Have, daemonText), Want: fit(f.Want, daemonText)}
		}
		for _, text := range []*string{&d.Stack, &d.Source, &d.Revision, &d.Object.Kind, &d.Object.Namespace, &d.Object.Name, (*string)(&d.What),
			&d.Manager, &d.Operation, (*string)(&d.Action), &d.Error} {
			*text = fit(*text, daemonText)
		}
	}
	return list
}

func getJSON(ctx context.Context, target string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "plumbline/"+version())
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	var failed *url.Error
	if errors.As(err, &failed) { // without the URL, which is said already
		return failed.Err
	}
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := goio.ReadAll(goio.LimitReader(response.Body, daemonBytes+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		var problem struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &problem) // it may be anybody's
		return errors.New(cmp.Or(fit(problem.Error, 2000), "it says "+fit(response.Status, 100)+": is that Plumbline's listen address?"))
	}
	if len(body) > daemonBytes || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		return errors.New("what it says is no answer of Plumbline's API")
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
