package expressions

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// large is an object about as large as they get.
func large() *unstructured.Unstructured {
	list, deep := make([]any, 5000), make([]any, 50_000)
	for i := range list {
		list[i] = int64(i)
	}
	for i := range deep {
		deep[i] = map[string]any{"name": fmt.Sprint("item ", i), "value": []any{int64(i)}}
	}
	return &unstructured.Unstructured{Object: map[string]any{"l": list, "deep": deep, "text": strings.Repeat("a", 1<<20)}}
}

// TestBounds: an expression that would never end ends soon, and says so. Nothing of it is taken for an answer.
func TestBounds(t *testing.T) {
	obj := large()
	for _, text := range []string{
		"object.l.all(a, object.l.all(b, object.l.all(c, a + b + c >= 0)))",
		"object.l.map(a, object.text + object.text + object.text).size() > 0",
		"object.l.map(a, object.l).map(l, l + l + l).size() > 0",
		"object.l.all(x, object == object)",
		"object.l.all(x, object == object || true)",
		"object == object",
		"object != object",
		"object.l.all(x, !(object.deep in [object.deep]))",
		"object.l.all(x, !(7 in object.deep))",
		"object.l.all(x, !('a' in object.deep) || true)",
		"object.l.all(x, !object.text.contains('ab'))",
		"object.l.all(x, !object.text.endsWith(object.text + 'b'))",
		"object.l.all(x, object.text < object.text + 'b')",
		"object.l.all(x, size(object.text) > 0)",
		"object.l.all(x, bytes(object.text) != b'')",
		"object.l.all(x, optional.of(object) == optional.of(object))",
		"object.l.all(x, {'a': object} == {'a': object})",
		"[object.deep].map(a, [a, a, a, a]).map(b, [b, b, b, b]).map(c, [c, c, c, c]).map(d, [d, d, d, d]).all(e, e == e)",
		"[object.l].map(a, a + a + a + a).map(b, b + b + b + b).map(c, c + c + c + c).map(d, d + d + d + d).all(e, e == e)",
		"[object.text].map(a, a + a + a + a).map(b, b + b + b + b).map(c, c + c + c + c).map(d, d + d + d + d).all(e, e == e)",
		"[" + strings.Repeat("object.l + ", 40) + "[]].all(a, a == a)",
	} {
		program, err := Compile(Expression{Ready: text, Failed: "!(" + text + ")", Message: "(" + text + ") ? 'a' : 'b'"})
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		have, says := program.Judge(obj)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		used := after.TotalAlloc - before.TotalAlloc
		t.Logf("%v, %d MiB: %s: %.60s", took, used>>20, says, text)
		if used > 100<<20 || took > time.Second {
			t.Errorf("%s: took %v and %d MiB", text, took, used>>20)
		}
		if have != status.InProgressStatus || !strings.Contains(says, "operation") {
			t.Errorf("%s: %s: %q", text, have, says)
		}
	}
}

// TestAffordable: what is of use on an ordinary object isn't refused.
func TestAffordable(t *testing.T) {
	var conditions []any
	for i := range 300 {
		conditions = append(conditions, map[string]any{"type": fmt.Sprint("Condition", i), "status": "True", "message": strings.Repeat("m", 500)})
	}
	obj := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": conditions, "text": strings.Repeat("a", 1<<20)}}}
	for _, text := range []string{
		"object.status.conditions.exists(c, c.type == 'Condition299' && c.status == 'True')",
		"object.status.conditions.filter(c, c.status == 'True').size() == 300",
		"object.status.conditions.map(c, c.type).exists_one(t, t == 'Condition7')",
		"object.status.conditions.all(c, c.status in ['True', 'Unknown'])",
		"object.status.conditions == object.status.conditions",
		"object.status.text.contains('aa') && object.status.text != 'b'",
		"'conditions' in object.status",
	} {
		program, err := Compile(Expression{Ready: text})
		if err != nil {
			t.Fatal(err)
		}
		if have, says := program.Judge(obj); have != status.CurrentStatus {
			t.Errorf("%s: %s: %q", text, have, says)
		}
	}
}
