package fetch

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// keyring holds the GPG keys that may sign.
type keyring struct{ keys openpgp.EntityList }

const publicKeyArmor = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// parseKeyring reads what gpg --export writes, armored or not; armored exports may follow each other.
func parseKeyring(data []byte) (*keyring, error) {
	var k keyring
	if !bytes.Contains(data, []byte(publicKeyArmor)) {
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil || len(keys) == 0 {
			return nil, errors.New("holds no public key; write it with gpg --export --armor")
		}
		return &keyring{keys}, nil
	}
	for _, part := range strings.Split(string(data), publicKeyArmor)[1:] {
		block, err := armor.Decode(strings.NewReader(publicKeyArmor + part))
		if err != nil {
			return nil, fmt.Errorf("holds a damaged key block: %s", printable(err.Error(), 100))
		}
		keys, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, fmt.Errorf("holds a damaged key block: %s", printable(err.Error(), 100))
		}
		k.keys = append(k.keys, keys...)
	}
	return &k, nil
}

func (k *keyring) verify(payload, signature string) (string, error) {
	key, err := openpgp.CheckArmoredDetachedSignature(k.keys, strings.NewReader(payload), strings.NewReader(signature), &packet.Config{})
	name := "unknown"
	if key != nil {
		name = keyName(key)
	}
	switch {
	case err == nil:
		return name, nil
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return "", errors.New("its GPG key is not in the keyring")
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return "", fmt.Errorf("its GPG key (%s) is expired", name)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return "", fmt.Errorf("its GPG key (%s) is revoked", name)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "", fmt.Errorf("its GPG signature (%s) is expired", name)
	}
	return "", fmt.Errorf("its GPG signature is wrong: %s", printable(err.Error(), 200))
}

func keyName(e *openpgp.Entity) string {
	name := fmt.Sprintf("%X", e.PrimaryKey.Fingerprint)
	if id := e.PrimaryIdentity(); id != nil {
		name = printable(id.Name, 200) + " " + name
	}
	return name
}
