package render

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
)

// check walks the tree of kustomizations the way kustomize will, before it does. It refuses
// what must not run, finds what is not there, counts what it will cost, and keeps the files
// that kustomize may then read.
type check struct {
	rec     *recorder
	budget  Budget
	factory *resmap.Factory

	served      map[string][]byte        // all that kustomize may read
	rewritten   map[string][]byte        // some of it, as kustomize is to read it
	parsed      map[fileEntry]bool       // YAML files that were checked, by path and use
	documents   map[string][]document    // of the files that resources name
	uses        map[string]int           // how often each of those is named
	known       map[string]kustomization // by directory
	chain       []string                 // directories from the entry to here
	entryFile   string                   // the kustomization file that is built
	withOrigins []byte                   // its content, asking for origin annotations too
	keepOrigins bool                     // the user asks for them
	configured  bool                     // some configurations: field may add to what labels mean
	exclusive   bool                     // some openapi: field changes kustomize's globals

	files, objects, steps int // with repeats
	nodes                 int // with repeats
	bytes                 int64
	nodesIn               map[string]int // of the files that resources name
	specsIn               map[string]int // field specs of the files that configurations name
	specs                 int            // all of them, with repeats: kustomize applies them to the whole output
	patchKeys             int            // in the widest mapping or list of each patch that has one
	pluginWork            map[string]int // what the plugins of a directory do to each object
	spread                int64          // bytes of patches times objects
	largest, longest      int64          // file, scalar
	references            int64          // $( in all files
	vars                  bool
	doublings             int
	sources               []string // field paths that replacements read
	targets               []copied
	problems              []error
}

func newCheck(rec *recorder) *check {
	return &check{
		rec: rec, budget: rec.budget,
		factory: resmap.NewFactory(provider.NewDefaultDepProvider().GetResourceFactory()),
		served:  map[string][]byte{}, rewritten: map[string][]byte{}, parsed: map[fileEntry]bool{},
		documents: map[string][]document{}, uses: map[string]int{},
		nodesIn: map[string]int{}, specsIn: map[string]int{}, pluginWork: map[string]int{}, known: map[string]kustomization{},
	}
}

// run checks everything below the entry directory, and returns all problems it found.
func (c *check) run(file, entry string) error {
	dir, err := within(path.Dir(file), entry)
	if err != nil {
		return inputErrorf(file, 0, "spec.kustomize.path: %s: %w", entry, err)
	}
	kind, err := c.rec.kind(dir)
	if err != nil {
		return err
	}
	if kind != isDir {
		return inputErrorf(file, 0, "spec.kustomize.path: %s: %s", entry, c.notDirectory(dir, kind))
	}
	objects, err := c.walk(dir, false, 0)
	if err != nil {
		return errors.Join(append(c.problems, err)...)
	}
	if len(c.problems) > 0 {
		return errors.Join(c.problems...)
	}
	k := c.known[dir]
	c.entryFile = k.file
	if err := errors.Join(c.referring(objects), c.bounded()); err != nil {
		return err
	}
	c.keepOrigins = slices.Contains(k.BuildMetadata, types.OriginAnnotations)
	return c.rewrite(k)
}

// rewrite prepares the kustomizations that kustomize is to read in other words.
func (c *check) rewrite(entry kustomization) (err error) {
	for _, k := range c.known {
		if k.outdated() {
			if c.rewritten[k.file], err = k.rewritten(false, c.configured); err != nil {
				return err
			}
		}
	}
	c.withOrigins, err = entry.rewritten(true, c.configured)
	return err
}

func (c *check) notDirectory(name string, kind pathKind) string {
	if kind == isMissing {
		return c.notFound(name)
	}
	return "is a file: name the directory of a kustomization"
}

