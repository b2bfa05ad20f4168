package secrets

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Transit decrypts with keys that OpenBao's transit engine keeps: those whose path
// MOUNT/decrypt/KEY is among the grants, which are as in [CheckGrant].
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
	path := strings.Trim(mount, "/") + "/decrypt/" + key
	if err := checkPath(path); err != nil || strings.Contains(key, "/") {
		return nil, fmt.Errorf("%q is no key of the transit engine at %q", shorten(key), shorten(mount))
	}
	if !granted(t.allow, path) {
		return nil, fmt.Errorf("secrets.openbao.allow grants no %s", path)
	}
	c := call{method: http.MethodPut, path: path, body: map[string]any{"ciphertext": ciphertext}, hide: []string{ciphertext}}
	got, _, err := t.bao.do(ctx, c)
	defer got.wipe()
	if err != nil {
		return nil, err
	}
	encoded := []byte(plainText(got.Data["plaintext"]))
	defer clear(encoded)
	plain := make([]byte, base64.StdEncoding.DecodedLen(len(encoded)))
	n, err := base64.StdEncoding.Decode(plain, encoded)
	if err != nil || n == 0 {
		return nil, &baoAway{c, errors.New("answered with something else than a plaintext"), false}
	}
	return plain[:n], nil
}
