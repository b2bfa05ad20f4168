package reconciler

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/render"
)

// StackFile is the name of the file that declares a stack.
const StackFile = "stack.yaml"

// Bounds on what a source may declare: others share the daemon with it.
const (
	stackBytes       = 64 << 10
	stacksOfSource   = 5000
	dependsOnOfStack = 50
)

// Stack is stack.yaml: the unit of everything.
type Stack struct {
	APIVersion string        `yaml:"apiVersion" jsonschema:"enum=plumbline.dev/v1alpha1"`
	Kind       string        `yaml:"kind" jsonschema:"enum=Stack"`
	Metadata   StackMetadata `yaml:"metadata"`
	Spec       StackSpec     `yaml:"spec"`
}

// StackMetadata names the stack within its source.
type StackMetadata struct {
	// Name is a DNS label. In the cluster the stack is called SOURCE.NAME.
	Name string `yaml:"name"`
}

// StackSpec says what the stack is made of, and how it is kept.
type StackSpec struct {
	// Kustomize renders a kustomization.
	Kustomize *KustomizeSpec `yaml:"kustomize,omitempty"`
	// Namespace is for namespaced objects that name none.
	Namespace string `yaml:"namespace,omitempty"`
	// DependsOn are stacks that must be Ready first: a name of the same source, or SOURCE/NAME.
	DependsOn []string `yaml:"dependsOn,omitempty"`
	// Vars fill ${NAME} in the rendered objects. Absent: nothing is substituted.
	Vars map[string]string `yaml:"vars,omitempty"`
	// VarsInData fills the payloads of ConfigMaps and Secrets too.
	VarsInData bool `yaml:"varsInData,omitempty"`
	// Drift says what happens when the cluster moves away from Git.
	Drift DriftSpec `yaml:"drift,omitempty"`
	// Prune says what happens to objects that leave Git.
	Prune PruneSpec `yaml:"prune,omitempty"`
	// Ready says when a rollout has failed.
	Ready ReadySpec `yaml:"ready,omitempty"`
	// Secrets says what the stack does with what was sealed.
	Secrets SecretsSpec `yaml:"secrets,omitempty"`
	// Scan says what the gate lets through.
	Scan ScanSpec `yaml:"scan,omitempty"`
	// Suspend leaves the cluster alone until it is removed.
	Suspend bool `yaml:"suspend,omitempty"`
}

// KustomizeSpec is a kustomization.
type KustomizeSpec struct {
	// Path is its directory, relative to stack.yaml, within the repository.
	Path string `yaml:"path"`
}

// PruneSpec is how objects that leave Git are treated.
type PruneSpec struct {
	// Enabled is true unless set to false: then such objects are released, not deleted.
	Enabled *bool `yaml:"enabled,omitempty"`
	// Limit is how many objects one commit may delete unconfirmed: "50%" (default, at least 10) or a number.
	Limit string `yaml:"limit,omitempty" jsonschema:"oneof_type=string;integer"`
	// Include names kinds to prune that are kept otherwise: Namespace, CustomResourceDefinition, PersistentVolume, PersistentVolumeClaim.
	Include []string `yaml:"include,omitempty"`
}

// SecretsSpec is how secrets reach workloads.
type SecretsSpec struct {
	// References names kinds besides Secret whose fields may hold ${bao:…} references, such as ConfigMap or
	// Deployment.apps. What they become can be read by whoever may read these objects.
	References []string `yaml:"references,omitempty"`
	// Restart restarts the workloads of the stack when a Secret of the stack that they use changes.
	Restart bool `yaml:"restart,omitempty"`
}

// Declared is a stack as a source declares it.
type Declared struct {
	Name   string // SOURCE.NAME
	Source string
	File   string // path of stack.yaml in the source
	Spec   StackSpec

	dependsOn []string // as SOURCE.NAME, sorted
	rules     observe.Rules
}

// Broken is a stack.yaml that can't be used.
type Broken struct {
	File string
	Name string // SOURCE.NAME as far as the file tells it; "" where it does not
	Err  error
}

// Discover finds the stacks of a source. A broken file is reported and spoils
// no other.
func Discover(fsys fs.FS, source SourceConfig) ([]Declared, []Broken, error) {
	var stacks []Declared
	var broken []Broken
	err := fs.WalkDir(fsys, source.dir(), func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && file != source.dir():
			return fs.SkipDir
		case entry.IsDir() || entry.Name() != StackFile:
			return nil
		}
		if stack, name, err := readStack(fsys, file, source); err != nil {
			broken = append(broken, Broken{File: file, Name: name, Err: err})
		} else {
			stacks = append(stacks, stack)
		}
		if len(stacks)+len(broken) > stacksOfSource {
			return fmt.Errorf("more than %d %s files: split the source", stacksOfSource, StackFile)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for stacks in %s: %w", source.dir(), err)
	}
	stacks, twice := unique(stacks)
	return stacks, append(broken, twice...), nil
}

