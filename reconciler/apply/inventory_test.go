package apply

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The ID is fixed by KEP-3659; any other tool has to come to the same.
func TestSetID(t *testing.T) {
	const want = "applyset-" // base64url(sha256("home.web..Stack.plumbline.dev"))
	id := SetID("home.web")
	if id[:9] != want || id[len(id)-3:] != "-v1" || len(id) != 9+43+3 {
		t.Errorf("got %s", id)
	}
	if id != "applyset-nEAnpZnnV1GdjVrkfWHMh075tCLclbSMgtmkysQSafI-v1" {
		t.Errorf("got %s: it must never change, or every inventory is lost", id)
	}
	if len(id) > 63 {
		t.Error("is no label value")
	}
}

func TestParentAdmitsWhatItContains(t *testing.T) {
	ids := []ID{{"apps", "Deployment", "a", "x"}, {"", "Service", "b", "x"}, {"apps", "Deployment", "b", "y"}, {"", "Namespace", "", "a"}}
	parent := parentObject("s", map[string]any{}, contentsOf(ids))
	want := map[string]string{toolingAnnotation: tooling, groupKindsAnnotation: "Deployment.apps,Namespace,Service", namespacesAnnotation: "a,b"}
	if diff := cmp.Diff(want, parent.GetAnnotations()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(contentsOf(ids), admitted(parent), cmp.AllowUnexported(contents{})); diff != "" {
		t.Errorf("reading it back: %s", diff)
	}
	if !says(parent, parent) || says(parent, parentObject("s", map[string]any{"path": "x"}, contentsOf(ids))) ||
		says(parent, parentObject("s", map[string]any{}, contentsOf(ids[:1]))) {
		t.Error("a difference is not seen, or one is invented")
	}
}

func TestDigest(t *testing.T) {
	base := map[ID]Applied{{Kind: "ConfigMap", Name: "a"}: {UID: "1"}, {Kind: "Secret", Name: "s"}: {UID: "2", Hash: Hash{7}}}
	key := []byte("one")
	if Digest(key, base) == Digest([]byte("two"), base) {
		t.Error("who has no key can compute it, and try values")
	}
	for name, changed := range map[string]map[ID]Applied{
		"live":   {{Kind: "ConfigMap", Name: "a"}: {UID: "1", Fingerprint: Fingerprint{1}}, {Kind: "Secret", Name: "s"}: {UID: "2", Hash: Hash{7}}},
		"Secret": {{Kind: "ConfigMap", Name: "a"}: {UID: "1"}, {Kind: "Secret", Name: "s"}: {UID: "2", Hash: Hash{8}}},
	} {
		if Digest(key, base) == Digest(key, changed) {
			t.Errorf("a change is not seen: %s", name)
		}
	}
}
