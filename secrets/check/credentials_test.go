package check

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Credentials are put together here, so that no scanner takes this file for a leak.
func ageKey() string { return "AGE-SECRET-" + "KEY-1" + strings.Repeat("QPZRY9X8", 7) + "QP" }

const (
	letters = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF"
	lorem   = "Tr0ub4dor&3x"
)

var planted = map[string]string{
	"age":      ageKey(),
	"aws":      "AK" + "IA" + "ABCDEFGHIJ234567",
	"github":   "gh" + "p_" + letters + "1234",
	"pat":      "github" + "_pat_" + letters + letters,
	"gitlab":   "gl" + "pat-" + letters[:20],
	"slack":    "xo" + "xb-" + "123456789012-" + letters,
	"grafana":  "gl" + "sa_" + letters + "_0a1b2c3d",
	"cloud":    "gl" + "c_" + letters + letters,
	"bao":      "s." + letters[:24],
	"vault":    "hv" + "s." + letters,
	"discord":  "https://discord.com/api/" + "webhooks/" + "123456789012345678/" + letters,
	"hook":     "https://hooks.slack.com/" + "services/" + "T00AB/B00CD/" + letters,
	"jwt":      "ey" + "J" + letters + ".ey" + "J" + letters + "." + letters,
	"url":      "postgres://app:" + lorem + "@db:5432/app",
	"telegram": "123456789:" + "AA" + letters + "x",
	"key":      "-----BEGIN " + "PRIVATE KEY-----\n    " + letters + letters + "\n    -----END " + "PRIVATE KEY-----",
	"pgp":      "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----\n\n    " + letters + letters,
	"base64":   base64.StdEncoding.EncodeToString([]byte("-----BEGIN " + "RSA PRIVATE KEY-----\n" + letters + letters)),
}

func TestCheckShapes(t *testing.T) {
	for name, value := range planted {
		for file, text := range map[string]string{
			"a.yaml": "x:\n  any: |\n    " + value + "\n  other: 1\n",
			"a.txt":  "see\n\n" + value + " or so\n",
			"a.go":   "var a = `\n\n" + value + "`\n",
		} {
			t.Run(name+" in "+file, func(t *testing.T) {
				got, found := checked(t, tree(map[string]string{file: text, ".sops.yaml": ""}))
				kind, want := "Credential", file+":3"
				if name == "age" || name == "pgp" {
					kind = "PrivateKey"
				}
				if file == "a.yaml" {
					want += " x.any"
				}
				if len(got) != 1 || got[0] != kind+" "+want {
					t.Fatalf("%q, want %s %s", got, kind, want)
				}
				noPart(t, found, value)
			})
		}
	}
}

// noPart holds findings to saying nothing of a value.
func noPart(t *testing.T, found []Finding, value string) {
	t.Helper()
	raw, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at+6 <= len(value); at++ {
		part := value[at : at+6]
		if strings.Contains(string(raw), part) && !strings.Contains("AGE-SECRET- PRIVATE KEY----- ${bao:…} https:// .sops.yaml a Discord webhook", part) {
			t.Errorf("%q of the value is in %s", part, raw)
		}
	}
}

