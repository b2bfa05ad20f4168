package expressions

import (
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// sizes has a call cost as much as it reads and makes. The library reckons so too, but only where it knows the types
// beforehand; the fields of an object have none.
type sizes struct{}

func (sizes) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	cost := 1 + sizeOf(result)
	for _, arg := range args {
		cost += sizeOf(arg)
	}
	if function == overloads.Matches && len(args) == 2 {
		cost *= 1 + sizeOf(args[1])
	}
	return &cost
}

// sizeOf is a tenth of a text's bytes, and the number of a list's or map's items.
func sizeOf(value ref.Val) uint64 {
	switch v := value.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok && n > 0 {
			return uint64(n)
		}
	}
	return 0
}
