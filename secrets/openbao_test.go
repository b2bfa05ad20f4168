package secrets_test

import (
	"strings"
	"testing"

	"github.com/plumbline-dev/plumbline/secrets"
)

func TestCustomCA(t *testing.T) {
	s, bao := ownServer(t, "-dev-tls")
	c := secrets.BaoConfig{Address: s.address, CAFile: bao.CAFile, Auth: secrets.BaoAuthConfig{TokenFile: tokenFile(t, s.token)}}
	if err := refused(t, newBao(t, c), "${bao:secret/web#password}"); !strings.Contains(err.Error(), "there is nothing at secret/web") {
		t.Errorf("with its CA: %v", err)
	}
	c.CAFile, c.Retries = "", 2
	err := refused(t, newBao(t, c), "${bao:secret/web#password}")
	if !secrets.Unavailable(err) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with the system's: %v", err)
	}
	c.CAFile = tokenFile(t, "hunter2")
	if _, err := secrets.NewBao(c); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("with rubbish: %v", err)
	}
}

func TestValidate(t *testing.T) {
	file := secrets.BaoAuthConfig{TokenFile: "/run/token"}
	for name, test := range map[string]struct {
		config secrets.BaoConfig
		want   string
	}{
		"fine":          {secrets.BaoConfig{Address: "https://bao.lan:8200", Auth: file, Namespace: "team/a"}, ""},
		"no address":    {secrets.BaoConfig{Auth: file}, "address: is missing"},
		"no host":       {secrets.BaoConfig{Address: "https://:8200", Auth: file}, "address: must be https"},
		"other scheme":  {secrets.BaoConfig{Address: "unix:///run/bao", Auth: file}, "address: must be https"},
		"password":      {secrets.BaoConfig{Address: "https://me:hunter2@bao.lan", Auth: file}, "address: must hold no user"},
		"bad address":   {secrets.BaoConfig{Address: "https://me:hunter2@bao lan", Auth: file}, "address: is no URL"},
		"named auth":    {secrets.BaoConfig{Address: "https://bao.lan", Namespace: "sys", Auth: secrets.BaoAuthConfig{Userpass: &secrets.UserpassConfig{Username: "auth", PasswordFile: "/x"}}}, ""},
		"namespace":     {secrets.BaoConfig{Address: "https://bao.lan", Auth: file, Namespace: "../a"}, "namespace: "},
		"no auth":       {secrets.BaoConfig{Address: "https://bao.lan"}, "auth: must be exactly one of tokenFile, tokenEnv, appRole"},
		"two auths":     {secrets.BaoConfig{Address: "https://bao.lan", Auth: secrets.BaoAuthConfig{TokenFile: "/x", JWT: &secrets.JWTConfig{Role: "a", TokenFile: "/y"}}}, "auth: must be exactly one of"},
		"approle":       {secrets.BaoConfig{Address: "https://bao.lan", Auth: secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{}}}, "auth.appRole.roleID: is missing\nauth.appRole.secretIDFile: is missing"},
		"kubernetes":    {secrets.BaoConfig{Address: "https://bao.lan", Auth: secrets.BaoAuthConfig{Kubernetes: &secrets.KubernetesAuthConfig{Mount: "../x"}}}, "auth.kubernetes.role: is missing\nauth.kubernetes.mount: "},
		"user's name":   {secrets.BaoConfig{Address: "https://bao.lan", Auth: secrets.BaoAuthConfig{Userpass: &secrets.UserpassConfig{Username: "a/../b", PasswordFile: "/x"}}}, "auth.userpass.username: "},
		"negative time": {secrets.BaoConfig{Address: "https://bao.lan", Auth: file, Timeout: -1}, "timeout: "},
		"many retries":  {secrets.BaoConfig{Address: "https://bao.lan", Auth: file, Retries: 99}, "retries: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.config.Validate()
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Each line of what is wrong is whole by itself.
func TestFaultsAreLinesOfTheirOwn(t *testing.T) {
	c := secrets.BaoConfig{Auth: secrets.BaoAuthConfig{AppRole: &secrets.AppRoleConfig{Mount: "../x"}}, Retries: 99}
	joined, ok := c.Validate().(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 5 {
		t.Fatalf("got %v", c.Validate())
	}
	for _, err := range joined.Unwrap() {
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("more than a line: %q", err)
		}
	}
	_, err := secrets.NewBao(c)
	for line := range strings.Lines(err.Error()) {
		if !strings.HasPrefix(line, "configure openbao: a") && !strings.HasPrefix(line, "configure openbao: retries: ") {
			t.Errorf("got %q", line)
		}
	}
}