// walk checks one kustomization and what it names. It returns how many objects it makes of
// those it starts with. Only what makes it pointless to go on is an error.
func (c *check) walk(dir string, component bool, objects int) (int, error) {
	if c.files++; c.files > c.budget.Files {
		return 0, inputError(dir, 0, overBudget("files and directories, counting repeats", c.budget.Files))
	}
	k, err := c.load(dir)
	if err != nil {
		return objects, c.note(err)
	}
	c.chain = append(c.chain, dir)
	defer func() { c.chain = c.chain[:len(c.chain)-1] }()
	if len(c.chain) > c.budget.Bases {
		return 0, inputError(k.file, 0, overBudget("kustomizations nested in one another", c.budget.Bases))
	}
	if wrong := c.wrongKind(k, component); wrong != nil {
		return objects, c.note(wrong)
	}
	own, err := c.resources(k)
	if err != nil {
		return 0, err
	}
	objects += own + len(k.ConfigMapGenerator) + len(k.SecretGenerator)
	for _, entry := range k.Components {
		if objects, err = c.base(k, "components", entry, true, objects); err != nil {
			return 0, err
		}
	}
	if err := errors.Join(c.note(c.fields(k)), c.cost(k, objects)); err != nil {
		return 0, err
	}
	return objects, nil
}

func (c *check) wrongKind(k kustomization, component bool) error {
	if len(c.chain) == 1 || component == (k.Kind == types.ComponentKind) {
		return nil
	}
	if component {
		return inputErrorf(k.file, 0, "components name it, and its kind is not %s", types.ComponentKind)
	}
	return inputErrorf(k.file, 0, "resources name it, and its kind is %s: name it under components", types.ComponentKind)
}

// load reads the one kustomization file of a directory.
func (c *check) load(dir string) (kustomization, error) {
	if k, ok := c.known[dir]; ok {
		return k, nil
	}
	var found []string
	for _, base := range konfig.RecognizedKustomizationFileNames() {
		name := path.Join(dir, base)
		kind, err := c.rec.kind(name)
		if err != nil {
			return kustomization{}, err
		}
		if kind == isFile {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		c.rec.names(dir)
		return kustomization{}, inputErrorf(dir, 0, "no kustomization.yaml in it")
	case 1:
	default:
		return kustomization{}, inputErrorf(dir, 0, "has both %s: keep one", strings.Join(baseNames(found), " and "))
	}
	data, err := c.rec.read(found[0])
	if err != nil {
		return kustomization{}, err
	}
	k, err := parseKustomization(found[0], data, c.budget)
	if err != nil {
		return kustomization{}, err
	}
	if err := c.addNodes(k.file, countNodes(k.root)); err != nil {
		return kustomization{}, err
	}
	c.served[k.file] = data
	c.known[dir] = k
	return k, nil
}

func baseNames(names []string) []string {
	var out []string
	for _, n := range names {
		out = append(out, path.Base(n))
	}
	return out
}

// note keeps the problems of the files and lets the walk go on; anything else it returns.
func (c *check) note(err error) error {
	if err == nil {
		return nil
	}
	if problemsOf(err) == nil {
		return err
	}
	c.problems = append(c.problems, err)
	if len(c.problems) > 100 {
		return inputErrorf("", 0, "too many problems: stopped looking")
	}
	return nil
}

// within joins an entry to the directory it is relative to.
func within(dir, entry string) (string, error) {
	switch {
	case entry == "":
		return "", fmt.Errorf("is empty")
	case isRemote(entry):
		return "", fmt.Errorf("is not in this repository: nothing is fetched while rendering, copy it here")
	case path.IsAbs(entry), strings.HasPrefix(entry, `\`):
		return "", fmt.Errorf("is absolute: write it relative to this file")
	case strings.ContainsRune(entry, 0):
		return "", fmt.Errorf("is no path")
	}
	name := path.Join(dir, entry)
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", fmt.Errorf("leaves the repository")
	}
	return name, nil
}

// notFound says so, and what is there by a similar name. Then the directory's names are inputs.
func (c *check) notFound(name string) string {
	want := stem(path.Base(name))
	for _, n := range c.rec.names(path.Dir(name)) {
		if stem(n) == want {
			return fmt.Sprintf("not found: did you mean %s?", n)
		}
	}
	return "not found"
}

func stem(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, path.Ext(name)))
}
