package reconciler

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/plumbline-dev/plumbline/secrets"
)

// SecretsConfig is where the keys and the values come from that Git doesn't hold.
type SecretsConfig struct {
	// SOPS holds the keys for sealed files, of every source that has none of its own.
	SOPS SOPSConfig `yaml:"sops,omitempty"`
	// OpenBao resolves references such as ${bao:kv/grafana#admin-password}.
	OpenBao *OpenBaoConfig `yaml:"openbao,omitempty"`
}

// SOPSConfig names keys. They are read when they are needed, and may rotate.
type SOPSConfig struct {
	// AgeKeyFile holds age identities, one a line, as age-keygen writes them.
	AgeKeyFile string `yaml:"ageKeyFile,omitempty"`
	// AgeKeyEnv is the name of an environment variable with the same content.
	AgeKeyEnv string `yaml:"ageKeyEnv,omitempty"`
	// AgeKeySecret is a Secret in the cluster that holds the same.
	AgeKeySecret *SecretRef `yaml:"ageKeySecret,omitempty"`
	// PGPKeyFile holds private keys without a passphrase, armored or binary.
	PGPKeyFile string `yaml:"pgpKeyFile,omitempty"`
}

// SecretRef is a Secret in the cluster.
type SecretRef struct {
	// Namespace of the Secret.
	Namespace string `yaml:"namespace"`
	// Name of the Secret.
	Name string `yaml:"name"`
	// Key in its data. Absent: all that end in .agekey or .txt.
	Key string `yaml:"key,omitempty"`
}

// OpenBaoConfig is one OpenBao, and what each source may read of it.
type OpenBaoConfig struct {
	// Address is https://HOST:PORT; http:// for tests.
	Address string `yaml:"address"`
	// Namespace in OpenBao.
	Namespace string `yaml:"namespace,omitempty"`
	// CAFile holds the certificates that https is checked against, in PEM.
	CAFile string `yaml:"caFile,omitempty"`
	// Auth is exactly one way to log in.
	Auth OpenBaoAuthConfig `yaml:"auth"`
	// Allow lists, by source, the paths that it may read: exact, or a prefix that ends in /*, with + for one
	// segment. For sealed files of SOPS: MOUNT/decrypt/KEY of a transit engine. A source that is not listed may read nothing.
	Allow map[string][]string `yaml:"allow,omitempty"`
	// Interval is how often versions and leases are looked at. Default 1m.
	Interval Duration `yaml:"interval,omitempty"`
	// Timeout of one request. Default 10s.
	Timeout Duration `yaml:"timeout,omitempty"`
}

// OpenBaoAuthConfig is how to log in to OpenBao.
type OpenBaoAuthConfig struct {
	// TokenFile holds a token.
	TokenFile string `yaml:"tokenFile,omitempty"`
	// TokenEnv is the name of an environment variable that holds one.
	TokenEnv string `yaml:"tokenEnv,omitempty"`
	// AppRole logs in with a role's ID and a secret of it.
	AppRole *OpenBaoAppRoleConfig `yaml:"appRole,omitempty"`
	// Kubernetes logs in with the token of a service account.
	Kubernetes *OpenBaoRoleConfig `yaml:"kubernetes,omitempty"`
	// JWT logs in with a token that somebody else signed.
	JWT *OpenBaoRoleConfig `yaml:"jwt,omitempty"`
	// Userpass logs in with a name and a password.
	Userpass *OpenBaoUserpassConfig `yaml:"userpass,omitempty"`
}

// OpenBaoAppRoleConfig is a role and the file of its secret ID.
type OpenBaoAppRoleConfig struct {
	// RoleID names the role; it is no secret.
	RoleID string `yaml:"roleID"`
	// SecretIDFile holds a secret of the role.
	SecretIDFile string `yaml:"secretIDFile"`
	// Mount of the auth method. Default approle.
	Mount string `yaml:"mount,omitempty"`
}

// OpenBaoRoleConfig is a role for which a signed token is shown.
type OpenBaoRoleConfig struct {
	// Role is the one in OpenBao to log in as.
	Role string `yaml:"role"`
	// TokenFile holds the signed token. With kubernetes it may be absent: then it is that of the pod's service account.
	TokenFile string `yaml:"tokenFile,omitempty"`
	// Mount of the auth method. Default kubernetes, or jwt.
	Mount string `yaml:"mount,omitempty"`
}

