package reconciler

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestShortIsWhole: a cut leaves no half of a character.
func TestShortIsWhole(t *testing.T) {
	for text, want := range map[string]string{"abc": "abc", "abéé": "ab…", "ab\xffcd": "ab…", "é": "é", "€€": "€…"} {
		if got := short(text, 3); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	for n := range 4 {
		if got := new(stackState).shown(strings.Repeat("x", n) + strings.Repeat("€", 3*messageBytes)); !utf8.ValidString(got) || !strings.HasSuffix(got, "€…") {
			t.Errorf("it ends with %q", got[len(got)-10:])
		}
	}
}
