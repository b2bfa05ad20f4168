package secrets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Transit decrypts with keys that OpenBao's transit engine keeps: those whose path
// MOUNT/decrypt/KEY is among the grants, which are as in [CheckGrant], with decrypt
// written out. What was opened before is opened again while OpenBao is away.
func (b *Bao) Transit(allow []string) Transit {
	if b == nil {
		return nil
	}
	return transit{b, allow}
}

type transit struct {
	bao   *Bao
	allow []string
}

func (t transit) Address() string { return t.bao.Address() }

func (t transit) Decrypt(ctx context.Context, mount, key, ciphertext string) ([]byte, error) {
	mount = strings.Trim(mount, "/")
	path := mount + "/decrypt/" + key
	if err := checkPath(path); err != nil || strings.Contains(key, "/") {
		return nil, fmt.Errorf("%q is no key of the transit engine at %q", legible(key), legible(mount))
	}
	if !grantedKey(t.allow, mount, path) {
		return nil, fmt.Errorf("secrets.openbao.allow grants no %s, in which decrypt is written out", path)
	}
	at := t.place(path, ciphertext)
	k, err := t.ask(ctx, mount, path, ciphertext, at)
	switch {
	case Unavailable(err):
		old := t.bao.find(at.id)
		if old == nil {
			return nil, err
		}
		k = old
	case err != nil:
		if old := t.bao.find(at.id); old != nil && ctx.Err() == nil {
			t.bao.drop(old) // it may not be opened any more
		}
		return nil, err
	}
	return t.open(k)
}

// place is where a data key is kept: for those who have the same grants.
func (t transit) place(path, ciphertext string) place {
	owner := fmt.Sprintf("transit %q ", slices.Sorted(slices.Values(t.allow)))
	return place{owner + fmt.Sprintf("%q %x", path, t.bao.hashes.Sum("transit", ciphertext)), owner}
}

// ask has a data key opened. Nothing is written to an engine of another kind.
func (t transit) ask(ctx context.Context, mount, path, ciphertext string, at place) (*kept, error) {
	t.bao.knock(ctx, false)
	m, err := t.bao.mountOf(ctx, path)
	switch {
	case err != nil:
		return nil, err
	case m.kind != "transit" || m.path != mount+"/":
		return nil, fmt.Errorf("%s is in an engine of the kind %q, and only one of the kind transit, at %s, opens data keys", path, m.kind, mount)
	}
	c := call{method: http.MethodPut, path: path, body: map[string]any{"ciphertext": ciphertext}, hide: []string{ciphertext}}
	got, _, err := t.bao.do(ctx, c)
	defer got.wipe()
	if err != nil {
		return nil, err
	}
	plain, ok := plainKey(got.Data)
	clear(plain)
	if !ok {
		return nil, &baoAway{c, errors.New("answered with something else than a plaintext"), false}
	}
	return t.bao.keep(at, map[string]json.RawMessage{"plaintext": got.Data["plaintext"]}, "", nil)
}

func (t transit) open(k *kept) ([]byte, error) {
	values, err := t.bao.open(k)
	defer wipeValues(values)
	if err != nil {
		return nil, err
	}
	plain, _ := plainKey(values)
	return plain, nil
}

// plainKey is the data key in an answer.
func plainKey(data map[string]json.RawMessage) ([]byte, bool) {
	encoded := []byte(plainText(data["plaintext"]))
	defer clear(encoded)
	plain := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Decode(plain, encoded)
	return plain[:n], err == nil && n > 0
}
