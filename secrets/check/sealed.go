package check

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkMeta is what SOPS wrote into a file about how it is sealed.
type checkMeta struct {
	line      int
	mac       bool
	groups    []checkGroup
	threshold int
	crypt     checkCrypt
}

var checkKinds = []string{"age", "pgp", "kms", "gcp_kms", "hckms", "azure_kv", "hc_vault"}

func (f *checkFile) findMeta() {
	for _, doc := range f.docs {
		if n := checkChild(doc, "sops"); n != nil && n.Kind == yaml.MappingNode && checkLooksSealed(n) {
			f.meta = checkMetaOf(n)
			return
		}
	}
	if f.flat && !f.broken {
		f.flatMeta()
	}
}

// checkLooksSealed keeps a mapping that is only called sops, in a configuration,
// from being taken for SOPS' own.
func checkLooksSealed(n *yaml.Node) bool {
	for _, name := range append([]string{"mac", "lastmodified", "key_groups"}, checkKinds...) {
		if child := checkChild(n, name); child != nil && (name == "mac" || name == "lastmodified" || child.Kind == yaml.SequenceNode) {
			return true
		}
	}
	return false
}

func checkMetaOf(n *yaml.Node) *checkMeta {
	m := &checkMeta{line: n.Line, mac: checkText(n, "mac") != "", threshold: checkNumber(n, "shamir_threshold")}
	m.crypt, _, _ = checkCryptOf(n) // SOPS wrote it
	groups := checkContent(checkChild(n, "key_groups"))
	if len(groups) == 0 {
		groups = []*yaml.Node{n}
	}
	for _, group := range groups {
		recipients := checkGroup{}
		for _, kind := range checkKinds {
			for _, key := range checkContent(checkChild(group, kind)) {
				recipients.add(kind, checkRecipient(kind, func(name string) string { return checkText(key, name) }))
			}
		}
		m.groups = append(m.groups, recipients)
	}
	return m
}

var checkFlatKey = regexp.MustCompile(`^(?:key_groups__list_(\d{1,3})__map_)?(\w+?)__list_(\d{1,3})__map_(\w+)$`)

// flatMeta reads the metadata of env and ini files, where a path is one name.
func (f *checkFile) flatMeta() {
	m, keys := &checkMeta{}, map[[3]string]map[string]string{}
	texts := &yaml.Node{Kind: yaml.MappingNode}
	for _, field := range f.fields {
		name, ok := strings.CutPrefix(field.path[len(field.path)-1], "sops_")
		if !ok && (len(field.path) != 2 || field.path[0] != "sops") {
			continue
		}
		if m.line == 0 {
			m.line = field.line
		}
		if part := checkFlatKey.FindStringSubmatch(name); part != nil {
			key := [3]string{part[1], part[2], part[3]}
			if keys[key] == nil {
				keys[key] = map[string]string{}
			}
			keys[key][part[4]] = field.value
			continue
		}
		texts.Content = append(texts.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, &yaml.Node{Kind: yaml.ScalarNode, Value: field.value})
	}
	if len(keys) == 0 && checkText(texts, "mac") == "" && checkText(texts, "lastmodified") == "" {
		return
	}
	m.mac, m.threshold = checkText(texts, "mac") != "", checkNumber(texts, "shamir_threshold")
	m.crypt, _, _ = checkCryptOf(texts)
	for key, parts := range keys {
		number, _ := strconv.Atoi(key[0]) // "" is the only group
		for len(m.groups) <= number {
			m.groups = append(m.groups, checkGroup{})
		}
		m.groups[number].add(key[1], checkRecipient(key[1], func(name string) string { return parts[name] }))
	}
	f.meta = m
}

const checkSealedPrefix = "ENC[AES256_GCM,"

var checkSealedValue = regexp.MustCompile(`^ENC\[AES256_GCM,data:[A-Za-z0-9+/]*=*,iv:[A-Za-z0-9+/]+=*,tag:[A-Za-z0-9+/]+=*,type:(?:str|int|float|bytes|bool|comment|time)\]$`)

// inMeta is true of what SOPS wrote, not the file's author.
func (f *checkFile) inMeta(field checkField) bool {
	return f.meta != nil && len(field.path) > 0 && (field.path[0] == "sops" || len(field.path) == 1 && strings.HasPrefix(field.path[0], "sops_"))
}

// damaged finds what no key can open.
func (f *checkFile) damaged() {
	const fix = "restore it from an earlier commit, and change it with sops edit"
	add := func(line int, field, what string) {
		f.add(Finding{Kind: FindingDamaged, Line: line, Field: field, What: what, Fix: fix})
	}
	if at := strings.Index(f.text, checkSealedPrefix); f.broken && at >= 0 {
		add(f.line(at), "", "is sealed, and no longer "+strings.ToUpper(strings.TrimPrefix(path.Ext(f.name), ".")))
		return
	}
	if f.meta != nil {
		if !f.meta.mac {
			add(f.meta.line, "sops", "is sealed without a mac")
		}
		if !slices.ContainsFunc(f.meta.groups, func(g checkGroup) bool { return len(g) > 0 }) {
			add(f.meta.line, "sops", "is sealed for nobody")
		}
	}
	for _, field := range f.fields {
		switch sealed := strings.HasPrefix(field.value, checkSealedPrefix); {
		case !sealed || len(field.path) == 0 || f.inMeta(field):
		case f.meta == nil:
			add(field.line, checkPath(field.path), "has sealed values, and nothing that says for whom (no sops block)")
			return
		case !checkSealedValue.MatchString(field.value):
			add(field.line, checkPath(field.path), "is a sealed value with parts missing")
		}
	}
}

