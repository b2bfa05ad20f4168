package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Moved says of each read whether it would give something else now, and why, or
// why that can't be known; of what is in neither map, nothing has moved. It asks
// for metadata, never for data, but where there is no metadata (KV v1, and other
// engines that give no lease): there it reads, and compares keyed hashes. An engine
// whose answer is another each time, as totp's is, moves each time. It renews
// leases, and drops those that were revoked. What has no version, because it was
// never answered, has moved when OpenBao answers about its engine.
//
// Where OpenBao can't be asked at all, all reads are in failed, with errors that
// are [Unavailable], or of the login. An error names the path of its read alone.
func (b *Bao) Moved(ctx context.Context, reads map[Read]Version) (moved map[Read]string, failed map[Read]error) {
	if b == nil || len(reads) == 0 {
		return nil, nil
	}
	b.knock(ctx, false)
	now := round{Bao: b, reads: reads, asked: map[string]func() error{}}
	moved, failed = map[Read]string{}, map[Read]error{}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(readsAtOnce)
	for _, same := range together(reads) {
		group.Go(func() error {
			why, err := unbroken("look at "+same[0].Path, func() (map[Read]string, error) { return now.movedOf(ctx, same) })
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				maps.Copy(moved, why)
				return nil
			}
			for _, r := range same {
				failed[r] = err
			}
			return nil
		})
	}
	_ = group.Wait() // each has its own
	return moved, failed
}

// round is one look at many reads.
type round struct {
	*Bao
	reads map[Read]Version
	mu    sync.Mutex
	asked map[string]func() error // by the first segment of paths
}

// answers says whether OpenBao answers about the engine of a path. Of those with
// one beginning, one asks.
func (b *round) answers(ctx context.Context, path string) error {
	first, _, _ := strings.Cut(path, "/")
	b.mu.Lock()
	ask := b.asked[first]
	if ask == nil {
		ask = sync.OnceValue(func() error {
			_, err := b.askMount(ctx, path)
			return err
		})
		b.asked[first] = ask
	}
	b.mu.Unlock()
	return asked(ask(), mountCall(path))
}

// unanswered is an error that says nothing about the read.
func unanswered(ctx context.Context, err error) bool {
	var login *loginError
	return Unavailable(err) || errors.As(err, &login) || err != nil && ctx.Err() != nil
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

func (b *round) movedOf(ctx context.Context, same []Read) (map[Read]string, error) {
	switch version := string(b.reads[same[0]]); {
	case strings.HasPrefix(version, versionKV2):
		return b.movedKV2(ctx, same)
	case strings.HasPrefix(version, versionLease):
		return b.movedLease(ctx, same)
	case strings.HasPrefix(version, versionHash):
		return b.movedHash(ctx, same)
	}
	return b.movedUnknown(ctx, same)
}

func (b *round) movedUnknown(ctx context.Context, same []Read) (map[Read]string, error) {
	err := b.answers(ctx, same[0].Path)
	if err != nil && !unanswered(ctx, err) {
		_, err = b.askMount(ctx, same[0].Path) // the other may be of another engine
	}
	if err != nil {
		return nil, err
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

func (b *round) movedLease(ctx context.Context, same []Read) (map[Read]string, error) {
	r := same[0]
	k := b.find(ownID(r.Source, r.Stack, r.question()))
	if k == nil || k.lease == nil || !b.asks(k.lease) {
		if err := b.answers(ctx, r.Path); unanswered(ctx, err) {
			return nil, err
		}
	}
	if k == nil || k.lease == nil {
		return all(same, "its lease is not known to this process"), nil
	}
	out := map[Read]string{}
	for _, r := range same {
		if b.reads[r] != k.version {
			out[r] = "there is a newer lease"
		}
	}
	over, err := b.tend(ctx, k, true)
	if err != nil {
		return nil, err
	}
	if over != "" {
		return all(same, over), nil
	}
	return out, nil
}

// question undoes reading.read.
func (r Read) question() question {
	if version, ok := strings.CutPrefix(r.Query, "version="); ok {
		n, _ := strconv.Atoi(version) // it was one
		return question{path: r.Path, version: n}
	}
	return question{path: r.Path, params: r.Query}
}

func (b *round) movedHash(ctx context.Context, same []Read) (map[Read]string, error) {
	q := same[0].question()
	k, err := b.readOnce(ctx, ownPlace(same[0].Source, same[0].Stack, q), q)
	switch {
	case unanswered(ctx, err):
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
		if k.lease != nil || b.hashOf(values, strings.Split(r.Keys, "\n")) != b.reads[r] {
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

func (b *round) movedKV2(ctx context.Context, same []Read) (map[Read]string, error) {
	path := same[0].Path
	m, err := b.mountOf(ctx, path)
	if unanswered(ctx, err) {
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
		return nil, &baoAway{c, errors.New("answered with something else than KV version 2 does"), false}
	}
	out := map[Read]string{}
	for _, r := range same {
		if why := known.moved(b.Bao, r.question().version, b.reads[r]); why != "" {
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
