package main

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// The measurements, in the order in which they are made: each goes on from what
// the one before left.
const (
	install  = "Install"
	upgrade  = "Upgrade"
	oneStack = "OneStack"
	restart  = "Restart"
	recheck  = "Recheck"
	noop     = "Noop"
)

var benchmarks = []string{install, upgrade, oneStack, restart, recheck, noop}

func name(benchmark string, stacks int) string { return fmt.Sprintf("%s/stacks=%d", benchmark, stacks) }

// selected is true when something is to be measured with so many stacks.
func selected(pattern *regexp.Regexp, stacks int) bool {
	for _, b := range benchmarks {
		if pattern.MatchString(name(b, stacks)) {
			return true
		}
	}
	return false
}

// header is what benchstat wants to know of a machine.
func header() string {
	text := fmt.Sprintf("goos: %s\ngoarch: %s\npkg: github.com/plumbline-dev/plumbline/cmd/plumbline-bench\n", runtime.GOOS, runtime.GOARCH)
	if cpu := cpuModel(); cpu != "" {
		text += "cpu: " + cpu + "\n"
	}
	return text
}

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// value is one figure and its unit.
type value struct {
	unit   string
	number float64
}

// line is one result as the testing package prints it.
func line(name string, values []value) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Benchmark%s 1", name)
	for _, v := range values {
		fmt.Fprintf(&b, "\t%s %s", number(v.number), v.unit)
	}
	return b.String() + "\n"
}

// number shows three decimals of what is small, and none of what is large.
func number(n float64) string {
	switch {
	case n == float64(int64(n)):
		return strconv.FormatInt(int64(n), 10)
	case n < 10:
		return strconv.FormatFloat(n, 'f', 3, 64)
	case n < 1000:
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}
