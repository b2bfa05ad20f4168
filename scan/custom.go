package scan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/plumbline-dev/plumbline/scan/checks"
)

// customSets bounds how many repositories' checks are kept compiled.
const customSets = 16

// customSet is the checks of a repository, compiled once for all its stacks.
type customSet struct {
	id   digest
	once sync.Once
	set  *checks.Set
	err  error
}

// sets are all checks to ask.
func (c *customSet) sets(builtin *checks.Set) []*checks.Set {
	if c == nil || c.set == nil {
		return []*checks.Set{builtin}
	}
	return []*checks.Set{builtin, c.set}
}

// ownChecks are those that the stack brings; nil: none, or none that can be used, and
// then it is a finding.
func (g *Gate) ownChecks(r Request) (*customSet, []Finding) {
	if r.Policy.Checks == "" {
		return nil, nil
	}
	files, err := checks.Sources(r.FS, path.Join(r.Dir, r.Policy.Checks))
	if err != nil {
		return nil, []Finding{broken(idChecks, "Checks of the repository can't be read", fmt.Errorf("scan.checks: %w", err), "name a directory of Rego files")}
	}
	own := g.compiled(files)
	if own.err != nil {
		return nil, []Finding{broken(idChecks, "Checks of the repository can't be used", own.err, "mend the check")}
	}
	return own, nil
}

// compiled compiles checks that were not compiled before.
func (g *Gate) compiled(files map[string]string) *customSet {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%q %q\n", name, files[name])
	}
	id := digest(sum.Sum(nil))
	own := g.customSet(id)
	own.once.Do(func() { own.set, own.err = checks.Custom(files) }) // nobody else waits for that
	return own
}

func (g *Gate) customSet(id digest) *customSet {
	g.mu.Lock()
	defer g.mu.Unlock()
	if own, ok := g.custom[id]; ok {
		return own
	}
	if g.custom == nil || len(g.custom) >= customSets {
		g.custom = map[digest]*customSet{}
	}
	g.custom[id] = &customSet{id: id}
	return g.custom[id]
}

var containerField = regexp.MustCompile(`^(.*[cC]ontainers)\[(\d+)\]`)

// containerAt is the name of the container that a field belongs to.
func containerAt(object map[string]any, field string) string {
	m := containerField.FindStringSubmatch(field)
	if m == nil {
		return ""
	}
	list, _ := at(object, m[1]).([]any)
	index, err := strconv.Atoi(m[2])
	if err != nil || index >= len(list) {
		return ""
	}
	container, _ := list[index].(map[string]any)
	name, _ := container["name"].(string)
	return name
}

var step = regexp.MustCompile(`([^.\[\]]+)|\[(\d+)\]`)

// at follows a field.
func at(value any, field string) any {
	for _, s := range step.FindAllStringSubmatch(field, -1) {
		switch v := value.(type) {
		case map[string]any:
			value = v[s[1]]
		case []any:
			i, err := strconv.Atoi(s[2])
			if err != nil || i >= len(v) {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}
