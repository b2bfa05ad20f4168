package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// readPGP reads the PGP sources, once.
func (k *keyring) readPGP(ctx context.Context) {
	if k.havePGP {
		return
	}
	k.havePGP = true
	for _, source := range k.from.PGP {
		k.read(ctx, source, func(data []byte) (public []string, err error) {
			entities, err := parsePGP(data)
			for _, e := range entities {
				public = append(public, fmt.Sprintf("%X", e.PrimaryKey.Fingerprint))
			}
			k.pgp = append(k.pgp, entities...)
			return public, err
		})
	}
}

// openPGP opens a data key without gpg, its agent or its home directory.
func (k *keyring) openPGP(ctx context.Context, fingerprint, sealed string) ([]byte, error) {
	k.readPGP(ctx)
	if len(k.pgp) == 0 {
		return nil, errNotOurs
	}
	block, err := armor.Decode(strings.NewReader(sealed))
	if err != nil {
		return nil, fault("holds a damaged data key")
	}
	limit := int64(maxPlainBytes)
	message, err := openpgp.ReadMessage(block.Body, k.pgp, nil, &packet.Config{MaxDecompressedMessageSize: &limit})
	if errors.Is(err, pgperrors.ErrKeyIncorrect) && !k.ours[strings.ToUpper(fingerprint)] {
		return nil, errNotOurs
	}
	if err != nil || message.DecryptedWith.PrivateKey == nil { // one that isn't sealed at all is nobody's
		return nil, fault("holds a damaged data key")
	}
	plain, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, limit))
	if err != nil {
		return nil, fault("holds a damaged data key")
	}
	return plain, nil
}

// parsePGP reads private keys, armored or not. Its errors quote nothing.
func parsePGP(data []byte) (openpgp.EntityList, error) {
	var all openpgp.EntityList
	for _, block := range armoredBlocks(data) {
		entities, err := readRing(block)
		clear(block) // may be a copy of what the caller clears
		if err != nil {
			return nil, errors.New("is no PGP key")
		}
		all = append(all, entities...)
	}
	locked := false
	var usable openpgp.EntityList
	for _, e := range all {
		open, closed := privateKeys(e)
		locked = locked || closed
		if open {
			usable = append(usable, e)
		}
	}
	switch {
	case len(usable) > 0:
		return usable, nil
	case locked:
		return nil, errors.New("is protected by a passphrase, which nobody is there to type: export the key without one")
	}
	return nil, errors.New("holds no private PGP key")
}

func readRing(block []byte) (openpgp.EntityList, error) {
	if bytes.Contains(block, []byte("-----BEGIN PGP")) {
		return openpgp.ReadArmoredKeyRing(bytes.NewReader(block))
	}
	return openpgp.ReadKeyRing(bytes.NewReader(block))
}

// armoredBlocks parts files that were written one after the other, for a reader takes
// the first only.
func armoredBlocks(data []byte) [][]byte {
	const begin = "-----BEGIN PGP"
	parts := bytes.Split(data, []byte(begin))
	if len(parts) == 1 {
		return parts
	}
	var blocks [][]byte
	for _, part := range parts[1:] {
		blocks = append(blocks, append([]byte(begin), part...))
	}
	return blocks
}

// privateKeys says whether there are some that are open, and some that a passphrase closes.
func privateKeys(e *openpgp.Entity) (open, closed bool) {
	all := []*packet.PrivateKey{e.PrivateKey}
	for _, sub := range e.Subkeys {
		all = append(all, sub.PrivateKey)
	}
	for _, key := range all {
		if key == nil || key.Dummy() {
			continue
		}
		open = open || !key.Encrypted
		closed = closed || key.Encrypted
	}
	return open, closed
}
