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

// SetObjectBudget gives Trivy's checks another budget, and returns how to take it back.
func SetObjectBudget(most time.Duration) (restore func()) {
	before := objectBudget
	objectBudget = most
	return func() { objectBudget = before }
}
