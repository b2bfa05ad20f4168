package secrets_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/kms"
	"github.com/getsops/sops/v3/logging"
	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/secrets"
)

const (
	anyENC  = `ENC\[AES256_GCM,data:[^\]]*\]`
	secret1 = "password: correct-horse\nuser: plumb-user-1\nkind_unencrypted: Secret\nnum: 7\n"
)

func TestRefusesWhatWasTamperedWith(t *testing.T) {
	id, to := ageKey(t)
	_, stranger := ageKey(t)
	sealed := sealFor(to).seal(t, "a.yaml", secret1)
	other := sealFor(to).seal(t, "a.yaml", secret1)
	line := func(text, part string) string { return lineWith(t, text, part) }
	for _, c := range []struct {
		name, content, says string
	}{
		{"a value", replaced(t, sealed, line(sealed, "password"), flipped(t, line(sealed, "password"))), "password doesn't open"},
		{"the MAC", replaced(t, sealed, line(sealed, " mac:"), flipped(t, line(sealed, " mac:"))), "MAC can't be opened"},
		{"the time of the MAC", replaced(t, sealed, "2026-01-02", "2026-01-03"), "MAC can't be opened"},
		{"an empty MAC", replaced(t, sealed, line(sealed, " mac:"), `    mac: ""`), "has no MAC"},
		{"no MAC", replaced(t, sealed, line(sealed, " mac:")+"\n", ""), "has no MAC"},
		{"another value's MAC", replaced(t, sealed, line(sealed, " mac:"), "    mac: "+regexp.MustCompile(anyENC).FindString(line(sealed, "password"))), "MAC can't be opened"},
		{"clear text", replaced(t, sealed, "kind_unencrypted: Secret", "kind_unencrypted: ConfigMap"), "MAC doesn't fit"},
		{"clear text added", replaced(t, sealed, "kind_unencrypted:", "more_unencrypted: yes\nkind_unencrypted:"), "MAC doesn't fit"},
		{"a value removed", replaced(t, sealed, line(sealed, "user:")+"\n", ""), "MAC doesn't fit"},
		{"a value moved", replaced(t, sealed, "password: ", "passphrase: "), "passphrase doesn't open"},
		{"a value of another file", replaced(t, sealed, line(sealed, "password"), line(other, "password")), "password doesn't open"},
		{"a value in clear", replaced(t, sealed, line(sealed, "password"), "password: correct-horse"), "password is in clear text"},
		{"a number in clear", replaced(t, sealed, line(sealed, "num: "), "num: 7"), "clear text"},
		{"a type of another kind", replaced(t, sealed, line(sealed, "password"), strings.Replace(line(sealed, "password"), "type:str", "type:int", 1)), "password doesn't open"},
		{"a type that sops panics on", replaced(t, sealed, line(sealed, "password"), strings.Replace(line(sealed, "password"), "type:str", "type:bytes", 1)), "panics"},
		{"the rule", replaced(t, sealed, "unencrypted_suffix: _unencrypted", "unencrypted_suffix: word"), "clear text"},
		{"the data key", replaced(t, sealed, "-----BEGIN AGE ENCRYPTED FILE-----\n            YWdl", "-----BEGIN AGE ENCRYPTED FILE-----\n            YWdm"), "damaged data key"},
		{"the data key of somebody else", replaced(t, sealed, stanza(t, sealed), stanza(t, sealFor(stranger).seal(t, "a.yaml", secret1))), "damaged data key"},
		{"no recipients", regexp.MustCompile(`(?s)    age:.*?    lastmodified`).ReplaceAllString(sealed, "    lastmodified"), "sops block can't be read"},
		{"the block's time", replaced(t, sealed, line(sealed, "lastmodified"), "    lastmodified: yesterday"), "sops block can't be read"},
		{"no block", sealed[:strings.Index(sealed, "sops:")], "no whole sops block"},
		{"block in a later document", sealed[:strings.Index(sealed, "sops:")] + "---\n" + sealed[strings.Index(sealed, "sops:"):], "no whole sops block"},
		{"two sealed files in one", sealed + "---\n" + other, "doesn't open"},
		{"a plain document before it", "a: b\n---\n" + sealed, "no whole sops block"},
		{"a plain document after it", sealed + "---\na: b\n", "clear text"},
		{"twice the same key", replaced(t, sealed, "password:", "user: x\npassword:"), "(line "},
		{"two rules", replaced(t, sealed, "    unencrypted_suffix:", "    encrypted_suffix: x\n    unencrypted_suffix:"), "sops block can't be read"},
		{"a sealed comment", replaced(t, commented(t, to), "#ENC[AES256_GCM,data:", "#ENC[AES256_GCM,data:AAAA"), "stayed closed"},
		{"only a sealed comment", "a: b\n" + lineWith(t, commented(t, to), "#ENC") + "\nc: d\n", "no whole sops block"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain, err := read(t, ours(id), "a.yaml", c.content)
			wantFault(t, err, true, "a.yaml", c.says)
			if plain != "" {
				t.Errorf("it returned %q", plain)
			}
			if !strings.Contains(c.says, "block") && !strings.Contains(c.says, "no MAC") {
				return
			}
			_, err = secrets.Closed(tree("a.yaml", c.content)).ReadFile("a.yaml")
			wantFault(t, err, true, "a.yaml", c.says) // that needs no key to be seen
		})
	}
}

