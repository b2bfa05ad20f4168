package render

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"
	sigsyaml "sigs.k8s.io/yaml"
)

// resources checks the files and bases of a kustomization and counts their objects.
func (c *check) resources(k kustomization) (int, error) {
	total := 0
	for _, entry := range k.Resources {
		field := "resources"
		if slices.Contains(k.bases, entry) {
			field = "bases"
		}
		objects, err := c.base(k, field, entry, false, 0)
		if err != nil {
			return 0, err
		}
		total += objects
	}
	return total, nil
}

// base checks an entry that is a file of objects or the directory of another kustomization.
func (c *check) base(k kustomization, field, entry string, component bool, objects int) (int, error) {
	name, kind, err := c.find(k, field, entry)
	if err != nil {
		return objects, c.note(err)
	}
	if kind == isFile && !component {
		count, err := c.objectsFile(name)
		return objects + count, c.note(err)
	}
	if kind != isDir {
		return objects, c.note(k.problem(field, entry, errors.New("is not a directory")))
	}
	if err := c.cycle(k, field, entry, name); err != nil {
		return objects, c.note(err)
	}
	return c.walk(name, component, objects)
}

// cycle refuses what kustomize would: a base that is, or contains, where one comes from.
func (c *check) cycle(k kustomization, field, entry, dir string) error {
	for _, from := range c.chain {
		if dir == "." || from == dir || strings.HasPrefix(from, dir+"/") {
			return k.problem(field, entry, fmt.Errorf("cycle: %s is built from it", k.dir))
		}
	}
	return nil
}

// find resolves an entry and says what it is. It is never missing.
func (c *check) find(k kustomization, field, entry string) (string, pathKind, error) {
	name, err := within(k.dir, entry)
	if err != nil {
		return "", isMissing, k.problem(field, entry, err)
	}
	kind, err := c.rec.kind(name)
	if err != nil {
		return "", isMissing, err
	}
	switch kind {
	case isMissing:
		return "", kind, k.problem(field, entry, errors.New(c.notFound(name)))
	case isOther:
		return "", kind, k.problem(field, entry, errors.New("is neither a file nor a directory"))
	}
	return name, kind, nil
}

// findFile resolves an entry that must be a file, and has it served.
func (c *check) findFile(k kustomization, field, entry string) (string, []byte, error) {
	name, kind, err := c.find(k, field, entry)
	if err != nil {
		return "", nil, err
	}
	if kind != isFile {
		return "", nil, k.problem(field, entry, errors.New("is a directory: a file is expected"))
	}
	data, err := c.serve(name)
	return name, data, err
}

// serve reads a file for kustomize, and counts it as often as it is named.
func (c *check) serve(name string) ([]byte, error) {
	data, err := c.rec.read(name)
	if err != nil {
		return nil, err
	}
	c.files++
	c.bytes += int64(len(data))
	switch {
	case c.files > c.budget.Files:
		return nil, inputError(name, 0, overBudget("files and directories, counting repeats", c.budget.Files))
	case c.bytes > c.budget.TotalBytes:
		return nil, inputError(name, 0, overBudget("bytes in all files, counting repeats", c.budget.TotalBytes))
	}
	c.served[name] = data
	c.largest = max(c.largest, int64(len(data)))
	c.references += int64(bytes.Count(data, []byte("$(")))
	return data, nil
}

// objectsFile checks a file of objects and returns how many it has.
func (c *check) objectsFile(name string) (int, error) {
	data, err := c.serve(name)
	if err != nil {
		return 0, err
	}
	c.uses[name]++
	docs, ok := c.documents[name]
	if !ok {
		roots, nodes, err := parseCounted(name, data, c.budget)
		if err != nil {
			return 0, err
		}
		c.nodesIn[name] = nodes
		var problems []error
		if docs, problems = documentsOf(name, roots); len(problems) > 0 {
			return 0, errors.Join(problems...)
		}
		c.documents[name] = docs
		c.longest = max(c.longest, longestText(roots))
	}
	if err := c.addNodes(name, c.nodesIn[name]); err != nil {
		return 0, err
	}
	if c.objects += len(docs); c.objects > c.budget.Objects {
		return 0, inputError(name, 0, overBudget("objects, counting repeats", c.budget.Objects))
	}
	return len(docs), nil
}

