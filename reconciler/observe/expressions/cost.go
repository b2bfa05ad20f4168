package expressions

import (
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// sizes has a call cost as much as it reads and makes. The library reckons so too, but only where it knows the types
// beforehand; the fields of an object have none.
type sizes struct{}

func (sizes) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	cost := 1 + weigh(function, args)
	if function != operators.Add { // of texts, what is read is what is made
		cost += sizeOf(result)
	}
	return &cost
}

// weigh is what a call has to look at. Comparisons go down to the bottom; and what is put into a list is paid for with
// all that is in it, so that nothing grows that wasn't paid for. It is known before the call is made.
func weigh(function string, args []ref.Val) (cost uint64) {
	switch function {
	case operators.Equals, operators.NotEquals:
		return deep(args[0], deep(args[1], mostCost+1))
	case operators.In:
		if list, ok := args[1].(traits.Lister); ok {
			return deep(list, mostCost+1)
		}
		return deep(args[0], mostCost+1)
	case operators.Add:
		if _, ok := args[0].(traits.Lister); ok {
			return deep(args[1], mostCost+1)
		}
	}
	for _, arg := range args {
		cost += sizeOf(arg)
	}
	return cost
}

// A comparison refuses what would cost too much before it begins: nothing can interrupt it.
type comparison struct {
	interpreter.InterpretableCall
}

// guarded makes comparisons of those calls that go down to the bottom of what they get.
func guarded(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) != 2 {
		return i, nil
	}
	switch call.Function() {
	case operators.Equals, operators.NotEquals, operators.In:
		return comparison{call}, nil
	}
	return i, nil
}

func (c comparison) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

func (c comparison) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	args := []ref.Val{c.Args()[0].Exec(frame), c.Args()[1].Exec(frame)}
	for _, arg := range args {
		if types.IsUnknownOrError(arg) {
			return arg
		}
	}
	if weigh(c.Function(), args) > mostCost {
		panic(interpreter.EvalCancelledError{Cause: interpreter.CostLimitExceeded, Message: "operation cancelled: too much to compare"})
	}
	if c.Function() == operators.In {
		if container, ok := args[1].(traits.Container); ok {
			return container.Contains(args[0])
		}
		return types.NewErr("no such overload")
	}
	return types.Bool((types.Equal(args[0], args[1]) == types.True) == (c.Function() == operators.Equals))
}

// textUnit is how many bytes of a text weigh as much as an item of a list.
const textUnit = 100

// sizeOf is how large a value is at its top.
func sizeOf(value ref.Val) uint64 {
	switch v := value.(type) {
	case types.String:
		return uint64(len(v)) / textUnit
	case types.Bytes:
		return uint64(len(v)) / textUnit
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok && n > 0 {
			return uint64(n)
		}
	}
	return 0
}

// deep is how large a value is with all that is in it, and most at most.
func deep(value any, most uint64) (n uint64) {
	n = 1
	add := func(item any) bool {
		if n < most {
			n += deep(item, most-n)
		}
		return n < most
	}
	switch v := value.(type) {
	case string:
		n += uint64(len(v)) / textUnit
	case types.String, types.Bytes:
		n += sizeOf(v.(ref.Val))
	case map[string]any:
		for key, item := range v {
			if n += uint64(len(key)) / textUnit; !add(item) {
				break
			}
		}
	case []any:
		for _, item := range v {
			if !add(item) {
				break
			}
		}
	case *types.Optional:
		if v.HasValue() {
			add(v.GetValue())
		}
	case traits.Mapper:
		deepMap(v, add)
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && add(it.Next()); {
		}
	}
	return min(n, most)
}

// deepMap is about a map that an expression holds: of an object, or made by itself.
func deepMap(m traits.Mapper, add func(any) bool) {
	if native, ok := m.Value().(map[string]any); ok {
		for _, item := range native {
			if !add(item) {
				return
			}
		}
		return
	}
	for it := m.Iterator(); it.HasNext() == types.True; {
		if !add(m.Get(it.Next())) {
			return
		}
	}
}