// stanza is the sealed data key of the first recipient.
func stanza(t *testing.T, sealed string) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)-----BEGIN AGE.*?-----END`).FindString(sealed)
	if found == "" {
		t.Fatal("no stanza in\n" + sealed)
	}
	return found
}

func commented(t *testing.T, to sopsRecipient) string {
	t.Helper()
	return sealFor(to).seal(t, "a.yaml", "# who asks\npassword: correct-horse\n")
}

func TestBounds(t *testing.T) {
	id, to := ageKey(t)
	seal := func(file, plain string) string { return sealFor(to).seal(t, file, plain) }
	sealed := seal("a.yaml", "password: correct-horse\n")
	bomb := "a_unencrypted: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("b%d_unencrypted: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i+1, i, i, i, i, i, i, i, i, i, i)
	}
	for _, c := range []struct{ name, file, content, says string }{
		{"5 MB of YAML", "a.yaml", seal("a.yaml", "a_unencrypted: "+strings.Repeat("x", 5<<20)+"\npassword: correct-horse\n"), "larger than the 4194304 bytes"},
		{"5 MB of JSON", "a.json", seal("a.json", `{"a_unencrypted":"`+strings.Repeat("x", 5<<20)+`","b":"correct-horse"}`), "larger than"},
		{"5 MB of env", "a.env", seal("a.env", "A="+strings.Repeat("x", 5<<20)+"\n"), "larger than"},
		{"5 MB of INI", "a.ini", seal("a.ini", "[a]\na = "+strings.Repeat("x", 5<<20)+"\n"), "larger than"},
		{"5 MB of anything", "a", seal("a", strings.Repeat("x", 5<<20)), "larger than"},
		{"alias bomb", "a.yaml", bomb + sealed, "aliases count"},
		{"alias bomb in a later document", "a.yaml", sealed + "---\n" + bomb, "aliases count"},
		{"alias of itself", "a.yaml", sealed + "---\na_unencrypted: &a [*a]\n", "aliases count"},
		{"aliases of a long text", "a.yaml", "t_unencrypted: &t " + strings.Repeat("x", 1<<20) + "\nl_unencrypted: [" + strings.Repeat("*t,", 100) + "]\n" + sealed, "aliases count"},
		{"deep", "a.yaml", "d_unencrypted: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n" + sealed, "levels deep"},
		{"deep JSON", "a.json", replaced(t, seal("a.json", `{"b":"correct-horse"}`), "{", `{"d_unencrypted":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+","), "levels deep"},
		{"bottomless JSON", "a.json", `{"sops":{"mac":"ENC[AES256_GCM,data:AAAA` + strings.Repeat("[", 1<<20), "no whole sops block"},
		{"many values", "a.yaml", strings.Repeat("- a\n", 0) + "l_unencrypted: [" + strings.Repeat("1,", 20_000) + "]\n" + sealed, "20000 values"},
		{"many lines", "a.env", strings.Repeat("A=\n", 10_000) + seal("a.env", "A=correct-horse\n"), "10000 lines"},
		{"long rule", "a.yaml", replaced(t, sealed, "unencrypted_suffix: _unencrypted", "encrypted_regex: "+strings.Repeat("x", 1001)), "regular expression"},
		{"large rule", "a.yaml", replaced(t, sealed, "unencrypted_suffix: _unencrypted", "encrypted_regex: "+strings.Repeat("x{900}", 5)), "regular expression"},
		{"wrong rule", "a.yaml", replaced(t, sealed, "unencrypted_suffix: _unencrypted", "encrypted_regex: '('"), "regular expression"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(t, ours(id), c.file, c.content)
			wantFault(t, err, true, c.says)
		})
	}
	t.Run("many keys", func(t *testing.T) {
		all := sealFor(to)
		for range 100 {
			all.groups[0] = append(all.groups[0], to)
		}
		_, err := read(t, ours(id), "a.yaml", all.seal(t, "a.yaml", "a: b\n"))
		wantFault(t, err, true, "more than 100 keys")
	})
	t.Run("own limit", func(t *testing.T) {
		s := ours(id)
		s.MaxBytes = 100
		_, err := read(t, s, "a.yaml", sealed)
		wantFault(t, err, true, "larger than the 100 bytes")
	})
	t.Run("large and plain", func(t *testing.T) {
		content := strings.Repeat("sops mac lastmodified\n", 1<<18)
		if got := mustRead(t, ours(id), "a.yaml", content); got != content {
			t.Errorf("%d of %d bytes", len(got), len(content))
		}
	})
}

