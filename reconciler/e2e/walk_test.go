package e2e

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestSecretsPage runs every command of docs/secrets.md, as it stands there, and
// looks whether the password is in the cluster.
func TestSecretsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/secrets.md")
	must(t, err)
	for _, name := range []string{"With age", "With OpenBao"} {
		t.Run(name, func(t *testing.T) { walk(t, section(t, string(page), "## "+name)) })
	}
}

func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n"+heading)
	if !ok {
		t.Fatalf("docs/secrets.md has no %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

var (
	fenced    = regexp.MustCompile("(?s)```(sh|yaml)\n(.*?)```")
	namedFile = regexp.MustCompile(`^# (\S+)\n`)
)

// walk follows a section in a directory of its own: files are those that it shows.
func walk(t *testing.T, text string) {
	s := start(t, shared)
	must(t, s.repo("home", ""))
	s.sources["home"]["defaults"] = nil
	must(t, s.cluster.create(t.Context(), "", "{apiVersion: v1, kind: Namespace, metadata: {name: o11y-"+s.id+"}}"))
	must(t, os.Rename(s.repos["home"].Dir, filepath.Join(s.dir, "home-ops")))
	must(t, s.startBao(t.Context()))
	env := walkTools(t, s)
	commands := 0
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		body := strings.ReplaceAll(block[2], "namespace: o11y", "namespace: o11y-"+s.id)
		if block[1] == "sh" {
			commands++
			sh(t, s.dir, env, body)
			continue
		}
		name := namedFile.FindStringSubmatch(body)[1]
		if name == "plumbline.yaml" {
			useSecrets(t, s, body)
			continue
		}
		file := filepath.Join(s.dir, name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(body), 0o600))
	}
	if commands != 5 {
		t.Errorf("it takes %d commands, and says five", commands)
	}
	must(t, s.run(t.Context(), s.plane.Plumbline))
	var secret *unstructured.Unstructured
	must(t, eventually(t.Context(), func(ctx context.Context) (err error) {
		secret, err = s.cluster.get(ctx, "Secret", "o11y-"+s.id, "grafana-admin")
		return err
	}))
	encoded, _, _ := unstructured.NestedString(secret.Object, "data", "admin-password")
	password, err := base64.StdEncoding.DecodeString(encoded)
	if random, bad := base64.StdEncoding.DecodeString(string(password)); err != nil || bad != nil || len(random) != 24 {
		t.Errorf("the password in the cluster is not the one that was made")
	}
	if strings.Contains(s.log.String(), string(password)) {
		t.Error("the daemon's log holds the password")
	}
}

// walkTools puts the programs that the page uses on a PATH.
func walkTools(t *testing.T, s *scenario) []string {
	t.Helper()
	bin := filepath.Join(s.dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	must(t, run("go", "build", "-o", filepath.Join(bin, "age-keygen"), "filippo.io/age/cmd/age-keygen"))
	sops, err := sopsProgram()
	must(t, err)
	bao, err := baoProgram()
	must(t, err)
	for name, program := range map[string]string{"sops": sops, "bao": bao, "plumbline": binary} {
		must(t, os.Symlink(program, filepath.Join(bin, name)))
	}
	return []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + s.dir, "BAO_ADDR=" + s.seals.bao.Address, "BAO_TOKEN=" + s.seals.bao.Token,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=push.autoSetupRemote", "GIT_CONFIG_VALUE_0=true", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org"}
}

func sh(t *testing.T, dir string, env []string, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = dir, env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", text, err, out)
	}
}

// useSecrets takes the page's configuration, with the addresses of this scenario.
func useSecrets(t *testing.T, s *scenario, text string) {
	t.Helper()
	text = strings.NewReplacer("https://bao.lan:8200", s.seals.front.URL, "home-ops", s.source("home")).Replace(text)
	var config struct {
		Secrets map[string]any `json:"secrets"`
	}
	must(t, yaml.UnmarshalStrict([]byte(text), &config))
	s.secrets(config.Secrets)
}
