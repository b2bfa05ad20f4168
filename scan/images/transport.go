package images

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/google/go-containerregistry/pkg/authn"
)

// guarded goes only where a reference in a repository may lead.
type guarded struct {
	next     http.RoundTripper
	insecure []string
}

// errPlain is about plain HTTP.
var errPlain = errors.New("plain HTTP: only where scan.images.insecure names the registry")

func (g guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !slices.Contains(g.insecure, r.URL.Host) {
		return nil, errPlain
	}
	return g.next.RoundTrip(r)
}

// newTransport makes connections to registries. A proxy of the environment is not asked:
// it would go where we don't.
func newTransport(insecure []string) http.RoundTripper {
	public := &net.Dialer{Timeout: 15 * time.Second, Control: refuseLocal}
	named := &net.Dialer{Timeout: 15 * time.Second}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.Proxy = nil
	base.DisableCompression = true // bounds are of what comes
	base.DialContext = public.DialContext
	base.ResponseHeaderTimeout, base.MaxResponseHeaderBytes = 30*time.Second, 1<<20
	local := base.Clone()
	local.DialContext = named.DialContext
	return guarded{split{insecure, local, base}, insecure}
}

// split takes the way for registries that the operator has named, or that for all others.
type split struct {
	insecure      []string
	local, public http.RoundTripper
}

func (s split) RoundTrip(r *http.Request) (*http.Response, error) {
	if slices.Contains(s.insecure, r.URL.Host) {
		return s.local.RoundTrip(r)
	}
	return s.public.RoundTrip(r)
}

// refuseLocal looks at the address itself, after names were resolved.
func refuseLocal(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if ip := at.Addr().Unmap(); ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
		return fmt.Errorf("%s is no place for a registry: name it in scan.images.insecure if it is one", ip)
	}
	return nil
}

// keychain reads credentials from a file, anew each time: what mounts it may change it.
// Helpers that such a file names are not run.
type keychain struct{ file string }

func (k keychain) Resolve(of authn.Resource) (authn.Authenticator, error) {
	if k.file == "" {
		return authn.Anonymous, nil
	}
	file, err := os.Open(k.file)
	if err != nil {
		return nil, fmt.Errorf("scan.images.dockerConfig: %w", err)
	}
	defer func() { _ = file.Close() }()
	config := configfile.New(k.file)
	if err := config.LoadFromReader(file); err != nil {
		return nil, fmt.Errorf("scan.images.dockerConfig: %s is no configuration of Docker", k.file) // the error might quote it
	}
	names := []string{of.RegistryStr()}
	if of.RegistryStr() == "index.docker.io" {
		names = append(names, authn.DefaultAuthKey, "docker.io")
	}
	for _, name := range names {
		for _, at := range []string{name, "https://" + name, "https://" + name + "/"} {
			if c, ok := config.AuthConfigs[at]; ok {
				return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}), nil
			}
		}
	}
	return authn.Anonymous, nil
}

// saidBytes bounds what is told of others' words. It leaves whole what a reference can hold:
// whoever shows it masks it first, and cuts it then.
const saidBytes = 2000

func cut(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, text)
	if len(text) <= saidBytes {
		return text
	}
	return strings.ToValidUTF8(text[:saidBytes], "") + "…"
}

var urls = regexp.MustCompile(`https?://[^\s"]+`)

// saying is an error as it may be told: URLs hold signatures and tokens, so only their hosts are left.
func saying(err error) error {
	text := urls.ReplaceAllStringFunc(err.Error(), func(text string) string {
		if u, err := url.Parse(text); err == nil {
			return u.Host
		}
		return "a URL"
	})
	return &saidError{cut(text), err}
}

// saidError has another text than what it is about.
type saidError struct {
	text string
	err  error
}

func (e *saidError) Error() string { return e.text }
func (e *saidError) Unwrap() error { return e.err }
