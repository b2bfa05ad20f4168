package checks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	embedded "github.com/aquasecurity/trivy-checks"
	trivy "github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
)

// Check is what a check says of itself.
type Check struct {
	ID          string
	Aliases     []string // other names of it, as exceptions may use them
	Severity    string   // CRITICAL, HIGH, MEDIUM, LOW
	Title       string
	Description string
	Fix         string
	URL         string
	File        string // a repository's own: where it is written

	kinds  []string // lower case; none: all
	rules  []string // as data.…
	alone  bool     // evaluated by itself, within a budget
	budget time.Duration

	mu     sync.Mutex
	failed error // it took too long: it is not asked again
}

// Found is what a check has against an object, or why it can't tell.
type Found struct {
	*Check
	Message string
	Field   string // such as spec.template.spec.containers[0]; "": the whole object
	Err     error  // the check could not be evaluated
	// Again is true where another try may end otherwise: it took too long, and it may have
	// been the machine that was slow.
	Again bool
}

// Set is checks that were compiled together.
type Set struct {
	compiler *ast.Compiler
	store    storage.Store
	checks   []*Check

	mu      sync.Mutex
	queries map[string]*prepared // by kind, those with the same checks share one
}

// objectBudget is for all of Trivy's checks on one object, and once more for all of them
// by themselves. The largest objects that there are take a tenth of it.
var objectBudget = raceFactor * 10 * time.Second

// CustomBudget is for one check of a repository on one object.
const CustomBudget = time.Second

// Builtin compiles Trivy's checks for Kubernetes objects. It takes some 150 ms.
func Builtin() (*Set, error) {
	modules, err := trivy.LoadPoliciesFromDirs(embedded.EmbeddedPolicyFileSystem, "checks/kubernetes")
	if err != nil {
		return nil, fmt.Errorf("read the checks: %w", err)
	}
	list, err := checksOf(modules)
	if err != nil {
		return nil, err
	}
	return compile(modules, list, capabilities())
}

