package secrets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/getsops/sops/v3"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/pgp"
	"github.com/getsops/sops/v3/shamir"
)

// dataKeyBytes is AES-256's; a share of one has its number beside it.
const (
	dataKeyBytes  = 32
	maxSealedKey  = 64 << 10 // of one recipient; a post-quantum one takes 3 KiB
	maxPlainBytes = 1 << 10  // of what is in it
)

// keyring holds the private keys of a run, once something needs them.
//
// It does what sops' key services do, without them: those lose the context, ask for
// every share though enough are there, and look in the environment where a list is empty.
type keyring struct {
	from             *SOPS
	haveAge, havePGP bool
	age              []age.Identity
	pgp              openpgp.EntityList
	tried            []string        // for errors: sources, and the public parts of what is in them
	ours             map[string]bool // recipients whose private key is here
}

// errNotOurs is for a recipient whose private key isn't here.
var errNotOurs = errors.New("its private key is not ours")

// share is what is known of a key group.
type share struct {
	keys    sops.KeyGroup
	part    []byte
	fixable bool // other keys or another time may open it
	notes   []string
	cause   error // that is worth errors.Is: of OpenBao, or the end of time
}

// dataKey opens as many key groups as the file asks for, with keys at hand before
// those that OpenBao keeps.
func (k *keyring) dataKey(ctx context.Context, m sops.Metadata) ([]byte, error) {
	need, err := threshold(m)
	if err != nil {
		return nil, err
	}
	shares := make([]share, len(m.KeyGroups))
	var parts [][]byte
	for _, remote := range []bool{false, true} {
		for i := range shares {
			shares[i].keys = m.KeyGroups[i]
			if len(parts) < need && shares[i].part == nil && k.openGroup(ctx, &shares[i], remote) {
				parts = append(parts, shares[i].part)
			}
		}
	}
	if len(parts) < need {
		return nil, k.notOpened(shares, need)
	}
	key := parts[0]
	if len(m.KeyGroups) > 1 {
		key, err = shamir.Combine(parts)
		for _, part := range parts {
			clear(part)
		}
	}
	if err != nil || len(key) != dataKeyBytes {
		return nil, fault("what its recipients open is no data key: the sops block was damaged or changed")
	}
	return key, nil
}

func threshold(m sops.Metadata) (int, error) {
	groups := len(m.KeyGroups)
	switch need := m.ShamirThreshold; {
	case groups == 1:
		return 1, nil
	case need == 0:
		return groups, nil
	case need < 2 || need > groups:
		return 0, fault("its shamir_threshold is %d with %d key groups: the sops block was damaged or changed", need, groups)
	default:
		return need, nil
	}
}

func (k *keyring) openGroup(ctx context.Context, s *share, remote bool) bool {
	for _, key := range s.keys {
		_, isRemote := key.(*hcvault.MasterKey)
		if isRemote != remote {
			continue
		}
		part, err := k.openKey(ctx, key)
		if err == nil && len(part) > 0 {
			s.part = part
			return true
		}
		s.note(key, err)
	}
	return false
}

func (s *share) note(key keys.MasterKey, err error) {
	var f *faultError
	switch {
	case errors.Is(err, errNotOurs):
		s.fixable = true
	case errors.As(err, &f):
		s.notes = append(s.notes, fmt.Sprintf("%s %s", recipient(key), f.text))
	case err != nil:
		s.fixable = true
		if !Unavailable(s.cause) {
			s.cause = err
		}
		s.notes = append(s.notes, fmt.Sprintf("%s: %v", recipient(key), err))
	}
}

func (k *keyring) openKey(ctx context.Context, key keys.MasterKey) ([]byte, error) {
	sealed := string(key.EncryptedDataKey())
	if len(sealed) > maxSealedKey {
		return nil, fault("is longer than any is")
	}
	switch key := key.(type) {
	case *sopsage.MasterKey:
		return k.openAge(ctx, key.Recipient, sealed)
	case *pgp.MasterKey:
		return k.openPGP(ctx, key.Fingerprint, sealed)
	case *hcvault.MasterKey:
		return k.openTransit(ctx, key, sealed)
	}
	return nil, fault("is of a kind that is not supported: seal the file for an age or PGP key, or one of OpenBao transit, as well")
}