// What an error of sops quotes must not come through: values, the MAC, keys.
func TestErrorsHoldNothingSealed(t *testing.T) {
	id, to := ageKey(t)
	key := []byte("0123456789abcdef0123456789ABCDEF")
	s := sealFor(to)
	s.key = key
	sealed := s.seal(t, "a.yaml", "a: 51515151\npassword: correct-horse\nkind_unencrypted: Secret\n")
	no := []string{"51515151", "correct-horse", string(key), hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key), id.String(), "ENC["}
	hexMAC := regexp.MustCompile(`[0-9A-Fa-f]{64}`)
	try := func(content string) {
		_, err := read(t, ours(id), "a.yaml", content)
		if err == nil {
			return
		}
		for cause := err; cause != nil; cause = unwrap(cause) {
			text := fmt.Sprintf("%v %+v", cause, cause)
			for _, value := range no {
				if strings.Contains(text, value) {
					t.Errorf("it says %q: %s", value, text)
				}
			}
			if hexMAC.MatchString(text) {
				t.Errorf("it says a MAC: %s", text)
			}
		}
	}
	for _, kind := range []string{"int", "float", "bool", "time", "bytes", "comment", "other"} {
		try(strings.Replace(sealed, "type:str", "type:"+kind, 1))
		try(strings.ReplaceAll(sealed, "type:str", "type:"+kind))
		try(strings.Replace(sealed, "type:int", "type:"+kind, 1))
	}
	try(strings.Replace(sealed, "Secret", "ConfigMap", 1))
	try(regexp.MustCompile(`password: .*`).ReplaceAllString(sealed, "password: correct-horse"))
	for i := range len(sealed) {
		if i%7 == 0 {
			try(sealed[:i] + "~" + sealed[i+1:])
		}
	}
}

func unwrap(err error) error {
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return u.Unwrap()
	}
	return nil
}

