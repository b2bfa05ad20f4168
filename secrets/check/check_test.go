package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func tree(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

// checked is "KIND FILE:LINE FIELD" of each finding.
func checked(t *testing.T, files fs.FS) (out []string, found []Finding) {
	t.Helper()
	found, err := Tree(context.Background(), files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.What == "" || f.Fix == "" || f.File == "" {
			t.Errorf("%+v doesn't say enough", f)
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s:%d %s", f.Kind, f.File, f.Line, f.Field)))
	}
	return out, found
}

const (
	alice  = "age1aliceq3vwz"
	bob    = "age1bobx8mw0rt"
	sealed = "ENC[AES256_GCM,data:b3BlbmVk,iv:aXZpdg==,tag:dGFndGFn,type:str]"
)

func sealedFor(recipients ...string) string {
	out := "sops:\n    age:\n"
	for _, r := range recipients {
		out += "        - recipient: " + r + "\n          enc: x\n"
	}
	return out + "    lastmodified: \"2026-01-01T00:00:00Z\"\n    mac: " + sealed + "\n    version: 3.13.3\n"
}

const rules = "creation_rules:\n  - path_regex: \\.sops\\.ya?ml$\n    encrypted_regex: ^(data|stringData)$\n    age: " + alice + "\n"

func TestCheckRules(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  user: admin\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"sealed", map[string]string{".sops.yaml": rules, "a.sops.yaml": "kind: Secret\nstringData: {user: \"" + sealed + "\"}\n" + sealedFor(alice) + "    encrypted_regex: ^(data|stringData)$\n"}, nil},
		{"in clear", map[string]string{".sops.yaml": rules, "a.sops.yaml": secret}, []string{"NotSealed a.sops.yaml:5 stringData.user"}},
		{"nothing to seal", map[string]string{".sops.yaml": rules, "a.sops.yaml": "kind: Secret\nstringData: {a: '', b: , c: '${bao:kv/a#b}'}\n"}, nil},
		{"excepted", map[string]string{".sops.yaml": rules, "a.sops.yaml": strings.Replace(secret, "  user", "  # plumbline:allow-secret a name\n  user", 1)}, nil},
		{"no rule for it", map[string]string{".sops.yaml": rules, "a.yaml": "data: {a: b}\n"}, nil},
		{"a rule for all", map[string]string{".sops.yaml": "creation_rules: [{age: " + alice + "}]\n", "a.yaml": "a: b\n"}, nil},
		{"a rule for whole files", map[string]string{".sops.yaml": "creation_rules: [{path_regex: ^s/, age: " + alice + "}]\n", "s/a.txt": "a", "s/kustomization.yaml": "resources: [a]\n",
			"s/b.bin": "\x00\x01", "s/c.yaml": "a: b\n"},
			[]string{"NotSealed s/a.txt:1", "NotSealed s/b.bin:0", "NotSealed s/c.yaml:1"}},
		{"other objects under a wide rule", map[string]string{".sops.yaml": strings.Replace(rules, `\.sops\.`, `\.`, 1), "cm.yaml": "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n"}, nil},
		{"the first rule that matches", map[string]string{
			".sops.yaml": "creation_rules:\n- path_regex: ^a/\n  encrypted_regex: ^x$\n  age: " + alice + "\n- path_regex: .*\n  age: " + bob + "\n",
			"a/b.yaml":   "y: 1\n", "a/c.yaml": "x: 1\n", "d.yaml": "y: 1\n"},
			[]string{"NotSealed a/c.yaml:1 x", "NotSealed d.yaml:1"}},
		{"relative to the nearest", map[string]string{".sops.yaml": rules, "sub/.sops.yaml": "creation_rules: [{path_regex: ^b\\.yaml$, age: " + alice + "}]\n",
			"sub/b.yaml": "a: b\n", "sub/c.sops.yaml": secret, "b.yaml": "a: b\n"},
			[]string{"NotSealed sub/b.yaml:1"}},
		{"suffixes", map[string]string{".sops.yaml": "creation_rules: [{path_regex: yaml, encrypted_suffix: _x, age: " + alice + "}]\n", "a.yaml": "a: b\nb_x: {c: d}\n"},
			[]string{"NotSealed a.yaml:2 b_x.c"}},
		{"a value that was added by hand", map[string]string{"a.yaml": "a: " + sealed + "\nb: new\nc_unencrypted: d\n" + sealedFor(alice)}, []string{"NotSealed a.yaml:2 b"}},
		{"env", map[string]string{".sops.yaml": "creation_rules: [{path_regex: env$, age: " + alice + "}]\n", "a.env": "A=b\n",
			"b.env": "A=" + sealed + "\nsops_age__list_0__map_recipient=" + alice + "\nsops_mac=" + sealed + "\nsops_version=3.13.3\n"},
			[]string{"NotSealed a.env:1"}},
		{"ignored", map[string]string{".sops.yaml": rules, ".gitignore": "/x/*.yaml\n!keep.sops.yaml\n", "x/a.sops.yaml": secret, "x/keep.sops.yaml": secret},
			[]string{"NotSealed x/keep.sops.yaml:5 stringData.user"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			all, found := checked(t, tree(c.files))
			for i, f := range found {
				if f.Kind != FindingCredential {
					got = append(got, all[i])
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckRecipients(t *testing.T) {
	fp := "FBC7B9E2A4F9289AC0C1D4843D16CEE4A27381B4"
	group := func(parts string) string { return "mac: m\n" + parts }
	for _, c := range []struct{ name, rule, meta, want string }{
		{"the same", "age: " + alice, group("age: [{recipient: " + alice + "}]"), ""},
		{"in another order", "age: '" + bob + ", " + alice + ",'", group("age: [{recipient: " + alice + "}, {recipient: " + bob + "}]"), ""},
		{"a list", "age: [" + alice + "]", group("age: [{recipient: " + alice + "}]"), ""},
		{"missing", "age: '" + alice + "," + bob + "'", group("age: [{recipient: " + alice + "}]"), "missing " + bob},
		{"surplus", "age: " + alice, group("age: [{recipient: " + alice + "}, {recipient: " + bob + "}]"), "surplus " + bob},
		{"both", "age: " + alice, group("age: [{recipient: " + bob + "}]"), "missing " + alice + "; surplus " + bob},
		{"another kind", "pgp: " + fp, group("age: [{recipient: " + bob + "}]"), "missing " + fp + "; surplus " + bob},
		{"pgp by its end", "pgp: 'a273 81b4 " + strings.ToLower(fp[len(fp)-16:]) + "'", group("pgp: [{fp: " + fp + "}]"), "missing A27381B4" + fp[len(fp)-16:] + "; surplus " + fp},
		{"pgp identifier", "pgp: " + fp[len(fp)-16:], group("pgp: [{fp: " + fp + "}]"), ""},
		{"transit", "hc_vault_transit_uri: https://bao.lan:8200/v1/transit/keys/sops", group("hc_vault: [{vault_address: 'https://bao.lan:8200', engine_path: transit, key_name: sops}]"), ""},
		{"another transit key", "hc_vault_transit_uri: https://bao.lan:8200/v1/transit/keys/new", group("hc_vault: [{vault_address: 'https://bao.lan:8200', engine_path: transit, key_name: sops}]"),
			"missing https://bao.lan:8200/v1/transit/keys/new; surplus https://bao.lan:8200/v1/transit/keys/sops"},
		{"kms", "kms: arn:aws:kms:us-east-1:1:key/a+arn:aws:iam::1:role/r", group("kms: [{arn: 'arn:aws:kms:us-east-1:1:key/a', role: 'arn:aws:iam::1:role/r'}]"), ""},
		{"gcp", "gcp_kms: projects/p/locations/l/keyRings/r/cryptoKeys/k", group("gcp_kms: [{resource_id: projects/p/locations/l/keyRings/r/cryptoKeys/k}]"), ""},
		{"azure", "azure_keyvault: https://v.vault.azure.net/keys/k/1", group("azure_kv: [{vault_url: 'https://v.vault.azure.net', name: k, version: '1'}]"), ""},
		{"azure without a version", "azure_keyvault: https://v.vault.azure.net/keys/k", group("azure_kv: [{vault_url: 'https://v.vault.azure.net', name: k, version: '1'}]"), ""},
		{"groups", "key_groups: [{age: [" + alice + "]}, {merge: [{pgp: [" + fp + "]}], kms: [{arn: a}]}]",
			group("shamir_threshold: 2\nkey_groups: [{age: [{recipient: " + alice + "}]}, {pgp: [{fp: " + fp + "}], kms: [{arn: a}]}]"), ""},
		{"a group less", "key_groups: [{age: [" + alice + "]}, {age: [" + bob + "]}]", group("age: [{recipient: " + alice + "}]"),
			"group 2: missing " + bob + "; opened by 1 groups of keys instead of 2"},
		{"threshold", "shamir_threshold: 1\nkey_groups: [{age: [" + alice + "]}, {age: [" + bob + "]}]",
			group("shamir_threshold: 2\nkey_groups: [{age: [{recipient: " + alice + "}]}, {age: [{recipient: " + bob + "}]}]"), "opened by 2 groups of keys instead of 1"},
		{"keys from the command line", "encrypted_regex: ^a$", group("age: [{recipient: " + alice + "}]"), ""},
		{"a private key in its place", "age: " + ageKey(), group("age: [{recipient: " + alice + "}]"), "missing age (not a recipient); surplus " + alice},
	} {
		t.Run(c.name, func(t *testing.T) {
			indent := func(s string) string { return "    " + strings.ReplaceAll(s, "\n", "\n    ") + "\n" }
			_, found := checked(t, tree(map[string]string{
				".sops.yaml": "creation_rules:\n  - path_regex: yaml$\n" + indent(c.rule),
				"a b.yaml":   "a: " + sealed + "\nsops:\n" + indent(c.meta),
			}))
			var stale []Finding
			for _, f := range found {
				if f.Kind == FindingStaleRecipients {
					stale = append(stale, f)
				}
			}
			switch {
			case c.want == "" && len(stale) == 0:
			case len(stale) != 1 || !strings.HasSuffix(stale[0].What, ": "+c.want):
				t.Errorf("%+v, want %q", stale, c.want)
			case !strings.HasPrefix(stale[0].Fix, "sops updatekeys ") || !strings.HasSuffix(stale[0].Fix, " 'a b.yaml'"):
				t.Errorf("%q", stale[0].Fix)
			}
		})
	}
}

func TestCheckDamaged(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"no sops block":      {"a.yaml", "x:\n  a: " + sealed + "\n  b: " + sealed + "\n", "Damaged a.yaml:2 x.a"},
		"no sops block, env": {"a.env", "A=" + sealed + "\n", "Damaged a.env:1 A"},
		"no mac":             {"a.json", `{"a": "` + sealed + `", "sops": {"age": [{"recipient": "` + alice + `"}], "version": "3"}}`, "Damaged a.json:1 sops"},
		"for nobody":         {"a.yaml", "a: " + sealed + "\nsops: {mac: x, lastmodified: y}\n", "Damaged a.yaml:2 sops"},
		"a value cut":        {"a.yaml", "a: " + sealed[:40] + "\n" + sealedFor(alice), "Damaged a.yaml:1 a"},
		"merged wrongly":     {"a.yaml", "<<<<<<< HEAD\na: " + sealed + "\n=======\n" + sealedFor(alice), "Damaged a.yaml:2"},
		"sound":              {"a.yaml", "a: " + sealed + "\n" + sealedFor(alice), ""},
		"in prose":           {"a.md", "values look like " + sealed + "\n", ""},
		"of that name":       {"a.yaml", "secrets:\n  sops: {ageKeyFile: /run/age.txt}\nsops: {age: yes}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := checked(t, tree(map[string]string{c.file: c.text}))
			if strings.Join(got, ";") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestCheckBadRules(t *testing.T) {
	secret := "apiVersion: v1\nkind: Secret\nstringData: {user: name}\n"
	for name, c := range map[string]struct{ rules, want, what string }{
		"not YAML":       {"creation_rules: [\n" + lorem + ": :\n", "Rules .sops.yaml:0", "isn't YAML"},
		"not a list":     {"creation_rules: {a: b}\n", "Rules .sops.yaml:1 creation_rules", "isn't a list"},
		"not a mapping":  {"creation_rules: [text, {path_regex: yaml$, age: " + alice + "}]\n", "Rules .sops.yaml:1 creation_rules[0];NotSealed a.yaml:1", "rule 1 isn't a mapping"},
		"bad path_regex": {"creation_rules:\n- {path_regex: '" + lorem + "(', age: x}\n- {path_regex: yaml$, age: " + alice + "}\n", "Rules .sops.yaml:2 creation_rules[0].path_regex;NotSealed a.yaml:1", "rule 1 has a path_regex that doesn't compile: missing closing )"},
		"bad encrypted_regex": {"creation_rules:\n- {path_regex: yaml$, encrypted_regex: '[', age: x}\n",
			"Rules .sops.yaml:2 creation_rules[0].encrypted_regex", "missing closing ]"},
		"other types":   {"creation_rules: [{path_regex: [a], age: {b: c}, key_groups: 1, shamir_threshold: x}]\ndestination_rules: 1\n", "", ""},
		"empty":         {"", "", ""},
		"refers itself": {"creation_rules:\n- &a {path_regex: yaml$, key_groups: [&g {merge: [*g], age: [" + alice + "]}]}\n", "NotSealed a.yaml:1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, found := checked(t, tree(map[string]string{".sops.yaml": c.rules, "a.yaml": strings.ReplaceAll(secret, "name", "${A}")}))
			if strings.Join(got, ";") != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if c.what != "" && (len(found) == 0 || !strings.Contains(found[0].What, c.what)) {
				t.Errorf("%+v doesn't say %q", found, c.what)
			}
			noPart(t, found, lorem)
		})
	}
	got, _ := checked(t, tree(map[string]string{".sops.yml": rules, "a.yaml": secret}))
	if want := []string{"Rules .sops.yaml:0", "Rules .sops.yml:0", "Credential a.yaml:3 stringData.user"}; cmp.Diff(want, got) != "" {
		t.Errorf("without a .sops.yaml: %q", got)
	}
}

func TestCheckPrivateKeyFiles(t *testing.T) {
	got, _ := checked(t, tree(map[string]string{"secring.gpg": "\x95\x00\x01", "new.pgp": "\xc5\x00\x01", "pubring.gpg": "\x99\x00\x01", "a.bin": "\x95\x00"}))
	if diff := cmp.Diff([]string{"PrivateKey new.pgp:0", "PrivateKey secring.gpg:0"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestCheckBadTrees has what a working tree may hold besides files.
func TestCheckBadTrees(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("sub"), 0o755), os.Symlink("..", at("sub/up")), os.Symlink("loop", at("loop")), os.Symlink("/etc/passwd", at("outside.yaml")),
		os.WriteFile(at("sub/a.env"), []byte("PASSWORD="+lorem), 0o600), os.WriteFile(at("big.yaml"), []byte("password: "+lorem+"\n"), 0o600), os.Truncate(at("big.yaml"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	line := "password: " + lorem + "\n" + strings.Repeat("# a line of a hundred megabytes\n", 1<<16)
	big, err := os.Create(at("big.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := big.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := big.Close(); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	begun := time.Now()
	got, _ := checked(t, root.FS())
	want := []string{"Rules .sops.yaml:0", "Unread big.yaml:0", "Credential big.yaml:1 password", "Credential sub/a.env:1 PASSWORD"}
	if len(got) < 4 || cmp.Diff(want[:3], got[:3]) != "" || got[len(got)-1] != want[3] || len(got) > 10 {
		t.Errorf("%q, want %q", got, want)
	}
	if took := time.Since(begun); took > time.Minute {
		t.Errorf("a large file took %s", took)
	}
}

type brokenFS struct{ fs.FS }

func (b brokenFS) Open(name string) (fs.File, error) {
	if strings.Contains(name, "broken") {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return b.FS.Open(name)
}

func TestCheckUnreadable(t *testing.T) {
	got, found := checked(t, brokenFS{tree(map[string]string{"broken.yaml": "", "broken/a": "", "b/.sops.yaml": "", "b/a.env": "PASSWORD=" + lorem})})
	want := []string{"Credential b/a.env:1 PASSWORD", "Unread broken:0", "Unread broken.yaml:0"}
	if diff := cmp.Diff(want, got); diff != "" || found[1].What != "can't be read: permission denied" {
		t.Error(diff, found)
	}
	if _, err := Tree(context.Background(), os.DirFS("nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no tree: %v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Tree(cancelled, tree(map[string]string{"a": ""})); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestCheckBounded has files that would take for ever if each line were looked at
// for each other.
func TestCheckBounded(t *testing.T) {
	for name, text := range map[string]string{
		"fields.yaml":   strings.Repeat("password: "+lorem+"\n", 20_000) + "---\n",
		"a.yaml":        "a:\n" + strings.Repeat("- {name: password, value: "+lorem+"}\n", 20_000),
		"one-line.json": "[" + strings.Repeat(`{"password":"`+lorem+`"},`, 20_000) + "1]",
		"deep.yaml":     strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"aliases.yaml":  "a: &a [x]\n" + strings.Repeat("b: &b [*a,*a,*a,*a,*a,*a,*a]\n", 1000),
		"keys.txt":      strings.Repeat("-----BEGIN "+"PRIVATE KEY-----\n", 50_000),
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			got, _ := checked(t, tree(map[string]string{name: text, ".sops.yaml": rules}))
			if took := time.Since(begun); len(got) > checkFindings+1 || took > time.Minute { // minutes, where it is quadratic
				t.Errorf("%d findings in %s", len(got), took)
			}
		})
	}
}

// TestCheckFindsNothingInWhatIsShipped: our own stacks and templates are an
// example of how it is done.
func TestCheckFindsNothingInWhatIsShipped(t *testing.T) {
	for _, dir := range []string{"../../stacks", "../../templates"} {
		found, err := Tree(context.Background(), os.DirFS(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s/%s:%d %s: %s", dir, f.File, f.Line, f.Field, f.What)
		}
	}
}

// FuzzTree neither panics nor says without end, whatever a file holds.
func FuzzTree(f *testing.F) {
	f.Add("a.yaml", []byte("kind: Secret\nstringData: {a: "+lorem+"}\n"), []byte(rules))
	f.Add("a.sops.yaml", []byte("a: "+sealed+"\n"+sealedFor(alice)), []byte("creation_rules: [{path_regex: '(', age: [a]}, {key_groups: [{merge: [{}]}]}]"))
	f.Add("a.env", []byte("A="+sealed+"\nsops_mac=x\nsops_key_groups__list_0__map_age__list_0__map_recipient="+alice), []byte("x"))
	f.Add("a.ini", []byte("[sops]\nmac = x\n[a]\npassword: '"+lorem+"'"), []byte("- a"))
	f.Add("a.json", []byte(`{"data":"`+sealed+`","sops":{"mac":"x","age":[1,{"recipient":[]}]}}`), []byte("creation_rules:\n- 1\n- path_regex: a"))
	f.Add("a.gpg", []byte("\x95\x00"), []byte("\xff"))
	f.Fuzz(func(t *testing.T, name string, text, rules []byte) {
		if !fs.ValidPath(name) || name == "." || strings.HasPrefix(name, ".sops.yaml") {
			return
		}
		found, err := Tree(context.Background(), fstest.MapFS{name: {Data: text}, ".sops.yaml": {Data: rules}})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 2*checkFindings+len(rules) {
			t.Errorf("%d findings", len(found))
		}
		for _, f := range found {
			if f.Kind == "" || f.File == "" || f.What == "" || f.Fix == "" || f.Line > strings.Count(string(text), "\n")+strings.Count(string(rules), "\n")+2 {
				t.Errorf("%+v", f)
			}
		}
	})
}
