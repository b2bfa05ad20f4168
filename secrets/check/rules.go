package check

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"regexp/syntax"
	"strings"

	"go.yaml.in/yaml/v3"
)

// checkRules are the creation rules of a .sops.yaml: for the files beside and below
// it. SOPS itself reads them from a path only, and no further than a rule that it
// doesn't understand.
type checkRules struct {
	dir, file string
	list      []checkRule
}

type checkRule struct {
	number    int
	file      string
	path      *regexp.Regexp // nil: of every file
	broken    bool
	crypt     checkCrypt
	groups    []checkGroup
	threshold int
}

func (r *checkRule) says() string { return fmt.Sprintf("rule %d of %s says", r.number, r.file) }

// rule is the first that is for a file, as SOPS looks for it.
func (r *checkRules) rule(name string) *checkRule {
	if r == nil {
		return nil
	}
	relative := name
	if r.dir != "." {
		relative = strings.TrimPrefix(name, r.dir+"/")
	}
	for i := range r.list {
		if rule := &r.list[i]; !rule.broken && (rule.path == nil || rule.path.MatchString(relative)) {
			return rule
		}
	}
	return nil
}

// rules reads a .sops.yaml, and notes what is wrong with it. What can't be
// understood is left out, as is what this doesn't look at.
func (c *checker) rules(name string) *checkRules {
	out := &checkRules{dir: path.Dir(name), file: name}
	note := func(line int, field, what string) {
		c.found = append(c.found, Finding{Kind: FindingRules, File: name, Line: line, Field: field, What: what,
			Fix: "SOPS seals nothing by it: see creation_rules in its documentation"})
	}
	text, whole, err := c.read(name)
	if err != nil {
		return out // said of the file itself
	}
	docs, err := checkYAML(text)
	if err != nil || !whole {
		note(0, "", "isn't YAML"+checkAtLine(err))
		return out
	}
	if len(docs) == 0 {
		return out
	}
	list := checkChild(docs[0], "creation_rules")
	if list != nil && list.Kind != yaml.SequenceNode {
		note(list.Line, "creation_rules", "isn't a list")
		return out
	}
	for i, n := range checkContent(list) {
		rule, field, err := checkRuleOf(n)
		rule.number, rule.file = i+1, name
		if err != nil {
			note(n.Line, fmt.Sprintf("creation_rules[%d]%s", i, field), fmt.Sprintf("rule %d %v", i+1, err))
		}
		out.list = append(out.list, rule)
	}
	return out
}

var checkLineOf = regexp.MustCompile(`\bline \d+`)

// checkAtLine is all that may be said of a parser's error: the rest quotes the text.
func checkAtLine(err error) string {
	if err == nil {
		return ""
	}
	if at := checkLineOf.FindString(err.Error()); at != "" {
		return " (" + at + ")"
	}
	return ""
}

// checkRuleOf reads one rule. Where there is an error, it is about a field.
func checkRuleOf(n *yaml.Node) (rule checkRule, field string, err error) {
	if n.Kind != yaml.MappingNode {
		return checkRule{broken: true}, "", errors.New("isn't a mapping")
	}
	if pattern := checkText(n, "path_regex"); pattern != "" {
		if rule.path, err = regexp.Compile(pattern); err != nil {
			return checkRule{broken: true}, ".path_regex", fmt.Errorf("has a path_regex that doesn't compile: %s", checkRegexError(err))
		}
	}
	rule.threshold = checkNumber(n, "shamir_threshold")
	if groups := checkChild(n, "key_groups"); len(checkContent(groups)) > 0 {
		for _, group := range groups.Content {
			rule.groups = append(rule.groups, checkRuleGroup(group))
		}
	} else {
		rule.groups = []checkGroup{checkRuleGroup(n)}
	}
	rule.crypt, field, err = checkCryptOf(n)
	return rule, field, err
}

func checkRegexError(err error) string {
	if failed := (*syntax.Error)(nil); errors.As(err, &failed) {
		return failed.Code.String()
	}
	return "isn't a regular expression"
}

// checkCrypt says which values are sealed in a file, by the names on their path.
// The zero value seals all but those that end in SOPS' own suffix.
type checkCrypt struct {
	regex, notRegex   *regexp.Regexp
	suffix, notSuffix string
	byComment         bool // can't be told here
}

func checkCryptOf(n *yaml.Node) (c checkCrypt, field string, err error) {
	c.suffix, c.notSuffix = checkText(n, "encrypted_suffix"), checkText(n, "unencrypted_suffix")
	c.byComment = checkText(n, "encrypted_comment_regex") != "" || checkText(n, "unencrypted_comment_regex") != ""
	for name, to := range map[string]**regexp.Regexp{"encrypted_regex": &c.regex, "unencrypted_regex": &c.notRegex} {
		pattern := checkText(n, name)
		if pattern == "" {
			continue
		}
		compiled, failed := regexp.Compile(pattern)
		if failed != nil {
			field, err = "."+name, fmt.Errorf("has an %s that doesn't compile: %s", name, checkRegexError(failed))
			c.byComment = true
			continue
		}
		*to = compiled
	}
	return c, field, err
}

// selects is true where only some values of a file are to be sealed.
func (c checkCrypt) selects() bool {
	return c.regex != nil || c.notRegex != nil || c.suffix != "" || c.notSuffix != "" || c.byComment
}

// seals is true of a value at a path.
func (c checkCrypt) seals(at []string) bool {
	some := func(matches func(string) bool) bool {
		for _, name := range at {
			if !strings.HasPrefix(name, "[") && matches(name) {
				return true
			}
		}
		return false
	}
	switch {
	case c.byComment:
		return false
	case c.regex != nil:
		return some(c.regex.MatchString)
	case c.notRegex != nil:
		return !some(c.notRegex.MatchString)
	case c.suffix != "":
		return some(func(name string) bool { return strings.HasSuffix(name, c.suffix) })
	}
	suffix := c.notSuffix
	if suffix == "" {
		suffix = "_unencrypted"
	}
	return !some(func(name string) bool { return strings.HasSuffix(name, suffix) })
}

func checkChild(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			if value := n.Content[i+1]; value.Kind == yaml.AliasNode {
				return value.Alias
			}
			return n.Content[i+1]
		}
	}
	return nil
}

func checkContent(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		if out[i] = item; item.Kind == yaml.AliasNode {
			out[i] = item.Alias
		}
	}
	return out
}

func checkText(n *yaml.Node, name string) string {
	if child := checkChild(n, name); child != nil && child.Kind == yaml.ScalarNode && child.Tag != "!!null" {
		return child.Value
	}
	return ""
}

func checkNumber(n *yaml.Node, name string) (out int) {
	_, _ = fmt.Sscanf(checkText(n, name), "%d", &out) // 0 where it is none
	return out
}