// OpenBaoUserpassConfig is a user and the file of its password.
type OpenBaoUserpassConfig struct {
	// Username in OpenBao.
	Username string `yaml:"username"`
	// PasswordFile holds the password.
	PasswordFile string `yaml:"passwordFile"`
	// Mount of the auth method. Default userpass.
	Mount string `yaml:"mount,omitempty"`
}

// files are the paths in the configuration that are relative to its file.
func (c *SecretsConfig) files() []*string {
	out := c.SOPS.files()
	if b := c.OpenBao; b != nil {
		out = append(out, &b.CAFile, &b.Auth.TokenFile)
		if b.Auth.AppRole != nil {
			out = append(out, &b.Auth.AppRole.SecretIDFile)
		}
		for _, role := range []*OpenBaoRoleConfig{b.Auth.Kubernetes, b.Auth.JWT} {
			if role != nil {
				out = append(out, &role.TokenFile)
			}
		}
		if b.Auth.Userpass != nil {
			out = append(out, &b.Auth.Userpass.PasswordFile)
		}
	}
	return out
}

func (c *SOPSConfig) files() []*string { return []*string{&c.AgeKeyFile, &c.PGPKeyFile} }

// IsZero is true where no key is named.
func (c SOPSConfig) IsZero() bool { return c == SOPSConfig{} }

func (c SOPSConfig) validate() error {
	if ref := c.AgeKeySecret; ref != nil && (ref.Name == "" || ref.Namespace == "") {
		return errors.New("ageKeySecret: name and namespace are required")
	}
	return nil
}

func (c SecretsConfig) validate(sources []SourceConfig) error {
	var errs []error
	if err := c.SOPS.validate(); err != nil {
		errs = append(errs, fmt.Errorf("secrets.sops.%w", err))
	}
	if c.OpenBao != nil {
		for _, err := range c.OpenBao.validate(sources) {
			errs = append(errs, fmt.Errorf("secrets.openbao.%w", err))
		}
	}
	return errors.Join(errs...)
}

func (c OpenBaoConfig) validate(sources []SourceConfig) (errs []error) {
	for _, name := range sorted(c.Allow) {
		if !slices.ContainsFunc(sources, func(s SourceConfig) bool { return s.Name == name }) {
			errs = append(errs, fmt.Errorf("allow: there is no source %q", name))
		}
		for _, path := range c.Allow[name] {
			if err := secrets.CheckGrant(path); err != nil {
				errs = append(errs, fmt.Errorf("allow[%s]: %w", name, err))
			}
		}
	}
	var several interface{ Unwrap() []error }
	if err := c.Bao(nil).Validate(); errors.As(err, &several) {
		errs = append(errs, several.Unwrap()...)
	}
	return errs
}

// Bao is the configuration as the secrets package wants it.
func (c OpenBaoConfig) Bao(hashes secrets.HashKey) secrets.BaoConfig {
	auth := secrets.BaoAuthConfig{TokenFile: c.Auth.TokenFile}
	if name := c.Auth.TokenEnv; name != "" {
		auth.Token = func() (string, error) {
			if token := os.Getenv(name); token != "" {
				return token, nil
			}
			return "", fmt.Errorf("the environment variable %s is not set", name)
		}
	}
	if a := c.Auth.AppRole; a != nil {
		auth.AppRole = &secrets.AppRoleConfig{RoleID: a.RoleID, SecretIDFile: a.SecretIDFile, Mount: a.Mount}
	}
	if a := c.Auth.Kubernetes; a != nil {
		auth.Kubernetes = &secrets.KubernetesAuthConfig{Role: a.Role, TokenFile: a.TokenFile, Mount: a.Mount}
	}
	if a := c.Auth.JWT; a != nil {
		auth.JWT = &secrets.JWTConfig{Role: a.Role, TokenFile: a.TokenFile, Mount: a.Mount}
	}
	if a := c.Auth.Userpass; a != nil {
		auth.Userpass = &secrets.UserpassConfig{Username: a.Username, PasswordFile: a.PasswordFile, Mount: a.Mount}
	}
	return secrets.BaoConfig{Address: c.Address, Namespace: c.Namespace, CAFile: c.CAFile, Auth: auth, Timeout: time.Duration(c.Timeout), Hashes: hashes}
}