// Whatever is opened can be masked before anybody has it.
func TestRedactorKnowsWhatWasOpened(t *testing.T) {
	id, to := ageKey(t)
	inner := base64.StdEncoding.EncodeToString([]byte("inner-secret"))
	for _, c := range []struct {
		name, file, plain string
		masked            []string
		leaves            map[string]any
		not               []string
	}{
		{"YAML", "a.yaml", manifest + "data:\n    inner: " + inner + "\n",
			[]string{"plumb-user-1", "correct-horse", "first-of-list", "deep-value", "line-one-of-the-text", "who asks", "what it is for", "about the second", inner, "inner-secret"},
			map[string]any{"port": 5432, "ratio": 0.25, "tls": true, "replicas": 3, "list": 7, "date": "2026-01-02", "kind": "Secret"}, []string{"clear-words-unencrypted"}},
		{"clear parts", "a.yaml", "name_unencrypted: clear-words-here\npassword: correct-horse\n", []string{"correct-horse"}, nil, []string{"clear-words-here"}},
		{"JSON", "a.json", `{"a":{"b":"correct-horse","n":7}}`, []string{"correct-horse"}, map[string]any{"n": 7}, nil},
		{"env", "a.env", "# about-it-all\nPASSWORD=correct-horse\nN=7\n", []string{"correct-horse", "about-it-all"}, map[string]any{"N": "7"}, nil},
		{"INI", "a.ini", "[a]\npassword = correct-horse\nn = 7\n", []string{"correct-horse"}, map[string]any{"n": "7"}, nil},
		{"binary", "dir/ca.pem", "line-one-is-this\nline-two-is-that\n", []string{"line-one-is-this\nline-two-is-that", "line-two-is-that"}, map[string]any{"ca.pem": "line-one-is-this\nline-two-is-that\n"}, nil},
		{"binary, of names and values", "creds.properties", "# note\nuser = plumb-user-1\npin=1234\n\ttoken: 'correct-horse'\nurl=amqp://a:b@c\nempty=\n",
			[]string{"plumb-user-1", "correct-horse", "amqp://a:b@c"}, map[string]any{"user": "plumb-user-1", "pin": "1234", "url": "amqp://a:b@c", "token": "correct-horse"}, []string{"empty"}},
		{"a file taken whole", "dir/pin.yaml", "pin: 1234\n", nil, map[string]any{"pin": 1234, "pin.yaml": "pin: 1234\n", "config": "pin: 1234\n"}, nil},
		{"a binary file taken whole", "dir/pin.txt", "pin  1234\n", nil, map[string]any{"pin.txt": "pin  1234\n", "config": "pin  1234\n"}, nil},
		{"lines that YAML indents", "a.yaml", "a: |\n    first1\n    second-2\n    last-of-all\n", []string{"a:\n  - |\n    second-2\n", "first1", "last-of-all"}, nil, nil},
		{"short binary", "dir/pin", "1234", nil, map[string]any{"pin": "1234"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRedactor()
			files := ours(id).Files(t.Context(), tree(c.file, sealFor(to).seal(t, c.file, c.plain)), r)
			if r.Opened() {
				t.Error("it knows something before anything was read")
			}
			if _, err := files.Open(c.file); err != nil {
				t.Fatal(err)
			}
			for _, text := range c.masked {
				if got := r.Text("<" + text + ">"); strings.Contains(got, text) {
					t.Errorf("not masked: %q", got)
				}
			}
			for key, value := range c.leaves {
				if !r.Leaf(key, value) {
					t.Errorf("%s: %v is not known", key, value)
				}
			}
			for _, text := range c.not {
				if got := r.Text(text); got != text {
					t.Errorf("masked: %q", got)
				}
			}
		})
	}
}

// More than can be masked is not opened: it would be seen.
func TestRefusesMoreThanCanBeMasked(t *testing.T) {
	id, to := ageKey(t)
	for name, plain := range map[string]string{"a.yaml": "a: correct-horse-battery\n", "a.bin": "correct-horse-battery"} {
		r := newRedactor()
		r.SetMaxForms(10)
		_, err := ours(id).Files(t.Context(), tree(name, sealFor(to).seal(t, name, plain)), r).ReadFile(name)
		wantFault(t, err, true, "more secret values than can be masked", "split the stack")
	}
}

