package render

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"
)

// kustomization is one kustomization file, decoded by kustomize's own types: what it would
// understand is what is checked, down to its case-insensitive keys.
type kustomization struct {
	types.Kustomization
	bases     []string     // those of its resources that were written as bases
	inline    map[int]bool // those of patchesStrategicMerge that are patches, not paths
	imageTags bool         // some of its images were written as imageTags
	file      string
	dir       string
	root      *yaml.Node
}

func parseKustomization(file string, data []byte, budget Budget) (kustomization, error) {
	roots, err := parseYAML(file, data, budget)
	if err != nil {
		return kustomization{}, err
	}
	if len(roots) > 1 {
		return kustomization{}, inputErrorf(file, roots[1].Line, "a second document: kustomize would not read it")
	}
	k := kustomization{file: file, dir: path.Dir(file)}
	if len(roots) == 1 {
		k.root = roots[0]
	}
	if err := k.Unmarshal(data); err != nil {
		return k, inputErrorf(file, k.unknownFieldLine(err), "%s", plainUnmarshal(err))
	}
	k.bases, k.imageTags = k.Bases, k.ImageTags != nil
	k.inline = map[int]bool{}
	k.FixKustomization()
	if err := k.CheckEmpty(); err != nil {
		return k, inputErrorf(file, 0, "is empty")
	}
	if wrong := k.EnforceFields(); len(wrong) > 0 {
		return k, inputErrorf(file, 0, "%s", strings.Join(wrong, "; "))
	}
	if len(k.HelmCharts) > 0 || k.HelmGlobals != nil {
		return k, inputErrorf(file, k.keyLine("helm"), "helmCharts: kustomize runs no Helm here: give the chart a stack of its own")
	}
	return k, nil
}

// plainUnmarshal is the last and only telling part of kustomize's message.
func plainUnmarshal(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "json: "); i >= 0 {
		text = text[i+len("json: "):]
	}
	text = strings.TrimPrefix(text, "invalid Kustomization: ")
	return strings.ReplaceAll(text, "Go struct field Kustomization.", "")
}

func (k kustomization) unknownFieldLine(err error) int {
	if _, name, ok := strings.Cut(err.Error(), `unknown field "`); ok {
		return k.line(strings.TrimSuffix(name, `"`))
	}
	return 0
}

// line finds where a word stands in the file; 0 where it does not.
func (k kustomization) line(word string) int { return lineOf(k.root, word) }

func lineOf(n *yaml.Node, word string) int {
	if n == nil {
		return 0
	}
	if n.Kind == yaml.ScalarNode && n.Value == word {
		return n.Line
	}
	for _, child := range n.Content {
		if line := lineOf(child, word); line > 0 {
			return line
		}
	}
	return 0
}

func (k kustomization) keyLine(prefix string) int {
	if k.root == nil {
		return 0
	}
	for i := 0; i < len(k.root.Content); i += 2 {
		if strings.HasPrefix(strings.ToLower(k.root.Content[i].Value), prefix) {
			return k.root.Content[i].Line
		}
	}
	return 0
}

// changes counts what looks at every object.
func (k kustomization) changes() int {
	n := len(k.Patches) + len(k.PatchesJson6902) + len(k.PatchesStrategicMerge) + len(k.Images) + len(k.Replicas) +
		len(k.Vars) + len(k.Transformers) + len(k.Validators)
	for _, r := range k.Replacements {
		n += 1 + len(r.Targets)
	}
	return n
}

// problem is one of this file, at the line of the entry.
func (k kustomization) problem(fieldName, entry string, err error) error {
	return inputErrorf(k.file, k.line(entry), "%s: %s: %w", fieldName, shorten(entry), err)
}

func shorten(entry string) string {
	first, _, more := strings.Cut(strings.TrimSpace(entry), "\n")
	if len(first) > 120 {
		first, more = first[:120], true
	}
	if more {
		return first + "…"
	}
	return first
}

// fileEntry is a field that names one file.
type fileEntry struct {
	field, path string
	is          fileUse
}

type fileUse int

const (
	useData   fileUse = iota // its bytes
	useYAML                  // configuration
	usePatch                 // a patch
	useCRDs                  // crds:
	useSchema                // openapi:
)

// fileEntries lists every file that kustomize opens for this kustomization, resources and
// plugins apart. A field that is missing here would not be served, so a new kustomize can
// fail but not read what was not checked.
func (k kustomization) fileEntries() []fileEntry {
	var all []fileEntry
	add := func(is fileUse, field string, paths ...string) {
		for _, p := range paths {
			all = append(all, fileEntry{field: field, path: p, is: is})
		}
	}
	add(useCRDs, "crds", k.Crds...)
	add(useYAML, "configurations", k.Configurations...)
	if p, ok := k.OpenAPI["path"]; ok {
		add(useSchema, "openapi", p)
	}
	for _, p := range slices.Concat(k.Patches, k.PatchesJson6902) {
		if p.Path != "" {
			add(usePatch, "patches", p.Path)
		}
	}
	for _, r := range k.Replacements {
		if r.Path != "" {
			add(useYAML, "replacements", r.Path)
		}
	}
	for _, g := range k.ConfigMapGenerator {
		add(useData, "configMapGenerator", append(sourcePaths(g.FileSources), g.EnvSources...)...)
	}
	for _, g := range k.SecretGenerator {
		add(useData, "secretGenerator", append(sourcePaths(g.FileSources), g.EnvSources...)...)
	}
	return all
}

// sourcePaths strips the keys of key=path.
func sourcePaths(sources []string) []string {
	out := make([]string, 0, len(sources))
	for _, s := range sources {
		if _, p, ok := strings.Cut(s, "="); ok {
			s = p
		}
		out = append(out, s)
	}
	return out
}

// rewritten is the kustomization as kustomize is to read it: in today's fields, where those mean
// the same, because it prints a warning to stderr for each of yesterday's.
// With origins, it is asked to note where each object comes from, for itself and its bases.
func (k kustomization) rewritten(origins, configured bool) ([]byte, error) {
	now := k.Kustomization
	for i, p := range slices.Backward(now.PatchesStrategicMerge) {
		patch := types.Patch{Path: string(p)}
		if k.inline[i] {
			patch = types.Patch{Patch: string(p)}
		}
		now.Patches = slices.Insert(slices.Clone(now.Patches), 0, patch)
	}
	now.PatchesStrategicMerge = nil
	if len(now.CommonLabels) > 0 && !configured {
		labels := types.Label{Pairs: now.CommonLabels, IncludeSelectors: true}
		now.Labels = append(slices.Clone(now.Labels), labels)
		now.CommonLabels = nil
	}
	if origins && !slices.Contains(now.BuildMetadata, types.OriginAnnotations) {
		now.BuildMetadata = append(slices.Clone(now.BuildMetadata), types.OriginAnnotations)
	}
	data, err := json.Marshal(now)
	if err != nil {
		return nil, fmt.Errorf("encode kustomization: %w", err)
	}
	return data, nil
}

// outdated says whether kustomize would warn of fields that rewritten can replace.
func (k kustomization) outdated() bool {
	return len(k.bases) > 0 || len(k.PatchesStrategicMerge) > 0 || len(k.CommonLabels) > 0 || k.imageTags
}
