package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

// values that are written differently in every form.
var values = map[string]string{
	"plain":      "hunter2hunter2",
	"short":      "s3cr3t",
	"punctuated": `p"a<s>s&'w\ö/r+d?=%`,
	"spaces":     " pass phrase with spaces ",
	"newline":    "s3cr3t-at-the-end\n",
	"lines":      "first line that is long\nsecond line, just as long\nthird\n",
	"key":        "-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDR/+aZ\n", 20) + "-----END PRIVATE KEY-----\n",
	"characters": strings.Repeat("grüße aus köln €", 30),
	"binary":     string(pseudorandom(300)),
	"long":       hex.EncodeToString(pseudorandom(20_000)),
	"ruler":      strings.Repeat("=", 300),
}

func pseudorandom(n int) []byte {
	source := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(source.Uint32())
	}
	return out
}

// forms are how programs write a value; tests have encoders of their own.
var writers = map[string]func(string) string{
	"raw":       func(v string) string { return v },
	"base64":    func(v string) string { return base64.StdEncoding.EncodeToString([]byte(v)) },
	"base64 2":  func(v string) string { return base64.StdEncoding.EncodeToString([]byte("u" + v)) },
	"base64 3":  func(v string) string { return base64.StdEncoding.EncodeToString([]byte("us" + v)) },
	"base64 in": func(v string) string { return base64.StdEncoding.EncodeToString([]byte("user:" + v + "@host")) },
	"base64url": func(v string) string { return base64.URLEncoding.EncodeToString([]byte("u" + v + "!")) },
	"base64raw": func(v string) string { return base64.RawURLEncoding.EncodeToString([]byte(v)) },
	"json":      func(v string) string { raw, _ := json.Marshal(v); return string(raw) },
	"json json": func(v string) string {
		raw, _ := json.Marshal(map[string]string{"a": v})
		raw, _ = json.Marshal(string(raw))
		return string(raw)
	},
	"%q":     func(v string) string { return fmt.Sprintf("%q", v) },
	"query":  url.QueryEscape,
	"path":   url.PathEscape,
	"hex":    func(v string) string { return hex.EncodeToString([]byte(v)) },
	"yaml '": func(v string) string { return strings.ReplaceAll(v, "'", "''") },
}

// TestForms finds each value in each form, and leaves at most the character on
// either side that base64 mixes with its neighbour.
func TestForms(t *testing.T) {
	for value, v := range values {
		r := NewRedactor()
		r.Add("k", []byte(v))
		for form, write := range writers {
			written := write(v)
			got := r.Text("before >" + written + "< after")
			if !strings.HasPrefix(got, "before >") || !strings.Contains(got, Mask) || strings.Contains(got, v) {
				t.Fatalf("%s as %s: %.200q", value, form, got)
			}
			rest := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(got, "before >"), "< after"), Mask, "")
			if strings.HasPrefix(form, "base64") {
				continue
			}
			if len(strings.Trim(rest, `{a":}\ `)) > 0 {
				t.Errorf("%s as %s leaves %q", value, form, rest)
			}
		}
	}
}

// TestFormsBase64 decodes what is left around the mask.
func TestFormsBase64(t *testing.T) {
	for value, v := range values {
		r := NewRedactor()
		r.Add("k", []byte(v))
		for before := range 7 {
			for after := range 4 {
				text := strings.Repeat("x", before) + v + strings.Repeat("y", after)
				for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
					got := r.Text(encoding.EncodeToString([]byte(text)))
					left, right, ok := strings.Cut(got, Mask)
					if !ok || strings.Contains(right, Mask) || len(left) > before*8/6+1 || len(right) > after*8/6+4 {
						t.Fatalf("%s, %d bytes in and %d from the end: %.200q", value, before, after, got)
					}
				}
			}
		}
	}
}

