//go:build !linux && !darwin

package checks

// limit can't bound this process: it still is killed in time.
func limit(_, _ uint64) {}
