package secrets_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/plumbline-dev/plumbline/secrets"
)

func TestParseReference(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       secrets.Reference
	}{
		{"plain", "${bao:kv/web#password}", secrets.Reference{Path: "kv/web", Key: "password"}},
		{"key with a dot", "${bao:kv/team/web#tls.crt}", secrets.Reference{Path: "kv/team/web", Key: "tls.crt"}},
		{"space within", "${bao:kv/my web#pass word}", secrets.Reference{Path: "kv/my web", Key: "pass word"}},
		{"other letters", "${bao:kv/größe#schlüssel}", secrets.Reference{Path: "kv/größe", Key: "schlüssel"}},
		{"version", "${bao:kv/web#password?version=3}", secrets.Reference{Path: "kv/web", Key: "password", Version: 3}},
		{"certificate", "${bao:pki/issue/web#certificate?ttl=72h&common_name=grafana.lan}",
			secrets.Reference{Path: "pki/issue/web", Key: "certificate", Params: "common_name=grafana.lan&ttl=72h"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := secrets.ParseReference(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			again, err := secrets.ParseReference(got.String())
			if err != nil || again != got {
				t.Errorf("%s became %v, %v", got, again, err)
			}
		})
	}
}

func TestMalformedReferences(t *testing.T) {
	for name, text := range map[string]string{
		"no key":                 "${bao:kv/web}",
		"empty key":              "${bao:kv/web#}",
		"empty key with version": "${bao:kv/web#?version=1}",
		"no path":                "${bao:#password}",
		"nothing":                "${bao:}",
		"no end":                 "${bao:kv/web#password",
		"two keys":               "${bao:kv/web#a#b}",
		"up":                     "${bao:kv/../sys#password}",
		"here":                   "${bao:kv/./web#password}",
		"two slashes":            "${bao:kv//web#password}",
		"slash first":            "${bao:/kv/web#password}",
		"slash last":             "${bao:kv/web/#password}",
		"escape":                 "${bao:kv/%2e%2e/sys#password}",
		"escaped key":            "${bao:kv/web#pass%20word}",
		"backslash":              `${bao:kv\web#password}`,
		"line break":             "${bao:kv/web\n#password}",
		"null":                   "${bao:kv/we\x00b#password}",
		"not UTF-8":              "${bao:kv/we\xffb#password}",
		"zero width":             "${bao:kv/we\u200bb#password}",
		"space beside slash":     "${bao:kv/ web#password}",
		"space beside key":       "${bao:kv/web# password}",
		"within another":         "${bao:${bao:kv/web#path}#password}",
		"unknown parameter":      "${bao:kv/web#password?color=red}",
		"empty parameters":       "${bao:kv/web#password?}",
		"version 0":              "${bao:kv/web#password?version=0}",
		"negative version":       "${bao:kv/web#password?version=-1}",
		"version with a sign":    "${bao:kv/web#password?version=+1}",
		"version in words":       "${bao:kv/web#password?version=latest}",
		"version too long":       "${bao:kv/web#password?version=99999999999999999999}",
		"version twice":          "${bao:kv/web#password?version=1&version=2}",
		"version and more":       "${bao:pki/issue/web#certificate?version=1&ttl=1h}",
		"no value":               "${bao:pki/issue/web#certificate?ttl}",
		"parameters first":       "${bao:kv/web?version=1#password}",
		"system":                 "${bao:sys/raw/core#value}",
		"its own token":          "${bao:auth/token/lookup-self#id}",
		"identities":             "${bao:identity/entity#name}",
		"private to a token":     "${bao:cubbyhole/x#y}",
		"long":                   "${bao:kv/" + strings.Repeat("w", 4<<10) + "#password}",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := secrets.ParseReference(text); err == nil {
				t.Errorf("ParseReference gave %+v", got)
			}
			texts, references, errs := secrets.Pieces("before " + text)
			if len(references) > 0 && name != "within another" || len(errs) == 0 {
				t.Errorf("within a text: %q, %q, %v", texts, references, errs)
			}
		})
	}
}

