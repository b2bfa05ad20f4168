package reconciler

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plumbline-dev/plumbline/reconciler/observe"
	"github.com/plumbline-dev/plumbline/reconciler/observe/expressions"
)

// expressionsOfStack bounds what is compiled whenever a source has a new commit.
const expressionsOfStack = 20

// ReadySpec is when the stack is ready, and how long a rollout may take.
type ReadySpec struct {
	// Timeout after which the rollout is called failed. It can still become Ready. Default 5m.
	Timeout Duration `yaml:"timeout,omitempty"`
	// Expressions say when objects of a kind are ready, in the place of what is known of the kind: at most 20.
	Expressions []ReadyExpression `yaml:"expressions,omitempty"`
}

// ReadyExpression says in CEL when the stack's objects of one kind are ready. The variable object is the object.
type ReadyExpression struct {
	// Kind is the kind and its group, for example Certificate.cert-manager.io; a kind of Kubernetes' core has no group. Secret is refused.
	Kind string `yaml:"kind"`
	// Ready is true when an object is ready, for example object.status.phase == "Running". A field that is missing is waited for.
	Ready string `yaml:"ready"`
	// Failed is true when an object has failed; it can recover. It is asked before ready.
	Failed string `yaml:"failed,omitempty"`
	// Message is a text that says why an object is not ready. Otherwise its conditions tell.
	Message string `yaml:"message,omitempty"`
}

// rulesOf are the rules of a stack. Those that many stacks have from their source are compiled once.
func (s SourceConfig) rulesOf(r ReadySpec) (observe.Rules, error) {
	if slices.Equal(r.Expressions, s.Defaults.Ready.Expressions) && s.rules != nil {
		return s.rules, nil
	}
	return r.rules()
}

// rules compiles the expressions. All that is wrong with them is told at once.
func (r ReadySpec) rules() (observe.Rules, error) {
	if len(r.Expressions) > expressionsOfStack {
		return nil, fmt.Errorf("expressions: %d of them: at most %d", len(r.Expressions), expressionsOfStack)
	}
	rules := observe.Rules{}
	var errs []error
	for i, e := range r.Expressions {
		gk, err := expressions.ParseKind(e.Kind)
		if err == nil && gk == (schema.GroupKind{Kind: "Secret"}) {
			err = errors.New("kind: a Secret is ready when it is there, and what is in it is not for a status")
		}
		if err == nil && rules[gk] != nil {
			err = fmt.Errorf("kind: %q has an expression already", e.Kind)
		}
		if err == nil {
			rules[gk], err = expressions.Compile(expressions.Expression{Kind: gk, Ready: e.Ready, Failed: e.Failed, Message: e.Message})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("expressions[%d].%w", i, err))
		}
	}
	return rules, errors.Join(errs...)
}

// judged has the stack's objects judged as it says from now on. A kind that this
// concerns is listed anew before the next plan of the stack is made.
func (l *Loop) judged(d Declared) {
	if l.Judge != nil {
		l.Judge(d.Name, d.rules)
	}
}
