package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The server of a source must not make this process talk to what only this machine can reach: the metadata service of a
// cloud, which hands out credentials, or a daemon that trusts local connections. Nothing of the answer would get back to
// the server, but the request alone may do something. So requests that a redirect leads to another origin carry an
// egress in their context, and what is dialled for them is checked when names are resolved.

// egress says where redirected requests may go.
type egress struct {
	loopback bool // the source itself is on this machine
}

type egressKey struct{}

// errEgress is what a refused connection fails with.
type errEgress struct{ to netip.Addr }

func (e errEgress) Error() string { return "redirected to " + e.to.String() }

// metadata services that do not have a link-local address: of AWS and of Alibaba.
var metadata = []netip.Addr{netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200")}

// nat64 holds the addresses of IPv4 at its end.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func (e egress) check(ip netip.Addr) error {
	plain := ip.Unmap().WithZone("")
	if nat64.Contains(plain) {
		b := plain.As16()
		plain = netip.AddrFrom4([4]byte(b[12:]))
	}
	local := plain.IsLoopback() || plain.IsUnspecified()
	if plain.IsLinkLocalUnicast() || slices.Contains(metadata, plain) || local && !e.loopback {
		return errEgress{plain}
	}
	return nil
}

// checkHost looks at the host as it is written. Behind a proxy that is all: names are resolved there.
func (e egress) checkHost(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return e.check(ip)
	}
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return e.check(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return nil
}

// follow prepares a request for the network. Also the request for the pack goes where the listing was redirected to,
// and does not look redirected: what counts is the origin.
func (g *guard) follow(req *http.Request) (*http.Request, error) {
	if originOf(req.URL.Hostname(), req.URL.Port(), req.URL.Scheme) == g.origin {
		return req, nil
	}
	if err := g.egress.checkHost(req.URL.Hostname()); err != nil {
		return nil, err
	}
	if g.proxy != nil {
		if via, err := g.proxy(req); err != nil || via != nil {
			return req, err // what is dialled is the proxy, which may well be local
		}
	}
	return req.WithContext(context.WithValue(req.Context(), egressKey{}, g.egress)), nil
}

// originOf is host:port, with the port that is meant where none is written.
func originOf(host, port, scheme string) string {
	if port == "" || port == "0" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return net.JoinHostPort(strings.ToLower(host), port)
}

// refused is the error for a connection that was not made.
func refused(u *url.URL, err error) error {
	var e errEgress
	if !errors.As(err, &e) {
		return nil
	}
	return withHint(fmt.Errorf("%w: the server redirected to %s, and %s is an address that redirects are not followed to", ErrProtocol, printable(u.Host, 200), e.to),
		"write that host into the url if you trust it")
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialer checks before it connects.
func dialer() dialFunc {
	d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	d.ControlContext = func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		return checkDialed(ctx, address)
	}
	return d.DialContext
}

// checked is for a dialer from outside: it checks before anything is sent.
func checked(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := checkDialed(ctx, conn.RemoteAddr().String()); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

func checkDialed(ctx context.Context, address string) error {
	e, ok := ctx.Value(egressKey{}).(egress)
	if !ok {
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("redirected to %q, which is no address", address)
	}
	return e.check(to.Addr())
}
