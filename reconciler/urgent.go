package reconciler

import "slices"

// urgent is the order of the queue of stacks: those that drifted, or that somebody
// asked for, don't wait behind a commit that set hundreds in motion. Of four turns
// the others have one, so that nobody waits for ever. The queue locks for it.
type urgent struct {
	now   func(stack string) bool // asked when a stack comes in; it must not lock the loop
	first []string
	rest  []string
	turns int
}

func (u *urgent) Touch(stack string) {
	if i := slices.Index(u.rest, stack); i >= 0 && u.now(stack) {
		u.rest = slices.Delete(u.rest, i, i+1)
		u.first = append(u.first, stack)
	}
}

func (u *urgent) Push(stack string) {
	if u.now(stack) {
		u.first = append(u.first, stack)
	} else {
		u.rest = append(u.rest, stack)
	}
}

func (u *urgent) Len() int { return len(u.first) + len(u.rest) }

func (u *urgent) Pop() string {
	u.turns++
	from := &u.first
	if len(u.first) == 0 || (len(u.rest) > 0 && u.turns%4 == 0) {
		from = &u.rest
	}
	stack := (*from)[0]
	*from = (*from)[1:]
	return stack
}
