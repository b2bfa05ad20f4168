package reconciler

import (
	"fmt"
	"slices"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// DriftSpec is how drift is treated.
type DriftSpec struct {
	// Mode is correct (default: put it back), detect (only look) or off.
	Mode DriftMode `yaml:"mode,omitempty" jsonschema:"enum=correct,enum=detect,enum=off"`
	// Ignore names fields that are left to whoever else writes them, from the first apply on.
	Ignore []IgnoreSpec `yaml:"ignore,omitempty"`
}

// IgnoreSpec names fields of some objects.
type IgnoreSpec struct {
	// Kind is as in Deployment or Deployment.apps.
	Kind string `yaml:"kind"`
	// Name is the object's; absent: all of the kind.
	Name string `yaml:"name,omitempty"`
	// Fields are JSON pointers, as in /spec/replicas; * is every item of a list, [name=app] those with this field.
	Fields []string `yaml:"fields"`
}

// DriftMode is what to do about drift.
type DriftMode string

// Drift modes.
const (
	DriftCorrect DriftMode = "correct"
	DriftDetect  DriftMode = "detect"
	DriftOff     DriftMode = "off"
)

// Bounds of the rules of one stack.
const (
	ignoreRules  = 50
	ignoreFields = 50 // of each
)

func (d DriftSpec) validate() error {
	if !slices.Contains([]DriftMode{"", DriftCorrect, DriftDetect, DriftOff}, d.Mode) {
		return fmt.Errorf("mode: %q: want correct, detect or off", d.Mode)
	}
	if len(d.Ignore) > ignoreRules {
		return fmt.Errorf("ignore: %d rules: at most %d", len(d.Ignore), ignoreRules)
	}
	for i, rule := range d.Ignore {
		switch {
		case rule.Kind == "":
			return fmt.Errorf("ignore[%d].kind: missing: say which objects are meant, for example Deployment", i)
		case len(rule.Fields) == 0:
			return fmt.Errorf("ignore[%d].fields: missing: say what is left to others, for example [/spec/replicas]", i)
		case len(rule.Fields) > ignoreFields:
			return fmt.Errorf("ignore[%d].fields: %d: at most %d", i, len(rule.Fields), ignoreFields)
		}
		for _, field := range rule.Fields {
			if err := apply.CheckPointer(field); err != nil {
				return fmt.Errorf("ignore[%d].fields: %w", i, err)
			}
		}
	}
	return nil
}

// ignored are the rules as an apply takes them.
func (d DriftSpec) ignored() []apply.Ignore {
	var out []apply.Ignore
	for _, rule := range d.Ignore {
		out = append(out, apply.Ignore(rule))
	}
	return out
}
