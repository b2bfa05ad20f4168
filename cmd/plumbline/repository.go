package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/secrets"
)

// repository is a working tree, as commands read it that need no daemon.
type repository struct {
	path   string
	source string
	stacks string
	config string
	only   []string

	secrets  reconciler.SecretsConfig // of config, or what is customary
	election reconciler.ElectionConfig
	scan     reconciler.ScanConfig
}

func (r *repository) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&r.path, "path", "p", ".", "directory of the repository")
	cmd.Flags().StringVar(&r.source, "source", "", "name of the source, as in plumbline.yaml (default: the directory's name)")
	cmd.Flags().StringVar(&r.stacks, "stacks", "", "directory in the repository in which stack.yaml files are looked for")
	cmd.Flags().StringVarP(&r.config, "config", "c", "", "plumbline.yaml, for the source's defaults")
	cmd.Flags().StringSliceVarP(&r.only, "stack", "s", nil, "only this stack (repeat for more)")
}

// sourceConfig is the working tree as a source.
func (r *repository) sourceConfig() (reconciler.SourceConfig, error) {
	absolute, err := filepath.Abs(r.path)
	if err != nil {
		return reconciler.SourceConfig{}, err
	}
	if info, err := os.Stat(absolute); err != nil || !info.IsDir() {
		return reconciler.SourceConfig{}, fmt.Errorf("--path %s: is not a directory", r.path)
	}
	name := r.source
	if name == "" {
		name = strings.ToLower(filepath.Base(absolute))
	}
	if len(validation.IsDNS1123Label(name)) > 0 {
		return reconciler.SourceConfig{}, fmt.Errorf("%q can't be a source's name: give --source", name)
	}
	source := reconciler.SourceConfig{Name: name, URL: "file://" + absolute}
	if r.config != "" {
		config, err := reconciler.LoadConfig(r.config)
		if err != nil {
			return source, err
		}
		found := false
		r.secrets, r.election, r.scan = config.Secrets, config.Election, config.Scan
		for _, s := range config.Sources {
			if s.Name == name {
				source, found = s, true
			}
		}
		if !found {
			return source, fmt.Errorf("%s has no source %q: give --source", r.config, name)
		}
	}
	if r.config == "" {
		r.secrets, r.election.Namespace = customary(name), "plumbline-system"
	}
	if r.stacks != "" {
		source.Stacks = r.stacks
	}
	return source, nil
}

// settings are those of the daemon, for the working tree alone.
func (r *repository) settings(cluster reconciler.ClusterConfig) (reconciler.Config, error) {
	source, err := r.sourceConfig()
	config := reconciler.Config{Sources: []reconciler.SourceConfig{source}, Cluster: cluster, Secrets: r.secrets, Election: r.election, Scan: r.scan}
	return config, err
}

// snapshot is the working tree as it is, committed or not. Symlinks can't leave it.
func (r *repository) snapshot() (fetch.Snapshot, error) {
	root, err := os.OpenRoot(r.path)
	if err != nil {
		return fetch.Snapshot{}, fmt.Errorf("open the repository: %w", err)
	}
	return fetch.Snapshot{Ref: "working tree", Commit: "working-tree", FS: root.FS()}, nil
}

var errNoStacks = errors.New("no " + reconciler.StackFile)

// rendered is a stack of the working tree with its objects, or with what is
// wrong with it.
type rendered struct {
	reconciler.Declared
	objects []render.Object
	err     error
}

// tree is a working tree, rendered.
type tree struct {
	snapshot fetch.Snapshot
	stacks   []rendered // those that were asked for
	names    []string   // of all
}

