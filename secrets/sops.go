package secrets

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/cmd/sops/formats"
	"github.com/getsops/sops/v3/logging"
)

// KeySource is where private keys come from. Read is called anew in each run that
// needs them; what it returns is overwritten once it is parsed.
type KeySource struct {
	Name string // for errors: "age key file /run/secrets/age.txt"
	Read func(context.Context) ([]byte, error)
}

// Transit decrypts with a key that OpenBao keeps. Where an error of it says
// InputFault() bool, that decides whether the file is to blame.
type Transit interface {
	// Address is of the server, without a path: a file is opened only if it names the same.
	Address() string
	Decrypt(ctx context.Context, mount, key, ciphertext string) ([]byte, error)
}

// SOPS opens sealed files with these keys, and with no others: not with those of
// the environment, a home directory, an agent or a cloud. It is safe for concurrent use.
type SOPS struct {
	Age      []KeySource // X25519, hybrid and ssh identities
	PGP      []KeySource // private keys without a passphrase, armored or binary
	Transit  Transit     // nil: none
	MaxBytes int64       // of one sealed file; 0: 4 MiB
}

const defaultMaxBytes = 4 << 20

// Files wraps a tree: sealed files read as plain ones, everything else as it is.
// What is opened is added to r first.
func (s *SOPS) Files(ctx context.Context, tree fs.FS, r *Redactor) *Files {
	limit := s.MaxBytes
	if limit <= 0 {
		limit = defaultMaxBytes
	}
	o := &unsealer{keys: &keyring{from: s}, redactor: r}
	return &Files{ctx: ctx, tree: tree, limit: limit, open: o.open, opened: map[string][]byte{}}
}

// Closed reads sealed files without any key: structure in clear, values as ENC[…]
// text, no sops block. For commands that have no keys.
func Closed(tree fs.FS) *Files {
	return &Files{ctx: context.Background(), tree: tree, limit: defaultMaxBytes, open: leaveClosed, opened: map[string][]byte{}}
}

func leaveClosed(_ context.Context, name string, data []byte) ([]byte, error) {
	format := formats.FormatForPath(name)
	tree, err := loadSealed(format, data)
	if err != nil {
		return nil, err
	}
	return emitPlain(format, tree.Branches)
}

// SealedError says why a sealed file can't be opened. It holds no plaintext, no MAC
// (which is an unsalted hash of the plaintext) and no key.
type SealedError struct {
	File string
	Err  error
}

func (e *SealedError) Error() string { return fmt.Sprintf("unseal %s: %v", e.File, e.Err) }

// Unwrap gives the cause.
func (e *SealedError) Unwrap() error { return e.Err }

// InputFault is true when the file is to blame, and false when opening it may work
// later or with other keys.
func (e *SealedError) InputFault() bool {
	var f *faultError
	return errors.As(e.Err, &f)
}

// faultError is what is wrong with a file. Its text is ours: those of sops quote values.
type faultError struct{ text string }

func (e *faultError) Error() string { return e.text }

func fault(format string, args ...any) error {
	return &faultError{fmt.Sprintf(format, args...)}
}

// unpanicked turns a panic of a parser into the file's error. The value of the panic may
// quote what was opened, so it isn't kept.
func unpanicked[T any](name string, f func() (T, error)) (out T, err error) {
	defer func() {
		if recover() != nil {
			err = fault("it is built in a way that sops panics on: it was damaged, or written by another program")
		}
		if err != nil {
			err = &SealedError{name, err}
		}
	}()
	return f()
}

// unsealer is how one run opens files.
type unsealer struct {
	keys     *keyring
	redactor *Redactor
}

func (o *unsealer) open(ctx context.Context, name string, data []byte) ([]byte, error) {
	format := formats.FormatForPath(name)
	tree, err := loadSealed(format, data)
	if err != nil {
		return nil, err
	}
	key, err := o.keys.dataKey(ctx, tree.Metadata)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	values, err := decrypt(tree, key)
	if err != nil {
		return nil, err
	}
	plain, err := emitPlain(format, tree.Branches)
	if err != nil {
		return nil, err
	}
	o.redactor.AddDocument(plain) // a generator may take the file whole
	if format == formats.Binary {
		o.addBinary(path.Base(name), plain)
	} else {
		for _, v := range values {
			o.add(v)
		}
	}
	if o.redactor.Full() {
		return nil, fault("the stack opens more secret values than can be masked (%d, counted as they may be written): split the stack", maxForms)
	}
	return plain, nil
}

