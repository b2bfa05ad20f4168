package reconciler

import (
	"fmt"
	"slices"
	"strings"
)

// cycle finds a circle among dependencies that goes through the stack: its
// members in order, the first again at the end. nil: there is none.
func cycle(stack string, dependencies func(string) []string) []string {
	var path []string
	seen := map[string]bool{}
	var visit func(name string) []string
	visit = func(name string) []string {
		path = append(path, name)
		defer func() { path = path[:len(path)-1] }()
		for _, dep := range dependencies(name) {
			if dep == stack {
				return append(slices.Clone(path), stack)
			}
			if seen[dep] {
				continue
			}
			seen[dep] = true
			if found := visit(dep); found != nil {
				return found
			}
		}
		return nil
	}
	return visit(stack)
}

// errCycle names the circle.
func errCycle(members []string) error {
	return fmt.Errorf("dependsOn goes in a circle: %s: take one of these out", strings.Join(members, " → "))
}
