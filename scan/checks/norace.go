//go:build !race

package checks

const raceFactor = 1
