package checks

import (
	"testing"
	"time"
)

// SetObjectBudget gives Trivy's checks another budget, and returns how to take it back.
func SetObjectBudget(most time.Duration) (restore func()) {
	before := objectBudget
	objectBudget = most
	return func() { objectBudget = before }
}

// SetOwnBudget gives a repository's checks another budget for a stack, until the test ends.
func SetOwnBudget(t *testing.T, most time.Duration) {
	before := ownBudget
	t.Cleanup(func() { ownBudget = before })
	ownBudget = most
}