func (k *keyring) openAge(ctx context.Context, to, sealed string) ([]byte, error) {
	k.readAge(ctx)
	if len(k.age) == 0 {
		return nil, errNotOurs
	}
	r, err := age.Decrypt(armor.NewReader(strings.NewReader(sealed)), k.age...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) && !k.ours[to] {
		return nil, errNotOurs
	}
	if err != nil {
		return nil, fault("holds a damaged data key")
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxPlainBytes))
	if err != nil {
		return nil, fault("holds a damaged data key")
	}
	return plain, nil
}

// openTransit asks OpenBao, if the file names ours: its metadata may be anybody's.
func (k *keyring) openTransit(ctx context.Context, key *hcvault.MasterKey, sealed string) ([]byte, error) {
	transit := k.from.Transit
	if transit == nil {
		return nil, errors.New("no OpenBao is configured")
	}
	if address := transit.Address(); strings.TrimRight(key.VaultAddress, "/") != strings.TrimRight(address, "/") {
		return nil, fault("is not at our OpenBao %s, and no other is asked", address)
	}
	if !isTransitPath(key.EnginePath, true) || !isTransitPath(key.KeyName, false) {
		return nil, fault("is no path of a transit key")
	}
	plain, err := transit.Decrypt(ctx, strings.Trim(key.EnginePath, "/"), key.KeyName, sealed)
	var who interface{ InputFault() bool }
	if errors.As(err, &who) && who.InputFault() {
		return nil, fault("is refused by OpenBao: %v", err)
	}
	return plain, err
}

// isTransitPath keeps a file from asking OpenBao for anything but to open a key.
func isTransitPath(path string, nested bool) bool {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for _, part := range parts {
		odd := func(r rune) bool {
			return !strings.ContainsRune("-_.", r) && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
		}
		if part == "" || strings.Trim(part, ".") == "" || strings.ContainsFunc(part, odd) {
			return false
		}
	}
	return nested || len(parts) == 1 && !strings.Contains(path, "/")
}

// notOpened says what the file was sealed for, what was tried, and what to do.
func (k *keyring) notOpened(shares []share, need int) error {
	var notes []string
	var cause error
	possible := 0
	for _, s := range shares {
		if s.part != nil || s.fixable {
			possible++
		}
		clear(s.part)
		notes = append(notes, s.notes...)
		if cause == nil || Unavailable(s.cause) {
			cause = s.cause
		}
	}
	text := fmt.Sprintf("no key of ours opens it; it is sealed for %s; tried %s", recipients(shares, need), k.triedText())
	if slices.Sort(notes); len(notes) > 0 {
		text += "; " + strings.Join(slices.Compact(notes), "; ")
	}
	if possible < need {
		return &faultError{text}
	}
	if Unavailable(cause) { // the key is the right one
		return &missingKey{text, cause}
	}
	return &missingKey{text + "; configure a private key that it is sealed for, or seal it for one of ours with sops updatekeys", cause}
}

// missingKey is no fault of the file.
type missingKey struct {
	text  string
	cause error
}

func (e *missingKey) Error() string { return e.text }
func (e *missingKey) Unwrap() error { return e.cause }

func (k *keyring) triedText() string {
	if len(k.tried) == 0 {
		return "no key, for none of these keys is configured"
	}
	return strings.Join(k.tried, ", ")
}

func recipients(shares []share, need int) string {
	var groups []string
	for i, s := range shares {
		var names []string
		for _, key := range s.keys {
			names = append(names, recipient(key))
		}
		text := strings.Join(names, " or ")
		if len(shares) > 1 {
			state := "closed"
			if s.part != nil {
				state = "open"
			}
			text = fmt.Sprintf("group %d (%s): %s", i+1, state, text)
		}
		groups = append(groups, text)
	}
	if len(shares) > 1 {
		return fmt.Sprintf("any %d of %d key groups: %s", need, len(shares), strings.Join(groups, ", "))
	}
	return groups[0]
}

// recipientKinds names the kinds of recipients, by sops' names for them.
var recipientKinds = map[string]string{
	"age": "", "pgp": "PGP ", "hc_vault": "OpenBao transit key ", "kms": "AWS KMS ", "gcp_kms": "GCP KMS ",
	"azure_kv": "Azure Key Vault ", "hckms": "HuaweiCloud KMS ",
}

func recipient(key keys.MasterKey) string {
	return recipientKinds[key.TypeToIdentifier()] + legible(key.ToString())
}

// legible makes text from a file fit for an error: one line, not long. A post-quantum
// recipient has 2,000 characters; its ends tell it from others.
func legible(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
	if runes := []rune(text); len(runes) > 120 {
		return string(runes[:40]) + "…" + string(runes[len(runes)-20:])
	}
	return text
}
