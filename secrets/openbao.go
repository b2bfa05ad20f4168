package secrets

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/openbao/openbao/api/v2"
	"golang.org/x/sync/singleflight"
)

// BaoConfig says where OpenBao is, and how to log in. No credential stands in it.
type BaoConfig struct {
	// Address is https://host:port; http:// for tests and LANs.
	Address string
	// Namespace is where paths begin.
	Namespace string
	// CAFile holds the certificates that OpenBao's is checked against, in PEM. Default: those of the system.
	CAFile string
	// Auth is how to log in.
	Auth BaoAuthConfig
	// Timeout is for one request. Default 10s.
	Timeout time.Duration
	// Retries is how often a request is sent again. Default 2; -1 for none.
	Retries int
	// Hashes keys the versions of what has no version of its own. Default: made up, so that they hold for this
	// process alone.
	Hashes HashKey
}

// BaoAuthConfig is one way to log in. Files are read at each login, and may rotate.
type BaoAuthConfig struct {
	// TokenFile holds a token.
	TokenFile string
	// Token gives one, from the environment of a command line for example.
	Token func() (string, error)
	// AppRole logs in with a role's ID and one of its secrets.
	AppRole *AppRoleConfig
	// Kubernetes logs in with a service account's token.
	Kubernetes *KubernetesAuthConfig
	// JWT logs in with a token that somebody else signed.
	JWT *JWTConfig
	// Userpass logs in with a name and a password.
	Userpass *UserpassConfig
}

// AppRoleConfig is for OpenBao's AppRole method.
type AppRoleConfig struct {
	RoleID       string
	SecretIDFile string
	// Mount is where the method is enabled. Default approle.
	Mount string
}

// KubernetesAuthConfig is for OpenBao's Kubernetes method.
type KubernetesAuthConfig struct {
	Role string
	// TokenFile holds the service account's token. Default: the one that is projected into the pod.
	TokenFile string
	// Mount is where the method is enabled. Default kubernetes.
	Mount string
}

// JWTConfig is for OpenBao's JWT method.
type JWTConfig struct {
	Role      string
	TokenFile string
	// Mount is where the method is enabled. Default jwt.
	Mount string
}

// UserpassConfig is for OpenBao's Userpass method.
type UserpassConfig struct {
	Username     string
	PasswordFile string
	// Mount is where the method is enabled. Default userpass.
	Mount string
}

// Defaults of BaoConfig.
const (
	baoTimeout = 10 * time.Second
	baoRetries = 2
)

// Validate says what is wrong with a configuration, all of it. It reads no file.
// Its error joins one for each field, of one line that begins with the field's name.
func (c BaoConfig) Validate() error { return errors.Join(c.faults()...) }

func (c BaoConfig) faults() (errs []error) {
	u, err := url.Parse(c.Address)
	switch {
	case c.Address == "":
		errs = append(errs, errors.New("address: is missing"))
	case err != nil:
		errs = append(errs, errors.New("address: is no URL")) // err may quote a password
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.Hostname() == "":
		errs = append(errs, errors.New("address: must be https://host:port"))
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		errs = append(errs, errors.New("address: must hold no user, query or fragment"))
	}
	if c.Namespace != "" && checkSegments(strings.Trim(c.Namespace, "/")) != nil {
		errs = append(errs, fmt.Errorf("namespace: %q is no namespace", c.Namespace))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %s is negative", c.Timeout))
	}
	if c.Retries < -1 || c.Retries > 10 {
		errs = append(errs, fmt.Errorf("retries: %d is not between -1 and 10", c.Retries))
	}
	return append(errs, c.Auth.validate()...)
}

// Bao is a client of OpenBao for all stacks of a process: it logs in when it is
// first asked, and keeps what has to live longer than a trip, sealed. It is safe
// for concurrent use.
type Bao struct {
	config BaoConfig
	client *api.Client
	hashes HashKey
	vault  cipher.AEAD
	now    func() time.Time

	breaker breaker
	login   chan struct{} // held while session is looked after
	session *session
	blind   time.Time // until then, a token that is denied something can't be told from one that has ended

	flights singleflight.Group
	mu      sync.Mutex
	mounts  map[string]mount // by path, with the slash at its end
	doubted map[string]time.Time
	kept    map[string]*kept
}

// NewBao makes a client. It asks nobody anything.
func NewBao(c BaoConfig) (*Bao, error) {
	if errs := c.faults(); len(errs) > 0 {
		for i, err := range errs {
			errs[i] = fmt.Errorf("configure openbao: %w", err)
		}
		return nil, errors.Join(errs...)
	}
	if c.Timeout == 0 {
		c.Timeout = baoTimeout
	}
	switch c.Retries {
	case 0:
		c.Retries = baoRetries
	case -1:
		c.Retries = 0
	}
	if len(c.Hashes) == 0 {
		c.Hashes = NewHashKey()
	}
	client, err := newBaoClient(c)
	if err != nil {
		return nil, fmt.Errorf("configure openbao: %w", err)
	}
	return &Bao{config: c, client: client, hashes: c.Hashes, vault: newVault(), now: time.Now, login: make(chan struct{}, 1),
		mounts: map[string]mount{}, doubted: map[string]time.Time{}, kept: map[string]*kept{}}, nil
}

// newBaoClient is OpenBao's own client, without its ways to follow the
// environment, or a redirect.
func newBaoClient(c BaoConfig) (*api.Client, error) {
	conf := api.NewConfig()
	if conf.Error != nil {
		return nil, conf.Error
	}
	conf.Address = strings.TrimSuffix(c.Address, "/")
	conf.DisableEnvironment, conf.DisableRedirects = true, true
	conf.Timeout = 0 // would be for all attempts together
	conf.MaxRetries, conf.CheckRetry, conf.Backoff = c.Retries, retryBao, backOffBao
	conf.MinRetryWait, conf.MaxRetryWait = 250*time.Millisecond, 2*time.Second
	if c.CAFile != "" {
		if _, err := os.Stat(c.CAFile); err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		if err := conf.ConfigureTLS(&api.TLSConfig{CACert: c.CAFile}); err != nil {
			return nil, fmt.Errorf("caFile: %s holds no certificate in PEM", c.CAFile)
		}
	}
	conf.HttpClient.Timeout = c.Timeout
	conf.HttpClient.Transport = guarded{conf.HttpClient.Transport}
	client, err := api.NewClient(conf)
	if err != nil {
		return nil, err
	}
	if ns := strings.Trim(c.Namespace, "/"); ns != "" {
		client.SetNamespace(ns)
	}
	return client, nil
}

// Address is where OpenBao is.
func (b *Bao) Address() string { return b.config.Address }

// String keeps what it holds out of what is printed.
func (b *Bao) String() string {
	if b == nil {
		return "no openbao"
	}
	return "openbao at " + b.config.Address
}

// GoString is String for %#v.
func (b *Bao) GoString() string { return b.String() }

// guarded keeps an answer within bounds while it is read, and follows nobody: a
// token would go along.
type guarded struct{ http.RoundTripper }

func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close()
		return nil, redirected(resp)
	}
	resp.Body = &boundedBody{body: resp.Body, left: largestAnswer}
	return resp, nil
}
