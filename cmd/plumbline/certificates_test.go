package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/plumbline-dev/plumbline/reconciler"
	"github.com/plumbline-dev/plumbline/reconciler/telemetry"
)

// certificateUntil is a certificate in PEM.
func certificateUntil(t *testing.T, ends ...time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, end := range ends {
		raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: raw})
	}
	return out.Bytes()
}

func TestCertificateExpiry(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return now.AddDate(0, 0, n) }
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	for name, tt := range map[string]struct {
		data  []byte
		chain bool
		want  time.Time
	}{
		"one":                         {certificateUntil(t, day(3)), false, day(3)},
		"over":                        {certificateUntil(t, day(-3)), false, day(-3)},
		"the next":                    {certificateUntil(t, day(9), day(3), day(5)), false, day(3)},
		"the next, after an old":      {certificateUntil(t, day(-9), day(3), day(-5)), false, day(3)},
		"the last of those over":      {certificateUntil(t, day(-9), day(-3), day(-5)), false, day(-3)},
		"our own of a chain":          {certificateUntil(t, day(9), day(3)), true, day(9)},
		"a key before it":             {append(key, certificateUntil(t, day(3))...), true, day(3)},
		"none":                        {key, false, time.Time{}},
		"one that is none":            {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), false, time.Time{}},
		"text":                        {[]byte("hunter2"), false, time.Time{}},
		"more than is read of a file": {bytes.Repeat([]byte{' '}, certificateBytes+1), false, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.pem")
			if err := os.WriteFile(file, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			for where, held := range map[string]certificate{"memory": {data: tt.data, chain: tt.chain}, "a file": {file: file, chain: tt.chain}} {
				if at := held.expiry(now); !at.Equal(tt.want) {
					t.Errorf("in %s: %v, not %v", where, at, tt.want)
				}
			}
		})
	}
	if at := (certificate{file: filepath.Join(t.TempDir(), "none")}).expiry(now); !at.IsZero() {
		t.Errorf("a file that isn't there: %v", at)
	}
}

// TestCertificatesAreReadAgain renews one in its file.
func TestCertificatesAreReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(end time.Time) {
		if err := os.WriteFile(file, certificateUntil(t, end), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		day := func(n int) time.Time { return time.Date(2030, 1, n, 0, 0, 0, 0, time.UTC) }
		config := reconciler.Config{Sources: []reconciler.SourceConfig{{Name: "home", Auth: reconciler.AuthConfig{CAFile: file}}, {Name: "public"}},
			Secrets: reconciler.SecretsConfig{OpenBao: &reconciler.OpenBaoConfig{CAFile: file}}}
		api := &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: file, CertData: certificateUntil(t, day(7), day(2))}}
		write(day(3))
		snapshot := expiring(func() telemetry.Snapshot { return telemetry.Snapshot{Queues: map[string]int{"stacks": 1}} }, certificatesOf(config, api))
		look := func(ca time.Time) {
			t.Helper()
			want := telemetry.Snapshot{Queues: map[string]int{"stacks": 1},
				Certificates: map[string]time.Time{"kubernetes client": day(7), "kubernetes CA": ca, "openbao CA": ca, "home CA": ca}}
			if diff := cmp.Diff(want, snapshot()); diff != "" {
				t.Error(diff)
			}
		}
		look(day(3))
		write(day(9))
		look(day(3)) // not each time that somebody asks
		time.Sleep(certificatesAge)
		look(day(9))
	})
}
