package apply

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestErrorsShowNoSecret(t *testing.T) {
	for _, test := range []struct{ name, object, said string }{
		{"a policy quotes base64", `{apiVersion: v1, kind: Secret, data: {pw: aHVudGVyMi12YXA=}}`, "denied: too weak: aHVudGVyMi12YXA="},
		{"a policy quotes the plain value", `{apiVersion: v1, kind: Secret, data: {pw: aHVudGVyMi12YXA=}}`, "denied: too weak: hunter2-vap"},
		{"stringData encoded by the server", `{apiVersion: v1, kind: Secret, stringData: {pw: hunter2-vap}}`, "x aHVudGVyMi12YXA= x"},
		{"the schema quotes a number", `{apiVersion: v1, kind: Secret, stringData: {pin: 27}}`, ".pin: expected string, got &value.valueUnstructured{Value:27}"},
		{"data is no map", `{apiVersion: v1, kind: Secret, data: hunter2-vap}`, "expected map, got &{hunter2-vap}"},
		{"a list", `{apiVersion: v1, kind: Secret, data: {a: [hunter2-vap]}}`, "bad: [hunter2-vap]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := object(t, test.object)
			body, err := u.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			text := classify(prepared{ID: IDOf(u), body: body}, errors.New(test.said)).Error()
			for _, canary := range []string{"hunter2", "aHVudGVy", "27"} {
				if strings.Contains(text, canary) {
					t.Errorf("shows %s: %s", canary, text)
				}
			}
		})
	}
	p := prepared{ID: ID{Kind: "ConfigMap"}, body: []byte(`{"data":{"a":"plain-text"}}`)}
	if text := classify(p, errors.New("bad: plain-text, got 7")).Error(); !strings.Contains(text, "plain-text, got 7") {
		t.Errorf("masks what is no secret: %s", text)
	}
}

func TestOurOwnKindsAreForbidden(t *testing.T) {
	for text, bad := range map[string]bool{
		"{apiVersion: plumbline.dev/v1alpha1, kind: Stack, metadata: {name: b.blog}}":                                               true,
		"{apiVersion: plumbline.dev/v1alpha1, kind: Source, metadata: {name: b}}":                                                   true,
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: plumbline.dev, names: {kind: Stack}}}": true,
		"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, spec: {group: example.org, names: {kind: Widget}}}":  false,
		"{apiVersion: v1, kind: ConfigMap}": false,
	} {
		if err := forbidden(Object{Unstructured: object(t, text)}, nil); (err != nil) != bad {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestHiddenInTexts(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 8)
	for _, test := range []struct {
		name, text, want string
		secrets          []string
	}{
		{"a short one, as a word", "pin '42' of 421, 42", "pin 'REDACTED' of 421, REDACTED", []string{"42"}},
		{"a short one beside another", "42 7 42", "REDACTED REDACTED REDACTED", []string{"42", "7"}},
		{"a short one of signs", "a #1 b", "a REDACTED b", []string{"#1"}},
		{"a short one beside a letter of two bytes", "é42 42é 42", "é42 42é REDACTED", []string{"42"}},
		{"a short one that is no text", "<\xfe\xff>", "<REDACTED>", []string{"\xfe\xff"}},
		{"a short one within a long one", "pass 42 word", "REDACTED", []string{"42", "pass 42 word"}},
		{"the longest of some", "abcdefgh", "REDACTEDgh", []string{"abcd", "abcdef", "abcdefx"}},
		{"the middle of some", "abcdefgh", "REDACTEDefgh", []string{"abcd", "abcdefx", "abcdeg"}},
		{"within a word", "xhunter2x", "xREDACTEDx", []string{"hunter2"}},
		{"one that is cut off", "too weak: " + long[:50], "too weak: REDACTED", []string{long}},
		{"one that is cut off in an open quote", `x: Invalid value: "a b ` + long[:20], "x: Invalid value: REDACTED", []string{long}},
		{"a list that is cut off", "x: Invalid value: []string{a b ", "x: Invalid value: REDACTED", []string{long}},
		{"none", "x 42", "x 42", []string{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := hide(test.secrets).mask(test.text); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// manyKeys is a Secret of n keys, each of which the server refuses.
func manyKeys(t testing.TB, n, size int) (prepared, error) {
	t.Helper()
	data := map[string]any{}
	refused := &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Details: &metav1.StatusDetails{}}}
	for i := range n {
		value := fmt.Sprintf("%0*x", size, i)[:size]
		data[fmt.Sprintf("key-%d", i)] = base64.StdEncoding.EncodeToString([]byte(value))
		refused.ErrStatus.Details.Causes = append(refused.ErrStatus.Details.Causes, metav1.StatusCause{
			Field: fmt.Sprintf("data[key-%d]", i), Message: "is weak: '" + value + "'"})
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "a"}, "data": data}}
	body, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return prepared{ID: IDOf(u), body: body}, refused
}

// A Secret with many keys must not keep whoever prints its error.
func TestErrorsOfManyKeys(t *testing.T) {
	for _, size := range []int{3, 4, 40} {
		p, err := manyKeys(t, 4000, size)
		before := time.Now()
		text := classify(p, err).Error()
		if took := time.Since(before); took > 2*time.Second { // it took minutes; see the benchmark
			t.Errorf("size %d took %s", size, took)
		}
		if !strings.HasSuffix(text, "; and 3950 more") || strings.Count(text, "REDACTED") != 50 || strings.Contains(text, "'00") {
			t.Errorf("size %d: %.300s … %.60s", size, text, text[max(0, len(text)-60):])
		}
	}
}

// Secrets that have much in common with each other and with the text.
func TestErrorsOfLikeSecrets(t *testing.T) {
	var alike []string
	for i := range 3000 {
		alike = append(alike, strings.Repeat("a", 10*i)+"b")
	}
	before := time.Now()
	if got := hide(alike).mask(strings.Repeat("a", 64<<10)); strings.Contains(got, "aaaaaaaaaaaa") {
		t.Errorf("shows %.100s", got)
	}
	if took := time.Since(before); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func BenchmarkErrorOfManyKeys(b *testing.B) {
	for _, size := range []int{3, 40} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p, err := manyKeys(b, 5000, size)
			for b.Loop() {
				_ = classify(p, err).Error()
			}
		})
	}
}

// Wherever a long message is cut, no part of a secret stays at its end.
func TestLongMessagesAreCut(t *testing.T) {
	secret := strings.Repeat("0123456789abcdef", 20)
	p := prepared{ID: ID{Kind: "Secret"}, body: []byte(`{"data":{"a":"` + secret + `"}}`)}
	for _, at := range []int{-400, -300, -20, -10, -1, 0, 1, 10, 300, 700, 1000, 1014, 1018, 1023, 1024} {
		at += longestMessage
		for name, message := range map[string]error{
			"a message": errors.New(strings.Repeat("- ", at/2) + secret + strings.Repeat("-", 5000)),
			"a cause": &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonInvalid, Details: &metav1.StatusDetails{
				Causes: []metav1.StatusCause{{Message: strings.Repeat("- ", at/2) + secret + strings.Repeat("-", 5000)}}}}},
			"mistyped": mistypedStatus("failed to create typed patch object (a; b): errors:\n ." + strings.Repeat("- ", at/2-300) + "\n  .a: expected " + secret + secret),
		} {
			text := classify(p, message).Error()
			if len(text) > longestMessage+2*cutMargin || strings.Contains(text, "0123") || strings.Contains(text, "cdef") {
				t.Fatalf("%s at %d: %d bytes, … %s", name, at, len(text), text[max(0, len(text)-300):])
			}
		}
	}
}
