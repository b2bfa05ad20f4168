package checks

import (
	"testing"
	"time"
)

// SetBudgets gives the checks of a set other budgets, until the test ends.
func SetBudgets(t *testing.T, s *Set, most time.Duration, bytes uint64) {
	before := memoryBudget
	t.Cleanup(func() { memoryBudget = before })
	memoryBudget = bytes
	for _, c := range s.checks {
		c.budget = most
	}
}
