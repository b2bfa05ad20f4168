package secrets_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getsops/sops/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/secrets"
)

const manifest = `# what it is for
apiVersion: v1
kind: Secret
metadata:
    name: db
    labels:
        replicas: 3
stringData:
    # who asks
    user: plumb-user-1
    # rotated in May
    password: correct-horse
    port: 5432
    ratio: 0.25
    tls: true
    none: null
    empty: ""
    date: "2026-01-02"
    list:
        - first-of-list
        # about the second
        - 7
        - nested: deep-value
    text: |
        line-one-of-the-text
        line-two-of-the-text
`

var everyFormat = []struct{ name, file, plain string }{
	{"manifest", "apps/secret.sops.yaml", manifest},
	{"yml", "secret.yml", "password: correct-horse\n"},
	{"documents", "two.yaml", "a: first-secret\n---\nb: second-secret\nsub:\n    c: 5\n"},
	{"JSON", "values.sops.json", "{\n\t\"user\": \"plumb-user-1\",\n\t\"port\": 5432,\n\t\"ratio\": 0.25,\n\t\"tls\": true,\n\t\"none\": null,\n\t\"list\": [\n\t\t\"first-of-list\",\n\t\t7\n\t],\n\t\"empty\": {}\n}\n"},
	{"env", "secret.env", "# who asks\nUSER=plumb-user-1\nPASSWORD=correct=horse\nTEXT=line-one\\nline-two\nEMPTY=\n"},
	{"hidden env", "apps/.env", "PASSWORD=correct-horse\n"},
	{"INI", "grafana.ini", "[auth]\nuser     = plumb-user-1\npassword = correct-horse\n\n[server]\nport = 5432\n"},
	{"binary", "certs/ca.bin", "\x00\x01not text\xff\xfe\n"},
	{"no extension", "htpasswd", "plumb:$2y$05$abcdefghijk\n"},
	{"empty binary", "nothing.bin", ""},
	{"binary that is YAML", "config.yaml.tpl", "a: b\n"},
}