func TestLiteralReferences(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"alone":           {"$${bao:kv/web#password}", "${bao:kv/web#password}"},
		"malformed":       {"$${bao:}", "${bao:}"},
		"without end":     {"a $${bao: b", "a ${bao: b"},
		"dollar before":   {"$$${bao:x}", "$${bao:x}"},
		"twice":           {"$${bao:a}$${bao:b}", "${bao:a}${bao:b}"},
		"other variables": {"$${HOME} ${HOME} $$", "$${HOME} ${HOME} $$"},
	} {
		t.Run(name, func(t *testing.T) {
			texts, references, errs := secrets.Pieces(test.text)
			if got := strings.Join(texts, ""); got != test.want || references != nil || errs != nil {
				t.Errorf("got %q, %q, %v", got, references, errs)
			}
		})
	}
}

func FuzzReferences(f *testing.F) {
	for _, seed := range []string{"", "text", "${bao:kv/web#password}", "a ${bao:kv/web#password?version=3} b $${bao:x} ${bao:", "$$${bao:}",
		"${bao:pki/issue/web#certificate?common_name=grafana.lan&ttl=72h}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		literal := strings.ReplaceAll(text, "${bao:", "$${bao:")
		texts, references, errs := secrets.Pieces(literal)
		if got := strings.Join(texts, ""); got != text || references != nil || errs != nil {
			t.Errorf("%q, written as literal text, became %q, %q, %v", text, got, references, errs)
		}
		_, references, _ = secrets.Pieces(text)
		for _, reference := range references {
			r, err := secrets.ParseReference(reference)
			if err != nil || r.String() != reference {
				t.Errorf("%q became %q, %v", reference, r.String(), err)
			}
		}
	})
}

func TestGrants(t *testing.T) {
	for _, test := range []struct {
		grant, path string
		want        bool
	}{
		{"kv/web", "kv/web", true},
		{"kv/web", "kv/web/more", false},
		{"kv/web", "kv/website", false},
		{"kv/web", "kv", false},
		{"kv/*", "kv/web", true},
		{"kv/*", "kv/team/web", true},
		{"kv/*", "kv", false},
		{"kv/*", "kv2/web", false},
		{"kv/+/web", "kv/team/web", true},
		{"kv/+/web", "kv/a/b/web", false},
		{"kv/+/web", "kv/web", false},
		{"+/team/*", "kv/team/web", true},
		{"+/*", "kv/web", true},
		{"kv/we*", "kv/web", false},
		{"*", "kv/web", false},
		{"", "kv/web", false},
		{"/kv/*", "kv/web", false},
		{"kv/*/web", "kv/team/web", false},
	} {
		t.Run(test.grant+" "+test.path, func(t *testing.T) {
			req := request(secret("one", map[string]string{"key": "${bao:" + test.path + "#password}"}))
			req.Allow = []string{test.grant}
			_, err := secrets.Resolve(t.Context(), newBao(t, nowhere(t)), req)
			if got := secrets.Unavailable(err); got != test.want { // asked for, or not
				t.Errorf("%v", err)
			}
			if !test.want && !strings.Contains(err.Error(), `source "home" may not read `+test.path+": secrets.openbao.allow") {
				t.Errorf("%v", err)
			}
		})
	}
	for _, wrong := range []string{"", "*", "kv/we*", "/kv", "kv//web", "kv/*/web", "kv/../sys", "sys/*", "auth/token/*"} {
		if secrets.CheckGrant(wrong) == nil {
			t.Errorf("%q was taken for a grant", wrong)
		}
	}
}

// nowhere is a configuration with nobody behind it.
func nowhere(t *testing.T) secrets.BaoConfig {
	return secrets.BaoConfig{Address: "http://127.0.0.1:1", Auth: secrets.BaoAuthConfig{TokenFile: tokenFile(t, "any")}, Retries: -1}
}
