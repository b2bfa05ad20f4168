package expressions

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// blowUps are short texts that take much to read or to check, or would in a library that knows no better.
func blowUps() map[string]string {
	chain := func(n int, start, each string) string { return start + strings.Repeat(each, n) }
	nested := func(n int, format, inner string) string {
		for range n {
			inner = strings.ReplaceAll(format, "%", inner)
		}
		return inner
	}
	all := map[string]string{
		"optMap":        chain(30, "object.?a", ".optMap(a,a)") + ".hasValue()",
		"optFlatMap":    chain(30, "object.?a", ".optFlatMap(a,optional.of(a))") + ".hasValue()",
		"lists":         nested(40, "[%]", "1") + " == []",
		"many lists":    nested(200, "[%]", "1") + " == []",
		"parentheses":   nested(45, "(%)", "true"),
		"macros":        nested(40, "[1].all(a,%)", "true"),
		"macros beside": chain(60, "true", " && [1].all(a, a == 1)"),
		"macros behind": chain(60, "[1]", ".map(a, [a,a])") + " == []",
		"ternaries":     chain(200, "true", " ? true : true"),
		"ternaries in":  nested(45, "true ? (%) : true", "true"),
		"sums":          chain(500, "1", " + 1") + " == 1",
		"lists of sums": chain(300, "[1]", " + [[]]") + " == []",
		"optional":      chain(200, "object", ".?a") + ".hasValue()",
		"indices":       chain(300, "object", "[a]"),
		"not":           strings.Repeat("!", 2000) + "true",
		"minus":         strings.Repeat("-", 2000) + "1 == 1",
		"not, spaced":   strings.Repeat("! ", 900) + "true",
		"brackets":      strings.Repeat("[", 2000),
		"braces":        strings.Repeat("{", 2000),
		"questions":     strings.Repeat("a?", 1000),
		"dots":          strings.Repeat("a.", 1000),
		"commas":        "[" + strings.Repeat("1,", 1000) + "]",
		"quotes":        strings.Repeat(`"`, 2047),
		"calls":         nested(45, "size([%])", "1") + " == 1",
		"types":         nested(45, "type(%)", "1") + " == 1",
		"dyn":           nested(45, "dyn(%)", "1") + " == 1",
		"comparisons":   chain(300, "1", " < 1"),
		"equalities":    chain(300, "[]", " == []"),
		"alternatives":  chain(300, "true", " || true && !false"),
	}
	for _, n := range []int{5, 15, 30} { // each variable is of a type that has that of the one before twice
		let := "true"
		for i := n; i > 0; i-- {
			let = fmt.Sprintf("[{v%d:v%d}].all(v%d,%s)", i-1, i-1, i, let)
		}
		all[fmt.Sprint("maps of maps ", n)] = "[1].all(v0," + let + ")"
	}
	wide, let := func(v string) string { return nested(5, "{%:%}", v) }, "true"
	for i := 3; i > 0; i-- {
		let = fmt.Sprintf("[%s].all(v%d,%s)", wide(fmt.Sprint("v", i-1)), i, let)
	}
	all["wide maps"] = "[1].all(v0," + let + ")"
	return all
}

// TestBlowUps: whatever a text is, it takes no time and no memory worth mentioning to find out what it means.
func TestBlowUps(t *testing.T) {
	if _, err := Compile(Expression{Ready: "true"}); err != nil {
		t.Fatal(err)
	}
	for name, text := range blowUps() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			_, err := Compile(Expression{Ready: text})
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("%v, %d KiB: %.100v", took, used>>10, err)
			if took > 500*time.Millisecond || used > 64<<20 {
				t.Errorf("took %v and %d MiB: %v", took, used>>20, err)
			}
		})
	}
}
