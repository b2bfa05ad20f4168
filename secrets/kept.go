package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// mostKept bounds what is kept between trips; what was not used for longest goes first.
const mostKept = 4096

// kept is what one read gave, sealed. It is not changed once it is there, but for
// its lease, which is locked with the client.
type kept struct {
	id      string
	sealed  []byte
	version Version // "" where the values themselves are compared
	lease   *lease  // nil: the values don't end
	used    time.Time
}

// newVault seals with a key that nobody else has, and that ends with the process.
func newVault() cipher.AEAD {
	key := make([]byte, 32)
	defer clear(key)
	_, _ = rand.Read(key) // never fails, says crypto/rand
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // of the key's length alone
	}
	vault, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // of the block's length alone
	}
	return vault
}

// keep seals values. They are wiped.
func (b *Bao) keep(id string, values map[string]json.RawMessage, version Version, l *lease) (*kept, error) {
	defer wipeValues(values)
	plain, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("seal what was read: %w", err)
	}
	defer clear(plain)
	k := &kept{id: id, sealed: b.vault.Seal(nil, nil, plain, []byte(id)), version: version, lease: l, used: b.now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[id] = k
	if len(b.kept) > mostKept {
		oldest := slices.MinFunc(slices.Collect(maps.Values(b.kept)), func(a, b *kept) int { return a.used.Compare(b.used) })
		delete(b.kept, oldest.id)
	}
	return k, nil
}

// open gives the values, which are the caller's to wipe.
func (b *Bao) open(k *kept) (map[string]json.RawMessage, error) {
	plain, err := b.vault.Open(nil, nil, k.sealed, []byte(k.id))
	defer clear(plain)
	if err != nil {
		return nil, errors.New("what was kept can't be opened")
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(plain, &values); err != nil {
		return nil, errors.New("what was kept can't be read")
	}
	return values, nil
}

// find is what is kept under the first of some names that has something.
func (b *Bao) find(ids ...string) *kept {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if k := b.kept[id]; k != nil {
			k.used = b.now()
			return k
		}
	}
	return nil
}

func (b *Bao) drop(k *kept) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept[k.id] == k {
		delete(b.kept, k.id)
	}
}

// Forget drops what is kept for a stack that is no more. Its leases end by themselves.
func (b *Bao) Forget(source, stack string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	prefix := ownPrefix(source, stack)
	maps.DeleteFunc(b.kept, func(id string, _ *kept) bool { return len(id) > len(prefix) && id[:len(prefix)] == prefix })
}

// Values of KV are the same for all who may read them; anything else may be made
// for whoever asks.
func sharedID(q question) string { return fmt.Sprintf("kv %q %d", q.path, q.version) }

func ownPrefix(source, stack string) string { return fmt.Sprintf("own %q %q ", source, stack) }

func ownID(source, stack string, q question) string {
	return ownPrefix(source, stack) + fmt.Sprintf("%q %q", q.path, q.params)
}
