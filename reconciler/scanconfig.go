package reconciler

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/render"
	"github.com/plumbline-dev/plumbline/scan"
)

// ScanConfig is the gate, as the daemon's operator wants it.
type ScanConfig struct {
	// FailOn is from where on a finding denies, for stacks that say nothing else. Default CRITICAL; NONE: nothing does.
	FailOn scan.Severity `yaml:"failOn,omitempty" jsonschema:"enum=CRITICAL,enum=HIGH,enum=MEDIUM,enum=LOW,enum=NONE"`
	// Floor is the loosest failOn that a stack may have. Findings as bad as that are let pass by ignoreFile alone, never by a
	// repository's exception. Absent: a repository may loosen what it likes.
	Floor scan.Severity `yaml:"floor,omitempty" jsonschema:"enum=CRITICAL,enum=HIGH,enum=MEDIUM,enum=LOW,enum=NONE"`
	// IgnoreFile holds the operator's own exceptions, for all stacks, in the format of .trivyignore.yaml. It is read at start.
	IgnoreFile string `yaml:"ignoreFile,omitempty"`
	// Registries says where images may come from. A stack may narrow it, never widen it.
	Registries RegistriesSpec `yaml:"registries,omitempty"`
	// Pin is how images have to be named: none, tag (not latest; the default) or digest. A stack may be stricter.
	Pin scan.Pin `yaml:"pin,omitempty" jsonschema:"enum=none,enum=tag,enum=digest"`
	// Images looks each image up in its registry before anything is applied. Absent: no registry is asked.
	Images *ImagesConfig `yaml:"images,omitempty"`
}

// ImagesConfig is how images are looked up.
type ImagesConfig struct {
	// OnUnknown says what becomes of an image of which something can't be found out, because its registry doesn't answer, say: allow (the default) or deny.
	OnUnknown string `yaml:"onUnknown,omitempty" jsonschema:"enum=allow,enum=deny"`
	// Database is Trivy's database of vulnerabilities: a directory with trivy.db, or oci://REGISTRY/REPOSITORY:TAG, which is kept in stateDir and renewed. Absent:
	// images have to be there, and nobody looks into them.
	Database string `yaml:"database,omitempty"`
	// IgnoreUnfixed leaves out vulnerabilities that no version mends.
	IgnoreUnfixed bool `yaml:"ignoreUnfixed,omitempty"`
	// Platforms an image has to be there for, as linux/arm64. Default: that of the daemon.
	Platforms []string `yaml:"platforms,omitempty"`
	// DockerConfig is a file with credentials for registries, as docker login writes it. It is read whenever it is needed.
	DockerConfig string `yaml:"dockerConfig,omitempty"`
	// Insecure registries, as HOST[:PORT], may speak plain HTTP and be on loopback or link-local addresses.
	Insecure []string `yaml:"insecure,omitempty"`
	// Timeout bounds how long one image is read. Default 10m.
	Timeout Duration `yaml:"timeout,omitempty"`
}

// ScanSpec is the gate, as the stack wants it.
type ScanSpec struct {
	// FailOn is from where on a finding denies: CRITICAL, HIGH, MEDIUM, LOW or NONE.
	FailOn scan.Severity `yaml:"failOn,omitempty" jsonschema:"enum=CRITICAL,enum=HIGH,enum=MEDIUM,enum=LOW,enum=NONE"`
	// IgnoreFile holds exceptions in Trivy's format, relative to stack.yaml. Default: .trivyignore.yaml beside it, and at the root of the repository.
	IgnoreFile string `yaml:"ignoreFile,omitempty"`
	// Checks is a directory of checks in Rego, relative to stack.yaml.
	Checks string `yaml:"checks,omitempty"`
	// Registries says where images may come from.
	Registries RegistriesSpec `yaml:"registries,omitempty"`
	// Pin is how images have to be named: none, tag (not latest) or digest.
	Pin scan.Pin `yaml:"pin,omitempty" jsonschema:"enum=none,enum=tag,enum=digest"`
}