// rules holds the file to the creation rule that is for it.
func (f *checkFile) rules(rules *checkRules) {
	rule := rules.rule(f.name)
	switch {
	case f.meta != nil:
		f.clearFields(f.meta.crypt, "its sops block says", "sops edit "+checkQuote(f.name)+" (or take the value out, and set it there)")
		if rule != nil {
			f.stale(rule)
		}
	case rule == nil || rule.path == nil || checkNeverSealed(f.name):
	case len(f.docs) == 0 && !f.flat && !f.broken && strings.TrimSpace(f.text) == "":
	case rule.crypt.selects() && (len(f.docs) > 0 || f.flat):
		f.clearFields(rule.crypt, rule.says(), checkEncrypt(f.name))
	case slices.ContainsFunc(f.found, func(other Finding) bool { return other.Kind == FindingDamaged }):
	default:
		f.add(Finding{Kind: FindingNotSealed, Line: 1, What: rule.says() + " to seal it", Fix: checkEncrypt(f.name)})
	}
}

// checkNeverSealed is true of what has to be read without a key.
func checkNeverSealed(name string) bool {
	switch base := path.Base(name); base {
	case ".sops.yaml", "kustomization.yaml", "kustomization.yml", "Kustomization", "stack.yaml", "Chart.yaml", ".gitignore", ".gitattributes":
		return true
	default:
		return path.Ext(base) == ".md"
	}
}

// clearFields notes the first value that is to be sealed and is not.
func (f *checkFile) clearFields(crypt checkCrypt, says, fix string) {
	var first checkField
	count := 0
	for _, field := range f.fields {
		if len(field.path) == 0 || f.inMeta(field) || !crypt.seals(field.path) || !checkCouldSeal(field, f.name, f.meta != nil) {
			continue
		}
		if allowed, _ := f.allowed(field.line); allowed {
			continue
		}
		if count++; count == 1 {
			first = field
		}
	}
	if count == 0 {
		return
	}
	what := says + " to seal it"
	if count > 1 {
		what = fmt.Sprintf("%s, and %d more", what, count-1)
	}
	f.add(Finding{Kind: FindingNotSealed, Line: first.line, Field: checkPath(first.path), What: what, Fix: fix})
}

// checkCouldSeal leaves out what SOPS leaves as it is, references, and values of
// other kinds than Secret where one rule is for all manifests: it says how to seal
// a file, and not that each is to be.
func checkCouldSeal(field checkField, name string, sealed bool) bool {
	if strings.HasPrefix(field.value, checkSealedPrefix) || field.value == "" || checkReference(field.value) {
		return false
	}
	base := strings.ToLower(path.Base(name))
	if sealed || strings.Contains(base, "sops") || strings.Contains(base, "secret") || strings.Contains(base, ".enc") {
		return true
	}
	kind := checkText(field.root, "kind")
	return kind == "" || kind == "Secret" || checkText(field.root, "apiVersion") == ""
}

// stale compares whom the file is sealed for with whom the rule names.
func (f *checkFile) stale(rule *checkRule) {
	if !slices.ContainsFunc(rule.groups, func(g checkGroup) bool { return len(g) > 0 }) {
		return // given on the command line
	}
	var differences []string
	for i := range max(len(rule.groups), len(f.meta.groups)) {
		var want, have checkGroup
		if i < len(rule.groups) {
			want = rule.groups[i]
		}
		if i < len(f.meta.groups) {
			have = f.meta.groups[i]
		}
		where := ""
		if len(rule.groups) > 1 || len(f.meta.groups) > 1 {
			where = fmt.Sprintf("group %d: ", i+1)
		}
		if missing := have.lacks(want); len(missing) > 0 {
			differences = append(differences, where+"missing "+strings.Join(missing, ", "))
		}
		if surplus := want.lacks(have); len(surplus) > 0 {
			differences = append(differences, where+"surplus "+strings.Join(surplus, ", "))
		}
	}
	fix := "sops updatekeys " + checkQuote(f.name)
	if want, have := checkThreshold(rule.threshold, rule.groups), checkThreshold(f.meta.threshold, f.meta.groups); want != have {
		differences = append(differences, fmt.Sprintf("opened by %d groups of keys instead of %d", have, want))
		fix = fmt.Sprintf("sops updatekeys --shamir-secret-sharing-threshold %d %s", want, checkQuote(f.name))
	}
	if len(differences) > 0 {
		f.add(Finding{Kind: FindingStaleRecipients, Line: f.meta.line, Field: "sops",
			What: "is not sealed for whom " + rule.says() + ": " + strings.Join(differences, "; "), Fix: fix})
	}
}

// checkThreshold is how many groups are needed; where nothing is said, all.
func checkThreshold(said int, groups []checkGroup) int {
	if said == 0 || len(groups) < 2 {
		return max(len(groups), 1)
	}
	return said
}
