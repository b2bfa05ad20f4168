package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Bounds on what is taken from OpenBao.
const (
	largestAnswer = 2 << 20
	largestValue  = 1 << 20
)

var errTooLong = fmt.Errorf("answered with more than %d MiB", largestAnswer>>20)

// call is one request to OpenBao.
type call struct {
	method, path string
	query        url.Values
	body         map[string]any
	hide         []string // what no message may say
}

// answer is what OpenBao said.
type answer struct {
	LeaseID       string                     `json:"lease_id"`
	LeaseDuration int64                      `json:"lease_duration"` // seconds
	Renewable     bool                       `json:"renewable"`
	Data          map[string]json.RawMessage `json:"data"`
	Auth          *struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"`
		Renewable     bool   `json:"renewable"`
	} `json:"auth"`
	Errors []string `json:"errors"`
}

func (a *answer) wipe() {
	if a != nil {
		wipeValues(a.Data)
	}
}

func wipeValues(values map[string]json.RawMessage) {
	for _, value := range values {
		clear(value)
	}
}

// do sends a call with the token of the session, and once more with a new one
// where the token is to blame. It also returns the session that was answered.
func (b *Bao) do(ctx context.Context, c call) (*answer, *session, error) {
	if cause := b.breaker.why(); cause != nil {
		return nil, nil, &baoAway{c, cause, true}
	}
	s, err := b.currentSession(ctx, c, false)
	if err != nil {
		return nil, nil, err
	}
	got, err := b.send(ctx, s.token, c)
	if !refusedAs(err, http.StatusForbidden) {
		return got, s, err
	}
	fresh, broken := b.distrust(ctx, s)
	if broken != nil {
		return nil, nil, broken
	}
	if fresh == nil {
		return nil, nil, err
	}
	got, err = b.send(ctx, fresh.token, c)
	return got, fresh, err
}

// send sends a call. Its error is a *refusal where OpenBao answered with a status
// that blames the request; the answer is there all the same.
func (b *Bao) send(ctx context.Context, token string, c call) (*answer, error) {
	got, err := b.exchange(ctx, token, c)
	b.breaker.heard(ctx, err)
	return got, err
}

func (b *Bao) exchange(ctx context.Context, token string, c call) (*answer, error) {
	req := b.client.NewRequest(c.method, "/v1/"+c.path)
	req.ClientToken = token
	if c.query != nil {
		req.Params = c.query
	}
	if c.body != nil {
		body, err := json.Marshal(c.body)
		if err != nil {
			return nil, err
		}
		defer clear(body)
		req.BodyBytes = body
	}
	resp, err := b.client.RawRequestWithContext(ctx, req)
	if resp == nil || resp.Response == nil {
		return nil, c.away(ctx, err)
	}
	defer resp.Body.Close()
	// err repeats what a status of 400 and more says, and quotes all of it.
	data, err := io.ReadAll(resp.Body)
	defer clear(data)
	if err != nil {
		return nil, c.away(ctx, err)
	}
	return c.judge(resp.StatusCode, data, append(c.hide, token))
}

// judge makes an answer, or an error, of a status and a body.
func (c call) judge(status int, body []byte, hide []string) (*answer, error) {
	var got answer
	if len(body) > 0 && json.Unmarshal(body, &got) != nil {
		got.wipe()
		return nil, &baoAway{c, fmt.Errorf("answered with something that is not OpenBao's JSON (HTTP %d, %d bytes)", status, len(body)), false}
	}
	text := sayable(got.Errors, hide)
	switch {
	case status == http.StatusServiceUnavailable && strings.Contains(strings.ToLower(text), "sealed"):
		return nil, &baoAway{c, errors.New("OpenBao is sealed"), true}
	case status == http.StatusServiceUnavailable && strings.Contains(text, "standby"):
		return nil, &baoAway{c, errors.New("OpenBao is a standby that knows no active node"), true}
	case status == http.StatusTooManyRequests, status >= 500 && status != http.StatusNotImplemented:
		return nil, &baoAway{c, fmt.Errorf("HTTP %d%s", status, colon(text)), false}
	case status >= 400:
		return &got, &refusal{c, status, text}
	}
	return &got, nil
}

// away is err of a call that was not answered.
func (c call) away(ctx context.Context, err error) error {
	var target *url.Error
	if errors.As(err, &target) {
		err = target.Err // it quotes the URL
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", c, context.Cause(ctx))
	case ctx.Err() != nil:
		return &baoAway{c, context.Cause(ctx), false}
	case errors.Is(err, errTooLong): // somebody wrote it there
		return fmt.Errorf("openbao: %s: %w", c, err)
	case err == nil:
		err = errors.New("no answer")
	case strings.Contains(err.Error(), "malformed"): // quotes what was sent
		err = errors.New("answered with something that is not HTTP")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		err = errors.New("the connection was cut")
	}
	var to *redirectError
	return &baoAway{c, err, !errors.As(err, &to)}
}

func (c call) String() string {
	switch c.method {
	case http.MethodGet:
		return "read " + c.path
	default:
		return "write " + c.path
	}
}

// sayable is what OpenBao says about an error, in one line of bounded length.
func sayable(said, hide []string) string {
	text := strings.Join(said, "; ")
	text = strings.ReplaceAll(text, "1 error occurred:", "")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == '*' }), " ")
	for _, secret := range hide {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, Mask)
		}
	}
	text = strings.Map(printable, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	return text
}

func colon(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// retryBao says whether an attempt is worth another.
func retryBao(ctx context.Context, resp *http.Response, err error) (bool, error) {
	var to *redirectError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &to):
		return false, err
	case errors.As(err, &timeout) && timeout.Timeout():
		return false, err // a slow one gets no faster, and might give a lease for each
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

// backOffBao waits longer each time, as long as OpenBao asks for, and never long.
func backOffBao(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
	wait := min(retryablehttp.DefaultBackoff(least, most, attempt, resp), 5*time.Second)
	return wait + rand.N(wait/4+1)
}

// boundedBody ends with an error where an answer is too long.
type boundedBody struct {
	body io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if n > b.left {
		clear(p[:n])
		return 0, errTooLong
	}
	b.left -= n
	return n, err
}

func (b *boundedBody) Close() error { return b.body.Close() }
