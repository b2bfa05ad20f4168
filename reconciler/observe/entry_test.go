package observe

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestIDString(t *testing.T) {
	for want, id := range map[string]ID{
		"Deployment.apps o11y/grafana":                      {"apps", "Deployment", "o11y", "grafana"},
		"Namespace o11y":                                    {"", "Namespace", "", "o11y"},
		"CustomResourceDefinition.apiextensions.k8s.io a.b": {"apiextensions.k8s.io", "CustomResourceDefinition", "", "a.b"},
		"ConfigMap o11y/dashboards":                         {"", "ConfigMap", "o11y", "dashboards"},
	} {
		if got := id.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEntryOf(t *testing.T) {
	obj := deployment(t)
	want := Entry{
		ID:              ID{"apps", "Deployment", "o11y", "grafana"},
		UID:             "5d1b4f0e-9d0c-4f43-8f5e-0a3a2f6f1c11",
		ResourceVersion: "48211",
		Generation:      3,
		Stack:           "grafana",
		PartOf:          "applyset-Q5zMY0dLQ2gGm3yA1v3sXx1r0cW7kJ8dH9tqB2nE4uo-v1",
		Fingerprint:     FingerprintOf(obj, "plumbline"),
		Status:          status.CurrentStatus,
	}
	got := entryOf(obj, "plumbline", newJudge())
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	r := recordOf(got)
	if diff := cmp.Diff(want, r.entry()); diff != "" {
		t.Errorf("entry of its record (-want +got):\n%s", diff)
	}
}

func TestHealth(t *testing.T) {
	condition := func(kv ...any) map[string]any { return object("conditions", list(object(kv...))) }
	crd := func(status any) map[string]any {
		return object("apiVersion", "apiextensions.k8s.io/v1", "kind", "CustomResourceDefinition", "metadata", object("name", "x"), "status", status)
	}
	custom := func(status any) map[string]any {
		return object("apiVersion", "example.org/v1", "kind", "Pipeline", "metadata", object("name", "x", "generation", int64(2)), "status", status)
	}
	tests := []struct {
		name    string
		object  map[string]any
		want    status.Status
		message string
	}{
		{"a ConfigMap", object("apiVersion", "v1", "kind", "ConfigMap"), status.CurrentStatus, ""},
		{"a CRD at first", crd(object()), status.InProgressStatus, "Install in progress"},
		{"a CRD, established", crd(condition("type", "Established", "status", "True")), status.CurrentStatus, ""},
		{"a CRD whose name is taken", crd(condition("type", "NamesAccepted", "status", "False", "message", "taken")), status.FailedStatus, "taken"},
		{"a custom resource that says nothing", custom(object()), status.CurrentStatus, ""},
		{"a custom resource, ready", custom(condition("type", "Ready", "status", "True", "message", "fine")), status.CurrentStatus, ""},
		{"a custom resource, not ready", custom(condition("type", "Ready", "status", "False", "message", "wait")), status.InProgressStatus, "wait"},
		{"a custom resource, stalled", custom(condition("type", "Stalled", "status", "True", "message", "no")), status.FailedStatus, "no"},
		{"a status that is behind", custom(object("observedGeneration", int64(1))), status.InProgressStatus, "Pipeline generation is 2, but latest observed generation is 1"},
		{"a status that is no object", custom("fine"), status.UnknownStatus, "compute status"},
		{"conditions that are no list", custom(object("conditions", "fine")), status.UnknownStatus, "compute status"},
		{"a deletion", object("metadata", object("deletionTimestamp", "2026-05-02T10:00:00Z")), status.TerminatingStatus, "Resource scheduled for deletion"},
		{"a Deployment past its deadline", object("apiVersion", "apps/v1", "kind", "Deployment", "spec", object("progressDeadlineSeconds", int64(1)),
			"status", condition("type", "Progressing", "status", "False", "reason", "ProgressDeadlineExceeded", "message", "x")), status.FailedStatus, "Progress deadline exceeded"},
		{"what kstatus panics on", object("apiVersion", "v1", "kind", "Pod", "status", object("phase", "Running", "containerStatuses", list("?"))), status.UnknownStatus, "compute status"},
		{"nothing", nil, status.CurrentStatus, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, message := newJudge().healthOf(&unstructured.Unstructured{Object: tt.object}, "")
			if got != tt.want || !strings.HasPrefix(message, tt.message) || (tt.message == "") != (message == "") {
				t.Errorf("got %s %q, want %s %q", got, message, tt.want, tt.message)
			}
		})
	}
}

func TestBounded(t *testing.T) {
	const kept = messageLimit + messageMargin
	for _, message := range []string{"", "short", strings.Repeat("x", kept), strings.Repeat("x", kept+1), strings.Repeat("é", 1000), strings.Repeat("漢", kept/3), "a\xffb" + strings.Repeat("\xff", 500)} {
		got := bounded(message)
		if len(got) > kept || !utf8.ValidString(got) {
			t.Errorf("bounded(%q) = %q, %d bytes", message, got, len(got))
		}
		if len(message) <= kept && utf8.ValidString(message) && got != message {
			t.Errorf("bounded(%q) = %q", message, got)
		}
	}
}

// TestShown: wherever a secret is in a message, no part of it is shown.
func TestShown(t *testing.T) {
	const secret = "hunter2-that-is-some-characters-long-as-tokens-are"
	mask := func(text string) string { return strings.ReplaceAll(text, secret, "***") }
	for _, filler := range []string{"x", "é", "漢"} {
		for n := range 450 {
			got := Shown(bounded(strings.Repeat(filler, n)+secret+strings.Repeat(filler, 300)), mask)
			if strings.Contains(got, "hun") || len(got) > messageLimit || !utf8.ValidString(got) {
				t.Fatalf("%d: %q, %d bytes", n, got, len(got))
			}
			got = Shown(bounded(strings.Repeat(filler, n)+secret), mask)
			if strings.Contains(got, "hun") || len(got) > messageLimit || !utf8.ValidString(got) {
				t.Fatalf("%d: %q, %d bytes", n, got, len(got))
			}
		}
	}
	for _, message := range []string{"", "short", strings.Repeat("x", messageLimit), "ends in …"} {
		if got := Shown(bounded(message), mask); got != message {
			t.Errorf("%q is shown as %q", message, got)
		}
	}
}

// Whatever an object looks like, reducing it ends well, and kstatus' panics are a status.
func FuzzEntryOf(f *testing.F) {
	for _, obj := range documents(f, "others.yaml") {
		data, _ := obj.MarshalJSON()
		f.Add(data)
	}
	data, _ := deployment(f).MarshalJSON()
	f.Add(data)
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"labels":5,"ownerReferences":[5]},"status":{"phase":"Running","conditions":[{"type":"Ready"}],"containerStatuses":[5]}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Pod","status":{"phase":"Running","containerStatuses":[{"state":5}]}}`))
	f.Add([]byte(`{"apiVersion":"v1","kind":"Service","spec":{"type":"LoadBalancer"},"status":{"loadBalancer":5}}`))
	f.Add([]byte(`{"apiVersion":"batch/v1","kind":"Job","metadata":5,"status":{"conditions":[null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		obj := &unstructured.Unstructured{}
		if json.Unmarshal(data, &obj.Object) != nil {
			return
		}
		if entry := entryOf(obj, "plumbline", newJudge()); entry.Status == "" || (entry.Message == "") != (entry.Status == status.CurrentStatus) {
			t.Errorf("status %q, message %q", entry.Status, entry.Message)
		}
	})
}
