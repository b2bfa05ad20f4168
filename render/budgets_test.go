package render

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestCountedBeforeDecoded refuses 8 MiB of tiny nodes without the memory that decoding takes.
func TestCountedBeforeDecoded(t *testing.T) {
	bomb := configMap("a") + "x: [" + strings.Repeat("a,", 4_000_000) + "]\n"
	for name, text := range map[string]string{
		"resource":     app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + bomb,
		"inline patch": "-- kubernetes/app/kustomization.yaml --\npatchesStrategicMerge:\n- |\n  x: [" + strings.Repeat("a,", 4_000_000) + "]\n",
	} {
		req := request(tree(text))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := Kustomize(context.Background(), req)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "or what could be some") {
			t.Errorf("%s: have error %.200v", name, err)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) / mebi; mib > 100 || time.Since(start) > 5*time.Second {
			t.Errorf("%s: took %d MiB and %s", name, mib, time.Since(start))
		}
	}
}

// TestPossibleNodes is never less than what there is.
func TestPossibleNodes(t *testing.T) {
	for _, text := range []string{
		"a: b\nc:\n- d\n- - e\n  - f: g\n-\n", "[a,b,[c],{d: e,f},{\"g\":h}, i: j, ? k]", "? a\n? b\n: c\n", "a\n", "--- a\n--- b\n...\nc\n",
		"{a:,b:,c: }", "- : x\n- ? \n", "{[a]:b,'c':d}", "", "a: |\n  b: c\n", "- *x\n- &y z\n",
	} {
		roots, count, err := parseCounted("", []byte(strings.ReplaceAll(text, "*x", "&x x")), Budget{}.withDefaults())
		if err != nil {
			continue // a key that is no word
		}
		if most := possibleNodes([]byte(text)); most < count {
			t.Errorf("%q: at most %d nodes, and there are %d in %d documents", text, most, count, len(roots))
		}
	}
}

// TestWorkIsCounted refuses what would take kustomize minutes.
func TestWorkIsCounted(t *testing.T) {
	lines := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	objects := "-- kubernetes/app/all.yaml --\n" + lines(300, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n%d}\n---\n")
	top := "-- kubernetes/app/kustomization.yaml --\nresources: [all.yaml]\n"
	for name, tc := range map[string]struct{ tree, want string }{
		"keys": {app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + configMap("a") + "data:\n" + lines(60_000, "  k%d: v\n"),
			"cm.yaml:6: over budget: more than 5000 keys in one mapping"},
		"keys of an inline plugin": {top + "transformers:\n- |\n  apiVersion: builtin\n  kind: LabelTransformer\n  metadata: {name: a}\n  labels:\n" +
			lines(6_000, "    k%d: v\n") + objects, "more than 5000 keys in one mapping"},
		"keys of a generator": {"-- kubernetes/app/kustomization.yaml --\nconfigMapGenerator: [{name: a, envs: [e]}]\n-- kubernetes/app/e --\n" + lines(60_000, "k%d=v\n"),
			"kustomization.yaml:1: over budget: more than 5000 keys made by one generator"},
		"nodes of all files": {app("cm.yaml", "cm.yaml", "cm.yaml", "cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + configMap("a") + "data: [" + strings.Repeat("x, ", 190_000) + "]\n",
			"YAML nodes in all files, counting repeats"},
		"name references": {top + "configurations: [c.yaml]\n-- kubernetes/app/c.yaml --\nnameReference:\n" +
			lines(1000, "- kind: K%d\n  fieldSpecs: ["+strings.Repeat("{path: spec/a}, ", 20)+"]\n") + objects, "over budget: more than 500000 patches, labels, field specs"},
		"name references of a base": {"-- kubernetes/app/kustomization.yaml --\nresources: [all.yaml, ../b]\n-- kubernetes/b/kustomization.yaml --\nresources: [cm.yaml]\nconfigurations: [c.yaml]\n" +
			"-- kubernetes/b/cm.yaml --\n" + configMap("a") + "-- kubernetes/b/c.yaml --\nnameReference:\n" + lines(250, "- kind: K%d\n  fieldSpecs: ["+strings.Repeat("{path: spec/a}, ", 20)+"]\n") + objects,
			"over budget: more than 500000 patches, labels, field specs"},
		"labels times specs": {top + "commonLabels:\n" + lines(100, "  l%d: x\n") + "configurations: [c.yaml]\n-- kubernetes/app/c.yaml --\ncommonLabels:\n" +
			lines(5000, "- path: spec/a%d\n  create: true\n") + objects, "over budget: more than 500000 patches, labels, field specs"},
		"specs of a plugin": {top + "transformers: [t.yaml]\n-- kubernetes/app/t.yaml --\napiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: a}\nlabels: {a: b}\nfieldSpecs:\n" +
			lines(2000, "- path: spec/a%d\n") + objects, "over budget: more than 500000 patches, labels, field specs"},
		"labels": {top + "commonLabels:\n" + lines(4000, "  l%d: x\n") + objects, "over budget"},
		"wide patches": {top + "patches:\n" + strings.Repeat("- path: p.yaml\n", 1) + lines(5, "- path: p%d.yaml\n") + lines(5, "-- kubernetes/app/p%d.yaml --\n"+configMap("n1")+"data:\n"+
			strings.ReplaceAll(lines(4900, "  k%d: v\n"), "%", "%%")) + "-- kubernetes/app/p.yaml --\n" + configMap("n1") + objects, "over budget: more than 500000 patches"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Kustomize(context.Background(), request(tree(tc.tree)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("have error %.300v\nwant %s", err, tc.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// TestLargeIsFine renders what people have: a dashboard of 500 KB, and a bundle of CRDs with
// 100,000 nodes in one file.
func TestLargeIsFine(t *testing.T) {
	dashboard := `{"panels": [` + strings.TrimSuffix(strings.Repeat(`{"id":1,"type":"graph","title":"CPU","gridPos":{"h":8,"w":12}},`, 8000), ",") + "]}"
	var crds strings.Builder
	for i := range 10 {
		fmt.Fprintf(&crds, "---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c%d}\nspec:\n", i)
		for j := range 500 {
			fmt.Fprintf(&crds, "  p%d:\n", j)
			for k := range 9 {
				fmt.Fprintf(&crds, "    d%d: what, this is: the field's [text]\n", k)
			}
		}
	}
	text := strings.ReplaceAll(crds.String(), "is: the", "is the")
	out := mustRender(t, request(tree("-- kubernetes/app/kustomization.yaml --\nresources: [crds.yaml, cm.yaml]\nconfigMapGenerator: [{name: d, files: [d.json]}]\n"+
		"-- kubernetes/app/d.json --\n"+dashboard+"\n-- kubernetes/app/cm.yaml --\n"+configMap("a")+"data:\n  d.json: |\n    "+dashboard+"\n-- kubernetes/app/crds.yaml --\n"+text)))
	if len(out.Objects) != 12 {
		t.Errorf("have %d objects", len(out.Objects))
	}
}

// TestNoContents keeps what kustomize quotes of a patch, which may be a Secret's, to itself.
func TestNoContents(t *testing.T) {
	_, err := Kustomize(context.Background(), request(tree("-- kubernetes/app/kustomization.yaml --\nresources: [s.yaml]\npatches: [{path: p.yaml}]\n"+
		"-- kubernetes/app/s.yaml --\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: [x]\n"+
		"-- kubernetes/app/p.yaml --\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: hunter2}\n")))
	if err == nil || !strings.Contains(err.Error(), "wrong node kind") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "contents") {
		t.Errorf("have %v", err)
	}
}
