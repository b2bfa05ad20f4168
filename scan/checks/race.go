//go:build race

package checks

// raceFactor is how much more memory and time there is under the race detector.
const raceFactor = 8
