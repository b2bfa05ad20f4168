package secrets_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/getsops/sops/v3"
	yaml "go.yaml.in/yaml/v3"

	"github.com/plumbline-dev/plumbline/secrets"
)

// wholeENC is a sealed value and nothing else.
var wholeENC = regexp.MustCompile(`^ENC\[AES256_GCM,data:[A-Za-z0-9+/=]+,iv:[A-Za-z0-9+/=]+,tag:[A-Za-z0-9+/=]+,type:[a-z]+\]$`)

// fuzzIdentity is the same in each process that a fuzzer starts. It opens nothing else.
const fuzzIdentity = "AGE-SECRET-KEY-19LZNHS7MGAFZFJKWXLCMCL7HKD87WYFSAWCTE3WC9M7A0VQDJH4SQWUSRA"

// Whatever a file holds: no panic, no error that quotes what was opened, and no ciphertext in place of a value.
func FuzzOpen(f *testing.F) {
	id, err := age.ParseX25519Identity(fuzzIdentity)
	if err != nil {
		f.Fatal(err)
	}
	to := recipientOf(f, id.Recipient().String())
	for _, c := range everyFormat {
		for _, edit := range []func(*sops.Metadata){nil, onlyData} {
			sealed := sealFor(to).with(edit).seal(f, c.file, c.plain)
			f.Add(sealed, c.file)
			f.Add(sealed[:len(sealed)/2], c.file)
			f.Add(c.plain, c.file)
			f.Add(sealed, "a.yaml")
		}
	}
	f.Add("a: &a [*a]\nsops: {mac: x, lastmodified: '2026-01-02T03:04:05Z', age: [{recipient: a, enc: b}]}\n", "a.yaml")
	f.Add(`{"data":"ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:bytes]","sops":{"mac":"x"}}`, "a")
	f.Fuzz(func(t *testing.T, content, name string) {
		if !fs.ValidPath(name) || name == "." || strings.HasSuffix(name, "/.") {
			return
		}
		files := ours(id).Files(t.Context(), tree(name, content), newRedactor())
		plain, err := files.ReadFile(name)
		if err != nil {
			var sealed *secrets.SealedError
			if !errors.As(err, &sealed) {
				t.Fatalf("not a SealedError: %v", err)
			}
			for _, value := range []string{"correct-horse", "plumb-user-1", id.String()} {
				if strings.Contains(err.Error(), value) && !strings.Contains(content, value) {
					t.Fatalf("it says %q: %v", value, err)
				}
			}
			return
		}
		if len(files.Opened()) == 0 && string(plain) != content {
			t.Fatal("it changed a file that isn't sealed")
		}
		if value := sealedScalar(name, plain); value != "" {
			t.Fatalf("%s reads with %s in it:\n%s", name, value, plain)
		}
		if info, err := files.Stat(name); err != nil || info.Size() != int64(len(plain)) {
			t.Fatalf("size %v, %v of %d bytes", info, err, len(plain))
		}
	})
}

// sealedScalar is a sealed value that a reader of the file would take for the value.
func sealedScalar(name string, data []byte) string {
	switch {
	case strings.HasSuffix(name, ".json"):
		var v any
		if json.Unmarshal(data, &v) == nil {
			return sealedIn(v)
		}
	case strings.HasSuffix(name, ".yaml"), strings.HasSuffix(name, ".yml"):
		decoder := yaml.NewDecoder(bytes.NewReader(data))
		for {
			var v any
			if err := decoder.Decode(&v); errors.Is(err, io.EOF) || err != nil {
				return ""
			}
			if found := sealedIn(v); found != "" {
				return found
			}
		}
	case strings.HasSuffix(name, ".env"):
		for line := range strings.Lines(string(data)) {
			if _, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && wholeENC.MatchString(value) && line[0] != '#' {
				return value
			}
		}
	}
	return ""
}

func sealedIn(v any) string {
	found := ""
	switch v := v.(type) {
	case string:
		if wholeENC.MatchString(v) {
			return v
		}
	case []any:
		for _, item := range v {
			found = found + sealedIn(item)
		}
	case map[string]any:
		for _, item := range v {
			found = found + sealedIn(item)
		}
	case map[any]any:
		for _, item := range v {
			found = found + sealedIn(item)
		}
	}
	return found
}
