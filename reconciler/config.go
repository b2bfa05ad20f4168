package reconciler

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/plumbline-dev/plumbline/reconciler/fetch"
	"github.com/plumbline-dev/plumbline/reconciler/observe"
)

// Config is plumbline.yaml, the daemon's configuration.
type Config struct {
	// Sources are the Git repositories to follow.
	Sources []SourceConfig `yaml:"sources"`
	// Cluster is where to apply. Absent: the cluster that the daemon runs in.
	Cluster ClusterConfig `yaml:"cluster,omitempty"`
	// Secrets opens what is sealed in Git.
	Secrets SecretsConfig `yaml:"secrets,omitempty"`
	// Scan is the gate that every plan passes.
	Scan ScanConfig `yaml:"scan,omitempty"`
	// Listen is the address of /healthz, /readyz, /metrics and the API, all without authentication. Default :8080; "off" for none.
	Listen string `yaml:"listen,omitempty"`
	// StateDir holds the Git mirrors, and what is known of images. Losing it costs a fetch of each. Default: plumbline in the user's cache directory.
	StateDir string `yaml:"stateDir,omitempty"`
	// Resync is how often each stack is gone through even if nothing moved. Default 1h.
	Resync Duration `yaml:"resync,omitempty"`
	// Election is the Lease by which two daemons agree on one.
	Election ElectionConfig `yaml:"election,omitempty"`
	// Limits bound the work that goes on at once.
	Limits LimitsConfig `yaml:"limits,omitempty"`
}

// SourceConfig is one Git repository.
type SourceConfig struct {
	// Name is a DNS label, unique among the sources.
	Name string `yaml:"name"`
	// URL is https://, ssh:// or git@host:path; http:// and file:// for tests and LANs.
	URL string `yaml:"url"`
	// Ref is what to follow. Absent: the repository's default branch.
	Ref RefConfig `yaml:"ref,omitempty"`
	// Stacks is the directory in which stack.yaml files are looked for. Default: all of the repository.
	Stacks string `yaml:"stacks,omitempty"`
	// Interval is how often the refs are listed. Default 5m.
	Interval Duration `yaml:"interval,omitempty"`
	// Auth names the files that hold credentials. They are read at each use, and may rotate.
	Auth AuthConfig `yaml:"auth,omitempty"`
	// Verify refuses commits that are not signed by these keys.
	Verify VerifyConfig `yaml:"verify,omitempty"`
	// AllowRewrite accepts a branch that was set back to an older commit and, where
	// verify is set, one whose history was rewritten.
	AllowRewrite bool `yaml:"allowRewrite,omitempty"`
	// SOPS are the keys for sealed files of this source alone; those of secrets.sops don't open them then.
	SOPS SOPSConfig `yaml:"sops,omitempty"`
	// Defaults are merged under the spec of every stack of this source.
	Defaults StackSpec `yaml:"defaults,omitempty"`

	defaults yaml.Node
	rules    observe.Rules // of defaults
}

// RefConfig is a branch, a tag, or a range of tags: at most one of them.
type RefConfig struct {
	Branch string `yaml:"branch,omitempty"`
	Tag    string `yaml:"tag,omitempty"`
	// Semver is a range such as ">=1.2 <2"; the highest tag in it wins.
	Semver string `yaml:"semver,omitempty"`
}

// AuthConfig names files; no credential stands in the configuration itself.
type AuthConfig struct {
	// TokenFile holds a token for https.
	TokenFile string `yaml:"tokenFile,omitempty"`
	// Username goes with TokenFile or PasswordFile.
	Username     string `yaml:"username,omitempty"`
	PasswordFile string `yaml:"passwordFile,omitempty"`
	// CAFile holds the certificates that https is checked against, in PEM.
	CAFile string `yaml:"caFile,omitempty"`
	// SSHKeyFile and KnownHostsFile are both required for ssh.
	SSHKeyFile     string `yaml:"sshKeyFile,omitempty"`
	KnownHostsFile string `yaml:"knownHostsFile,omitempty"`
}

// VerifyConfig names the keys that may sign commits. Where both are given, either will do.
type VerifyConfig struct {
	// SSHAllowedSignersFile is in the format of ssh-keygen(1).
	SSHAllowedSignersFile string `yaml:"sshAllowedSignersFile,omitempty"`
	// GPGKeyringFile holds public keys, armored or binary.
	GPGKeyringFile string `yaml:"gpgKeyringFile,omitempty"`
}

// ClusterConfig is a context of a kubeconfig.
type ClusterConfig struct {
	Kubeconfig string `yaml:"kubeconfig,omitempty"`
	Context    string `yaml:"context,omitempty"`
}

// ElectionConfig is the Lease.
type ElectionConfig struct {
	// Namespace of the Lease. Default plumbline-system; it is created when missing.
	Namespace string `yaml:"namespace,omitempty"`
	// Name of the Lease. Default plumbline.
	Name string `yaml:"name,omitempty"`
}

