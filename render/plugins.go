package render

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

// pluginConfig is every field by which a built-in plugin names a file.
// Source: Loader().Load in kustomize api/internal/builtins, v0.21.
type pluginConfig struct {
	Path           string                   `json:"path"`
	TargetFilePath string                   `json:"targetFilePath"`
	Paths          []string                 `json:"paths"`
	Files          []string                 `json:"files"`
	Envs           []string                 `json:"envs"`
	Env            string                   `json:"env"`
	Patch          string                   `json:"patch"`
	Patches        string                   `json:"patches"`
	JSONOp         string                   `json:"jsonOp"`
	Replacements   []types.ReplacementField `json:"replacements"`
}

var pluginsWithFiles = []string{
	"PatchTransformer", "PatchJson6902Transformer", "PatchStrategicMergeTransformer", "ReplacementTransformer",
	"ValueAddTransformer", "ConfigMapGenerator", "SecretGenerator",
}

// plugins checks generators, transformers and validators: only kustomize's own may run.
func (c *check) plugins(k kustomization) error {
	var problems []error
	for _, f := range []struct {
		field   string
		entries []string
	}{{"generators", k.Generators}, {"transformers", k.Transformers}, {"validators", k.Validators}} {
		for _, entry := range f.entries {
			problems = append(problems, c.pluginEntry(k, k, f.field, entry, 0))
		}
	}
	return errors.Join(problems...)
}

// pluginEntry checks one entry of the kustomization in, whose plugins run for k.
func (c *check) pluginEntry(k, in kustomization, field, entry string, depth int) error {
	if !isRemote(entry) {
		if err := c.inlineText(in, entry); err != nil {
			return err
		}
		if configs, err := c.factory.NewResMapFromBytes([]byte(entry)); err == nil {
			return c.inlinePlugin(k, entry, configs)
		}
	}
	name, kind, err := c.find(in, field, entry)
	if err != nil {
		return err
	}
	if kind == isDir {
		return c.pluginDir(k, in, field, entry, name, depth)
	}
	data, err := c.serve(name)
	if err != nil {
		return err
	}
	roots, err := c.parse(name, data)
	if err != nil {
		return err
	}
	configs, err := c.factory.NewResMapFromBytes(data)
	if err != nil {
		return inputErrorf(name, 0, "not the configuration of a plugin: %s", plain(err))
	}
	if err := c.configs(k, name, configs); err != nil {
		return err
	}
	return c.configuration(name, roots)
}

// inlinePlugin checks a configuration that is written into the kustomization itself.
func (c *check) inlinePlugin(k kustomization, entry string, configs resmap.ResMap) error {
	roots, err := parseYAML(k.file, []byte(entry), c.budget)
	if err != nil {
		return moveLine(err, k.line(entry))
	}
	if err := c.configs(k, k.file, configs); err != nil {
		return err
	}
	return moveLine(c.configuration(k.file, roots), k.line(entry))
}

// pluginDir allows a directory of configurations as long as it only lists them: what a
// kustomization could change in them would escape the check.
func (c *check) pluginDir(k, in kustomization, field, entry, dir string, depth int) error {
	if depth >= c.budget.Bases {
		return in.problem(field, entry, overBudget("kustomizations nested in one another", c.budget.Bases))
	}
	sub, err := c.load(dir)
	if err != nil {
		return err
	}
	only := types.Kustomization{TypeMeta: sub.TypeMeta, MetaData: sub.MetaData, Resources: sub.Resources}
	if !sameJSON(only, sub.Kustomization) {
		return inputErrorf(sub.file, 0, "%s name it: then it may have resources and nothing else", field)
	}
	var problems []error
	for _, e := range sub.Resources {
		problems = append(problems, c.pluginEntry(k, sub, "resources", e, depth+1))
	}
	return errors.Join(problems...)
}

func sameJSON(a, b any) bool {
	x, errX := yaml.Marshal(a)
	y, errY := yaml.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func (c *check) configs(k kustomization, file string, configs resmap.ResMap) error {
	for _, res := range configs.Resources() {
		gvk := res.GetGvk()
		if gvk.Group != "" || gvk.Version != konfig.BuiltinPluginApiVersion || gvk.Kind == "HelmChartInflationGenerator" {
			return inputErrorf(file, 0, "%s is no plugin that runs here: only those built into kustomize do "+
				"(apiVersion: %s), no programs, containers or charts", gvk.Kind, konfig.BuiltinPluginApiVersion)
		}
		text, err := res.AsYAML()
		if err != nil {
			return inputErrorf(file, 0, "%s: %s", gvk.Kind, plain(err))
		}
		if err := c.config(k, file, gvk.Kind, text); err != nil {
			return err
		}
	}
	return nil
}

// config checks the files that a plugin's configuration names. They are relative to k.
func (c *check) config(k kustomization, file, kind string, text []byte) error {
	var work pluginWork
	if err := yaml.Unmarshal(text, &work); err == nil { // else kustomize says what is wrong
		c.pluginWork[k.dir] += work.perObject()
	}
	if !slices.Contains(pluginsWithFiles, kind) {
		return nil
	}
	var cfg pluginConfig
	if err := yaml.Unmarshal(text, &cfg); err != nil {
		return inputErrorf(file, 0, "%s: %s", kind, plain(err))
	}
	for _, patch := range []string{cfg.Patch, cfg.Patches, cfg.JSONOp} {
		if err := c.patchText(file, 0, []byte(patch)); err != nil {
			return err
		}
	}
	var problems []error
	for _, e := range cfg.fileEntries(kind) {
		problems = append(problems, c.fileEntry(k, e))
	}
	for _, p := range cfg.Paths {
		_, err := c.strategicMerge(k, p)
		problems = append(problems, err)
	}
	for _, r := range cfg.Replacements {
		problems = append(problems, c.replacements([]types.Replacement{r.Replacement}))
	}
	return errors.Join(problems...)
}

func (cfg pluginConfig) fileEntries(kind string) []fileEntry {
	field := fmt.Sprintf("%s of %s", "path", kind)
	var all []fileEntry
	add := func(is fileUse, paths ...string) {
		for _, p := range paths {
			if p != "" {
				all = append(all, fileEntry{field: field, path: p, is: is})
			}
		}
	}
	add(useData, append(sourcePaths(cfg.Files), cfg.Envs...)...)
	add(useData, cfg.Env, cfg.TargetFilePath)
	if strings.HasPrefix(kind, "Patch") {
		add(usePatch, cfg.Path)
	} else {
		add(useYAML, cfg.Path)
	}
	for _, r := range cfg.Replacements {
		add(useYAML, r.Path)
	}
	return all
}