// render renders the stacks that were asked for. The error is about the
// repository as a whole.
func (r *repository) render(ctx context.Context, io streams, redactor *secrets.Redactor) (tree, error) {
	config, err := r.settings(reconciler.ClusterConfig{})
	if err != nil {
		return tree{}, err
	}
	source := config.Sources[0]
	config.Secrets.OpenBao = nil // printing objects asks nobody
	opener, err := unsealing(config, nil, nil)
	if err != nil {
		return tree{}, err
	}
	snapshot, err := r.snapshot()
	if err != nil {
		return tree{}, err
	}
	declared, broken, err := reconciler.Discover(snapshot.FS, source)
	if err != nil {
		return tree{}, err
	}
	out := tree{snapshot: snapshot, names: names(declared, broken)}
	for _, b := range broken {
		if r.wanted(b.Name) {
			out.stacks = append(out.stacks, rendered{Declared: reconciler.Declared{Name: b.Name, Source: source.Name, File: b.File}, err: b.Err})
		}
	}
	for _, d := range declared {
		if !r.wanted(d.Name) {
			continue
		}
		output, err := renderOpen(ctx, io, d.Render(snapshot.FS), opener.SOPS(source.Name), redactor)
		out.stacks = append(out.stacks, rendered{d, output.Objects, redactor.Error(err)})
	}
	if len(out.names) == 0 && len(broken) == 0 {
		return out, fmt.Errorf("%w below %s", errNoStacks, filepath.Join(r.path, source.Stacks))
	}
	return out, nil
}

// renderOpen renders with sealed files open where the keys fit, and else with their
// values sealed.
func renderOpen(ctx context.Context, io streams, request render.Request, keys *secrets.SOPS, redactor *secrets.Redactor) (render.Output, error) {
	open, closed := request, request
	open.FS, closed.FS = keys.Files(ctx, request.FS, redactor), secrets.Closed(request.FS)
	output, err := render.Kustomize(ctx, open)
	var sealed *secrets.SealedError
	if !errors.As(err, &sealed) || sealed.InputFault() {
		return output, err
	}
	fmt.Fprintf(io.err, "plumbline: %s: what is sealed stays so: %v\n", request.Stack, redactor.Error(sealed))
	return render.Kustomize(ctx, closed)
}

// wanted takes a stack's name with or without its source.
func (r *repository) wanted(name string) bool {
	return len(r.only) == 0 || slices.ContainsFunc(r.only, func(only string) bool { return means(only, name) })
}

func means(only, name string) bool {
	_, bare, _ := strings.Cut(name, ".")
	return only == name || only == bare
}

// known refuses to be asked for a stack that isn't there.
func (r *repository) known(names []string) error {
	for _, only := range r.only {
		if !slices.ContainsFunc(names, func(name string) bool { return means(only, name) }) {
			there := slices.Compact(slices.Sorted(slices.Values(names)))
			return fmt.Errorf("--stack %s: no such stack in %s: there are %s", only, r.path, cmp.Or(strings.Join(there, ", "), "none"))
		}
	}
	return nil
}

// choice is which stacks were asked for, of those that are there; nil: all.
func (r *repository) choice(snapshot fetch.Snapshot, source reconciler.SourceConfig) (func(string) bool, error) {
	if len(r.only) == 0 {
		return nil, nil
	}
	declared, broken, err := reconciler.Discover(snapshot.FS, source)
	if err != nil {
		return nil, err
	}
	return r.wanted, r.known(names(declared, broken))
}

func names(declared []reconciler.Declared, broken []reconciler.Broken) (out []string) {
	for _, d := range declared {
		out = append(out, d.Name)
	}
	for _, b := range broken {
		if b.Name != "" { // else nobody knows what it would be called
			out = append(out, b.Name)
		}
	}
	return out
}

func failures(stacks []rendered) error {
	var errs []error
	for _, s := range stacks {
		if s.err != nil {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}

func (s rendered) applyObjects() []apply.Object {
	out := make([]apply.Object, len(s.objects))
	for i, o := range s.objects {
		out[i] = apply.Object{Unstructured: o.Unstructured, Origin: o.Origin}
	}
	return out
}

// workingTree stands where the daemon has its mirrors: one snapshot, and no past.
type workingTree struct{ snapshot fetch.Snapshot }

func (w workingTree) Fetch(context.Context, fetch.Source) (fetch.Snapshot, error) {
	return w.snapshot, nil
}

func (w workingTree) Last(fetch.Source) (fetch.Snapshot, error) {
	return fetch.Snapshot{}, fetch.ErrNoSnapshot
}

func (w workingTree) At(fetch.Source, string) (fetch.Snapshot, error) {
	return fetch.Snapshot{}, fetch.ErrNoSnapshot
}