// LimitsConfig bounds what goes on at once, by kind of work.
type LimitsConfig struct {
	// Fetches from Git. Default 4.
	Fetches int `yaml:"fetches,omitempty"`
	// Renders. Default: one a core.
	Renders int `yaml:"renders,omitempty"`
	// Requests to the API server. Default 16.
	Requests int `yaml:"requests,omitempty"`
}

// LoadConfig reads plumbline.yaml. Every mistake in it is reported, not only the
// first. Relative paths are relative to the file.
func LoadConfig(file string) (Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return ParseConfig(file, data)
}

// ParseConfig is LoadConfig for a file that was read already.
func ParseConfig(file string, data []byte) (Config, error) {
	var c Config
	if err := decodeStrict(file, data, &c); err != nil {
		return Config{}, err
	}
	var again struct {
		Sources []struct {
			Defaults yaml.Node `yaml:"defaults"`
		} `yaml:"sources"`
	}
	if err := yaml.Unmarshal(data, &again); err != nil {
		return Config{}, located(file, err)
	}
	for i := range c.Sources {
		c.Sources[i].defaults = again.Sources[i].Defaults
	}
	c.Listen = cmp.Or(c.Listen, ":8080")
	c.Election.Namespace = cmp.Or(c.Election.Namespace, "plumbline-system")
	c.Election.Name = cmp.Or(c.Election.Name, "plumbline")
	c.absolute(filepath.Dir(file))
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// absolute makes paths independent of where the daemon is started.
func (c *Config) absolute(dir string) {
	home, _ := os.UserHomeDir()
	fix := func(p *string) {
		switch {
		case *p == "" || filepath.IsAbs(*p):
		case strings.HasPrefix(*p, "~/") && home != "":
			*p = filepath.Join(home, (*p)[2:])
		default:
			*p = filepath.Join(dir, *p)
		}
	}
	fix(&c.Cluster.Kubeconfig)
	fix(&c.StateDir)
	fix(&c.Scan.IgnoreFile)
	if images := c.Scan.Images; images != nil {
		if fix(&images.DockerConfig); !strings.Contains(images.Database, "://") {
			fix(&images.Database)
		}
	}
	for _, p := range c.Secrets.files() {
		fix(p)
	}
	for i := range c.Sources {
		s := &c.Sources[i]
		for _, p := range s.SOPS.files() {
			fix(p)
		}
		for _, p := range []*string{&s.Auth.TokenFile, &s.Auth.PasswordFile, &s.Auth.CAFile, &s.Auth.SSHKeyFile,
			&s.Auth.KnownHostsFile, &s.Verify.SSHAllowedSignersFile, &s.Verify.GPGKeyringFile} {
			fix(p)
		}
	}
}

// Validate reports every static mistake.
func (c Config) Validate() error {
	var errs []error
	if len(c.Sources) == 0 {
		errs = append(errs, errors.New("sources: none given: name at least one Git repository"))
	}
	seen := map[string]bool{}
	for i, s := range c.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		if s.Name != "" {
			at = fmt.Sprintf("sources[%s]", s.Name)
		}
		if problems := validation.IsDNS1123Label(s.Name); len(problems) > 0 {
			errs = append(errs, fmt.Errorf("%s.name: %q: %s", at, s.Name, problems[0]))
		}
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("%s.name: given twice", at))
		}
		seen[s.Name] = true
		if err := s.Fetch().Validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		if err := s.SOPS.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.sops.%w", at, err))
		}
		if err := s.Defaults.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s.defaults: %w", at, err))
		}
		var err error
		if c.Sources[i].rules, err = s.Defaults.Ready.rules(); err != nil {
			errs = append(errs, fmt.Errorf("%s.defaults.ready.%w", at, err))
		}
		if s.Defaults.Kustomize != nil || s.Defaults.Suspend {
			errs = append(errs, fmt.Errorf("%s.defaults: kustomize and suspend belong to one stack, not to all", at))
		}
		if strings.HasPrefix(s.Stacks, "/") || strings.HasPrefix(path.Clean(s.Stacks), "..") {
			errs = append(errs, fmt.Errorf("%s.stacks: %q: must be a directory of the repository", at, s.Stacks))
		}
	}
	if err := c.Scan.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Secrets.validate(c.Sources); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Fetch is the source as the fetch package wants it.
func (s SourceConfig) Fetch() fetch.Source {
	return fetch.Source{
		Name: s.Name, URL: s.URL, Ref: fetch.Ref(s.Ref), Auth: fetch.Auth(s.Auth), Verify: fetch.Verify(s.Verify),
		AllowRewrite: s.AllowRewrite,
	}
}

func (s SourceConfig) interval() time.Duration { return s.Interval.or(5 * time.Minute) }

// dir is the directory of the stacks as io/fs wants it.
func (s SourceConfig) dir() string { return path.Clean(cmp.Or(s.Stacks, ".")) }
