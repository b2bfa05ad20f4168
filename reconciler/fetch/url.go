package fetch

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
)

// remote is a parsed Source.URL.
type remote struct {
	scheme string // https, http, ssh, file
	user   string // ssh
	host   string // without port and brackets
	port   int    // 0: the scheme's
	path   string
}

// scpLike is [user@]host:path; the path does not begin with // and the host has no slash before the colon.
var scpLike = regexp.MustCompile(`^(?:([A-Za-z0-9._-]+)@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([^\s:][^\x00-\x1f]*)$`)

func parseURL(raw string) (remote, error) {
	if raw == "" {
		return remote{}, errors.New("is missing; write https://host/path.git")
	}
	if !strings.Contains(raw, "://") {
		return parseSCP(raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return remote{}, fmt.Errorf("%q is not a URL", redactURL(raw))
	}
	if err := checkURL(raw, u); err != nil {
		return remote{}, err
	}
	r := remote{scheme: u.Scheme, host: u.Hostname(), path: u.Path, user: u.User.Username()}
	if p := u.Port(); p != "" {
		if r.port, err = strconv.Atoi(p); err != nil || r.port < 1 || r.port > 65535 {
			return remote{}, fmt.Errorf("%q: port %q is not a number from 1 to 65535", redactURL(raw), p)
		}
	}
	return r, nil
}

func checkURL(raw string, u *url.URL) error {
	safe := redactURL(raw)
	switch u.Scheme {
	case "https", "http":
		if u.User != nil {
			return fmt.Errorf("%q holds credentials; put them into a file and name it in auth.tokenFile, or auth.username and auth.passwordFile", safe)
		}
	case "ssh":
		if _, has := u.User.Password(); has {
			return fmt.Errorf("%q holds a password; use auth.sshKeyFile", safe)
		}
	case "file":
		if u.User != nil || u.Host != "" && u.Host != "localhost" || !path.IsAbs(u.Path) {
			return fmt.Errorf("%q: write file:///absolute/path", safe)
		}
	default:
		return fmt.Errorf("%q: scheme %q is not supported; use https, ssh, http or file", safe, u.Scheme)
	}
	switch {
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("%q must not have a query or fragment; put credentials into files", safe)
	case u.Scheme != "file" && u.Hostname() == "":
		return fmt.Errorf("%q has no host", safe)
	case strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-"):
		return fmt.Errorf("%q: host and user must not begin with -", safe)
	case strings.Trim(u.Path, "/") == "":
		return fmt.Errorf("%q has no path to a repository", safe)
	}
	return nil
}

func parseSCP(raw string) (remote, error) {
	m := scpLike.FindStringSubmatch(raw)
	if m == nil || strings.HasPrefix(m[1], "-") || strings.HasPrefix(m[2], "-") || m[1] == "" && strings.Contains(m[3], "@") {
		return remote{}, fmt.Errorf("%q is neither a URL nor git@host:path; a local repository is file:///absolute/path", redactURL(raw))
	}
	return remote{scheme: "ssh", user: m[1], host: strings.Trim(m[2], "[]"), path: m[3]}, nil
}

// redactURL cuts whatever might be a credential; it is meant for URLs that were not accepted, so it errs on that side.
func redactURL(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if ok {
		scheme += "://"
	} else {
		scheme, rest = "", raw
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = "REDACTED@" + rest[at+1:]
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i] + "?REDACTED"
	}
	return scheme + rest
}

// String is the URL as it may appear in errors.
func (r remote) String() string {
	host := r.host
	if r.port != 0 {
		host = net.JoinHostPort(r.host, strconv.Itoa(r.port))
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if r.user != "" {
		host = r.user + "@" + host
	}
	if host != "" && !strings.HasPrefix(r.path, "/") {
		return r.scheme + "://" + host + "/" + r.path
	}
	return r.scheme + "://" + host + r.path
}

func (r remote) loopback() bool {
	if r.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(r.host)
	return err == nil && ip.IsLoopback()
}

// endpoint is the same for go-git. Paths are escaped there as written, so they are escaped here.
func (r remote) endpoint() *transport.Endpoint {
	host := r.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	p := r.path
	if r.scheme != "file" {
		p = (&url.URL{Path: r.path}).EscapedPath()
	}
	return &transport.Endpoint{Protocol: r.scheme, Host: host, Port: r.port, Path: p}
}
