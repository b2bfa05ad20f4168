package apply

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// secretsOf pairs what must not be seen of a Secret with what is shown instead:
// its values, as they are written, encoded and decoded. Servers and policies quote
// them in errors. It is nil for anything but a Secret.
func secretsOf(p prepared) []string {
	if !isSecret(p.ID) {
		return nil
	}
	var body map[string]json.RawMessage
	if json.Unmarshal(p.body, &body) != nil {
		return nil
	}
	var out []string
	add := func(text string) {
		if len(text) >= shortestSecret {
			out = append(out, text, base64.StdEncoding.EncodeToString([]byte(text)))
			if plain, err := base64.StdEncoding.DecodeString(text); err == nil && len(plain) >= shortestSecret {
				out = append(out, string(plain))
			}
		}
	}
	for _, field := range []string{"data", "stringData"} {
		var value any
		decoder := json.NewDecoder(strings.NewReader(string(body[field])))
		decoder.UseNumber()
		if decoder.Decode(&value) == nil {
			leaves(value, add)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) // the longest first
	pairs := []string{}
	for _, secret := range slices.Compact(out) {
		pairs = append(pairs, secret, "REDACTED")
	}
	return pairs
}

func leaves(value any, add func(string)) {
	switch v := value.(type) {
	case map[string]any:
		for _, child := range v {
			leaves(child, add)
		}
	case []any:
		for _, child := range v {
			leaves(child, add)
		}
	case nil:
	default:
		add(fmt.Sprint(v))
	}
}

// shortestSecret can be masked in a text; a shorter one is in every text. The
// schema's complaints, which quote any value, are cut off before they do.
const shortestSecret = 4

var quotedValue = regexp.MustCompile(`, got .*`)

// withoutSecrets masks them in what a server says about a Secret.
func withoutSecrets(text string, secrets []string) string {
	if secrets == nil {
		return text
	}
	return strings.NewReplacer(secrets...).Replace(quotedValue.ReplaceAllString(text, ""))
}
