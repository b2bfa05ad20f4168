package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// certificates are those that the daemon connects with, and checks servers with.
// They are renewed in their files while it runs, so these are read again.
type certificates struct {
	held []certificate

	mu    sync.Mutex
	read  time.Time
	known map[string]time.Time
}

// certificate is in a file, or in memory for as long as the daemon runs.
type certificate struct {
	name, file string
	data       []byte
	chain      bool // the first is ours, the others are those who signed it
}

// Bounds on a file of certificates, and on how often one is read.
const (
	certificateBytes = 1 << 20
	certificatesAge  = time.Minute
)

func certificatesOf(config reconciler.Config, api *rest.Config) *certificates {
	c := &certificates{}
	c.add(certificate{name: "kubernetes client", file: api.CertFile, data: api.CertData, chain: true})
	c.add(certificate{name: "kubernetes CA", file: api.CAFile, data: api.CAData})
	if bao := config.Secrets.OpenBao; bao != nil {
		c.add(certificate{name: "openbao CA", file: bao.CAFile})
	}
	for _, s := range config.Sources {
		c.add(certificate{name: s.Name + " CA", file: s.Auth.CAFile})
	}
	return c
}

func (c *certificates) add(held certificate) {
	if held.file != "" || len(held.data) > 0 {
		c.held = append(c.held, held)
	}
}

// expiries are when they expire, by name. What can't be read is left out: who
// needs it says so.
func (c *certificates) expiries() map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != nil && time.Since(c.read) < certificatesAge {
		return c.known
	}
	c.read, c.known = time.Now(), map[string]time.Time{}
	for _, held := range c.held {
		if at := held.expiry(c.read); !at.IsZero() {
			c.known[held.name] = at
		}
	}
	return c.known
}

// expiry is when the certificate expires. Of several in a file, it is the one that
// is next; one that was left there after its end counts where there is no other.
func (c certificate) expiry(now time.Time) (at time.Time) {
	data := c.data
	if len(data) == 0 { // as client-go has it: what is in memory comes first
		data = beginning(c.file)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		parsed, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			continue
		}
		if c.chain {
			return parsed.NotAfter
		}
		if end := parsed.NotAfter; at.IsZero() || before(end, at, now) {
			at = end
		}
	}
	return at
}

// before is true if a comes before b, of those that are yet to come; what is over comes last.
func before(a, b, now time.Time) bool {
	if a.After(now) != b.After(now) {
		return a.After(now)
	}
	return a.After(now) == a.Before(b)
}

func beginning(file string) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, certificateBytes)) // a part is as good as none
	return data
}

// expiring adds to what is told of the stacks when the daemon's certificates expire.
func expiring(snapshot func() telemetry.Snapshot, c *certificates) func() telemetry.Snapshot {
	return func() telemetry.Snapshot {
		now := snapshot()
		now.Certificates = c.expiries()
		return now
	}
}
