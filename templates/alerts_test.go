package templates_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

const rulesFile = "alerts/plumbline.rules.yaml"

type alertRule struct {
	Alert, Expr         string
	Labels, Annotations map[string]string
}

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alertRule } }
	readYAML(t, rulesFile, &file)
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

func readYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// TestAlertsFire has promtool run the rules' own unit tests, and each alert is there firing and silent.
func TestAlertsFire(t *testing.T) {
	promtool := program(t, "promtool")
	if out, ok := run(t, promtool, "check", "rules", "--lint=all", "--lint-fatal", rulesFile); !ok {
		t.Errorf("promtool refuses the rules:\n%s", out)
	}
	if out, ok := run(t, promtool, "test", "rules", "alerts/plumbline.rules.test.yaml"); !ok {
		t.Error(out)
	}
	var cases struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	readYAML(t, "alerts/plumbline.rules.test.yaml", &cases)
	fires, silent := map[string]bool{}, map[string]int{}
	for _, test := range cases.Tests {
		for _, c := range test.AlertRuleTest {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
			} else {
				silent[c.Alertname]++
			}
		}
	}
	for _, rule := range alertRules(t) {
		if !fires[rule.Alert] {
			t.Errorf("no case in which %s fires", rule.Alert)
		}
		if silent[rule.Alert] < 2 { // when all is well, and in the case that is nearest
			t.Errorf("no case near the one that %s is for, in which it is silent", rule.Alert)
		}
	}
}

// TestAlertCasesFindMistakes breaks each wait, threshold and condition, a little: some case of that alert fails.
func TestAlertCasesFindMistakes(t *testing.T) {
	promtool := program(t, "promtool")
	rules, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile("alerts/plumbline.rules.test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	failing, broken := regexp.MustCompile(`alertname: (\w+), time`), map[string]int{}
	for name, mistake := range map[string]*strings.Replacer{
		"waits that are longer":         strings.NewReplacer("for: 1m", "for: 3m", "for: 3m", "for: 4m", "for: 5m", "for: 8m", "for: 10m", "for: 15m", "for: 15m", "for: 30m"),
		"waits that are shorter":        strings.NewReplacer("for: 1m", "for: 0m", "for: 3m", "for: 2m", "for: 5m", "for: 1m", "for: 10m", "for: 5m", "for: 15m", "for: 7m"),
		"conditions that are harder":    strings.NewReplacer("> 0\n", "> 2\n", "> 3600", "> 7200", " 14 *", " 13 *", " 7 *", " 6 *", "absent(plumbline_build_info)", "absent(plumbline_x)", "absent(plumbline_queue_depth)", "absent(plumbline_build_info)"),
		"conditions that are easier":    strings.NewReplacer("> 3600", "> 1800", " 14 *", " 15 *", " 7 *", " 8 *", " and count(plumbline_build_info) > 0", "", "unless max", "or max"),
		"conditions the other way":      strings.NewReplacer("== 1\n", "== 0\n", "== 0\n", "== 1\n"),
		"a suspended stack, not Ready":  strings.NewReplacer("(plumbline_stack_suspended) == 1", "(plumbline_stack_suspended) == 2"),
		"one that does not lead, alone": strings.NewReplacer("absent(plumbline_queue_depth) and ", ""),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mistaken, changed := "", []string{}
			for i, rule := range strings.SplitAfter(string(rules), "      - alert: ") {
				wrong := mistake.Replace(rule)
				if wrong != rule && i > 0 {
					alert, _, _ := strings.Cut(rule, "\n")
					changed = append(changed, alert)
					broken[alert]++
				}
				mistaken += wrong
			}
			for file, text := range map[string][]byte{"plumbline.rules.test.yaml": cases, "plumbline.rules.yaml": []byte(mistaken)} {
				if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, _ := run(t, promtool, "test", "rules", filepath.Join(dir, "plumbline.rules.test.yaml"))
			found := map[string]bool{}
			for _, m := range failing.FindAllStringSubmatch(out, -1) {
				found[m[1]] = true
			}
			for _, alert := range changed {
				if !found[alert] {
					t.Errorf("go unseen of %s:\n%s", alert, out)
				}
			}
		})
	}
	for _, rule := range alertRules(t) {
		if broken[rule.Alert] < 3 {
			t.Errorf("%s was broken in %d ways only", rule.Alert, broken[rule.Alert])
		}
	}
}

// TestAlertsAreExplained: each has what people need, and a section of docs/operating.md that says what to do.
func TestAlertsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(section, -1) {
		sections[m[1]] = true
	}
	for _, rule := range alertRules(t) {
		const home = "https://github.com/plumbline-dev/plumbline/blob/main/docs/operating.md#"
		if !strings.HasPrefix(rule.Alert, "Plumbline") || rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" ||
			!slices.Contains([]string{"critical", "warning"}, rule.Labels["severity"]) || rule.Annotations["runbook_url"] != home+strings.ToLower(rule.Alert) {
			t.Errorf("%s: wants a name that begins with Plumbline, a severity, a summary, a description, and its own runbook_url", rule.Alert)
		}
		if !sections[rule.Alert] {
			t.Errorf("docs/operating.md has no section %q below Alerts", rule.Alert)
		}
		delete(sections, rule.Alert)
	}
	for name := range sections {
		t.Errorf("docs/operating.md explains %s, which is no alert", name)
	}
}

// TestAlertsGoByWhatIsRecorded: of an alert about something that nobody records yet, docs/operating.md says so.
func TestAlertsGoByWhatIsRecorded(t *testing.T) {
	page, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range alertRules(t) {
		_, section, _ := strings.Cut(string(page), "\n### "+rule.Alert+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		waits := slices.ContainsFunc(telemetry.Metrics(), func(m telemetry.Metric) bool {
			return strings.Contains(m.Text, "Not recorded yet.") && strings.Contains(rule.Expr, m.Prometheus())
		})
		if waits != strings.Contains(section, "Nothing records it yet.") {
			t.Errorf("%s is about something that isn't recorded yet: %v; its section in docs/operating.md says otherwise (by the words %q)", rule.Alert, waits, "Nothing records it yet.")
		}
	}
}
