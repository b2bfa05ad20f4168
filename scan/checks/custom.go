package checks

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	trivy "github.com/aquasecurity/trivy/pkg/iac/rego"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds on the checks of a repository.
const (
	customFiles = 200
	customBytes = 256 << 10 // of one file
)

// Sources reads the Rego files below a directory, without their tests, by path.
func Sources(fsys fs.FS, dir string) (map[string]string, error) {
	files := map[string]string{}
	err := fs.WalkDir(fsys, dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() || !trivy.IsRegoFile(path.Base(name)) || trivy.IsDotFile(path.Base(name)):
			return nil
		case len(files) == customFiles:
			return fmt.Errorf("%s: more than %d Rego files", dir, customFiles)
		}
		text, err := readFile(fsys, name, customBytes)
		files[name] = string(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: holds no Rego file", dir)
	}
	return files, nil
}

// Custom compiles the checks of a repository, by path, with Trivy's library beside
// them. They may do what Trivy's own may, but for what takes long in one step. Every
// mistake is told, with file and line.
func Custom(files map[string]string) (*Set, error) {
	modules := map[string]*ast.Module{}
	var errs []error
	for _, name := range slices.Sorted(keys(files)) {
		if depth := bracketDepth(files[name]); depth > nestingMost {
			errs = append(errs, fmt.Errorf("%s: brackets are nested %d deep: at most %d", name, depth, nestingMost))
			continue
		}
		module, err := trivy.ParseRegoModule(name, files[name])
		if err == nil {
			err = mayDeclare(module)
		}
		if err == nil {
			err = withoutPatches(module)
		}
		if err == nil {
			err = withoutSchemas(module)
		}
		if err != nil {
			errs = append(errs, customError(err))
			if strings.Contains(err.Error(), "var cannot be used for rule name") {
				errs = append(errs, fmt.Errorf("%s: rules with if and contains need: import rego.v1", name))
			}
			continue
		}
		modules[name] = module
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	list, err := customChecks(modules)
	if err != nil {
		return nil, err
	}
	set, err := compile(modules, list, bounded(capabilities()))
	if err != nil {
		return nil, customError(err)
	}
	return set, nil
}

func keys(files map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range files {
			if !yield(name) {
				return
			}
		}
	}
}

// mayDeclare refuses what would change Trivy's own checks, or their library.
func mayDeclare(module *ast.Module) error {
	namespace := strings.TrimPrefix(module.Package.Path.String(), "data.")
	first, _, _ := strings.Cut(namespace, ".")
	if slices.Contains([]string{"builtin", "defsec", "appshield", "lib", "namespaces", "k8s"}, first) {
		return fmt.Errorf("%s:%d: package %s: %q belongs to Trivy: use user.NAME", module.Package.Location.File, module.Package.Location.Row, namespace, first)
	}
	return nil
}

// withoutPatches refuses json.patch, which takes minutes for many operations. Trivy's
// library needs it for one.
func withoutPatches(module *ast.Module) (err error) {
	ast.WalkRefs(module, func(r ast.Ref) bool {
		if r.String() == ast.JSONPatch.Name {
			err = fmt.Errorf("%s:%d: undefined function %s", r[0].Location.File, r[0].Location.Row, r)
		}
		return err != nil
	})
	return err
}

// withoutSchemas refuses schemas of a repository's own: Trivy has one for Kubernetes.
func withoutSchemas(module *ast.Module) error {
	for _, a := range module.Annotations {
		for _, s := range a.Schemas {
			if name, err := s.Schema.Ptr(); s.Definition != nil || err != nil || (name != "kubernetes" && name != "input") {
				return fmt.Errorf("%s:%d: schemas: only schema[\"kubernetes\"] is known here", a.Location.File, a.Location.Row)
			}
		}
	}
	return nil
}

// denying is true for a rule that says what is wrong.
func denying(r *ast.Rule) bool {
	name := r.Head.Name.String()
	return name == "deny" || strings.HasPrefix(name, "deny_")
}

func customChecks(modules map[string]*ast.Module) ([]*Check, error) {
	var list []*Check
	var errs []error
	for _, name := range sortedNames(modules) {
		about, err := trivy.MetadataFromAnnotations(modules[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		denies := slices.ContainsFunc(modules[name].Rules, denying)
		if about == nil && denies {
			errs = append(errs, fmt.Errorf("%s: has no METADATA comment with scope: package: say title, custom.id and custom.severity", name))
		}
		if about != nil && !about.Library && !denies {
			errs = append(errs, fmt.Errorf("%s: has no rule deny, so it never denies; a library says custom.library: true", name))
		}
		if about == nil || about.Library || !denies {
			continue
		}
		check := checkOf(modules[name], about)
		if check == nil {
			continue // for something else than Kubernetes objects
		}
		check.File, check.alone, check.budget, check.URL = name, true, CustomBudget, about.PrimaryURL
		if check.ID == "N/A" || check.ID == "" {
			errs = append(errs, fmt.Errorf("%s: custom.id: missing: exceptions and reports need one", name))
		}
		if !slices.Contains([]string{"CRITICAL", "HIGH", "MEDIUM", "LOW"}, check.Severity) {
			errs = append(errs, fmt.Errorf("%s: custom.severity: %q: want CRITICAL, HIGH, MEDIUM or LOW", name, check.Severity))
		}
		list = append(list, check)
	}
	return list, errors.Join(errs...)
}

// nestingMost bounds brackets in brackets: what the compiler does for a comprehension in a
// comprehension grows threefold with each, and nothing interrupts it.
const nestingMost = 9

// bracketDepth is how deep brackets are nested. Those in strings count, too: they come in pairs.
func bracketDepth(text string) (deepest int) {
	depth := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, c := range line {
			switch c {
			case '[', '{':
				depth++
				deepest = max(deepest, depth)
			case ']', '}':
				depth = max(depth-1, 0)
			}
		}
	}
	return deepest
}

// mayCall are the builtins that a repository's checks may use, or their families: what
// answers within moments whatever it is given, or lets itself be interrupted. What OPA
// has besides goes online, or may take minutes in a single step.
var mayCall = strings.Fields(`
	and assign div eq equal gt gte lt lte minus mul neq or plus rem set_diff internal.member_2 internal.member_3
	internal.print internal.template_string abs ceil floor round count max min sort sum all any
	array. bits.and bits.negate bits.or bits.rsh bits.xor cast_ concat contains endswith format_int
	indexof indexof_n lower replace split sprintf startswith substring trim trim_left trim_prefix trim_right trim_space
	trim_suffix upper strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse
	strings.split_n is_ type_name to_number intersection union object. walk numbers. regex.find_all_string_submatch_n
	regex.find_n regex.is_valid regex.match regex.replace regex.split re_match glob. semver. units. uri. urlquery.
	base64. base64url. hex. json.filter json.is_valid json.marshal json.marshal_with_options json.patch json.remove json.unmarshal
	yaml. net.cidr_contains net.cidr_intersects net.cidr_overlap net.cidr_is_valid net.cidr_merge crypto.md5 crypto.sha1
	crypto.sha256 time.parse_duration_ns time.parse_ns time.parse_rfc3339_ns result.new isManaged`)

func bounded(allowed *ast.Capabilities) *ast.Capabilities {
	allowed.Builtins = slices.DeleteFunc(allowed.Builtins, func(b *ast.Builtin) bool {
		return !slices.ContainsFunc(mayCall, func(name string) bool {
			return b.Name == name || (strings.HasSuffix(name, ".") || strings.HasSuffix(name, "_")) && strings.HasPrefix(b.Name, name)
		})
	})
	return allowed
}
