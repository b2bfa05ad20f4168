package fetch

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
)

// Source is a Git repository and the ref that is followed.
type Source struct {
	// Name is unique in one daemon, a DNS label.
	Name string
	// URL is https://, http://, ssh://, the scp-like git@host:path, or file:///absolute/path, without credentials.
	URL    string
	Ref    Ref
	Auth   Auth
	Verify Verify
	// AllowRewrite accepts a ref that was moved back to an ancestor of the accepted commit; with Verify, also one
	// whose history diverged from it.
	AllowRewrite bool
	// MaxBytes bounds what one fetch may transfer. 0: 1 GiB.
	MaxBytes int64
	// Timeout bounds one ref listing, and one transfer. 0: one minute, and ten.
	Timeout time.Duration
}

// Ref says which commit of a repository is meant: the tip of a branch, a tag, or the highest tag within a semver range.
// At most one field is set; none means the branch that the remote's HEAD names.
type Ref struct{ Branch, Tag, Semver string }

// String is "branch main", "tag v1", "semver ^1.2" or "HEAD".
func (r Ref) String() string {
	switch {
	case r.Branch != "":
		return "branch " + r.Branch
	case r.Tag != "":
		return "tag " + r.Tag
	case r.Semver != "":
		return "semver " + r.Semver
	}
	return "HEAD"
}

// Auth names the files that hold the credentials. They are read at each use, so they can rotate.
type Auth struct {
	TokenFile      string // https: an access token; Username defaults to x-access-token
	Username       string // https
	PasswordFile   string // https: the password of Username; ssh: the passphrase of SSHKeyFile
	CAFile         string // https: PEM certificates trusted beside the system's
	SSHKeyFile     string // ssh: a private key
	KnownHostsFile string // ssh: required; an unknown host is an error, never a question
}

// Verify names the keys whose signature a commit must carry. If both are set, either suffices; none: no check.
type Verify struct {
	SSHAllowedSignersFile string // as described in ssh-keygen(1), ALLOWED SIGNERS
	GPGKeyringFile        string // public keys, armored or binary
}

func (v Verify) enabled() bool { return v != Verify{} }

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Validate reports every mistake that can be seen without touching files or the network.
func (s Source) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !dnsLabel.MatchString(s.Name) {
		bad("name %q: must be a DNS label: at most 63 of a-z, 0-9 and -, no - at the ends", s.Name)
	}
	if s.MaxBytes < 0 {
		bad("maxBytes %d: must not be negative; leave it out for %s", s.MaxBytes, formatBytes(defaultMaxBytes))
	}
	if s.Timeout < 0 {
		bad("timeout %s: must not be negative", s.Timeout)
	}
	errs = append(errs, s.Ref.validate()...)
	r, err := parseURL(s.URL)
	if err != nil {
		bad("url: %w", err)
		return errors.Join(errs...)
	}
	errs = append(errs, s.Auth.validate(r)...)
	return errors.Join(errs...)
}

func (r Ref) validate() (errs []error) {
	set := 0
	for _, v := range []string{r.Branch, r.Tag, r.Semver} {
		if v != "" {
			set++
		}
	}
	if set > 1 {
		errs = append(errs, errors.New("ref: branch, tag and semver exclude each other; set one"))
	}
	if r.Branch != "" && !validRef("refs/heads/"+r.Branch) {
		errs = append(errs, fmt.Errorf("ref.branch %q: not a branch name; write it as in git branch, without refs/heads/", r.Branch))
	}
	if r.Tag != "" && !validRef("refs/tags/"+r.Tag) {
		errs = append(errs, fmt.Errorf("ref.tag %q: not a tag name; write it as in git tag, without refs/tags/", r.Tag))
	}
	if r.Semver != "" {
		if _, err := semver.NewConstraint(r.Semver); err != nil {
			errs = append(errs, fmt.Errorf("ref.semver %q: %v; write a range such as ^1.2 or >=1.2 <2", r.Semver, err))
		}
	}
	return errs
}

func (a Auth) validate(r remote) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	overHTTP, overSSH := r.scheme == "http" || r.scheme == "https", r.scheme == "ssh"
	if a.TokenFile != "" && a.PasswordFile != "" {
		bad("auth: tokenFile and passwordFile exclude each other; set one")
	}
	if overHTTP && a.PasswordFile != "" && a.Username == "" {
		bad("auth.username: is missing beside passwordFile")
	}
	if overHTTP && a.Username != "" && a.PasswordFile == "" && a.TokenFile == "" {
		bad("auth.username: needs passwordFile or tokenFile beside it")
	}
	if !overHTTP && (a.TokenFile != "" || a.Username != "" && !overSSH) {
		bad("auth.tokenFile, auth.username: only for https; this source uses %s", r.scheme)
	}
	if overSSH && a.Username != "" {
		bad("auth.username: not used with ssh; write the user into the url: ssh://%s@%s/…", a.Username, r.host)
	}
	if a.CAFile != "" && r.scheme != "https" {
		bad("auth.caFile: only for https; this source uses %s", r.scheme)
	}
	if !overSSH && (a.SSHKeyFile != "" || a.KnownHostsFile != "") {
		bad("auth.sshKeyFile, auth.knownHostsFile: only for ssh; this source uses %s", r.scheme)
	}
	if overSSH && a.SSHKeyFile == "" {
		bad("auth.sshKeyFile: is required with ssh: agents and ~/.ssh are not used")
	}
	if overSSH && a.KnownHostsFile == "" {
		bad("auth.knownHostsFile: is required with ssh: hosts are never trusted at first use; fill it with ssh-keyscan %s and compare the fingerprint", r.host)
	}
	if r.scheme == "http" && (a.TokenFile != "" || a.PasswordFile != "") && !r.loopback() {
		bad("auth: credentials would travel in clear text over http://%s; use https://", r.host)
	}
	if r.scheme == "file" && a.PasswordFile != "" {
		bad("auth.passwordFile: not used with file")
	}
	return errs
}

// validRef accepts full names of branches and tags that are safe to print, compare and use as a path.
func validRef(name string) bool {
	n := plumbing.ReferenceName(name)
	return (n.IsBranch() || n.IsTag()) && n.IsSafe() && n.Validate() == nil && path.Clean(name) == name &&
		len(name) <= 1024 && strings.ToValidUTF8(name, "") == name
}
