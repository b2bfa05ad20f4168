//go:build linux

package stacks_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each configuration goes to the program that will read it, by that program's own checker; each check is also
// shown to refuse something.
func TestConfigurationsPassTheirProgramsOwnCheck(t *testing.T) {
	for _, c := range []struct {
		stack, program string
		args           func(d deployed) []string
		broken         []edit
	}{
		{"otel-collector", "otel-collector", func(d deployed) []string { return append([]string{"validate"}, d.args...) }, []edit{
			{"an unknown field", "limit_percentage:", "limit_percentages:"},
			{"an exporter that is not there", "exporters: [otlp_http/prometheus]", "exporters: [otlp_http/mimir]"},
		}},
		{"prometheus", "promtool", func(d deployed) []string {
			return []string{"check", "config", "--lint=all", "--lint-fatal", flag(d, "--config.file")}
		}, []edit{
			{"an unknown field", "scrape_interval:", "scrape_intervall:"},
			{"an alert that does not parse", "expr: up == 0", "expr: up =="},
			{"the same alert twice", "- alert: VictoriaLogsReadOnly\n", "- {alert: Watchdog, expr: vector(1), labels: {severity: none}}\n      - alert: VictoriaLogsReadOnly\n"},
		}},
		{"alertmanager", "amtool", func(d deployed) []string { return []string{"check-config", flag(d, "--config.file")} }, []edit{
			{"a receiver that is not there", `receiver: "null"`, "receiver: nobody"},
			{"an unknown field", "group_wait:", "group_waits:"},
		}},
	} {
		t.Run(c.stack, func(t *testing.T) {
			s := load(t)[c.stack]
			program := build(t, c.program)
			d := deploy(t, s, map[string]string{c.stack: "127.0.0.1"}, nil)
			if out, ok := check(t, d, program, c.args(d)...); !ok {
				t.Errorf("%s refuses what is shipped:\n%s", c.program, out)
			}
			for _, e := range c.broken {
				t.Run("a broken config is refused: "+e.name, func(t *testing.T) {
					d := deploy(t, s, map[string]string{c.stack: "127.0.0.1"}, e.apply)
					if out, ok := check(t, d, program, c.args(d)...); ok {
						t.Errorf("%s accepts it:\n%s", c.program, out)
					} else if !strings.Contains(strings.Join(contents(t, d.root), ""), e.to) {
						t.Errorf("%q was not found, so nothing was broken", e.from)
					}
				})
			}
		})
	}
}

// An edit breaks a configuration.
type edit struct{ name, from, to string }

func (e edit) apply(_, text string) string { return strings.Replace(text, e.from, e.to, 1) }

func flag(d deployed, name string) string {
	for _, arg := range d.args {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
	}
	return name + " is not among the arguments"
}

func contents(t *testing.T, root string) (texts []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(p)
		texts = append(texts, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// The arguments of the pods are accepted when the servers start in TestThePipelineWorks. Here: they are not accepted
// because anything would be.
func TestServersRefuseWrongArguments(t *testing.T) {
	for _, c := range []struct{ stack, name, arg string }{
		{"otel-collector", "unknown", "--no-such-flag=1"},
		{"victoria-logs", "unknown", "-noSuchFlag=1"},
		{"victoria-logs", "malformed", "-retention.maxDiskSpaceUsageBytes=plenty"},
		{"prometheus", "unknown", "--no-such-flag=1"},
		{"alertmanager", "unknown", "--no-such-flag=1"},
	} {
		t.Run(c.stack+"/"+c.name, func(t *testing.T) {
			d := deploy(t, load(t)[c.stack], map[string]string{c.stack: "127.0.0.1"}, nil)
			out, ok := check(t, d, build(t, c.stack), append(d.args, c.arg)...)
			if name, _, _ := strings.Cut(strings.TrimLeft(c.arg, "-"), "="); ok || !strings.Contains(out, name) {
				t.Errorf("%s is not refused by its name:\n%s", c.arg, out)
			}
		})
	}
}

// Each alert fires on what it is for and stays silent otherwise, by promtool's own unit tests.
func TestAlerts(t *testing.T) {
	d := deploy(t, load(t)["prometheus"], nil, nil)
	promtool := build(t, "promtool")
	rules := filepath.Join(d.root, "etc/prometheus-rules/o11y.yaml")
	cases, err := os.ReadFile("testdata/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(d.root, "alerts_test.yaml")
	text := strings.Replace(string(cases), "RULES", rules, 1)
	for name, text := range map[string]string{"good": text, "bad": strings.Replace(text, "value: 1", "value: 2", 1)} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, ok := check(t, d, promtool, "test", "rules", file); ok != (name == "good") {
			t.Errorf("%s cases: passed is %v:\n%s", name, ok, out)
		}
	}
	shipped, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	tested := alertNames(`alertname="(\w+)"`, text)
	for _, alert := range alertNames(`alert: (\w+)`, string(shipped)) {
		if !slices.Contains(tested, alert) {
			t.Errorf("alert %s has no case in testdata/alerts_test.yaml", alert)
		}
	}
}

func alertNames(pattern, text string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}
