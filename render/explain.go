package render

import (
	"regexp"
	"strings"
)

// explain turns kustomize's nested message into one that says what to mend, and where.
func explain(c *check, err error) error {
	text := plain(err)
	if m := registered.FindStringSubmatch(text); m != nil {
		return c.duplicateID(m[1])
	}
	return inputErrorf(c.blamed(err.Error()), 0, "%s", text)
}

var (
	registered = regexp.MustCompile(`already registered id: (\S+)`)
	// What kustomize says on its way up through bases. The cause is after the last.
	wayUp = regexp.MustCompile(`(?s)^.*(?:recursed (?:accumulation|merging) (?:of|from)|couldn't make target for) path '[^']*': `)
	// What it says of each file, and of the settings it gives a transformer.
	wrapper = regexp.MustCompile(`^(?:accumulating (?:resources|components)|merging resources)(?: from '[^']*')?: `)
	// What it quotes of the sources of a generator: they may be secret.
	payload = regexp.MustCompile(`(?s)(env source files|literal sources|file sources):? \[.*$`)
	// The node that was not what a patch took it for, which may be a Secret's.
	contents = regexp.MustCompile(`(?s):? node contents:.*$`)
	settings = regexp.MustCompile("(?s) with config: `.*?`: ")
)

// plain strips what wraps the cause, and the paths that only kustomize knows.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), `\n`, "\n")
	text = wayUp.ReplaceAllString(text, "")
	text = settings.ReplaceAllString(text, ": ")
	text = payload.ReplaceAllString(text, "one of the $1 is not key=value, or has a key that is not allowed or occurs twice")
	text = contents.ReplaceAllString(text, "")
	for wrapper.MatchString(text) {
		text = wrapper.ReplaceAllString(text, "")
	}
	text = strings.ReplaceAll(text, mount+"/", "")
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 600 {
		text = strings.ToValidUTF8(text[:600], "") + "…"
	}
	return text
}

var innermost = regexp.MustCompile(`recursed accumulation of path '` + mount + `/([^']+)'`)

// blamed is the kustomization file that kustomize was at: the innermost, or the entry.
func (c *check) blamed(text string) string {
	all := innermost.FindAllStringSubmatch(text, -1)
	if len(all) > 0 {
		if k, ok := c.known[all[len(all)-1][1]]; ok {
			return k.file
		}
	}
	return c.entryFile
}