// someOf lists a few of many.
func someOf(all []string) string {
	if len(all) <= shownObjects {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:shownObjects], ", "), len(all)-shownObjects)
}

func readStack(fsys fs.FS, file string, source SourceConfig) (Declared, string, error) {
	if info, err := fs.Stat(fsys, file); err == nil && info.Size() > stackBytes {
		return Declared{}, "", fmt.Errorf("%s: %d bytes: a stack.yaml has at most %d", file, info.Size(), stackBytes)
	}
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return Declared{}, "", err
	}
	return parseStack(file, data, source)
}

// unique refuses every stack whose name is given twice: none of them can be
// said to be the right one.
func unique(stacks []Declared) (good []Declared, broken []Broken) {
	files := map[string][]string{}
	for _, s := range stacks {
		files[s.Name] = append(files[s.Name], s.File)
	}
	for _, s := range stacks {
		if all := files[s.Name]; len(all) > 1 {
			broken = append(broken, Broken{File: s.File, Name: s.Name,
				Err: fmt.Errorf("%s: the stack %q is declared %d times: %s", s.File, s.Name, len(all), someOf(all))})
			continue
		}
		good = append(good, s)
	}
	return good, broken
}

// parseStack decodes and checks one file. The name is returned beside an error
// where the file tells it.
func parseStack(file string, data []byte, source SourceConfig) (Declared, string, error) {
	var stack Stack
	if !source.defaults.IsZero() {
		if err := source.defaults.Decode(&stack.Spec); err != nil {
			return Declared{}, "", fmt.Errorf("defaults of source %s: %w", source.Name, err)
		}
	}
	err := decodeStrict(file, data, &stack)
	var rules observe.Rules
	if err == nil {
		rules, err = stack.validate(source)
		if err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
	}
	name, told := "", stack.Metadata.Name
	if err != nil { // parsing a good file once more would take half of the time
		told = toldName(data)
	}
	if told != "" {
		name = source.Name + "." + told
	}
	d := Declared{Name: name, Source: source.Name, File: file, Spec: stack.Spec, rules: rules}
	d.dependsOn = d.resolved()
	return d, name, err
}

var nameLine = regexp.MustCompile(`(?m)^\s*(?:metadata:\s*\{\s*)?name:\s*["']?([a-z0-9-]+)`)

// toldName reads metadata.name, even from a file that does not decode.
func toldName(data []byte) string {
	var loose struct {
		Metadata struct {
			Name string `yaml:"name"`
		} `yaml:"metadata"`
	}
	if err := yaml.Unmarshal(data, &loose); err == nil || loose.Metadata.Name != "" {
		return asLabel(loose.Metadata.Name)
	}
	if m := nameLine.FindSubmatch(data); m != nil {
		return asLabel(string(m[1]))
	}
	return ""
}

// asLabel is the name if it can be a stack's, and "" if not.
func asLabel(name string) string {
	if len(validation.IsDNS1123Label(name)) > 0 {
		return ""
	}
	return name
}

func (s Stack) validate(source SourceConfig) (observe.Rules, error) {
	var errs []error
	if s.APIVersion != "plumbline.dev/v1alpha1" || s.Kind != "Stack" {
		errs = append(errs, fmt.Errorf("apiVersion, kind: %q, %q: want plumbline.dev/v1alpha1, Stack", s.APIVersion, s.Kind))
	}
	if problems := validation.IsDNS1123Label(s.Metadata.Name); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("metadata.name: %q: %s", s.Metadata.Name, problems[0]))
	} else if full := source.Name + "." + s.Metadata.Name; len(full) > validation.LabelValueMaxLength {
		errs = append(errs, fmt.Errorf("metadata.name: %q is %d characters long with its source: a label holds %d", full, len(full), validation.LabelValueMaxLength))
	}
	if s.Spec.Kustomize == nil {
		errs = append(errs, errors.New("spec.kustomize: missing: say what the stack is made of, for example kustomize: {path: app}"))
	} else if s.Spec.Kustomize.Path == "" || path.IsAbs(s.Spec.Kustomize.Path) {
		errs = append(errs, fmt.Errorf("spec.kustomize.path: %q: want a directory relative to stack.yaml", s.Spec.Kustomize.Path))
	}
	if err := s.Spec.validate(); err != nil {
		errs = append(errs, fmt.Errorf("spec.%w", err))
	}
	rules, err := source.rulesOf(s.Spec.Ready)
	if err != nil {
		errs = append(errs, fmt.Errorf("spec.ready.%w", err))
	}
	return rules, errors.Join(errs...)
}