// TestFormsCut leaves less than a chunk of a value whose end is cut off.
func TestFormsCut(t *testing.T) {
	for _, value := range []string{"long", "characters", "binary", "key"} {
		v := values[value]
		r := NewRedactor()
		r.Add("k", []byte(v))
		for at := 2 * chunk; at <= len(v); at += 1 + at/100 {
			got := r.Text("> " + v[:at])
			rest := strings.TrimPrefix(strings.ReplaceAll(got, Mask, ""), "> ")
			if !strings.HasPrefix(got, "> "+Mask) && value != "key" || len(rest) >= chunk {
				t.Fatalf("%s cut at %d: %d bytes are left: %q", value, at, len(rest), got)
			}
		}
	}
}

func TestFormsLine(t *testing.T) {
	r := NewRedactor()
	r.Public("storageClassName: fast")
	r.Add("k", []byte("first-of-it\nmetadata:\nenabled: true,\nmode = \"none\"\nprometheus\n  pin: 1234\nb: 12\nx: 1\n"+values["long"][:100]))
	r.Add("k", []byte("host: db.example.org\r\n  storageClassName: fast\n"+strings.Repeat("-", 40)+"\nshort: 1\n"+
		"dsn: "+values["long"][:200]+"\n"))
	for text, want := range map[string]string{
		"- host: db.example.org":                        "- " + Mask,
		"- storageClassName: fast":                      "- storageClassName: fast",
		"- short: 1":                                    "- " + Mask,
		"metadata: enabled: true, mode = \"none\" x: 1": "metadata: enabled: true, mode = \"none\" x: 1",
		"prometheus":                                    "prometheus",
		"    pin: 1234":                                 "    " + Mask,
		"    b: 12\n    c":                              "    b: 12\n    c",
		strings.Repeat("-", 80):                         strings.Repeat("-", 80),
		"  dsn: " + values["long"][:200]:                "  " + Mask,
		"  dsn: " + values["long"][:150]:                "  " + Mask + values["long"][150-(150+5)%32:150],
		"aG9zdDogZGIuZXhhbXBsZS5vcmc=":                  Mask,
		`"a\nhost: db.example.org\nb"`:                  `"a\n` + Mask + `\nb"`,
		"host: db.example.or":                           "host: db.example.or",
		strings.Repeat("host: db.", 3) + "":             "host: db.host: db.host: db.",
	} {
		if got := r.Text(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// Whatever part of a value is shown, of 24 bytes and more, no more than 11 on either side stay.
func TestFormsPieces(t *testing.T) {
	for name, v := range map[string]string{"24 bytes": values["long"][:24], "25": values["long"][:25], "40": values["long"][40:80], "64": values["long"][:64],
		"65": values["long"][:65], "100": values["long"][:100], "128": values["long"][:128], "punctuated": values["punctuated"] + values["punctuated"],
		"characters": values["characters"][:64], "spaces": " " + values["long"][:30] + "\n"} {
		r := redactorOf(v)
		for _, form := range []string{"raw", "json", "%q", "hex", "base64"} {
			written := writers[form](strings.TrimSpace(v))
			perByte := max(1, (len(written)+len(v)-1)/len(v))
			for from := range written {
				for to := from + 23*perByte; to <= len(written); to++ {
					rest := 0
					for part := range strings.SplitSeq(r.Text(written[from:to]), Mask) {
						rest = max(rest, len(part))
					}
					if form == "raw" && rest >= pieceBytes || rest >= 24*perByte {
						t.Fatalf("%s as %s, %d to %d: %d bytes stay: %q", name, form, from, to, rest, r.Text(written[from:to]))
					}
				}
			}
		}
	}
	r := redactorOf("hunter2-hunter3-x")
	if got := r.Text("hunter2-hunt"); got != Mask {
		t.Errorf("the beginning of a value of 17 bytes: %s", got)
	}
	if got := r.Text("hunter2-hun"); got != "hunter2-hun" {
		t.Errorf("less than a piece: %s", got)
	}
}
