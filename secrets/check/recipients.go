package check

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkGroup is a set of recipients, each as SOPS writes it, behind its kind.
type checkGroup map[string]bool

func (g checkGroup) add(kind, recipient string) {
	if recipient = strings.TrimSpace(recipient); recipient == "" {
		return
	}
	switch kind {
	case "pgp":
		recipient = strings.ToUpper(strings.ReplaceAll(recipient, " ", ""))
	case "age":
		if words := strings.Fields(recipient); len(words) > 2 { // an SSH key's comment
			recipient = strings.Join(words[:2], " ")
		}
	default:
		recipient = strings.TrimRight(recipient, "/")
	}
	g[kind+" "+recipient] = true
}

// checkRuleGroup reads a group's recipients as .sops.yaml has them: texts, lists
// with commas in one text, and mappings in key groups.
func checkRuleGroup(n *yaml.Node) checkGroup {
	out := checkGroup{}
	for _, merged := range checkContent(checkChild(n, "merge")) {
		if merged != n {
			maps.Copy(out, checkRuleGroup(merged))
		}
	}
	for name, kind := range map[string]string{"age": "age", "pgp": "pgp", "kms": "kms", "gcp_kms": "gcp_kms", "hckms": "hckms",
		"azure_keyvault": "azure_kv", "hc_vault_transit_uri": "hc_vault", "hc_vault": "hc_vault"} {
		value := checkChild(n, name)
		items := checkContent(value)
		if value != nil && value.Kind == yaml.ScalarNode && value.Tag != "!!null" {
			items = []*yaml.Node{value}
		}
		for _, item := range items {
			if item.Kind == yaml.ScalarNode {
				for one := range strings.SplitSeq(item.Value, ",") {
					out.add(kind, one)
				}
				continue
			}
			out.add(kind, checkRecipient(kind, func(name string) string { return checkText(item, name) }))
		}
	}
	return out
}

// checkRecipient names a recipient that is written in parts.
func checkRecipient(kind string, part func(string) string) string {
	first := func(names ...string) string {
		for _, name := range names {
			if value := part(name); value != "" {
				return strings.TrimRight(value, "/")
			}
		}
		return ""
	}
	with := func(recipient, separator, more string) string {
		if recipient == "" || more == "" {
			return recipient
		}
		return recipient + separator + more
	}
	switch kind {
	case "age":
		return part("recipient")
	case "pgp":
		return part("fp")
	case "kms":
		return with(part("arn"), "+", part("role"))
	case "gcp_kms":
		return part("resource_id")
	case "hckms":
		return part("key_id")
	case "azure_kv":
		return with(with(first("vault_url", "vaultUrl"), "/keys/", first("name", "key")), "/", part("version"))
	}
	return with(with(first("vault_address"), "/v1/", strings.Trim(part("engine_path"), "/")), "/keys/", part("key_name"))
}

// lacks lists who is in the other group and not in this.
func (g checkGroup) lacks(other checkGroup) (out []string) {
	for _, wanted := range slices.Sorted(maps.Keys(other)) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(g)), func(have string) bool { return checkSame(have, wanted) }) {
			out = append(out, checkPublic(wanted))
		}
	}
	return out
}

// checkSame is true of one recipient that is written in full, and not.
func checkSame(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	kind, short, _ := strings.Cut(b, " ")
	switch kind {
	case "pgp": // an identifier is a fingerprint's end
		return a == b || strings.HasPrefix(a, "pgp ") && len(short) >= 16 && strings.HasSuffix(a, short)
	case "azure_kv": // without a version, the latest is meant
		return a == b || strings.HasPrefix(a, b+"/") && !strings.Contains(a[len(b)+1:], "/") && strings.Count(short, "/") == 4
	}
	return a == b
}

var checkPublics = regexp.MustCompile(`^(?:age (?:age1[0-9a-z]+|ssh-[a-z0-9-]+ [A-Za-z0-9+/=]+)|pgp [0-9A-F]{8,64}|` +
	`(?:kms|gcp_kms|hckms|azure_kv|hc_vault) [A-Za-z0-9:/._+-]+)$`)

// checkPublic is a recipient that may be shown. Some write other things in its place.
func checkPublic(recipient string) string {
	if !checkPublics.MatchString(recipient) || checkShapeIn(recipient) {
		kind, _, _ := strings.Cut(recipient, " ")
		return kind + " (not a recipient)"
	}
	_, name, _ := strings.Cut(recipient, " ")
	return name
}
