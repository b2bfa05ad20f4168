package expressions

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/env"
	"github.com/google/cel-go/common/overloads"
)

// Bounds of a text, of which each is known before the next step is taken.
const (
	// MaxLength is how many bytes an expression may have.
	MaxLength = 2048
	mostDepth = 50   // of parentheses and calls
	mostNodes = 2048 // macros written out
	mostLoops = 6    // within one another
)

// environment is made at the first expression: most commands need none. Of macros it has those that don't copy what
// they are called on: a few calls of optMap behind one another fill the memory. It has no regular expressions: there is no
// telling what one takes.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(env.NewLibrarySubset().AddExcludedFunctions(env.NewFunction(overloads.Matches)))),
		cel.Variable("object", cel.MapType(cel.StringType, cel.DynType)),
		cel.OptionalTypes(cel.OptionalTypesVersion(0)),
		cel.ClearMacros(),
		cel.Macros(cel.StandardMacros...),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxLength),
		cel.ParserRecursionLimit(mostDepth),
	)
})

func compile(text string, kind *cel.Type) (cel.Program, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("missing")
	}
	if len(text) > MaxLength {
		return nil, fmt.Errorf("%d bytes: at most %d", len(text), MaxLength)
	}
	library, err := environment()
	if err != nil {
		return nil, err
	}
	parsed, issues := library.Parse(text)
	if err := first(text, issues); err != nil {
		return nil, err
	}
	if err := small(parsed.NativeRep().Expr()); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	checked, issues := library.Check(parsed)
	if err := first(text, issues); err != nil {
		return nil, err
	}
	if have := checked.OutputType(); !have.IsExactType(kind) && !have.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("%q is a %s, want a %s", text, have, kind)
	}
	return library.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CustomDecoratorV2(guarded), cel.CostTracking(sizes{}), cel.CostLimit(mostCost),
		cel.InterruptCheckFrequency(100))
}

// first is the first thing that is wrong with a text.
func first(text string, issues *cel.Issues) error {
	if issues.Err() == nil {
		return nil
	}
	if len(issues.Errors()) == 0 {
		return issues.Err()
	}
	e := issues.Errors()[0]
	return fmt.Errorf("%q: at %d:%d: %s", text, e.Location.Line(), e.Location.Column()+1, e.Message)
}

// small refuses what takes long to check. A map's type doubles whenever a map has it for keys and for values, so
// that keys have to be literals.
func small(root ast.Expr) error {
	nodes, loops, keys := 0, 0, true
	visit := func(e ast.Expr) {
		nodes++
		if e.Kind() == ast.MapKind {
			for _, entry := range e.AsMap().Entries() {
				keys = keys && entry.AsMapEntry().Key().Kind() == ast.LiteralKind
			}
		}
	}
	ast.PreOrderVisit(root, ast.NewExprVisitor(visit))
	if nodes <= mostNodes {
		loops = loopsOf(root)
	}
	switch {
	case nodes > mostNodes:
		return fmt.Errorf("too large: at most %d operations", mostNodes)
	case loops > mostLoops:
		return fmt.Errorf("%d macros within one another: at most %d", loops, mostLoops)
	case !keys:
		return errors.New("a key of a map has to be a literal")
	}
	return nil
}

// loopsOf is how deep macros stand within one another.
func loopsOf(e ast.Expr) (most int) {
	for _, child := range childrenOf(e) {
		most = max(most, loopsOf(child))
	}
	if e.Kind() == ast.ComprehensionKind {
		most++
	}
	return most
}

func childrenOf(e ast.Expr) (all []ast.Expr) {
	switch e.Kind() {
	case ast.SelectKind:
		all = append(all, e.AsSelect().Operand())
	case ast.ListKind:
		all = e.AsList().Elements()
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			all = append(all, entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.CallKind:
		all = append(all, e.AsCall().Args()...)
		if e.AsCall().IsMemberFunction() {
			all = append(all, e.AsCall().Target())
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		all = append(all, c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result())
	case ast.StructKind:
		for _, field := range e.AsStruct().Fields() {
			all = append(all, field.AsStructField().Value())
		}
	}
	return all
}
