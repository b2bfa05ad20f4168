package check

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

// checkShape is a form that only a credential has. One of its hints is in every
// one: most texts are passed by without a look at the pattern.
type checkShape struct {
	what, hint string
	pattern    *regexp.Regexp // the first group, or all of it, is the credential
	opens      bool           // sealed files
	accept     func(string) bool
}

var checkShapes = []checkShape{
	{what: "an age private key", hint: "age-secret-key-", pattern: regexp.MustCompile(`(?i)\bAGE-SECRET-KEY-(?:PQ-)?1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{50,}`), opens: true},
	{what: "a PGP private key", hint: "pgp private key block", pattern: checkPEM("PGP PRIVATE KEY BLOCK"), opens: true},
	{what: "a private key", hint: "private key-----", pattern: checkPEM("(?:[A-Z0-9]+ )*PRIVATE KEY")},
	{what: "a private key in base64", hint: "ls0tls1crudjti", pattern: regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/]{40,}`), accept: checkDecodesToKey},
	{what: "an AWS access key", hint: "akia|asia", pattern: regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z2-7]{16}\b`)},
	{what: "a GitHub token", hint: "ghp_|gho_|ghu_|ghs_|ghr_", pattern: regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{30,}`)},
	{what: "a GitHub token", hint: "github_pat_", pattern: regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{30,}`)},
	{what: "a GitLab token", hint: "glpat-|gldt-|glrt-|glptt-|glft-|glsoat-|glcbt-", pattern: regexp.MustCompile(`\bgl(?:pat|dt|rt|ptt|ft|soat|cbt)-[A-Za-z0-9_-]{20,}`)},
	{what: "a Slack token", hint: "xox", pattern: regexp.MustCompile(`\bxox[a-z]-[A-Za-z0-9-]{10,}`)},
	{what: "a Grafana service account token", hint: "glsa_", pattern: regexp.MustCompile(`\bglsa_[A-Za-z0-9]{32}_[0-9A-Fa-f]{8}`)},
	{what: "a Grafana Cloud token", hint: "glc_", pattern: regexp.MustCompile(`\bglc_[A-Za-z0-9+/]{32,}`)},
	{what: "an OpenBao or Vault token", hint: "hvs.|hvb.|hvr.", pattern: regexp.MustCompile(`\bhv[sbr]\.[A-Za-z0-9_-]{24,}`)},
	{what: "an OpenBao or Vault token", hint: "s.|b.|r.", pattern: regexp.MustCompile(`(?:^|[^A-Za-z0-9._/-])([sbr]\.[A-Za-z0-9]{24,26})(?:[^A-Za-z0-9_(./-]|$)`), accept: checkRandom},
	{what: "a Discord webhook", hint: "/webhooks/", pattern: regexp.MustCompile(`https://(?:\w+\.)?discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d{6,}/[\w-]{20,}`)},
	{what: "a Slack webhook", hint: "hooks.slack.com", pattern: regexp.MustCompile(`https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,}`)},
	{what: "a JSON web token", hint: "eyj", pattern: regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`)},
	{what: "a Tailscale key", hint: "tskey-", pattern: regexp.MustCompile(`\btskey-[a-z]+-[A-Za-z0-9-]{16,}`)},
	{what: "a Telegram bot token", hint: ":aa", pattern: regexp.MustCompile(`\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b`)},
	{what: "a Google API key", hint: "aiza", pattern: regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{35}`)},
	{what: "a registry token", hint: "npm_|dckr_pat_", pattern: regexp.MustCompile(`\b(?:npm_[A-Za-z0-9]{36}|dckr_pat_[A-Za-z0-9_-]{20,})`)},
	{what: "a URL with a password", hint: "://", pattern: regexp.MustCompile(`\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@"'<>\x60]*:([^\s/@"'\x60]+)@[A-Za-z0-9\[]`), accept: checkLiteral},
}

// checkPEM is a private key's first line with some of it behind: prose names only
// the former.
func checkPEM(kind string) *regexp.Regexp {
	return regexp.MustCompile(`-----BEGIN ` + kind + `-----(?:\s|\\[rn]|[A-Za-z-]+: ?[^\n]{0,200}\n)*[A-Za-z0-9+/=]{16,}`)
}

func checkDecodesToKey(text string) bool {
	raw, _ := base64.RawStdEncoding.DecodeString(text[:len(text)/4*4]) // what comes before the first wrong byte is enough
	return strings.Contains(string(raw), "PRIVATE KEY-----")
}

// checkRandom keeps methods of some s from being taken for tokens.
func checkRandom(text string) bool {
	digits := 0
	for i := range len(text) {
		if text[i] >= '0' && text[i] <= '9' {
			digits++
		}
	}
	return digits > 1 && checkTelling(text)
}

// shapes looks for credentials wherever they stand.
func (f *checkFile) shapes() {
	lower := strings.ToLower(f.text)
	for _, shape := range checkShapes {
		if !slices.ContainsFunc(strings.Split(shape.hint, "|"), func(hint string) bool { return strings.Contains(lower, hint) }) {
			continue
		}
		for _, at := range shape.pattern.FindAllStringSubmatchIndex(f.text, checkFindings+1) {
			from, to := at[0], at[1]
			if len(at) > 2 && at[2] >= 0 {
				from, to = at[2], at[3]
			}
			text := f.text[from:to]
			if checkPlaceholder(text) || shape.accept != nil && !shape.accept(text) {
				continue
			}
			line := f.line(from)
			first, _, _ := strings.Cut(text, "\n")
			found := checkCredential(line, f.fieldAt(line, first), shape.what)
			if shape.opens {
				found = checkPrivateKey(line, shape.what)
				found.Field = f.fieldAt(line, first)
			}
			f.add(found)
		}
	}
}

// checkShapeIn is true of a text that holds a credential.
func checkShapeIn(text string) bool {
	for _, shape := range checkShapes {
		if shape.accept == nil && shape.pattern.MatchString(text) {
			return true
		}
	}
	return false
}

func checkCredential(line int, field, what string) Finding {
	return Finding{Kind: FindingCredential, Line: line, Field: field, What: "holds " + what + " in clear",
		Fix: "revoke it, for it stays in Git's history; seal the new one with SOPS, or put ${bao:…} in its place; " +
			"if it is none, say so: # plumbline:allow-secret REASON"}
}

func checkPrivateKey(line int, what string) Finding {
	return Finding{Kind: FindingPrivateKey, Line: line, What: "holds " + what + ": it opens all that was sealed for it",
		Fix: "keep it out of the repository; if it was committed, make another, run sops updatekeys and sops rotate on what was sealed for it, and change those secrets"}
}