func (s StackSpec) validate() error {
	if s.Namespace != "" {
		if problems := validation.IsDNS1123Label(s.Namespace); len(problems) > 0 {
			return fmt.Errorf("namespace: %q: %s", s.Namespace, problems[0])
		}
	}
	if err := s.Drift.validate(); err != nil {
		return fmt.Errorf("drift.%w", err)
	}
	if err := s.Scan.validate(); err != nil {
		return fmt.Errorf("scan.%w", err)
	}
	if len(s.DependsOn) > dependsOnOfStack {
		return fmt.Errorf("dependsOn: %d stacks: at most %d", len(s.DependsOn), dependsOnOfStack)
	}
	for _, d := range s.DependsOn {
		if strings.Count(d, "/") > 1 || d == "" {
			return fmt.Errorf("dependsOn: %q: want STACK or SOURCE/STACK", d)
		}
	}
	kept := []string{"CustomResourceDefinition", "Namespace", "PersistentVolume", "PersistentVolumeClaim"}
	for _, kind := range s.Prune.Include {
		if !slices.Contains(kept, kind) {
			return fmt.Errorf("prune.include: %q is pruned anyway; only %s need to be named", kind, strings.Join(kept, ", "))
		}
	}
	return s.prune().Validate()
}

func (s StackSpec) prune() apply.PrunePolicy {
	return apply.PrunePolicy{Disabled: s.Prune.Enabled != nil && !*s.Prune.Enabled, Limit: s.Prune.Limit, Include: s.Prune.Include}
}

// dependencies are the names, as SOURCE.NAME, that must be Ready first.
func (d Declared) dependencies() []string { return d.dependsOn }

func (d Declared) resolved() []string {
	var out []string
	for _, dep := range d.Spec.DependsOn {
		source, name, other := strings.Cut(dep, "/")
		if !other {
			source, name = d.Source, dep
		}
		out = append(out, source+"."+name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Render is how to render the stack from a tree of its source.
func (d Declared) Render(fsys fs.FS) render.Request {
	return render.Request{
		FS: fsys, Stack: d.Name, File: d.File, Path: d.Spec.Kustomize.Path, Namespace: d.Spec.Namespace,
		Vars: d.Spec.Vars, VarsInData: d.Spec.VarsInData,
	}
}

// mirror is the spec of the Stack object in the cluster: where the stack comes
// from, and what it says.
func (d Declared) mirror(url string) map[string]any {
	spec := map[string]any{"source": d.Source, "url": url, "path": path.Dir(d.File)}
	spec["prune"] = d.Spec.Prune.mirror()
	if deps := d.dependencies(); len(deps) > 0 {
		list := make([]any, len(deps))
		for i, dep := range deps {
			list[i] = dep
		}
		spec["dependsOn"] = list
	}
	if d.Spec.Suspend {
		spec["suspend"] = true
	}
	if d.Spec.Drift.Mode != "" {
		spec["drift"] = string(d.Spec.Drift.Mode)
	}
	return spec
}

// mirror is the prune policy as the Stack object holds it: what may be deleted has
// to be known when Git no longer says it.
func (p PruneSpec) mirror() map[string]any {
	out := map[string]any{"enabled": p.Enabled == nil || *p.Enabled, "limit": p.Limit}
	include := make([]any, len(p.Include))
	for i, kind := range p.Include {
		include[i] = kind
	}
	out["include"] = include
	return out
}

// mirroredPrune is the policy of a stack that only the cluster remembers. ok is
// false where the cluster does not.
func mirroredPrune(u *unstructured.Unstructured) (p PruneSpec, ok bool) {
	raw, ok, err := unstructured.NestedMap(u.Object, "spec", "prune")
	if !ok || err != nil {
		return PruneSpec{}, false
	}
	enabled, known, _ := unstructured.NestedBool(raw, "enabled")
	if known {
		p.Enabled = &enabled
	}
	p.Limit, _, _ = unstructured.NestedString(raw, "limit")
	p.Include, _, _ = unstructured.NestedStringSlice(raw, "include")
	return p, known
}

// hash changes when the declaration does.
func (d Declared) hash() string {
	raw, err := json.Marshal(d)
	if err != nil {
		return err.Error() // a struct of strings: can't happen, and would only cost a render
	}
	return fmt.Sprintf("%x", sha256.Sum256(raw))
}

// sorted returns the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