func TestOpens(t *testing.T) {
	id, to := ageKey(t)
	for _, c := range everyFormat {
		t.Run(c.name, func(t *testing.T) {
			sealed := sealFor(to).seal(t, c.file, c.plain)
			files := ours(id).Files(t.Context(), tree(c.file, sealed), newRedactor())
			data, err := files.ReadFile(c.file)
			if err != nil {
				t.Fatalf("%v\n%s", err, sealed)
			}
			if diff := cmp.Diff(c.plain, string(data)); diff != "" {
				t.Errorf("(-sealed +opened)\n%s", diff)
			}
			if diff := cmp.Diff([]string{c.file}, files.Opened()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOpensByRule(t *testing.T) {
	id, to := ageKey(t)
	plain := lines("kind: Secret", "stringData:", "    password: correct-horse", "    host_clear: db.lan", "    # sealed-on", "    token: tick-tock-token")
	for name, rule := range map[string]func(*sops.Metadata){
		"everything":          func(m *sops.Metadata) {},
		"encrypted_regex":     func(m *sops.Metadata) { m.EncryptedRegex = "^(data|stringData)$" },
		"unencrypted_regex":   func(m *sops.Metadata) { m.UnencryptedRegex = "^kind$|_clear$" },
		"encrypted_suffix":    func(m *sops.Metadata) { m.EncryptedSuffix = "word" },
		"unencrypted_suffix":  func(m *sops.Metadata) { m.UnencryptedSuffix = "_clear" },
		"encrypted_comment":   func(m *sops.Metadata) { m.EncryptedCommentRegex = "sealed-on" },
		"unencrypted_comment": func(m *sops.Metadata) { m.UnencryptedCommentRegex = "sealed-on" },
		"mac_only_encrypted":  func(m *sops.Metadata) { m.EncryptedRegex, m.MACOnlyEncrypted = "^password$", true },
	} {
		t.Run(name, func(t *testing.T) {
			sealed := sealFor(to).with(func(m *sops.Metadata) {
				if rule(m); m.EncryptedRegex+m.UnencryptedRegex+m.EncryptedSuffix+m.EncryptedCommentRegex+m.UnencryptedCommentRegex != "" {
					m.UnencryptedSuffix = ""
				}
			}).seal(t, "secret.yaml", plain)
			if diff := cmp.Diff(plain, mustRead(t, ours(id), "secret.yaml", sealed)); diff != "" {
				t.Errorf("(-sealed +opened)\n%s\n%s", diff, sealed)
			}
		})
	}
}

// With mac_only_encrypted the rest of a file may be edited by hand.
func TestClearPartsMayChangeWhereTheMACLeavesThemOut(t *testing.T) {
	id, to := ageKey(t)
	sealed := sealFor(to).with(func(m *sops.Metadata) {
		m.UnencryptedSuffix, m.EncryptedRegex, m.MACOnlyEncrypted = "", "^password$", true
	}).seal(t, "a.yaml", "name: old-name\npassword: correct-horse\n")
	plain := mustRead(t, ours(id), "a.yaml", replaced(t, sealed, "old-name", "&n new-name\nagain: *n"))
	if want := "name: new-name\nagain: new-name\npassword: correct-horse\n"; plain != want {
		t.Errorf("got %q", plain)
	}
}

func TestLeavesAlone(t *testing.T) {
	_, to := ageKey(t)
	whole := sealFor(to).seal(t, "secret.yaml", "password: correct-horse\n")
	env := sealFor(to).seal(t, "secret.env", "PASSWORD=correct-horse\n")
	binary := sealFor(to).seal(t, "ca.bin", "correct-horse\n")
	indented := "    " + strings.ReplaceAll(strings.TrimSpace(whole), "\n", "\n    ")
	for _, c := range []struct{ name, file, content string }{
		{"empty", "a.yaml", ""},
		{"manifest", "a.yaml", "kind: ConfigMap\ndata:\n  a: b\n"},
		{"rules of sops", ".sops.yaml", "creation_rules:\n  - encrypted_regex: ^data$\n    mac_only_encrypted: true\n    age: age1xyz\n"},
		{"Flux", "ks.yaml", "kind: Kustomization\nspec:\n  decryption: {provider: sops, mac: x}\n"},
		{"values of a chart", "values.yaml", "sops:\n  enabled: true\nmachine: a\n"},
		{"sops is a text", "values.yaml", "sops: machine\nlastmodified: x\n"},
		{"whole document in a ConfigMap", "cm.yaml", "kind: ConfigMap\ndata:\n  secret.yaml: |\n" + strings.ReplaceAll(indented, "    ", "      ") + "\n"},
		{"whole env file in a ConfigMap", "cm.yaml", "kind: ConfigMap\ndata:\n  env: |\n    " + strings.ReplaceAll(strings.TrimSpace(env), "\n", "\n    ") + "\n"},
		{"whole binary in JSON", "cm.json", `{"data":{"ca":` + quoted(binary) + `}}`},
		{"whole binary in YAML", "cm.yaml", `data: {"ca": ` + quoted(binary) + `}` + "\n"},
		{"manual", "README.md", "# Sealing\n\n```yaml\n" + whole + "```\n"},
		{"example", "a.yaml", "# sops\nhelp: ENC[AES256_GCM,data:...,iv:...,tag:...,type:str]\n"},
		{"comment", "a.yaml", "a: b # password: ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str] is how sops seals\n"},
		{"in a sentence", "a.yaml", "a: sealed as ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]\n"},
		{"template", "templates/a.yaml", "{{ if .Values.sops }}\nmac: {{ .Values.mac }}\n{{ end }}\n"},
		{"blob named YAML", "a.yaml", "\x00\x01\x02sops\x00mac\xff"},
		{"blob", "a.bin", "\x00ENC[AES256_GCM,data:AAAA"},
		{"env file in a quoted text", "a.yaml", "a: \"one\nsops_mac=b\n\"\nb: c\n"},
		{"plain env", ".env", "A=b\nsops=mac\n"},
		{"plain INI", "a.ini", "[sops]\nmachine = a\n"},
		{"broken YAML", "a.yaml", "a: [sops, mac\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, files := range map[string]*secrets.Files{
				"open":   (&secrets.SOPS{}).Files(t.Context(), tree(c.file, c.content), nil),
				"closed": secrets.Closed(tree(c.file, c.content)),
			} {
				data, err := files.ReadFile(c.file)
				if err != nil || string(data) != c.content || len(files.Opened()) != 0 {
					t.Errorf("%s: %v, opened %v\n%s", kind, err, files.Opened(), cmp.Diff(c.content, string(data)))
				}
			}
		})
	}
}

// Nearly every file is plain, and shall cost next to nothing.
func TestPlainFilesAreNotParsed(t *testing.T) {
	all := tree("a.yaml", strings.Repeat("kind: ConfigMap\ndata:\n  provider: sops\n---\n", 100))
	files := (&secrets.SOPS{}).Files(t.Context(), all, nil)
	if n := testing.AllocsPerRun(10, func() { _, _ = files.ReadFile("a.yaml") }); n > 50 {
		t.Errorf("%v allocations", n)
	}
}

// anyCiphertext is the beginning of a sealed value.
var anyCiphertext = regexp.MustCompile(`ENC\[AES256_GCM,data:[A-Za-z0-9+/]`)

// What is left of a file that was cut off is either whole, or an error, or has nothing sealed in it.
func TestTruncated(t *testing.T) {
	id, to := ageKey(t)
	for _, c := range everyFormat {
		t.Run(c.name, func(t *testing.T) {
			sealed := sealFor(to).seal(t, c.file, c.plain)
			refused := 0
			for i := range len(sealed) {
				if step := max(len(sealed)/200, 1); i%step != 0 && i*10%len(sealed) != 0 {
					continue
				}
				plain, err := read(t, ours(id), c.file, sealed[:i])
				switch {
				case err != nil:
					wantFault(t, err, true)
					refused++
				case anyCiphertext.MatchString(plain):
					t.Errorf("cut off after %d of %d bytes, it reads as\n%s", i, len(sealed), plain)
				case plain != c.plain && plain != sealed[:i]:
					t.Errorf("cut off after %d of %d bytes, it opens as\n%s", i, len(sealed), plain)
				}
			}
			if refused == 0 && c.plain != "" {
				t.Error("never refused")
			}
		})
	}
}

func TestMisnamed(t *testing.T) {
	id, to := ageKey(t)
	for _, c := range []struct{ name, as, file, says string }{
		{"binary named YAML", "a.bin", "a.yaml", "without .yaml"},
		{"binary named env", "a.bin", ".env", "sealed binary file"},
		{"binary named INI", "a.bin", "a.ini", "sealed binary file"},
		{"YAML named JSON", "a.yaml", "a.json", "name it .yaml"},
		{"YAML named nothing", "a.yaml", "a.yaml.enc", "name it .yaml"},
		{"YAML named env", "a.yaml", "a.env", "name it .yaml"},
		{"JSON named nothing", "a.json", "a", "name it .json"},
		{"env named YAML", "a.env", "a.yaml", "name it .env"},
		{"env named text", "a.env", "env.production", "name it .env"},
		{"INI named conf", "a.ini", "grafana.conf", "name it .ini"},
		{"INI named YAML", "a.ini", "a.yaml", "name it .ini"},
	} {
		t.Run(c.name, func(t *testing.T) {
			plain := map[string]string{"a.bin": "correct-horse", "a.yaml": "pass: correct-horse\n", "a.json": `{"pass":"correct-horse"}`,
				"a.env": "PASS=correct-horse\n", "a.ini": "[a]\npass = correct-horse\n"}[c.as]
			_, err := read(t, ours(id), c.file, sealFor(to).seal(t, c.as, plain))
			wantFault(t, err, true, c.file, c.says)
		})
	}
	t.Run("JSON named YAML is YAML", func(t *testing.T) {
		plain := mustRead(t, ours(id), "a.yaml", sealFor(to).seal(t, "a.json", `{"pass":"correct-horse","n":1}`))
		if plain != "pass: correct-horse\n\"n\": 1\n" && plain != "pass: correct-horse\nn: 1\n" {
			t.Errorf("got %q", plain)
		}
	})
}

func TestClosed(t *testing.T) {
	_, to := ageKey(t)
	for _, c := range everyFormat {
		t.Run(c.name, func(t *testing.T) {
			sealed := sealFor(to).with(func(m *sops.Metadata) {
				m.UnencryptedSuffix, m.UnencryptedRegex = "", "^(apiVersion|kind|metadata)$"
			}).seal(t, c.file, c.plain)
			files := secrets.Closed(tree(c.file, sealed))
			data, err := files.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			text := regexp.MustCompile(anyENC).ReplaceAllString(string(data), "ENC[AES256_GCM,data:]") // in which there may be any letters
			for _, no := range []string{"correct", "sops:", "mac", "lastmodified", "age1"} {
				if strings.Contains(text, no) {
					t.Errorf("it has %q:\n%s", no, text)
				}
			}
			if c.plain != "" && !strings.Contains(text, "ENC[AES256_GCM,data:") {
				t.Errorf("nothing is sealed in it:\n%s", text)
			}
			if c.plain == manifest && !strings.Contains(text, "apiVersion: v1\nkind: Secret\nmetadata:\n    name: db\n") {
				t.Errorf("its clear parts are not:\n%s", text)
			}
			if !slices.Equal(files.Opened(), []string{c.file}) {
				t.Error(files.Opened())
			}
		})
	}
}
