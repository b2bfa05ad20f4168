package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Moved says which reads would give something else now, and why. It asks for
// metadata, never for data, but where there is no metadata (KV v1, and other
// engines that give no lease): there it reads, and compares keyed hashes. It
// renews leases, and drops those that were revoked.
//
// Where OpenBao can't be asked, nothing is known, and err is [Unavailable]. Any
// other error is of some reads alone, and the rest is known.
func (b *Bao) Moved(ctx context.Context, reads map[Read]Version) (moved map[Read]string, err error) {
	if b == nil || len(reads) == 0 {
		return nil, nil
	}
	var mu sync.Mutex
	var errs []error
	moved = map[Read]string{}
	var group errgroup.Group
	group.SetLimit(readsAtOnce)
	for _, same := range together(reads) {
		group.Go(func() error {
			why, err := b.movedOf(ctx, same, reads)
			mu.Lock()
			defer mu.Unlock()
			maps.Copy(moved, why)
			if err != nil {
				errs = append(errs, err)
			}
			return nil
		})
	}
	_ = group.Wait() // each has its own
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if err = errors.Join(slices.CompactFunc(errs, func(a, b error) bool { return a.Error() == b.Error() })...); Unavailable(err) || ctx.Err() != nil {
		return nil, err
	}
	return moved, err
}

// together groups the reads that one request answers.
func together(reads map[Read]Version) map[string][]Read {
	out := map[string][]Read{}
	for r, version := range reads {
		key := fmt.Sprintf("%q", []string{r.Source, r.Stack, r.Path, r.Query})
		switch {
		case strings.HasPrefix(string(version), versionKV2):
			key = versionKV2 + r.Path
		case strings.HasPrefix(string(version), versionHash):
			key = versionHash + fmt.Sprintf("%q", []string{r.Path, r.Query})
		}
		out[key] = append(out[key], r)
	}
	return out
}

func (b *Bao) movedOf(ctx context.Context, same []Read, reads map[Read]Version) (map[Read]string, error) {
	switch version := string(reads[same[0]]); {
	case strings.HasPrefix(version, versionKV2):
		return b.movedKV2(ctx, same, reads)
	case strings.HasPrefix(version, versionLease):
		return b.movedLease(ctx, same, reads)
	case strings.HasPrefix(version, versionHash):
		return b.movedHash(ctx, same, reads)
	}
	return all(same, "its version is not known here"), nil
}

func all(reads []Read, why string) map[Read]string {
	out := map[Read]string{}
	for _, r := range reads {
		out[r] = why
	}
	return out
}

func (b *Bao) movedLease(ctx context.Context, same []Read, reads map[Read]Version) (map[Read]string, error) {
	r := same[0]
	k := b.find(ownID(r.Source, r.Stack, r.question()))
	if k == nil || k.lease == nil {
		return all(same, "its lease is not known to this process"), nil
	}
	out := map[Read]string{}
	for _, r := range same {
		if reads[r] != k.version {
			out[r] = "there is a newer lease"
		}
	}
	over, err := b.tend(ctx, k, true)
	if over != "" {
		return all(same, over), nil
	}
	return out, err
}

// question undoes reading.read.
func (r Read) question() question {
	if version, ok := strings.CutPrefix(r.Query, "version="); ok {
		n, _ := strconv.Atoi(version) // it was one
		return question{path: r.Path, version: n}
	}
	return question{path: r.Path, params: r.Query}
}

func (b *Bao) movedHash(ctx context.Context, same []Read, reads map[Read]Version) (map[Read]string, error) {
	q := same[0].question()
	k, err := b.readOnce(ctx, ownID(same[0].Source, same[0].Stack, q), q)
	switch {
	case Unavailable(err) || ctx.Err() != nil:
		return nil, err
	case err != nil:
		return all(same, err.Error()), nil
	}
	values, err := b.open(k)
	defer wipeValues(values)
	if err != nil {
		return nil, err
	}
	out := map[Read]string{}
	for _, r := range same {
		if k.lease != nil || b.hashOf(values, strings.Split(r.Keys, "\n")) != reads[r] {
			out[r] = "it has other values"
		}
	}
	return out, nil
}

// history is the metadata of a secret in KV v2.
type history struct {
	Current  int              `json:"current_version"`
	Versions map[string]stamp `json:"versions"`
}

func (b *Bao) movedKV2(ctx context.Context, same []Read, reads map[Read]Version) (map[Read]string, error) {
	path := same[0].Path
	m, err := b.mountOf(ctx, path)
	if Unavailable(err) || ctx.Err() != nil {
		return nil, err
	}
	if err != nil {
		return all(same, err.Error()), nil
	}
	if m.kv != 2 {
		return all(same, "it is no longer in KV version 2"), nil
	}
	c := call{method: http.MethodGet, path: m.path + "metadata/" + strings.TrimPrefix(path, m.path)}
	got, _, err := b.do(ctx, c)
	defer got.wipe()
	var known history
	switch {
	case refusedAs(err, http.StatusNotFound):
		return all(same, "it is gone"), nil
	case refusedAs(err, http.StatusForbidden):
		return nil, fmt.Errorf("%w: a policy that grants %s tells when it changes", err, c)
	case err != nil:
		return nil, err
	case json.Unmarshal(got.Data["current_version"], &known.Current) != nil || json.Unmarshal(got.Data["versions"], &known.Versions) != nil:
		return nil, &baoAway{c, errors.New("answered with something else than KV version 2 does")}
	}
	out := map[Read]string{}
	for _, r := range same {
		if why := known.moved(b, r.question().version, reads[r]); why != "" {
			out[r] = why
		}
	}
	return out, nil
}

// moved says what became of the version that was read; pinned is 0 where the
// newest was asked for.
func (h history) moved(b *Bao, pinned int, was Version) string {
	number := pinned
	if pinned == 0 {
		number = h.Current
	}
	now, ok := h.Versions[strconv.Itoa(number)]
	now.Version = number
	switch {
	case !ok:
		return fmt.Sprintf("version %d is gone", number)
	case now.gone(b.now()) != "":
		return fmt.Sprintf("version %d %s", number, now.gone(b.now()))
	case now.is() != was:
		return fmt.Sprintf("version %d is new", number)
	}
	return ""
}
