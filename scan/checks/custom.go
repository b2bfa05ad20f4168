package checks

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
// them. They may do what Trivy's own may. Every mistake is told, with file and line.
// It may take for ever: that is for Judge to end.
func Custom(files map[string]string) (*Set, error) {
	modules := map[string]*ast.Module{}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		module, err := trivy.ParseRegoModule(name, files[name])
		if err == nil {
			err = mayDeclare(module)
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
	set, err := compile(modules, list, refused(capabilities()))
	if err != nil {
		return nil, customError(err)
	}
	return set, nil
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

// withoutSchemas refuses schemas of a repository's own: Trivy has one for Kubernetes.
func withoutSchemas(module *ast.Module) error {
	for _, a := range module.Annotations {
		for _, s := range a.Schemas {
			if s.Definition == nil && len(s.Schema) > 0 {
				if name, err := s.Schema.Ptr(); err == nil && (name == "kubernetes" || name == "input") {
					continue
				}
			}
			return fmt.Errorf("%s:%d: schemas: only schema[\"kubernetes\"] is known here", a.Location.File, a.Location.Row)
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
		about, err := metadataOf(modules[name])
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: METADATA: %w", name, err))
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
		if err := selectable(name, about); err != nil {
			errs = append(errs, err)
		}
		check := checkOf(modules[name], about)
		if check == nil {
			continue // for something else than Kubernetes objects
		}
		check.File, check.alone, check.budget, check.URL = name, true, CustomBudget, about.PrimaryURL
		if err := named(check, list); err != nil {
			errs = append(errs, err)
		}
		if !slices.Contains([]string{"CRITICAL", "HIGH", "MEDIUM", "LOW"}, check.Severity) {
			errs = append(errs, fmt.Errorf("%s: custom.severity: %q: want CRITICAL, HIGH, MEDIUM or LOW", name, check.Severity))
		}
		list = append(list, check)
	}
	return list, errors.Join(errs...)
}

// metadataOf is what a module says of itself. Trivy's reader panics over what it doesn't expect.
func metadataOf(module *ast.Module) (about *trivy.StaticMetadata, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a field holds what it can't, such as a number that should be quoted: %.300s", fmt.Sprint(p))
		}
	}()
	return trivy.MetadataFromAnnotations(module)
}

// selectable refuses a check that would never be asked: its author takes it for one that is.
func selectable(file string, about *trivy.StaticMetadata) error {
	others := []string{"cloud", "defsec", "dockerfile", "json", "yaml", "toml", "terraform-raw", "cloudformation", "azure-arm", "helm"}
	for _, s := range about.InputOptions.Selectors {
		if s.Type != "kubernetes" && !slices.Contains(others, s.Type) {
			return fmt.Errorf("%s: input.selector: type: %q: want kubernetes: else it is never asked", file, s.Type)
		}
	}
	return nil
}

// named refuses a check whose name doesn't tell it from others.
func named(c *Check, others []*Check) error {
	if c.ID == "N/A" || c.ID == "" {
		return fmt.Errorf("%s: custom.id: missing: exceptions and reports need one", c.File)
	}
	for _, prefix := range []string{"PLB-", "KSV", "AVD-", "CVE-"} {
		if strings.HasPrefix(strings.ToUpper(c.ID), prefix) {
			return fmt.Errorf("%s: custom.id: %s: %s… are not yours: an exception for one would be for the other", c.File, c.ID, prefix)
		}
	}
	for _, o := range others {
		if o.ID == c.ID {
			return fmt.Errorf("%s: custom.id: %s: is that of %s", c.File, c.ID, o.File)
		}
	}
	return nil
}

// refused takes away what reads more than its input. What takes long, or much memory, is
// there: whoever judges is ended.
func refused(allowed *ast.Capabilities) *ast.Capabilities {
	names := []string{ast.JSONMatchSchema.Name, ast.JSONSchemaVerify.Name} // a schema may lead anywhere
	allowed.Builtins = slices.DeleteFunc(allowed.Builtins, func(b *ast.Builtin) bool { return slices.Contains(names, b.Name) })
	return allowed
}
