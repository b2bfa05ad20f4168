package render

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"
)

// TestRemoteIsRefused puts something to fetch into every field that names a file, with a
// server that would notice and a git that would too.
func TestRemoteIsRefused(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	bin := t.TempDir()
	ran := filepath.Join(bin, "ran")
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte("#!/bin/sh\ntouch "+ran+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)

	remotes := []string{
		server.URL + "/x.yaml", strings.ToUpper(server.URL[:4]) + server.URL[4:] + "/a/b",
		"https://github.com/a/b", "github.com/a/b", "GitHub.com/a/b//c?ref=v1", "github.com:a/b", "git@example.com:a/b.git",
		"ssh://git@example.com/a/b", "git::https://example.com/a/b", "file:///etc/a", "me@host:a/b", "git::github.com/a/b",
	}
	fields := map[string]string{
		"resources": "resources: [%q]", "bases": "bases: [%q]", "components": "components: [%q]",
		"other case": "Resources: [%q]",
		"generators": "generators: [%q]", "transformers": "transformers: [%q]", "validators": "validators: [%q]",
		"configurations": "configurations: [%q]", "crds": "crds: [%q]", "openapi": "openapi: {path: %q}",
		"patches": "resources: [cm.yaml]\npatches: [{path: %q}]", "patchesStrategicMerge": "resources: [cm.yaml]\npatchesStrategicMerge: [%q]",
		"patchesJson6902": "resources: [cm.yaml]\npatchesJson6902: [{path: %q, target: {version: v1, kind: ConfigMap, name: a}}]",
		"replacements":    "replacements: [{path: %q}]", "files": "configMapGenerator: [{name: a, files: [%q]}]",
		"files with a key": "configMapGenerator: [{name: a, files: [%q]}]", "envs": "secretGenerator: [{name: a, envs: [%q]}]", "env": "configMapGenerator: [{name: a, env: %q}]",
		"inline plugin": "resources: [cm.yaml]\ntransformers:\n- |\n  {apiVersion: builtin, kind: PatchTransformer, metadata: {name: a}, Path: %q}",
		"plugin file":   "resources: [cm.yaml]\ntransformers: [t.yaml]\n-- kubernetes/app/t.yaml --\n{apiVersion: builtin, kind: PatchTransformer, metadata: {name: a}, path: %q}",
		"plugin directory": "resources: [cm.yaml]\ntransformers: [../t]\n-- kubernetes/t/kustomization.yaml --\nresources: [t.yaml]\n" +
			"-- kubernetes/t/t.yaml --\n{apiVersion: builtin, kind: ReplacementTransformer, metadata: {name: a}, replacements: [{path: %q}]}",
		"generator plugin": "generators: [g.yaml]\n-- kubernetes/app/g.yaml --\n{apiVersion: builtin, kind: SecretGenerator, metadata: {name: a}, files: [%q]}",
		"value plugin":     "resources: [cm.yaml]\ntransformers: [g.yaml]\n-- kubernetes/app/g.yaml --\n{apiVersion: builtin, kind: ValueAddTransformer, metadata: {name: a}, value: x, targetFilePath: %q}",
		"merge plugin":     "resources: [cm.yaml]\ntransformers: [g.yaml]\n-- kubernetes/app/g.yaml --\n{apiVersion: builtin, kind: PatchStrategicMergeTransformer, metadata: {name: a}, paths: [%q]}",
	}
	for name, text := range fields {
		for _, remote := range remotes {
			entry := remote
			if name == "files with a key" {
				entry = "key=" + remote
			}
			if strings.Contains(remote, "=") && strings.Contains(text, "files") {
				continue
			}
			fsys := tree("-- kubernetes/app/kustomization.yaml --\n" + fmt.Sprintf(text, entry) + "\n" + oneConfigMap)
			_, err := Kustomize(context.Background(), request(fsys))
			if err == nil || !strings.Contains(err.Error(), "is not in this repository: nothing is fetched") || !strings.Contains(err.Error(), remote) {
				t.Errorf("%s: %s: have error %v", name, remote, err)
			}
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("kustomize asked the server %d times", n)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("kustomize ran git")
	}
}

// TestStaysInTree climbs out by every field that names a path.
func TestStaysInTree(t *testing.T) {
	for _, entry := range []string{"../../../etc/passwd", "../../../../../../../../etc/passwd", "/etc/passwd", "x/../../../../etc", "../../../tree/kubernetes/app/cm.yaml"} {
		for name, text := range map[string]string{
			"resources": "resources: [%q]", "components": "components: [%q]", "transformers": "transformers: [%q]",
			"configMapGenerator": "configMapGenerator: [{name: a, files: [x=%s]}]", "patches": "patches: [{path: %q}]", "crds": "crds: [%q]",
		} {
			fsys := tree("-- kubernetes/app/kustomization.yaml --\n" + fmt.Sprintf(text, entry) + "\n-- etc/passwd --\nx\n" + oneConfigMap)
			_, err := Kustomize(context.Background(), request(fsys))
			if err == nil || !strings.Contains(err.Error(), "leaves the repository") && !strings.Contains(err.Error(), "is absolute") {
				t.Errorf("%s: %s: have error %v", name, entry, err)
			}
		}
	}
}

// TestBudgets holds bombs: each must be refused, soon and without the memory it asks for.
func TestBudgets(t *testing.T) {
	var aliases strings.Builder
	aliases.WriteString(configMap("a") + "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&aliases, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	copies := "resources: [cm.yaml]\npatches:\n- target: {name: a}\n  patch: |\n" + strings.Repeat("    - {op: copy, from: /data, path: /data/x}\n", 40)
	grow := "resources: [cm.yaml]\nreplacements:\n" + strings.Repeat("- source: {kind: ConfigMap, fieldPath: data.v}\n  targets: [{select: {kind: ConfigMap}, "+
		"fieldPaths: [data.v], options: {delimiter: \"-\", index: 99}}]\n", 40)
	doubling := "-- kubernetes/app/kustomization.yaml --\nresources: [../b0/l, ../b0/r]\n"
	for i := range 20 {
		for _, side := range []string{"l", "r"} {
			doubling += fmt.Sprintf("-- kubernetes/b%d/%s/kustomization.yaml --\nnamePrefix: %s\nresources: [../../b%d/l, ../../b%d/r]\n", i, side, side, i+1, i+1)
		}
	}
	for _, side := range []string{"l", "r"} {
		doubling += fmt.Sprintf("-- kubernetes/b20/%s/kustomization.yaml --\nresources: [cm.yaml]\n-- kubernetes/b20/%s/cm.yaml --\n%s", side, side, configMap(side))
	}
	for _, tc := range []struct {
		name, tree, want string
		budget           Budget
	}{
		{name: "aliases", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + aliases.String(), want: "YAML nodes once aliases are expanded"},
		{name: "alias of itself", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + configMap("a") + "a: &a [*a]\n", want: "contains itself"},
		{name: "depth", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + configMap("a") + "a: " + strings.Repeat("[", 300) + strings.Repeat("]", 300), want: "levels of nesting"},
		{name: "great depth", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + configMap("a") + "a: " + strings.Repeat("[", 1_000_000), want: "YAML nodes, or what could be some"},
		{name: "depth in JSON", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), want: "levels of nesting"},
		{name: "large file", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n#" + strings.Repeat("x", 9<<20), want: "bytes in one file"},
		{name: "all files", tree: app("cm.yaml") + oneConfigMap, budget: Budget{TotalBytes: 40}, want: "bytes in all files"},
		{name: "all files with repeats", tree: app("cm.yaml", "cm.yaml", "cm.yaml") + oneConfigMap, budget: Budget{TotalBytes: 150}, want: "counting repeats"},
		{name: "files", tree: nesting(30), budget: Budget{Files: 20}, want: "counting repeats"},
		{name: "objects", tree: app("cm.yaml") + "-- kubernetes/app/cm.yaml --\n" + strings.Repeat(configMap("a")+"---\n", 30), budget: Budget{Objects: 20}, want: "objects, counting repeats"},
		{name: "doubling bases", tree: doubling, want: "counting repeats"},
		{name: "nesting", tree: nesting(60), want: "kustomizations nested in one another"},
		{name: "copies", tree: "-- kubernetes/app/kustomization.yaml --\n" + copies + oneConfigMap + "data: {a: b}\n", want: "feed themselves"},
		{name: "growth", tree: "-- kubernetes/app/kustomization.yaml --\n" + grow + oneConfigMap + "data: {v: a-b}\n", want: "feed themselves"},
		{name: "patch on many objects", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [all.yaml]\npatches: [{target: {kind: ConfigMap}, path: p.yaml}]\n-- kubernetes/app/all.yaml --\n" +
			strings.Repeat(configMap("a")+"---\n", 10) + "-- kubernetes/app/p.yaml --\n" + configMap("a") + "data: {x: " + strings.Repeat("y", 800) + "}\n",
			budget: Budget{TotalBytes: 1600}, want: "bytes of patches times the objects"},
		{name: "vars", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nvars: [{name: A, objref: {kind: ConfigMap, apiVersion: v1, name: a}, fieldref: {fieldpath: data.x}}]\n" +
			oneConfigMap + "data: {x: " + strings.Repeat("y", 200) + ", z: '" + strings.Repeat("$(A)", 100) + "'}\n",
			budget: Budget{TotalBytes: 1000}, want: "bytes that vars could put"},
		{name: "steps", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\npatches:\n" + strings.Repeat("- {target: {name: a}, patch: '[]'}\n", 30) + oneConfigMap,
			budget: Budget{Steps: 20}, want: "other changes"},
		{name: "steps of a component", tree: "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\ncomponents: [../c]\n" + oneConfigMap +
			"-- kubernetes/c/kustomization.yaml --\nkind: Component\npatches:\n" + strings.Repeat("- {target: {name: a}, patch: '[]'}\n", 30),
			budget: Budget{Steps: 20}, want: "other changes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := request(tree(tc.tree))
			req.Budget = tc.budget
			start := time.Now()
			_, err := Kustomize(context.Background(), req)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("have error %.300v\nwant %s", err, tc.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

func nesting(n int) string {
	text := app("../b0")
	for i := range n {
		text += fmt.Sprintf("-- kubernetes/b%d/kustomization.yaml --\nresources: [../b%d]\n", i, i+1)
	}
	return text
}

// TestDaemonLives holds what makes kustomize exit the process (log.Fatal) or panic.
func TestDaemonLives(t *testing.T) {
	for name, text := range map[string]string{
		"empty key, merged":         "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nconfigMapGenerator: [{name: a, behavior: merge, literals: [x=y]}]\n" + oneConfigMap + "data: {\"\": x}\n",
		"empty key, patched":        "-- kubernetes/app/kustomization.yaml --\nresources: [../b]\nconfigMapGenerator: [{name: a, behavior: merge, literals: [x=y]}]\n-- kubernetes/b/kustomization.yaml --\nresources: [cm.yaml]\npatches: [{target: {name: a}, patch: '[{op: add, path: /data/, value: x}]'}]\n-- kubernetes/b/cm.yaml --\n" + configMap("a") + "data: {a: b}\n",
		"data is text, merged":      "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nconfigMapGenerator: [{name: a, behavior: merge, literals: [x=y]}]\n" + oneConfigMap + "data: x\n",
		"metadata is text":          app("cm.yaml") + "-- kubernetes/app/cm.yaml --\napiVersion: v1\nkind: ConfigMap\nmetadata: x\n",
		"json6902 without a target": "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\npatchesJson6902: [{patch: '[]'}]\n" + oneConfigMap,
		"empty openapi file":        "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nopenapi: {path: s.json}\n" + oneConfigMap + "-- kubernetes/app/s.json --\n",
		"openapi file of nonsense":  "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nopenapi: {path: s.json}\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: z}}'}]\n" + oneConfigMap + "-- kubernetes/app/s.json --\n[1, 2]\n",
		"empty crds file":           "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\ncrds: [s.json]\n" + oneConfigMap + "-- kubernetes/app/s.json --\n",
		"crds in a circle": "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\ncrds: [s.json]\n" + oneConfigMap +
			`-- kubernetes/app/s.json --` + "\n" + `{"a b.T": {"Schema": {"properties": {"kind": {}, "apiVersion": {}, "metadata": {}, "x": {"$ref": "a%20b.U"}}}}, "a%20b.U": {"Schema": {"properties": {"y": {"$ref": "a%20b.U"}}}}}`,
		"openapi in a circle": strings.Replace(withOpenAPI, `"properties": {"spec": {"type": "object", `, `"properties": {"spec": {"$ref": "#/definitions/a"}}}, "a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}, "c": {"type": "object", "properties": {"spec": {"type": "object", `, 1),
		"null target":         "-- kubernetes/app/kustomization.yaml --\nresources: [cm.yaml]\nreplacements: [{source: {kind: ConfigMap}, targets: [null]}]\n" + oneConfigMap,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Kustomize(context.Background(), request(tree(text)))
			t.Logf("%.300v", err) // it came back
		})
	}
	mustRender(t, request(tree(app("cm.yaml")+oneConfigMap)))
}

// TestEndOfTime stops where the next file is asked for, and is no error of the files.
func TestEndOfTime(t *testing.T) {
	req := request(tree(app("cm.yaml") + oneConfigMap))
	req.Budget.Time = time.Nanosecond
	_, err := Kustomize(context.Background(), req)
	var input *InputError
	if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &input) {
		t.Errorf("have %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	errBoom := errors.New("boom")
	cancel(errBoom)
	if _, err := Kustomize(ctx, request(fstest.MapFS{})); !errors.Is(err, errBoom) {
		t.Errorf("have %v, want the cause", err)
	}
}
