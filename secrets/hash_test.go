package secrets

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestHashKeySum(t *testing.T) {
	key := NewHashKey()
	sums := map[string]string{}
	for name, sum := range map[string][]byte{
		"one part":        key.Sum("p", "ab"),
		"two parts":       key.Sum("p", "a", "b"),
		"split elsewhere": key.Sum("p", "", "ab"),
		"other purpose":   key.Sum("q", "ab"),
		"purpose as part": key.Sum("", "p", "ab"),
		"forged length":   key.Sum("p", "a1:b"),
		"no part":         key.Sum("p"),
		"empty part":      key.Sum("p", ""),
		"other key":       NewHashKey().Sum("p", "ab"),
	} {
		if other, ok := sums[string(sum)]; ok {
			t.Errorf("%s and %s have the same sum", name, other)
		}
		sums[string(sum)] = name
	}
	if !bytes.Equal(key.Sum("p", "a", "b"), key.Sum("p", "a", "b")) {
		t.Error("the same texts have different sums")
	}
}

// TestHashKeyPrints nothing of itself, whatever prints it.
func TestHashKeyPrints(t *testing.T) {
	key := HashKey(bytes.Repeat([]byte{0xAB}, 32))
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", key, struct{ Key HashKey }{key})
	}
	raw, err := json.Marshal(map[string]any{"key": key})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(raw)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "key", key)
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "key", key)
	for _, leak := range []string{"ab", "AB", "171", "253", "q6ur", "10101011", "\u00ab"} {
		if strings.Contains(strings.ReplaceAll(out.String(), "{ab", ""), leak) {
			t.Errorf("the key prints as %q", leak)
		}
	}
	if !strings.Contains(out.String(), Mask) {
		t.Errorf("nothing stands for the key: %s", out.String())
	}
}