func compile(modules map[string]*ast.Module, list []*Check, allowed *ast.Capabilities) (*Set, error) {
	if err := addLibraries(modules); err != nil {
		return nil, err
	}
	schemas, err := trivy.BuildSchemaSetFromPolicies(modules, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	compiler := ast.NewCompiler().WithUseTypeCheckAnnotations(true).WithCapabilities(allowed).WithSchemas(schemas)
	compiler.Compile(modules)
	if compiler.Failed() {
		return nil, compiler.Errors
	}
	data := map[string]any{"namespaces": []any{}, "k8s": map[string]any{"version": ""}}
	return &Set{compiler: compiler, store: inmem.NewFromObject(data), checks: list, queries: map[string]*prepared{}}, nil
}

func addLibraries(modules map[string]*ast.Module) error {
	for _, dir := range []string{"lib/kubernetes", "lib/cloud/metadata.rego"} {
		library, err := trivy.LoadPoliciesFromDirs(embedded.EmbeddedLibraryFileSystem, dir)
		if err != nil {
			return fmt.Errorf("read the library of the checks: %w", err)
		}
		for name, module := range library {
			modules[name] = module
		}
	}
	return nil
}

// checksOf reads what the modules say of themselves. Libraries are none, nor is what
// Trivy itself leaves out: deprecated checks, and those of special benchmarks.
func checksOf(modules map[string]*ast.Module) ([]*Check, error) {
	var list []*Check
	for _, name := range sortedNames(modules) {
		module := modules[name]
		about, err := trivy.MetadataFromAnnotations(module)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if about == nil || about.Library || about.Deprecated {
			continue
		}
		if _, usual := about.Frameworks["default"]; !usual {
			continue
		}
		if check := checkOf(module, about); check != nil {
			list = append(list, check)
		}
	}
	return list, nil
}

// checkOf is a module as a check; nil: it is not about Kubernetes objects.
func checkOf(module *ast.Module, about *trivy.StaticMetadata) *Check {
	check := &Check{ID: about.ID, Aliases: about.Aliases, Severity: about.Severity, Title: about.Title,
		Description: strings.TrimSpace(about.Description), Fix: about.RecommendedActions}
	for _, selector := range about.InputOptions.Selectors {
		if selector.Type != "kubernetes" {
			return nil
		}
		for _, kind := range selector.Subtypes {
			check.kinds = append(check.kinds, strings.ToLower(kind.Kind))
		}
	}
	check.URL = "https://avd.aquasec.com/misconfig/" + strings.ToLower(check.ID)
	for _, rule := range module.Rules {
		name := rule.Head.Name.String()
		if !denying(rule) {
			continue
		}
		if path := module.Package.Path.String() + "." + name; !slices.Contains(check.rules, path) {
			check.rules = append(check.rules, path)
		}
		if rule.Head.RuleKind() != ast.MultiValue {
			check.alone = true // what may be undefined would take the others with it
		}
	}
	if len(check.rules) == 0 {
		return nil
	}
	return check
}

// capabilities are what a check may use: nothing whose answer depends on anything
// but the object.
func capabilities() *ast.Capabilities {
	all := ast.CapabilitiesForThisVersion()
	all.Builtins = slices.DeleteFunc(all.Builtins, func(b *ast.Builtin) bool { return b.IsNondeterministic() })
	all.AllowNet = []string{}
	return all
}

// prepared is the query for the objects of some kinds.
type prepared struct {
	once   sync.Once
	checks []*Check
	query  rego.PreparedEvalQuery
	err    error
}

// prepared is the query for a kind. Kinds with the same checks share it.
func (s *Set) prepared(ctx context.Context, kind string) (*prepared, error) {
	var together []*Check
	ids := []string{}
	for _, c := range s.checks {
		if c.concerns(kind) && !c.alone {
			together, ids = append(together, c), append(ids, c.ID)
		}
	}
	key := strings.Join(ids, " ")
	s.mu.Lock()
	p := s.queries[key]
	if p == nil {
		p = &prepared{checks: together}
		s.queries[key] = p
	}
	s.mu.Unlock()
	p.once.Do(func() { p.query, p.err = s.prepare(context.WithoutCancel(ctx), together) })
	return p, p.err
}

func (s *Set) prepare(ctx context.Context, checks []*Check) (rego.PreparedEvalQuery, error) {
	var terms []string
	for i, c := range checks {
		for j, rule := range c.rules {
			terms = append(terms, fmt.Sprintf("%s := %s", variable(i, j), rule))
		}
	}
	if len(terms) == 0 {
		return rego.PreparedEvalQuery{}, nil
	}
	return rego.New(rego.Query(strings.Join(terms, "; ")), rego.Compiler(s.compiler), rego.Store(s.store)).PrepareForEval(ctx)
}

func variable(check, rule int) string { return fmt.Sprintf("c%d_%d", check, rule) }

func (c *Check) concerns(kind string) bool {
	return len(c.kinds) == 0 || slices.Contains(c.kinds, strings.ToLower(kind))
}

// Warm prepares what the usual kinds need, so that the first commit doesn't wait for it.
func (s *Set) Warm(ctx context.Context) error {
	for _, kind := range []string{"Deployment", "ConfigMap", "Service", "ServiceAccount", "Role", "ClusterRole", "RoleBinding"} {
		if _, err := s.prepared(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

// Checks lists the checks of the set, sorted by ID.
func (s *Set) Checks() []*Check {
	list := slices.Clone(s.checks)
	slices.SortFunc(list, func(a, b *Check) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func sortedNames(modules map[string]*ast.Module) []string {
	var names []string
	for name := range modules {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// customError is what is wrong with the checks of a repository: a line each.
func customError(err error) error {
	var several ast.Errors
	if !errors.As(err, &several) {
		return err
	}
	lines := []string{}
	for _, e := range several {
		at := ""
		if e.Location != nil {
			at = fmt.Sprintf("%s:%d: ", e.Location.File, e.Location.Row)
		}
		lines = append(lines, at+e.Message)
	}
	slices.Sort(lines)
	return errors.New(strings.Join(lines, "\n"))
}

// readFile is fs.ReadFile for what may be large.
func readFile(fsys fs.FS, name string, most int64) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > most {
		return nil, fmt.Errorf("%s: %d bytes: at most %d", name, info.Size(), most)
	}
	return fs.ReadFile(fsys, name)
}