func TestCheckNamed(t *testing.T) {
	for _, c := range []struct {
		file, text string
		want       string
	}{
		{"a.yaml", "db:\n  password: " + lorem, "a.yaml:2 db.password"},
		{"a.yaml", "adminPassword: hunter2024", "a.yaml:1 adminPassword"},
		{"a.yaml", "env:\n- name: DB_PASSWORD\n  value: " + lorem, "a.yaml:3 env[0].value"},
		{"a.yaml", "env:\n- value: " + lorem + "\n  name: API_TOKEN", "a.yaml:2 env[0].value"},
		{"a.yaml", "data:\n  grafana.ini: |\n    [security]\n    admin_password = " + lorem, "a.yaml:4 data.grafana.ini.security.admin_password"},
		{"a.yaml", "x: '{{ y }'\n{{ if }}\npassword: " + lorem, "a.yaml:3 password"},
		{"a.json", "{\n\t\"client_secret\": \"" + letters + "\"\n}", "a.json:2 client_secret"},
		{"a.env", "export API_KEY='" + letters + "' # key", "a.env:1 API_KEY"},
		{".env.local", "TOKEN=" + letters, ".env.local:1 TOKEN"},
		{"a.ini", "[database]\npassword = " + lorem, "a.ini:2 database.password"},
		{"a.toml", "secret-key = \"" + letters + "\"", "a.toml:1 secret-key"},
		{"a.yaml", "password: ${DB_PASSWORD}", ""},
		{"a.yaml", "password: ${bao:kv/db#password}", ""},
		{"a.yaml", "password: '{{ .Values.x9Y8z7 }}'", ""},
		{"a.yaml", "password: $__file{/etc/secrets/A1b2}", ""},
		{"a.yaml", "password: ''\ntoken:\nsecret: ~", ""},
		{"a.yaml", "password: changeme-12345\ntoken: <your-token-1>\napiKey: REPLACE_ME_1x\nsecret: XXXXxxxx1234", ""},
		{"a.yaml", "passwordFile: /run/secrets/A1b2C3d4\nsecretName: grafana-x1Y2z3\ntokenURL: https://a/b9C8d7\npassword_hash: " + letters, ""},
		{"a.yaml", "secretKeyRef: {name: grafana-admin, key: admin-password}\nexistingSecret: Grafana9x8y7z\nsecret: grafana-admin-v2\ntokenSecret: kv/data/grafana", ""},
		{"a.yaml", "token: true\npassword: 12345678\nsecret: {a: " + letters + "}", ""},
		{"a.yaml", "password: /var/run/A1b2C3d4\nsecret: ./A1b2C3d4e5\ntoken: https://a.example/b9C8d7", ""},
		{"a.yaml", "spec: {encryptedData: {password: " + letters + "}}", ""},
		{"a.yaml", "password: " + lorem + " # plumbline:allow-secret of the test server", ""},
		{"a.yaml", "# plumbline:allow-secret of the test server\npassword: " + lorem, ""},
		{"a.yaml", "# plumbline:allow-secret\npassword: " + lorem, "a.yaml:2 password"},
		{"a.yaml", "# plumbline:allow-secret of the test server\n\npassword: " + lorem, "a.yaml:3 password"},
		{"a.txt", "password: " + lorem, ""},
		{"a.yaml", "ca.crt: |\n  -----BEGIN CERTIFICATE-----\n  " + letters + "\n  -----END CERTIFICATE-----\nsshPublicKey: ssh-ed25519 " + letters, ""},
		{"a.md", "a line such as -----BEGIN " + "PRIVATE KEY----- begins one", ""},
		{"a.txt", "https://user:password@host https://user:${PW}@host http://a:8080/x@y http://localhost:9090 user:%s@host://%s:%s@h", ""},
		{"a.go", "x(s.getStatusV1FromResponses, y)", ""},
		{"go.sum", "password: " + lorem, ""},
		{"node_modules/a.yaml", "password: " + lorem, ""},
	} {
		t.Run(c.file+" "+strings.ReplaceAll(c.text, lorem, "LOREM"), func(t *testing.T) {
			got, found := checked(t, tree(map[string]string{c.file: c.text, ".sops.yaml": ""}))
			if strings.TrimPrefix(strings.Join(got, ";"), "Credential ") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			noPart(t, found, lorem)
			noPart(t, found, letters)
		})
	}
}

func TestCheckSecretManifests(t *testing.T) {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	text := `apiVersion: v1
kind: Secret
data:
  a: ` + encode("short") + `
  b: ` + encode("${bao:kv/a#b}") + `
  c: ` + encode("changeme") + `
  ca.crt: ` + encode("-----BEGIN CERTIFICATE-----\nMIID\n") + `
  d: ""
  e: ` + sealed[:0] + `
stringData:
  f: "1234"
  g: ${VAR}
  h: |
    password: ` + lorem + `
    other: ` + lorem + `
---
kind: List
items:
- kind: Secret
  stringData: {i: word}
- kind: ConfigMap
  data: {j: word}
---
secretGenerator:
- literals: [k=word, "l=${VAR}", m=]
`
	got, found := checked(t, tree(map[string]string{"a.yaml": text, ".sops.yaml": ""}))
	want := []string{"Credential a.yaml:4 data.a", "Credential a.yaml:11 stringData.f", "Credential a.yaml:13 stringData.h",
		"Credential a.yaml:14 stringData.h.password", "Credential a.yaml:20 items[0].stringData.i", "Credential a.yaml:25 secretGenerator[0].literals[0]"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	noPart(t, found, lorem)
}

// TestCheckNamesThatAreValues keeps out of field paths what is a credential itself.
func TestCheckNamesThatAreValues(t *testing.T) {
	value := planted["github"]
	_, found := checked(t, tree(map[string]string{"a.yaml": "x:\n  " + value + ": {password: " + lorem + "}\n  " + letters + ": {token: " + lorem + "}\n", ".sops.yaml": ""}))
	if len(found) != 2 { // one of each line
		t.Errorf("%+v", found)
	}
	noPart(t, found, value)
	noPart(t, found, letters)
}