func TestManyRunsAtOnce(t *testing.T) {
	id, to := ageKey(t)
	s := ours(id)
	all := map[string]string{}
	for _, c := range everyFormat {
		all[c.file] = sealFor(to).seal(t, c.file, c.plain)
	}
	all["bad.yaml"] = replaced(t, all["secret.yml"], "2026", "2027")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				for _, c := range everyFormat {
					if plain, err := read(t, s, c.file, all[c.file]); err != nil || plain != c.plain {
						t.Errorf("%s: %v", c.name, err)
					}
				}
				if _, err := read(t, s, "bad.yaml", all["bad.yaml"]); err == nil {
					t.Error("no error")
				}
			}
		})
	}
	wg.Wait()
}

func TestEndsWithTheRun(t *testing.T) {
	id, to := ageKey(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	files := ours(id).Files(ctx, tree("a.yaml", sealFor(to).seal(t, "a.yaml", "a: b\n")), newRedactor())
	cancel(errBoom)
	_, err := files.ReadFile("a.yaml")
	wantFault(t, err, false, "boom")
}

func TestRefusesClouds(t *testing.T) {
	id, to := ageKey(t)
	arn := "arn:aws:kms:eu-west-1:111122223333:key/1234"
	cloud := &kms.MasterKey{Arn: arn}
	t.Run("alone", func(t *testing.T) {
		s := sealing{groups: []sops.KeyGroup{{cloud}}}
		_, err := read(t, ours(id), "a.yaml", s.seal(t, "a.yaml", "a: b\n"))
		wantFault(t, err, true, arn, "AWS KMS", "not supported")
	})
	t.Run("beside a key that is not ours", func(t *testing.T) {
		_, other := ageKey(t)
		s := sealing{groups: []sops.KeyGroup{{cloud, other}}}
		_, err := read(t, ours(id), "a.yaml", s.seal(t, "a.yaml", "a: b\n"))
		wantFault(t, err, false, arn, other.Recipient, id.Recipient().String())
	})
	t.Run("beside a key of ours", func(t *testing.T) {
		s := sealing{groups: []sops.KeyGroup{{cloud, to}}}
		if diff := cmp.Diff("a: correct\n", mustRead(t, ours(id), "a.yaml", s.seal(t, "a.yaml", "a: correct\n"))); diff != "" {
			t.Error(diff)
		}
	})
	for kind, block := range map[string]string{
		"GCP KMS":          "gcp_kms:\n        - resource_id: projects/a/locations/b\n          created_at: '2026-01-02T03:04:05Z'\n          enc: AA==\n",
		"Azure Key Vault":  "azure_kv:\n        - vault_url: https://a.vault.azure.net\n          name: a\n          version: b\n          created_at: '2026-01-02T03:04:05Z'\n          enc: AA==\n",
		"HuaweiCloud KMS ": "hckms:\n        - key_id: eu-west-1:1234\n          created_at: '2026-01-02T03:04:05Z'\n          enc: AA==\n",
	} {
		t.Run(kind, func(t *testing.T) {
			sealed := sealFor(to).seal(t, "a.yaml", "a: b\n")
			_, err := read(t, ours(id), "a.yaml", regexp.MustCompile(`(?s)    age:.*?    lastmodified`).ReplaceAllString(sealed, "    "+block+"    lastmodified"))
			wantFault(t, err, true, kind, "not supported")
		})
	}
}

// sops logs what it takes for comments that aren't sealed, with their text.
func TestSopsIsSilent(t *testing.T) {
	if len(logging.Loggers) == 0 {
		t.Fatal("sops has no loggers: it logs elsewhere now")
	}
	for name, logger := range logging.Loggers {
		if logger.Out != io.Discard || logger.GetLevel() != 0 {
			t.Errorf("%s logs at level %s", name, logger.GetLevel())
		}
	}
}
