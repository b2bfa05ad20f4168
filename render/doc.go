// Package render turns the files of one stack into Kubernetes objects.
//
// It promises:
//
//   - Output is the same to the byte for the same input, whatever the fs.FS behind it.
//   - Inputs names everything a render read, found or missed; a render whose inputs are
//     unchanged would tell the same story again, be it objects or an error.
//   - Nothing leaves the tree: remote bases, plugins that run programs, absolute paths and
//     paths above the root are refused before kustomize sees them.
//   - Work is bounded (see [Budget]) and a panic inside kustomize is an error of its stack.
//
// The tree of kustomizations is walked and checked first, and kustomize is then served only
// the files that passed, from memory.
package render
