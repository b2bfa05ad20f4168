package secrets

import (
	"context"
	"sync"
	"time"
)

// Remembered reads a source of keys at most once in a while, together for all who
// want it, and keeps what it gave sealed with a key that ends with the process: a
// source that has to be asked over the network would be asked by every trip.
func Remembered(source KeySource, hold time.Duration) KeySource {
	vault := newVault()
	var mu sync.Mutex
	var sealed []byte
	var until time.Time
	read := func(ctx context.Context) ([]byte, error) {
		mu.Lock()
		defer mu.Unlock()
		if time.Now().Before(until) {
			return vault.Open(nil, nil, sealed, nil)
		}
		keys, err := source.Read(ctx)
		if err != nil {
			return nil, err
		}
		sealed, until = vault.Seal(nil, nil, keys, nil), time.Now().Add(hold)
		return keys, nil
	}
	return KeySource{Name: source.Name, Read: read}
}
