package secrets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// HashKey keys every hash of a plaintext that somebody else may see: without it,
// a short value is found by trying.
type HashKey []byte

// NewHashKey makes a random key.
func NewHashKey() HashKey {
	key := make(HashKey, 32)
	_, _ = rand.Read(key) // never fails, says crypto/rand
	return key
}

// Sum is the HMAC-SHA256 of some texts; purpose keeps sums of one kind from being
// taken for those of another.
func (k HashKey) Sum(purpose string, parts ...string) []byte {
	mac := hmac.New(sha256.New, k)
	fmt.Fprintf(mac, "%q", purpose)
	for _, part := range parts {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	return mac.Sum(nil)
}

// String keeps the key out of what is printed.
func (k HashKey) String() string { return Mask }

// Format is String for every verb: the bytes of a slice print with some.
func (k HashKey) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(Mask)) }

// MarshalText is String for JSON, YAML and structured logs.
func (k HashKey) MarshalText() ([]byte, error) { return []byte(Mask), nil }
