package templates_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

var update = flag.Bool("update", false, "write generated files anew")

// TestDashboardsAreCurrent holds the files to what board_test.go has.
func TestDashboardsAreCurrent(t *testing.T) {
	want, err := dashboards()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		if *update {
			if err := os.MkdirAll(filepath.Join("dashboards", filepath.Dir(name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join("dashboards", name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	have := shipped(t)
	for name, text := range want {
		if diff := cmp.Diff(string(text), string(have[name])); diff != "" {
			t.Errorf("dashboards/%s is not what boards_test.go says; make generate writes it anew:\n%s", name, diff)
		}
	}
	for name := range have {
		if want[name] == nil {
			t.Errorf("dashboards/%s: nobody writes it", name)
		}
	}
}

// shipped are the dashboards as they are on disk.
func shipped(t *testing.T) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir("dashboards", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, _ := filepath.Rel("dashboards", path)
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDashboardsHaveGrafanasSchema decodes them more strictly than Grafana does, which ignores what it doesn't know.
func TestDashboardsHaveGrafanasSchema(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	for name, text := range shipped(t) {
		if err := checkSchema(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, broken := range map[string]string{
			"a misspelt field of a panel":      strings.Replace(string(text), `"gridPos"`, `"gridpos"`, 1),
			"a misspelt option":                strings.Replace(string(text), `"colorMode"`, `"colourMode"`, 1),
			"a misspelt field of a query":      strings.Replace(string(text), `"legendFormat"`, `"legend"`, 1),
			"an unknown field of the whole":    strings.Replace(string(text), `"graphTooltip"`, `"tooltip"`, 1),
			"a word where a number should be":  strings.Replace(string(text), `"schemaVersion": 39`, `"schemaVersion": "new"`, 1),
			"a width that no panel can have":   strings.Replace(string(text), `"w": 4`, `"w": 40`, 1),
			"a misspelt field of its defaults": strings.Replace(string(text), `"thresholds"`, `"treshholds"`, 1),
		} {
			if broken != string(text) && checkSchema([]byte(broken)) == nil {
				t.Errorf("%s: %s goes unseen", name, what)
			}
		}
	}
}

// checkSchema leaves out what annotations have of their data source: the SDK knows those of no data source.
func checkSchema(text []byte) error {
	var raw object
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	for _, a := range raw["annotations"].(object)["list"].([]any) {
		maps.DeleteFunc(a.(object), func(key string, _ any) bool {
			return slices.Contains([]string{"step", "titleFormat", "textFormat"}, key)
		})
	}
	text, err := json.Marshal(raw)
	if err != nil {
		return err
	}
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict(text); err != nil {
		return err
	}
	if err := d.Validate(); err != nil {
		return err
	}
	known, err := json.Marshal(d)
	if err != nil {
		return err
	}
	var back object
	if err := json.Unmarshal(known, &back); err != nil {
		return err
	}
	return lost(raw, back, "dashboard")
}

// lost complains of what isn't there any more when the SDK has taken a dashboard and given it back: what its types
// don't know, below the places at which it is strict.
func lost(from, back any, at string) error {
	switch from := from.(type) {
	case object:
		there, _ := back.(object)
		for key, value := range from {
			if _, ok := there[key]; !ok && value != nil {
				return fmt.Errorf("%s has a field %s that Grafana doesn't know", at, key)
			}
			if err := lost(value, there[key], at+"."+key); err != nil {
				return err
			}
		}
	case []any:
		there, _ := back.([]any)
		for i, value := range from {
			if i >= len(there) {
				return fmt.Errorf("%s has an element too many", at)
			}
			if err := lost(value, there[i], fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// asked is a query of a dashboard, or of the rules.
type asked struct{ where, store, expr string }

var dashboardsAnyUID = regexp.MustCompile(`"uid": "([^"]*)"`)

// queries are all of the dashboards, by the plugin that they go to, and of each the data source is a variable.
func queries(t *testing.T) (all []asked) {
	t.Helper()
	for name, text := range shipped(t) {
		var d struct {
			UID    string
			Panels []struct {
				Title, Type string
				Targets     []struct {
					Expr       string
					Datasource struct{ Type, UID string }
				}
			}
			Annotations struct {
				List []struct{ Name, Expr string }
			}
			Templating struct {
				List []struct{ Name, Definition string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, uid := range dashboardsAnyUID.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains([]string{d.UID, "${metrics}", "${logs}"}, uid[1]) {
				t.Errorf("%s: %s is a data source of somebody's own", name, uid[1])
			}
		}
		for _, p := range d.Panels {
			if p.Type != "row" && len(p.Targets) == 0 {
				t.Errorf("%s: %s asks nothing", name, p.Title)
			}
			for _, q := range p.Targets {
				all = append(all, asked{name + ": " + p.Title, q.Datasource.Type, q.Expr})
			}
		}
		for _, a := range d.Annotations.List {
			all = append(all, asked{name + ": " + a.Name, "prometheus", a.Expr})
		}
		for _, v := range d.Templating.List {
			if expr, _, ok := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ", "); ok {
				all = append(all, asked{name + ": the variable " + v.Name, "prometheus", expr})
			}
		}
	}
	return all
}

// chosen puts in what Grafana would, where everything is chosen.
var chosen = strings.NewReplacer("$__rate_interval", "1m", "$__interval", "1m", "$__range", "1h",
	"${stack:regex}", ".*", "${source:regex}", ".*", "$stack", ".*", "$source", ".*")

// TestPromQL parses every expression with Prometheus' own parser, and holds its metrics and labels to the tables.
func TestPromQL(t *testing.T) {
	var exprs []asked
	for _, q := range queries(t) {
		if q.store == "prometheus" {
			exprs = append(exprs, q)
		}
	}
	for _, r := range alertRules(t) {
		exprs = append(exprs, asked{"alert " + r.Alert, "prometheus", r.Expr})
	}
	if len(exprs) < 100 {
		t.Fatalf("only %d expressions were found", len(exprs))
	}
	known := knownMetrics(t)
	for i, a := range parsePromQL(t, exprs) {
		for _, wrong := range a.wrong(known) {
			t.Errorf("%s: %s\n%s", exprs[i].where, wrong, exprs[i].expr)
		}
	}
	t.Logf("%d expressions", len(exprs))
}

// TestPromQLFindsMistakes: what TestPromQL would not let through.
func TestPromQLFindsMistakes(t *testing.T) {
	known := knownMetrics(t)
	for name, expr := range map[string]string{
		"no such metric":           `sum(plumbline_stack_redy)`,
		"no such label":            `plumbline_stack_ready{plumbline_kind="x"}`,
		"no such label to sum by":  `sum by (plumbline_kind) (plumbline_stack_ready)`,
		"no such label to join on": `plumbline_stack_ready * on (plumbline_kind) plumbline_stack_info`,
		"a series of no histogram": `plumbline_runs_total_bucket`,
		"no _total":                `plumbline_runs`,
		"does not parse":           `sum(plumbline_runs_total`,
		"a histogram without le":   `sum by (le) (plumbline_stack_ready)`,
		"a range where a point is": `plumbline_runs_total[5m]`,
		"somebody else's":          `kube_pod_info`,
	} {
		t.Run(name, func(t *testing.T) {
			if len(parsePromQL(t, []asked{{expr: expr}})[0].wrong(known)) == 0 {
				t.Error("goes unseen:", expr)
			}
		})
	}
}

// knownMetrics are the series on /metrics, with their labels.
func knownMetrics(t *testing.T) map[string][]string {
	t.Helper()
	known := map[string][]string{}
	scraped := []string{"job", "instance"}
	for _, m := range telemetry.Metrics() {
		labels := slices.Clone(scraped)
		for _, key := range m.Attributes {
			labels = append(labels, telemetry.PrometheusLabel(key))
		}
		if m.Kind != telemetry.Histogram {
			known[m.Prometheus()] = labels
			continue
		}
		known[m.Prometheus()+"_bucket"] = append(slices.Clone(labels), "le")
		known[m.Prometheus()+"_sum"], known[m.Prometheus()+"_count"] = labels, labels
	}
	registry := prometheus.NewRegistry() // as newSignals of cmd/plumbline has it
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		known[family.GetName()] = scraped
	}
	return known
}

// fieldsOf finds the names of fields in a query of logs.
var (
	fieldsOfLogsQL = regexp.MustCompile("(?:^|[ (])\"?([A-Za-z_.]+)\"?:(?:[=~]|in\\()|by \\(([^)]*)\\)")
	fieldsOfLogQL  = regexp.MustCompile(`(?:[|{] ?)([A-Za-z_]+)(?:=~|=|!=)|by \(([^)]*)\)`)
	messageOf      = regexp.MustCompile("_msg:=\"([^\"]*)\"|\\|~ `\\^([^$]*)\\$`")
)

// ofEveryRecord are fields that OTLP brings, as either store calls them.
var ofEveryRecord = []string{"service.name", "service_name", "_msg", "severity", "severity_text"}

// TestLogQueries holds the fields in LogsQL, LogQL and tables to the records.
func TestLogQueries(t *testing.T) {
	count := 0
	for _, q := range queries(t) {
		if q.store == "prometheus" {
			continue
		}
		count++
		for _, wrong := range wrongFields(q) {
			t.Errorf("%s: %s\n%s", q.where, wrong, q.expr)
		}
	}
	if count < 16 {
		t.Errorf("only %d queries were found", count)
	}
	for _, q := range []asked{
		{store: "loki", expr: "{service_name=\"plumbline\"} |~ `^drift$` | stak=~`x`"}, {store: "loki", expr: "{service_name=\"plumbline\"} |~ `^drifts$`"},
		{store: "loki", expr: "sum by (stack, who) (count_over_time({service_name=\"plumbline\"} |~ `^drift$` [1h]))"},
		{store: "vl", expr: "\"service.name\":=\"plumbline\" _msg:=\"drift\" stak:~`x`"}, {store: "vl", expr: "_msg:=\"drifts\""}, {store: "vl", expr: "_msg:=\"drift\" | stats by (stack, who) count()"},
	} {
		if len(wrongFields(q)) == 0 {
			t.Errorf("goes unseen: %s", q.expr)
		}
	}
}

func wrongFields(q asked) (wrong []string) {
	fields, pattern := slices.Clone(ofEveryRecord), fieldsOfLogsQL
	if q.store == "loki" {
		pattern = fieldsOfLogQL
	}
	if m := messageOf.FindStringSubmatch(q.expr); m != nil {
		i := slices.IndexFunc(telemetry.Records(), func(r telemetry.Record) bool { return r.Message == m[1]+m[2] })
		if i < 0 {
			return []string{"there is no record " + m[1] + m[2]}
		}
		fields = append(fields, telemetry.Records()[i].Fields...)
	}
	for _, m := range pattern.FindAllStringSubmatch(q.expr, -1) {
		for name := range strings.SplitSeq(m[1]+m[2], ", ") {
			if !slices.Contains(fields, name) {
				wrong = append(wrong, "the record has no field "+name)
			}
		}
	}
	return wrong
}
