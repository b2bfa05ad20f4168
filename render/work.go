package render

import (
	"bytes"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/api/types"
)

// Kustomize cannot be stopped, so what takes its time is counted first, in steps: one is some
// twenty microseconds of it.

// cost adds what the changes of a kustomization cost on the objects they look at.
func (c *check) cost(k kustomization, objects int) error {
	specs := c.specsOf(k)
	c.specs += specs
	c.charge(stepsPerChange*(k.changes()+c.pluginWork[k.dir])+stepsPerLabel*(k.pairs()+k.labelSpecs()), max(1, objects))
	c.charge(specs*(1+k.pairs()+len(k.Images)+len(k.Replicas)), max(1, objects))
	c.charge(specs, specs/specsPerStep)        // each is compared with all when they are merged
	c.charge(objects, objects/comparesPerStep) // and so is each object
	c.spreading(k, objects)
	if err := c.overSteps(k.file); err != nil { // first: what follows multiplies
		return err
	}
	return c.addNodes(k.file, 2*k.pairs()*objects) // a key and a value each
}

const (
	stepsPerChange  = 20
	stepsPerLabel   = 2
	specsPerStep    = 200
	comparesPerStep = 10
	keysPerStep     = 1000
	fewKeys         = 100
)

// referring adds what looking for names costs: kustomize does it at the end, for every field
// spec of every configuration, on everything. And what merging wide patches does, should all
// of them go into one mapping.
func (c *check) referring(objects int) error {
	c.charge(c.specs, objects)
	c.charge(c.patchKeys, c.patchKeys/keysPerStep)
	return c.overSteps(c.entryFile)
}

// widest is the most entries that anything in a tree has.
func widest(n *yaml.Node) int {
	most := len(n.Content)
	if n.Kind == yaml.MappingNode {
		most /= 2
	}
	for _, child := range n.Content {
		most = max(most, widest(child))
	}
	return most
}

// charge adds a product, and stays far from what an int can hold.
func (c *check) charge(what, times int) {
	if times > 0 && what > (c.budget.Steps+1)/times {
		c.steps = max(c.steps, c.budget.Steps) + 1
		return
	}
	c.steps += what * times
}

func (c *check) overSteps(file string) error {
	if c.steps > c.budget.Steps {
		return inputError(file, 0, overBudget("patches, labels, field specs and other changes times the objects they look at", c.budget.Steps))
	}
	return nil
}

func (c *check) specsOf(k kustomization) int {
	total := 0
	for _, entry := range k.Configurations {
		if name, err := within(k.dir, entry); err == nil {
			total += c.specsIn[name]
		}
	}
	return total
}

// countSpecs counts the field specs of a file of configurations: what has a path.
func countSpecs(nodes []*yaml.Node) int {
	total := 0
	for _, n := range nodes {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind == yaml.MappingNode && slices.ContainsFunc(n.Content, isPathKey) {
			total++
			continue
		}
		total += countSpecs(n.Content)
	}
	return total
}

func isPathKey(n *yaml.Node) bool { return strings.EqualFold(n.Value, "path") }

// pairs counts labels and annotations: each is set on its own.
func (k kustomization) pairs() int {
	n := len(k.CommonLabels) + len(k.CommonAnnotations)
	for _, l := range k.Labels {
		n += 1 + len(l.Pairs)
	}
	return n
}

// labelSpecs counts the fields that labels are set in, beside the usual ones.
func (k kustomization) labelSpecs() int {
	n := 0
	for _, l := range k.Labels {
		n += len(l.FieldSpecs) * (1 + len(l.Pairs))
	}
	return n
}

// pluginWork is what a plugin's configuration says that it does to each object.
type pluginWork struct {
	FieldSpecs   []any          `json:"fieldSpecs"`
	Labels       map[string]any `json:"labels"`
	Annotations  map[string]any `json:"annotations"`
	Replacements []any          `json:"replacements"`
}

func (w pluginWork) perObject() int {
	return 1 + len(w.Replacements) + (1+len(w.FieldSpecs))*(1+len(w.Labels)+len(w.Annotations))
}

// inlineText checks an entry that may be the path of a file or YAML itself, before it is tried
// as YAML.
func (c *check) inlineText(k kustomization, entry string) error {
	if !strings.ContainsAny(entry, "\n{[") {
		return nil
	}
	_, err := parseYAML(k.file, []byte(entry), c.budget)
	return moveLine(err, k.line(entry))
}

// generators refuses those that make more keys than one mapping may have.
func (c *check) generators(k kustomization) error {
	for _, g := range k.ConfigMapGenerator {
		if err := c.generated(k, "configmapgenerator", g.KvPairSources); err != nil {
			return err
		}
	}
	for _, g := range k.SecretGenerator {
		if err := c.generated(k, "secretgenerator", g.KvPairSources); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) generated(k kustomization, field string, from types.KvPairSources) error {
	keys := len(from.LiteralSources) + len(from.FileSources)
	for _, entry := range from.EnvSources {
		name, err := within(k.dir, entry)
		if err != nil {
			continue // said where files are looked for
		}
		if kind, err := c.rec.kind(name); err != nil || kind != isFile {
			continue
		}
		data, err := c.rec.read(name)
		if err != nil {
			return err
		}
		keys += bytes.Count(data, []byte("\n")) + 1
	}
	if keys > c.budget.Keys {
		return inputError(k.file, k.keyLine(field), overBudget("keys made by one generator", c.budget.Keys))
	}
	return nil
}
