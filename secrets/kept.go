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
	"strings"
	"time"
)

// mostKept bounds what is kept between trips for one stack, which asks less than
// that; what was not used for longest goes first.
const mostKept = 256

// place is where something is kept, and for whom: for a stack, or for those who
// open files with the same grants.
type place struct{ id, owner string }

// kept is what one read gave, sealed. It is not changed once it is there, but for
// its lease, which is locked with the client.
type kept struct {
	place   // the owner of what is shared is who read it last; locked with the client
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
func (b *Bao) keep(at place, values map[string]json.RawMessage, version Version, l *lease) (*kept, error) {
	defer wipeValues(values)
	plain, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("seal what was read: %w", err)
	}
	defer clear(plain)
	k := &kept{place: at, sealed: b.vault.Seal(nil, nil, plain, []byte(at.id)), version: version, lease: l, used: b.now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept[at.id] = k
	b.makeRoom(k)
	return k, nil
}

// makeRoom drops what is oldest of all that is kept for the same. A lease that lives
// never makes room for values that can be read again.
func (b *Bao) makeRoom(newest *kept) {
	var all, cheap []*kept
	for _, k := range b.kept {
		if k.owner != newest.owner {
			continue
		}
		all = append(all, k)
		if k.lease == nil || !b.lives(k.lease) {
			cheap = append(cheap, k)
		}
	}
	if len(all) <= mostKept {
		return
	}
	if len(cheap) == 0 {
		cheap = all
	}
	delete(b.kept, slices.MinFunc(cheap, func(a, b *kept) int { return a.used.Compare(b.used) }).id)
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
	owner := ownPrefix(source, stack)
	maps.DeleteFunc(b.kept, func(id string, _ *kept) bool { return strings.HasPrefix(id, owner) })
	for _, k := range b.kept {
		if k.owner == owner { // others may need it, so it goes when there is no room
			k.owner = ""
			b.makeRoom(k)
		}
	}
}

// Values of KV are the same for all who may read them; anything else may be made
// for whoever asks.
func sharedID(q question) string { return fmt.Sprintf("kv %q %d", q.path, q.version) }

func ownPrefix(source, stack string) string { return fmt.Sprintf("own %q %q ", source, stack) }

func ownPlace(source, stack string, q question) place {
	return place{ownID(source, stack, q), ownPrefix(source, stack)}
}

func ownID(source, stack string, q question) string {
	return ownPrefix(source, stack) + fmt.Sprintf("%q %q", q.path, q.params)
}
