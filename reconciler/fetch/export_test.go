package fetch

import (
	"context"
	"net"
)

// For tests of what parses the outside.
var (
	ApplyDelta     = applyDelta
	CheckArmor     = checkArmor
	DecodeTree     = decodeTree
	RedactURL      = redactURL
	SplitSignature = splitSignature
	ParseHeader    = parseHeader
)

// ParseAllowedSigners returns the principals of each line.
func ParseAllowedSigners(data []byte) (principals []string, err error) {
	all, err := parseAllowedSigners(data)
	if err != nil {
		return nil, err
	}
	for _, s := range all.list {
		principals = append(principals, s.principals)
	}
	return principals, nil
}

// DialRedirected connects as a request does that was redirected to another origin.
func DialRedirected(ctx context.Context, address string) (net.Conn, error) {
	return dialer()(context.WithValue(ctx, egressKey{}, egress{}), "tcp", address)
}
