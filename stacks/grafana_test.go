//go:build linux

package stacks_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Grafana ignores a setting or a field that it does not know, in silence. So these tests decode more strictly than
// Grafana does; that Grafana itself takes the files is TestGrafanaStarts' business.

// settings are the keys that are used, of conf/defaults.ini; since says from which release on, where 10.0 lacks it.
var settings = map[string]struct{ since string }{
	"auth.anonymous.enabled":                  {},
	"auth.anonymous.org_role":                 {},
	"auth.anonymous.hide_version":             {},
	"auth.disable_login_form":                 {},
	"auth.basic.enabled":                      {},
	"security.disable_initial_admin_creation": {},
	"security.disable_gravatar":               {},
	"security.content_security_policy":        {},
	"security.cookie_samesite":                {},
	"users.allow_sign_up":                     {},
	"users.allow_org_create":                  {},
	"analytics.reporting_enabled":             {},
	"analytics.check_for_updates":             {},
	"analytics.check_for_plugin_updates":      {},
	"analytics.feedback_links_enabled":        {},
	"news.news_feed_enabled":                  {"10.0, undocumented in its defaults"},
	"plugins.preinstall_disabled":             {"11.2"},
	"plugins.plugin_admin_enabled":            {},
	"plugins.public_key_retrieval_disabled":   {"10.1"},
	"snapshots.enabled":                       {},
	"snapshots.external_enabled":              {},
	"public_dashboards.enabled":               {"10.2"},
	"unified_alerting.execute_alerts":         {},
	"dashboards.default_home_dashboard_path":  {},
	"log.mode":                                {},
	"log.console.format":                      {},
}

func TestGrafanaSettings(t *testing.T) {
	ini := grafanaFile(t, "grafana-config", "grafana.ini")
	for _, key := range iniKeys(ini) {
		if _, ok := settings[key]; !ok {
			t.Errorf("Grafana has no setting %s, as far as this table knows", key)
		}
	}
	if !slices.Contains(iniKeys(strings.Replace(ini, "allow_sign_up", "allow_signup", 1)), "users.allow_signup") {
		t.Error("a misspelt setting goes unseen")
	}
	// Without these two, whoever comes first logs in as admin with the password admin.
	for _, line := range []string{"disable_initial_admin_creation = true", "disable_login_form = true"} {
		if !strings.Contains(ini, "\n"+line+"\n") {
			t.Errorf("grafana.ini lacks %q", line)
		}
	}
}

func iniKeys(text string) (keys []string) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
		} else if key, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, ";") && !strings.HasPrefix(line, "#") {
			keys = append(keys, section+"."+strings.TrimSpace(key))
		}
	}
	return keys
}

// The documented schema of a data source file.
type datasources struct {
	APIVersion  int  `json:"apiVersion"`
	Prune       bool `json:"prune"`
	Datasources []struct {
		Name      string         `json:"name"`
		UID       string         `json:"uid"`
		Type      string         `json:"type"`
		Access    string         `json:"access"`
		URL       string         `json:"url"`
		IsDefault bool           `json:"isDefault"`
		Editable  bool           `json:"editable"`
		JSONData  map[string]any `json:"jsonData"`
	} `json:"datasources"`
}

