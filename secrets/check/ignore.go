package check

import (
	"path"
	"regexp"
	"strings"
)

// checkIgnores are the patterns of the .gitignore files down to a directory; the
// last that matches decides. See gitignore(5).
type checkIgnores []checkIgnore

type checkIgnore struct {
	match     *regexp.Regexp // against the path from the repository
	dirs, not bool
}

func (i checkIgnores) with(dir, text string) checkIgnores {
	out := i[:len(i):len(i)]
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var p checkIgnore
		line, p.not = strings.CutPrefix(line, "!")
		line, p.dirs = strings.CutSuffix(line, "/")
		anchored := strings.Contains(line, "/")
		expression := checkGlob(strings.TrimPrefix(line, "/"))
		if !anchored {
			expression = "(?:.*/)?" + expression
		}
		if dir != "." {
			expression = regexp.QuoteMeta(path.Clean(dir)+"/") + expression
		}
		compiled, err := regexp.Compile("^" + expression + "$")
		if err != nil {
			continue // git takes no notice of it either
		}
		p.match = compiled
		out = append(out, p)
	}
	return out
}

var checkGlobs = strings.NewReplacer(`\*\*/`, `(?:.*/)?`, `/\*\*`, `/.*`, `\*`, `[^/]*`, `\?`, `[^/]`, `\[`, `[`, `\]`, `]`)

func checkGlob(pattern string) string { return checkGlobs.Replace(regexp.QuoteMeta(pattern)) }

func (i checkIgnores) match(name string, dir bool) bool {
	for at := len(i) - 1; at >= 0; at-- {
		if p := i[at]; (dir || !p.dirs) && p.match.MatchString(name) {
			return !p.not
		}
	}
	return false
}
