package secrets

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"
)

// SetNow gives the client another clock.
func (b *Bao) SetNow(now func() time.Time) { b.now = now }

// SetMaxForms lets a redactor know less.
func (r *Redactor) SetMaxForms(n int) { r.most = n }

// Kept is what lies sealed in the client, as it lies there.
func (b *Bao) Kept() (sealed []byte) {
	for _, id := range slices.Sorted(maps.Keys(b.kept)) {
		sealed = append(sealed, b.kept[id].sealed...)
	}
	return sealed
}

// KeptCount is how many reads lie there.
func (b *Bao) KeptCount() int { return len(b.kept) }

// Pieces takes a text apart: what is text, and what is a reference.
func Pieces(text string) (texts, references []string, errs []error) {
	pieces := piecesOf(text)
	if pieces == nil {
		return []string{text}, nil, nil
	}
	for _, p := range pieces {
		switch {
		case p.err != nil:
			errs = append(errs, p.err)
		case p.reference != nil:
			references = append(references, p.reference.String())
		default:
			texts = append(texts, p.text)
		}
	}
	return texts, references, errs
}

// BackOff is how long a client waits.
func BackOff(attempt int, resp *http.Response) time.Duration {
	return backOffBao(250*time.Millisecond, 2*time.Second, attempt, resp)
}

// Waiting is how many wait for a read just now.
func Waiting() int {
	buf := make([]byte, 4<<20)
	stacks := string(buf[:runtime.Stack(buf, true)])
	count := 0
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if strings.Contains(stack, "secrets.shared[") && strings.Contains(stack, "[select") {
			count++
		}
	}
	return count
}

// ParseReference reads one reference, and nothing beside it.
func ParseReference(text string) (Reference, error) {
	inner, ok := strings.CutPrefix(text, opening)
	if !ok {
		return Reference{}, fmt.Errorf("it does not begin with %s", opening)
	}
	if inner, ok = strings.CutSuffix(inner, "}"); !ok || strings.Contains(inner, "}") {
		return Reference{}, errors.New("it has no } at its end")
	}
	return parseInner(inner)
}
