package scan

import "time"

// SetStackBudget gives stacks another budget, and returns how to take it back.
func SetStackBudget(most time.Duration) (restore func()) {
	before := stackBudget
	stackBudget = most
	return func() { stackBudget = before }
}
