package render

import (
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"
)

// originsOf reads the origin annotations: the file, or the kustomization file of a generator,
// as a path in the tree. A patch can rob an object of its annotation, and
// kustomize then blames the patch: the object's name has to do.
func originsOf(c *check, resources resmap.ResMap) []string {
	dir := path.Dir(c.entryFile)
	var out []string
	for _, r := range resources.Resources() {
		name := c.fileNaming(r.GetKind(), r.GetName())
		if o, err := r.GetOrigin(); err == nil && o != nil {
			switch {
			case o.Path != "":
				name = path.Join(dir, o.Path)
			case strings.HasSuffix(o.ConfiguredBy.Kind, "Generator"):
				name = path.Join(dir, o.ConfiguredIn)
			}
		}
		out = append(out, name)
	}
	return out
}

// fileNaming is the one file that has an object by that name, or the kustomization that is built.
func (c *check) fileNaming(kind, name string) string {
	exact, similar := c.spelled(kind, name)
	if len(exact) == 0 {
		exact = similar
	}
	if len(exact) == 1 {
		return exact[0].file
	}
	return c.entryFile
}