// namedLines is of how many lines of a binary file the values are known.
const namedLines = 1000

// addBinary makes a file known that is sealed as a whole. It may be one of names and
// values to those who read it: then they put the values into objects.
func (o *unsealer) addBinary(base string, plain []byte) {
	o.redactor.Add(base, plain)
	if !utf8.Valid(plain) {
		return
	}
	n := 0
	for line := range bytes.Lines(plain) {
		if n++; n > namedLines {
			return
		}
		for _, sign := range []string{"=", ":"} {
			if name, value, ok := strings.Cut(string(line), sign); ok {
				o.addNamed(strings.TrimSpace(name), strings.TrimSpace(value))
			}
		}
	}
}

// addNamed adds a value of a line, as it is and without quotes.
func (o *unsealer) addNamed(name, value string) {
	o.redactor.Add(name, []byte(value))
	if n := len(value); n > 2 && value[0] == value[n-1] && (value[0] == '"' || value[0] == '\'') {
		o.redactor.Add(name, []byte(value[1:n-1]))
	}
}

func (o *unsealer) add(v treeLeaf) {
	key := v.last(0)
	for _, text := range writtenAs(v.value) {
		o.redactor.Add(key, []byte(text))
	}
	// A Secret's data is a secret in an envelope: what is in it is one too.
	if text, ok := v.value.(string); ok && v.last(1) == "data" {
		if inner, err := base64.StdEncoding.DecodeString(text); err == nil {
			o.redactor.Add(key, inner)
		}
	}
}

// decrypt opens the values of a tree in place, proves its MAC, and lists what it opened.
func decrypt(tree sops.Tree, key []byte) ([]treeLeaf, error) {
	before := leavesOf(tree.Branches)
	c := &watched{Cipher: aes.NewCipher()}
	mac, err := tree.Decrypt(key, c)
	if err != nil {
		return nil, c.explain(err)
	}
	if err := proveMAC(tree.Metadata, key, mac); err != nil {
		return nil, err
	}
	var opened []treeLeaf
	for i, after := range leavesOf(tree.Branches) {
		was, isText := before[i].text()
		now, stillText := after.text()
		switch {
		case !isText || was == "":
		case !stillText || was != now:
			opened = append(opened, after)
		case isSealed(was):
			return nil, fault("%s stayed closed: it was damaged, or the sops block was changed", after.place())
		}
	}
	return opened, nil
}

func proveMAC(m sops.Metadata, key []byte, computed string) error {
	sealed, err := aes.NewCipher().Decrypt(m.MessageAuthenticationCode, key, m.LastModified.Format(time.RFC3339))
	if err != nil {
		return fault("its MAC can't be opened: the sops block was changed or damaged; restore the file from Git, or seal it anew")
	}
	want, ok := sealed.(string)
	if !ok || !hmac.Equal([]byte(want), []byte(computed)) {
		return fault("its MAC doesn't fit: a value was changed, added or removed without sops; restore the file from Git, or seal it anew")
	}
	return nil
}

// watched remembers which value failed to open, for sops' own text quotes the value.
type watched struct {
	aes.Cipher
	failed string
	clear  bool
}

func (w *watched) Decrypt(ciphertext string, key []byte, path string) (any, error) {
	plain, err := w.Cipher.Decrypt(ciphertext, key, path)
	if err != nil {
		w.failed, w.clear = strings.ReplaceAll(strings.TrimSuffix(path, ":"), ":", "."), !strings.HasPrefix(ciphertext, encPrefix)
	}
	return plain, err
}

func (w *watched) explain(err error) error {
	switch {
	case !strings.Contains(err.Error(), "Could not decrypt value"): // of a comment it isn't said at all
		return fault("a value in it is in clear text where the sops block says sealed, or of a kind that sops can't read: edit sealed files with sops")
	case w.clear:
		return fault("%s is in clear text where the sops block says sealed: edit sealed files with sops", legible(w.failed))
	}
	return fault("%s doesn't open: it was changed, moved from another place or file, or cut off", legible(w.failed))
}

// sops logs on loggers of its own, and quotes comments there. They are set before
// anything runs, so that nobody sets them while somebody logs.
var _ = func() bool {
	for _, logger := range logging.Loggers {
		logger.SetLevel(0) // panics alone
		logger.SetOutput(io.Discard)
	}
	return true
}()
