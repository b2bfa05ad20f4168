package render

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"runtime/debug"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
)

// Request says what to render: one stack of a file tree.
type Request struct {
	// FS is the whole tree of the source. Where it has a method
	// Hash(name string) (string, error), that gives the git blob id of a file unread.
	FS    fs.FS
	Stack string // its name, for errors
	File  string // path of its stack.yaml in FS
	Path  string // of the kustomization's directory, relative to the directory of File; inside FS

	// Namespace is for namespaced objects that name none; "" leaves them as they are.
	Namespace string
	// Vars are substituted for ${NAME}; nil leaves every ${…} alone.
	Vars map[string]string
	// VarsInData substitutes in the payloads of ConfigMaps and Secrets too.
	VarsInData bool
	// Scope is what a cluster says of kinds. What it does not know, and everything where it is
	// nil, is looked up in Kubernetes' own kinds and in the CRDs of the same output. A kind
	// that nobody knows is taken for namespaced.
	Scope  func(schema.GroupKind) (namespaced, known bool)
	Budget Budget // zero fields: defaults
}

// Object is a rendered object: plain JSON types, safe to change.
type Object struct {
	*unstructured.Unstructured
	// Origin is the path in the tree of the file it was written in; of the kustomization file
	// for what a generator made.
	Origin string
}

// Output is what a stack renders to.
type Output struct {
	Objects []Object // sorted by group, kind, namespace and name
	Inputs  Inputs
}

// Kustomize renders a stack. What is wrong with the files comes as an [*InputError]; anything
// else is a failure to read them, or the end of the time. Inputs are there beside an error too.
func Kustomize(ctx context.Context, req Request) (out Output, err error) {
	budget := req.Budget.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, budget.Time,
		fmt.Errorf("%w: rendering took longer than %s", context.DeadlineExceeded, budget.Time))
	defer cancel()
	rec := newRecorder(ctx, req.FS, budget)
	defer func() {
		if p := recover(); p != nil {
			err = atStack(req.Stack, inputError(req.File, 0, &PanicError{Value: p, Stack: debug.Stack()}))
			out.Objects = nil
		}
		out.Inputs = rec.inputs()
	}()
	c := newCheck(rec)
	if err := c.run(req.File, req.Path); err != nil {
		return Output{}, atStack(req.Stack, err)
	}
	err = withSchema(c.exclusive, func() error {
		built, err := build(c)
		if err != nil {
			return err
		}
		out.Objects, err = finish(req, c, built)
		return err
	})
	if err != nil {
		return Output{}, atStack(req.Stack, err)
	}
	return out, nil
}

// built is an object as kustomize leaves it, and where it came from.
type built struct {
	node   *yaml.Node
	origin string
}

// build runs kustomize on a checked tree.
func build(c *check) ([]built, error) {
	resources, err := run(c)
	if err != nil {
		return nil, err
	}
	origins := originsOf(c, resources)
	if !c.keepOrigins {
		if err := resources.RemoveOriginAnnotations(); err != nil {
			return nil, fmt.Errorf("remove origin annotations: %w", err)
		}
	}
	out := make([]built, 0, resources.Size())
	for i, r := range resources.Resources() {
		out = append(out, built{node: r.YNode(), origin: origins[i]})
	}
	return out, nil
}

func run(c *check) (resmap.ResMap, error) {
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsNone // the tree is the restriction
	files := &filesystem{checked: c}
	resources, err := krusty.MakeKustomizer(options).Run(files, path.Join(mount, path.Dir(c.entryFile)))
	if files.failed != nil {
		return nil, files.failed
	}
	if err != nil {
		return nil, explain(c, err)
	}
	return resources, nil
}
