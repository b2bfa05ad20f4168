package secrets

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// readAge reads the age sources, once. One that can't be read is said where nothing
// else opens a file.
func (k *keyring) readAge(ctx context.Context) {
	if k.haveAge {
		return
	}
	k.haveAge = true
	for _, source := range k.from.Age {
		k.read(ctx, source, func(data []byte) (public []string, err error) {
			ids, public, err := parseAge(data)
			k.age = append(k.age, ids...)
			return public, err
		})
	}
}

// read gets a source's keys parsed, and its bytes overwritten.
func (k *keyring) read(ctx context.Context, source KeySource, parse func([]byte) ([]string, error)) {
	data, err := source.Read(ctx)
	var public []string
	if err == nil {
		public, err = parse(data)
	}
	clear(data)
	if k.ours == nil {
		k.ours = map[string]bool{}
	}
	shown := make([]string, 0, len(public))
	for _, p := range public {
		k.ours[p] = true
		shown = append(shown, legible(p))
	}
	note := source.Name + " (" + strings.Join(shown, ", ") + ")"
	if err != nil {
		note = fmt.Sprintf("%s (%v)", source.Name, err)
	}
	k.tried = append(k.tried, note)
}

// parseAge reads what age-keygen or ssh-keygen wrote, and gives the recipients beside
// the identities. Its errors quote nothing.
func parseAge(data []byte) (ids []age.Identity, public []string, err error) {
	if bytes.Contains(data, []byte("-----BEGIN AGE ENCRYPTED")) || bytes.HasPrefix(data, []byte("age-encryption.org/")) {
		return nil, nil, errors.New("is sealed with a passphrase, which nobody is there to type: give it as age-keygen wrote it")
	}
	if bytes.Contains(data, []byte("-----BEGIN ")) {
		return parseSSH(data)
	}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		id, to, err := parseIdentity(string(line))
		if err != nil {
			return nil, nil, fmt.Errorf("line %d %w", number, err)
		}
		ids, public = append(ids, id), append(public, to)
	}
	if len(ids) == 0 {
		return nil, nil, errors.New("holds no age identity")
	}
	return ids, public, nil
}

func parseIdentity(text string) (age.Identity, string, error) {
	if strings.HasPrefix(text, "AGE-PLUGIN-") {
		return nil, "", errors.New("is an identity of an age plugin: those are other programs, which are not run")
	}
	if id, err := age.ParseX25519Identity(text); err == nil {
		return id, id.Recipient().String(), nil
	}
	if id, err := age.ParseHybridIdentity(text); err == nil {
		return id, id.Recipient().String(), nil
	}
	return nil, "", errors.New("is no age identity")
}

func parseSSH(data []byte) ([]age.Identity, []string, error) {
	id, err := agessh.ParseIdentity(data)
	if locked := (*ssh.PassphraseMissingError)(nil); errors.As(err, &locked) {
		return nil, nil, errors.New("is an ssh key with a passphrase, which nobody is there to type: give it without one")
	}
	if err != nil {
		return nil, nil, errors.New("is no ssh key of a kind that age uses: ed25519 and RSA")
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, nil, errors.New("is no ssh key")
	}
	return []age.Identity{id}, []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}, nil
}
