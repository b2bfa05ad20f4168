package main

import (
	"io/fs"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/stacks"
)

func TestStages(t *testing.T) {
	pushed := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	j := journey{
		pushed: pushed, seen: pushed.Add(90 * time.Millisecond), applied: pushed.Add(130 * time.Millisecond), ready: pushed.Add(1400 * time.Millisecond),
		moved: lab.Record{"took": "4ms"},
		run:   lab.Record{"msg": "run", "created": 1.0, "changed": 2.0, "deleted": 0.0, "unchanged": 5.0},
	}
	good := []string{
		"      +0 ms  pushed    the Git server has it",
		"     +90 ms  seen      told by the server's hook; fetched, and rendered in 4ms",
		"    +130 ms  applied   1 created, 2 changed, 5 untouched",
		"     +1.4 s  Ready     what runs is what Git says",
	}
	if diff := cmp.Diff(good, j.stages()); diff != "" {
		t.Error(diff)
	}
	j.run = lab.Record{"msg": "run failed", "error": "no"}
	bad := append(good[:2:2], "    +130 ms  refused   by the API server, in a dry-run of all objects")
	if diff := cmp.Diff(bad, j.stages()); diff != "" {
		t.Error(diff)
	}
}

func TestSentence(t *testing.T) {
	for _, test := range []struct {
		record lab.Record
		want   string
	}{
		{lab.Record{"msg": "source moved", "source": "team", "revision": "a307950ff", "changed": 1.0, "stacks": 2.0}, "source team is at a307950: 1 of 2 stacks changed"},
		{lab.Record{"msg": "run", "stack": "team.shop", "trigger": "drift", "changed": 1.0, "unchanged": 3.0}, ""},
		{lab.Record{"msg": "drift", "stack": "team.shop", "kind": "Deployment.apps", "namespace": "shop", "name": "shop", "what": "changed", "manager": "kubectl",
			"fields": "spec.replicas: 2 → 0\nspec.paused: true → (none)", "seconds": 0.0421}, "team.shop  Deployment.apps shop/shop: changed by kubectl: spec.replicas: 2 → 0, put right after 42 ms"},
		{lab.Record{"msg": "drift", "stack": "team.shop", "kind": "Service", "namespace": "shop", "name": "shop", "what": "deleted"}, "team.shop  Service shop/shop: deleted"},
		{lab.Record{"msg": "run", "stack": "team.shop", "trigger": "interval", "unchanged": 3.0}, ""},
		{lab.Record{"msg": "run", "stack": "team.shop", "held": "too many"}, "team.shop  deletions held: too many"},
		{lab.Record{"msg": "run failed", "stack": "team.shop", "error": "a.yaml: no\nb.yaml: no"}, "team.shop  failed: a.yaml: no"},
		{lab.Record{"msg": "stack ready", "stack": "team.shop", "revision": "a307950ff", "objects": "4/4"}, "team.shop  Ready at a307950, 4/4 objects"},
		{lab.Record{"msg": "standing by"}, ""},
	} {
		if got, _ := sentence(test.record); got != test.want {
			t.Errorf("%v: got %q, want %q", test.record, got, test.want)
		}
	}
}

// What is said before anything happens fits, unbroken, on the narrowest screen
// that it was written for.
func TestStoryFits(t *testing.T) {
	for _, s := range story {
		if n := utf8.RuneCountInString(s.look) + len(indent); n > widest {
			t.Errorf("%q takes %d columns", s.look, n)
		}
		if n := utf8.RuneCountInString(s.title) + len(indent); n > widest {
			t.Errorf("%q takes %d columns", s.title, n)
		}
	}
}

// The repositories declare the stacks that the demo waits for.
func TestExpected(t *testing.T) {
	var names []string
	for source, files := range map[string]fs.FS{"pipeline": stacks.FS, "team": sub(t, teamFiles, "team")} {
		declared, broken, err := reconciler.Discover(files, reconciler.SourceConfig{Name: source})
		if err != nil || len(broken) > 0 {
			t.Fatal(err, broken)
		}
		for _, d := range declared {
			names = append(names, d.Name)
		}
	}

	if diff := cmp.Diff(expected, slices.Sorted(slices.Values(names))); diff != "" {
		t.Errorf("what is expected, and what there is:\n%s", diff)
	}
}

// The daemon takes the configuration as it is written here.
func TestConfiguration(t *testing.T) {
	text := configuration("/tmp/it's here/kubeconfig", "/tmp/state", &lab.Repo{Name: "team", URL: "http://127.0.0.1:1/team.git"})
	config, err := reconciler.ParseConfig("plumbline.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if config.Cluster.Kubeconfig != "/tmp/it's here/kubeconfig" || config.Sources[0].Ref.Branch != "main" {
		t.Errorf("%+v", config)
	}
}

func TestQuoted(t *testing.T) {
	if got := quoted("it's"); got != `'it'\''s'` {
		t.Error(got)
	}
}

func sub(t *testing.T, files fs.FS, dir string) fs.FS {
	t.Helper()
	out, err := fs.Sub(files, dir)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