func TestGrafanaDatasources(t *testing.T) {
	text := grafanaFile(t, "grafana-config", "datasources.yaml")
	var got datasources
	if err := strict([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if strict([]byte(strings.Replace(text, "isDefault:", "isdefault:", 1)), &datasources{}) == nil {
		t.Error("a misspelt field goes unseen")
	}
	defaults, all := 0, load(t)
	for _, d := range got.Datasources {
		if d.IsDefault {
			defaults++
		}
		if _, ok := all[d.UID]; !ok || d.Access != "proxy" || d.Editable || !strings.HasPrefix(d.URL, "http://"+d.UID+":") {
			t.Errorf("data source %s: want its stack's name as uid and in the URL, through Grafana, read-only", d.Name)
		}
	}
	if defaults != 1 || len(got.Datasources) != 3 || got.APIVersion != 1 {
		t.Errorf("%d data sources, %d of them default: Grafana does not start with two", len(got.Datasources), defaults)
	}
}

func TestGrafanaDashboards(t *testing.T) {
	s := load(t)["grafana"]
	if mounts := s.container().VolumeMounts; !strings.Contains(grafanaFile(t, "grafana-config", "dashboards.yaml"), "path: "+mounts[1].MountPath) {
		t.Errorf("the provider does not read where the dashboards are mounted, at %s", mounts[1].MountPath)
	}
	uid := regexp.MustCompile(`"uid": "([^"]+)"`)
	for name, text := range s.configMaps[cmName(t, s, "grafana-dashboards")].Data {
		var dashboard struct {
			UID, Title string
			Panels     []struct{ ID int }
		}
		if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		seen := map[int]bool{}
		for _, p := range dashboard.Panels {
			if seen[p.ID] {
				t.Errorf("%s: two panels have the id %d", name, p.ID)
			}
			seen[p.ID] = true
		}
		for _, m := range uid.FindAllStringSubmatch(text, -1) {
			if m[1] != dashboard.UID && m[1] != "prometheus" {
				t.Errorf("%s asks a data source %q that is not provisioned", name, m[1])
			}
		}
	}
}

// A real Grafana, with the shipped files. No release that is shipped can be built from a Go module, and the newest that
// can takes seven CPU minutes: so it runs when asked for, after a change of the files.
func TestGrafanaStarts(t *testing.T) {
	if os.Getenv("PLUMBLINE_TEST_GRAFANA") == "" {
		t.Skip("set PLUMBLINE_TEST_GRAFANA=1 to build and run a Grafana 10.0 (seven CPU minutes, once)")
	}
	program := build(t, "grafana")
	known, err := os.ReadFile(filepath.Join(program+".home", "conf/defaults.ini"))
	if err != nil {
		t.Fatal(err)
	}
	for key, s := range settings {
		if has := slices.Contains(iniKeys(string(known)), key); has != (s.since == "") {
			t.Errorf("%s in Grafana 10.0: %v; the table says since %q", key, has, s.since)
		}
	}

	d := deploy(t, load(t)["grafana"], map[string]string{"grafana": loopback(1)}, nil)
	d.env = append(d.env, "GF_PATHS_PROVISIONING="+d.root+"/etc/grafana/provisioning", "GF_SERVER_HTTP_ADDR="+d.ip)
	d.args = []string{"server", "--homepath", program + ".home", "--config", d.root + "/etc/grafana/grafana.ini", "--packaging=docker"}
	for _, path := range []string{"data", "logs", "plugins"} { // as the image's entry point does
		d.args = append(d.args, "cfg:default.paths."+path+"="+d.root+"/var/lib/grafana/"+path)
	}
	start(t, d, program)
	for path, want := range map[string]string{
		"/api/frontend/settings":            `"uid":"alertmanager"`, // the anonymous viewer sees the data sources,
		"/api/dashboards/uid/o11y-pipeline": `"canSave":false`,      // and the dashboard, and cannot change it
		"/metrics":                          "grafana_build_info",
	} {
		eventually(t, path+" says "+want, func() error { // provisioning goes on after the probe is content
			got, err := get("http://" + d.ip + ":3000" + path)
			if err == nil && !strings.Contains(got, want) {
				err = errors.New(got)
			}
			return err
		})
	}
	res, err := client.Post("http://"+d.ip+":3000/login", "application/json", strings.NewReader(`{"user":"admin","password":"admin"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := answer(res); err == nil {
		t.Error("admin logs in with the password admin")
	}
}

func grafanaFile(t *testing.T, configMap, key string) string {
	t.Helper()
	s := load(t)["grafana"]
	return s.configMaps[cmName(t, s, configMap)].Data[key]
}

// cmName finds a generated ConfigMap by its name without the hash.
func cmName(t *testing.T, s stack, prefix string) string {
	t.Helper()
	for name := range s.configMaps {
		if strings.HasPrefix(name, prefix+"-") {
			return name
		}
	}
	t.Fatalf("%s has no ConfigMap %s-<hash>", s.name, prefix)
	return ""
}
