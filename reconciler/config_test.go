package reconciler

import (
	"strings"
	"testing"
	"time"
)

const goodConfig = `sources:
  - name: home-ops
    url: https://codeberg.org/me/home-ops.git
    ref: {branch: main}
    stacks: kubernetes/
    interval: 90s
    auth: {tokenFile: secrets/token}
    defaults: {namespace: o11y, drift: {mode: detect}}
    sops: {pgpKeyFile: own.asc}
cluster: {kubeconfig: ~/.kube/config, context: home}
secrets:
  sops: {ageKeyFile: age.txt, ageKeySecret: {namespace: a, name: b}}
  openbao:
    address: https://bao.lan:8200
    auth: {appRole: {roleID: r, secretIDFile: id}}
    allow: {home-ops: [kv/home/*, database/creds/+, transit/decrypt/sops]}
    interval: 30s
scan:
  ignoreFile: exceptions.yaml
  images: {database: db, dockerConfig: config.json}
`

func TestParseConfig(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	c, err := ParseConfig("/etc/plumbline/plumbline.yaml", []byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Sources[0]
	for name, ok := range map[string]bool{
		"interval":                  s.interval() == 90*time.Second,
		"directory is cleaned":      s.dir() == "kubernetes",
		"relative to the file":      s.Auth.TokenFile == "/etc/plumbline/secrets/token",
		"home is expanded":          c.Cluster.Kubeconfig == "/home/me/.kube/config",
		"defaults are read":         s.Defaults.Namespace == "o11y" && s.Defaults.Drift.Mode == DriftDetect,
		"listen has a default":      c.Listen == ":8080",
		"keys are relative to it":   c.Secrets.SOPS.AgeKeyFile == "/etc/plumbline/age.txt" && s.SOPS.PGPKeyFile == "/etc/plumbline/own.asc",
		"logins are relative to it": c.Secrets.OpenBao.Bao(nil).Auth.AppRole.SecretIDFile == "/etc/plumbline/id",
		"the images' database is":   c.Scan.Images.Database == "/etc/plumbline/db",
		"their logins are":          c.Scan.Images.DockerConfig == "/etc/plumbline/config.json",
		"the exceptions are":        c.Scan.IgnoreFile == "/etc/plumbline/exceptions.yaml",
		"the lease has a namespace": c.Election.Namespace == "plumbline-system",
	} {
		if !ok {
			t.Errorf("%s: not so: %+v", name, c)
		}
	}
}

const goodSource = "sources: [{name: a, url: 'https://x/y'}]\n"

func TestParseConfigRefuses(t *testing.T) {
	for _, test := range []struct{ name, config, want string }{
		{"nothing", "", "p.yaml: is empty"},
		{"no sources", "listen: off\n", "sources: none given"},
		{"an unknown field", "sources:\n  - name: a\n    url: https://x/y\n    brunch: main\n", `p.yaml:4: unknown field "brunch"`},
		{"a wrong type", "sources: 7\n", "p.yaml:1: got a int"},
		{"broken YAML", "sources: [\n", "p.yaml:"},
		{"two documents", goodConfig + "---\n" + goodConfig, "more than one YAML document"},
		{"a number as a duration", "resync: 60\n" + goodConfig, `"60" is not a duration`},
		{"a negative duration", "resync: -5s\n" + goodConfig, `"-5s" is not a duration`},
		{"a source twice", goodConfig[:strings.Index(goodConfig, "cluster")] + "  - {name: home-ops, url: 'https://x/y'}\n", "given twice"},
		{"a name that is no label", "sources:\n  - {name: Home_Ops, url: 'https://x/y'}\n", "sources[Home_Ops].name"},
		{"a URL with a password", "sources:\n  - {name: a, url: 'https://me:hunter2secret@x/y'}\n", "sources[a]"},
		{"a directory outside", "sources:\n  - {name: a, url: 'https://x/y', stacks: ../up}\n", "must be a directory of the repository"},
		{"what can't be a default", "sources:\n  - {name: a, url: 'https://x/y', defaults: {suspend: true}}\n", "belong to one stack"},
		{"a bad default", "sources:\n  - {name: a, url: 'https://x/y', defaults: {drift: {mode: fix}}}\n", `drift.mode: "fix"`},
		{"a Secret without a namespace", goodSource + "secrets: {sops: {ageKeySecret: {name: a}}}\n", "secrets.sops.ageKeySecret: name and namespace"},
		{"the same of one source", "sources:\n  - {name: a, url: 'https://x/y', sops: {ageKeySecret: {name: a}}}\n", "sources[a].sops.ageKeySecret"},
		{"no way to log in", goodSource + "secrets: {openbao: {address: 'https://bao', auth: {}}}\n", "secrets.openbao.auth"},
		{"two ways to log in", goodSource + "secrets: {openbao: {address: 'https://bao', auth: {tokenFile: a, userpass: {username: b, passwordFile: c}}}}\n", "secrets.openbao.auth"},
		{"an address with a password", goodSource + "secrets: {openbao: {address: 'https://me:hunter2secret@bao', auth: {tokenFile: a}}}\n", "secrets.openbao.address"},
		{"a grant for nobody", goodSource + "secrets: {openbao: {address: 'https://bao', auth: {tokenFile: a}, allow: {b: [kv/x]}}}\n", `allow: there is no source "b"`},
		{"a grant that is no path", goodSource + "secrets: {openbao: {address: 'https://bao', auth: {tokenFile: a}, allow: {a: [kv/../x]}}}\n", "allow[a]"},
		{"a star within a grant", goodSource + "secrets: {openbao: {address: 'https://bao', auth: {tokenFile: a}, allow: {a: ['kv/*/x']}}}\n", "allow[a]"},
		{"what unknown images become", goodSource + "scan: {images: {onUnknown: maybe}}\n", `scan.images.onUnknown: "maybe": want allow or deny`},
		{"a negative timeout", goodSource + "scan: {images: {timeout: -1s}}\n", "is not a duration"},
		{"a database over HTTP", goodSource + "scan: {images: {database: 'https://x/db:2'}}\n", "want a directory, or oci://"},
		{"a database that lacks oci", goodSource + "scan: {images: {database: 'ghcr.io/x/db:2'}}\n", "db:2 looks like a place in a registry: put oci:// before it"},
		{"an insecure registry with a scheme", goodSource + "scan: {images: {insecure: ['http://registry.lan']}}\n", `scan.images.insecure: "http://registry.lan": want HOST or HOST:PORT`},
		{"an insecure registry with a path", goodSource + "scan: {images: {insecure: ['registry.lan/x']}}\n", "want HOST or HOST:PORT"},
		{"a registry that is none", goodSource + "scan: {registries: {allow: [grafana]}}\n", `"grafana" is no registry`},
		{"a pin", goodSource + "scan: {pin: latest}\n", `scan.pin: "latest": want none, tag or digest`},
		{"a threshold", goodSource + "scan: {floor: BAD}\n", `scan.floor: "BAD"`},
		{"a bad prune limit", "sources:\n  - {name: a, url: 'https://x/y', defaults: {prune: {limit: half}}}\n", `prune.limit: "half"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseConfig("p.yaml", []byte(test.config))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2secret") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add([]byte("sources: [{name: a, url: b, defaults: &a {vars: *a}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = ParseConfig("p.yaml", data) // must not panic
	})
}
