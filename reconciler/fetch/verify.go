package fetch

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// check returns who signed a commit. The signature of the commit counts, or that of the annotated tag which led to it.
func (v Verify) check(c *commit, ref string) (signer string, err error) {
	if !v.enabled() {
		return "", nil
	}
	keys, err := v.load()
	if err != nil {
		return "", err
	}
	payload, signature, err := splitSignature(c.raw)
	if err == nil {
		signer, err = keys.verify(payload, signature, c.Committer.When)
	}
	if err == nil {
		return signer, nil
	}
	why := err.Error()
	if c.tag != nil {
		if signer, err = keys.verifyTag(c, ref); err == nil {
			return signer, nil
		}
		why += "; its tag: " + err.Error()
	}
	return "", withHint(fmt.Errorf("%w: commit %s (%s) by %s: %s", ErrUnverified, c.Hash, c.subject(), c.author(), why),
		"sign it with a key in the files of verify, or add the key there; the last accepted commit stays in force")
}

// trusted are the keys that may sign.
type trusted struct {
	ssh *allowedSigners
	gpg *keyring
}

func (v Verify) load() (t trusted, err error) {
	if f := v.SSHAllowedSignersFile; f != "" {
		data, err := readFile(f, 1<<20)
		if err != nil {
			return t, fmt.Errorf("%w: verify.sshAllowedSignersFile: %w", ErrInvalid, err)
		}
		if t.ssh, err = parseAllowedSigners(data); err != nil {
			return t, fmt.Errorf("%w: verify.sshAllowedSignersFile: %s: %w", ErrInvalid, f, err)
		}
	}
	if f := v.GPGKeyringFile; f != "" {
		data, err := readFile(f, 16<<20)
		if err != nil {
			return t, fmt.Errorf("%w: verify.gpgKeyringFile: %w", ErrInvalid, err)
		}
		if t.gpg, err = parseKeyring(data); err != nil {
			return t, fmt.Errorf("%w: verify.gpgKeyringFile: %s: %w", ErrInvalid, f, err)
		}
	}
	return t, nil
}

func (t trusted) verify(payload, signature string, when time.Time) (string, error) {
	known := strings.HasPrefix(signature, sshArmor+"\n") || strings.HasPrefix(signature, gpgArmor+"\n")
	if known {
		if err := checkArmor(signature); err != nil {
			return "", err
		}
	}
	switch {
	case signature == "":
		return "", errors.New("it is not signed")
	case !known:
		return "", errors.New("its signature is neither of SSH nor of GPG")
	case strings.HasPrefix(signature, sshArmor):
		if t.ssh == nil {
			return "", errors.New("it is signed with an SSH key, and verify.sshAllowedSignersFile is not set")
		}
		return t.ssh.verify(payload, signature, when)
	}
	if t.gpg == nil {
		return "", errors.New("it is signed with a GPG key, and verify.gpgKeyringFile is not set")
	}
	return t.gpg.verify(payload, signature)
}

// verifyTag also compares the name in the tag, which is signed, with the ref, which is not: or a remote could serve
// the signed v1.0 as v2.0.
func (t trusted) verifyTag(c *commit, ref string) (string, error) {
	if "refs/tags/"+c.tag.name != ref {
		return "", fmt.Errorf("it says that it is %q, not %q", printable(c.tag.name, 100), strings.TrimPrefix(ref, "refs/tags/"))
	}
	payload, signature := splitTagSignature(c.tag.raw)
	when := c.Committer.When
	return t.verify(payload, signature, when)
}