// fields checks everything a kustomization names besides resources and components.
func (c *check) fields(k kustomization) error {
	c.pluginWork[k.dir] = 0
	problems := []error{c.generators(k)}
	for _, e := range k.fileEntries() {
		problems = append(problems, c.fileEntry(k, e))
	}
	for _, p := range slices.Concat(k.Patches, k.PatchesJson6902) {
		if p.Patch != "" {
			problems = append(problems, c.patchText(k.file, k.line(p.Patch), []byte(p.Patch)))
		}
	}
	for _, p := range k.PatchesJson6902 {
		if p.Target == nil {
			problems = append(problems, inputErrorf(k.file, k.keyLine("patchesjson6902"), "patchesJson6902: a patch has no target"))
		}
	}
	for i, p := range k.PatchesStrategicMerge {
		var err error
		k.inline[i], err = c.strategicMerge(k, string(p))
		problems = append(problems, err)
	}
	for _, r := range k.Replacements {
		problems = append(problems, c.replacementsOf(k, r))
	}
	problems = append(problems, c.plugins(k))
	c.exclusive = c.exclusive || len(k.OpenAPI) > 0
	c.configured = c.configured || len(k.Configurations) > 0
	c.vars = c.vars || len(k.Vars) > 0
	return errors.Join(problems...)
}

func (c *check) fileEntry(k kustomization, e fileEntry) error {
	name, data, err := c.findFile(k, e.field, e.path)
	done := fileEntry{path: name, is: e.is}
	if err != nil || e.is == useData || c.parsed[done] {
		return err
	}
	if len(data) == 0 {
		return k.problem(e.field, e.path, errors.New("is empty"))
	}
	roots, err := c.parse(name, data)
	if err != nil {
		return err
	}
	c.parsed[done] = true
	if e.field == "configurations" {
		c.specsIn[name] = countSpecs(roots)
	}
	switch e.is {
	case usePatch:
		return c.patches(name, 0, roots)
	case useCRDs:
		return c.crdReferences(name, data)
	case useSchema:
		return c.schemaReferences(name, data)
	}
	return c.configuration(name, roots)
}

// strategicMerge checks an entry of patchesStrategicMerge, which is a patch or the path of one.
func (c *check) strategicMerge(k kustomization, entry string) (inline bool, err error) {
	if !isRemote(entry) {
		if err := c.inlineText(k, entry); err != nil {
			return false, err
		}
		if _, err := c.factory.RF().SliceFromBytes([]byte(entry)); err == nil {
			return true, c.patchText(k.file, k.line(entry), []byte(entry))
		}
	}
	return false, c.fileEntry(k, fileEntry{field: "patchesStrategicMerge", path: entry, is: usePatch})
}

// patchText checks a patch that is written inside another file.
func (c *check) patchText(file string, line int, data []byte) error {
	roots, err := c.parse(file, data)
	if err != nil {
		return moveLine(err, line)
	}
	return c.patches(file, line, roots)
}

// moveLine turns a line of a text inside a file into one of the file.
func moveLine(err error, by int) error {
	var p Problem
	if !errors.As(err, &p) || by == 0 {
		return err
	}
	p.Line += by
	return p
}

// patches checks what patches do. It is for the parsed form of both kinds.
func (c *check) patches(file string, line int, roots []*yaml.Node) error {
	for _, root := range roots {
		if wide := widest(root); wide > fewKeys {
			c.patchKeys += wide
		}
		if root.Kind != yaml.SequenceNode {
			continue
		}
		for _, op := range root.Content {
			if err := c.operation(file, line, op); err != nil {
				return err
			}
		}
	}
	return nil
}

// replacementsOf checks an inline replacement, or those of the file that it names.
func (c *check) replacementsOf(k kustomization, r types.ReplacementField) error {
	all := []types.Replacement{r.Replacement}
	if name, err := within(k.dir, r.Path); r.Path != "" && err == nil {
		all = decodeReplacements(c.served[name])
	}
	if err := c.replacements(all); err != nil {
		return inputErrorf(k.file, k.keyLine("replacements"), "replacements: %w", err)
	}
	return nil
}

// decodeReplacements reads one or a list, as kustomize does, which says what is wrong with it.
func decodeReplacements(data []byte) []types.Replacement {
	var many []types.Replacement
	if err := sigsyaml.Unmarshal(data, &many); err == nil {
		return many
	}
	var one types.Replacement
	if err := sigsyaml.Unmarshal(data, &one); err != nil {
		return nil
	}
	return []types.Replacement{one}
}