// RegistriesSpec says where images may come from: REGISTRY or REGISTRY/PATH, with * for any part of a name. An image that names no registry comes from docker.io/library.
type RegistriesSpec struct {
	// Allow, where not empty, is where images have to come from.
	Allow []string `yaml:"allow,omitempty"`
	// Deny is where they may not come from. It wins over allow.
	Deny []string `yaml:"deny,omitempty"`
}

func (c ScanConfig) validate() error {
	return errors.Join(
		inField("scan.failOn", c.FailOn.Validate()), inField("scan.floor", c.Floor.Validate()),
		inField("scan.registries", scan.Registries(c.Registries).Validate()), inField("scan.pin", c.Pin.Validate()), c.Images.validate())
}

func (c *ImagesConfig) validate() error {
	switch {
	case c == nil:
		return nil
	case c.OnUnknown != "" && c.OnUnknown != "allow" && c.OnUnknown != "deny":
		return fmt.Errorf("scan.images.onUnknown: %q: want allow or deny", c.OnUnknown)
	case c.Timeout < 0:
		return fmt.Errorf("scan.images.timeout: %s: want a duration above 0, such as 10m", time.Duration(c.Timeout))
	case strings.Contains(c.Database, "://") && !strings.HasPrefix(c.Database, "oci://"):
		return fmt.Errorf("scan.images.database: %q: want a directory, or oci://REGISTRY/REPOSITORY:TAG", c.Database)
	case c.Database != "" && !strings.HasPrefix(c.Database, "oci://") && strings.Contains(path.Base(c.Database), ":"):
		return fmt.Errorf("scan.images.database: %s looks like a place in a registry: put oci:// before it", path.Base(c.Database))
	}
	for _, host := range c.Insecure {
		if host == "" || strings.ContainsAny(host, "/ ") {
			return fmt.Errorf("scan.images.insecure: %q: want HOST or HOST:PORT", host)
		}
	}
	return nil
}

func (s ScanSpec) validate() error {
	for field, p := range map[string]string{"ignoreFile": s.IgnoreFile, "checks": s.Checks} {
		if path.IsAbs(p) {
			return fmt.Errorf("%s: %q: want a path relative to stack.yaml", field, p)
		}
	}
	return errors.Join(inField("failOn", s.FailOn.Validate()),
		inField("registries", scan.Registries(s.Registries).Validate()), inField("pin", s.Pin.Validate()))
}

func inField(field string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// Operator is what no repository loosens. It reads the operator's exceptions.
func (c ScanConfig) Operator() (scan.Operator, error) {
	out := scan.Operator{FailOn: c.FailOn, Floor: c.Floor, Registries: scan.Registries(c.Registries), Pin: c.Pin}
	if c.Images != nil {
		out.Images = scan.ImagePolicy{DenyUnknown: c.Images.OnUnknown == "deny", IgnoreUnfixed: c.Images.IgnoreUnfixed}
	}
	if c.IgnoreFile == "" {
		return out, nil
	}
	data, err := os.ReadFile(c.IgnoreFile)
	if err != nil {
		return out, fmt.Errorf("scan.ignoreFile: %w", err)
	}
	out.Exceptions, err = scan.ParseExceptions(c.IgnoreFile, data)
	return out, inField("scan.ignoreFile", err)
}

// Scan is what the gate is to judge: the stack's objects, rendered from this tree.
func (d Declared) Scan(fsys fs.FS, objects []render.Object, mask func(string) string) scan.Request {
	spec := d.Spec.Scan
	request := scan.Request{Stack: d.Name, FS: fsys, File: d.File, Dir: path.Dir(d.File), Mask: mask, Policy: scan.Policy{
		FailOn: spec.FailOn, IgnoreFile: spec.IgnoreFile, Checks: strings.TrimSuffix(spec.Checks, "/"),
		Registries: scan.Registries(spec.Registries), Pin: spec.Pin}}
	for _, o := range objects {
		request.Objects = append(request.Objects, scan.Object(o))
	}
	return request
}
