package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// The files of the certificate authority, the API server, and the key that signs
// ServiceAccount tokens, in the lab's directory.
const (
	caCert     = "ca.crt"
	caKey      = "ca.key"
	serverCert = "apiserver.crt"
	serverKey  = "apiserver.key"
	tokenKey   = "tokens.key"
)

// certificates live for ten years: nobody renews them, and a directory kept for
// long must still start.
const certLifetime = 10 * 365 * 24 * time.Hour

// A pair is a certificate and its key, PEM-encoded.
type pair struct{ cert, key []byte }

// An authority signs certificates.
type authority struct {
	cert   *x509.Certificate
	signer crypto.Signer
	pem    []byte
}

// openAuthority loads the authority of the lab, or makes it together with the
// server certificate and the token key. The CA certificate is written last: its
// presence says that the others are complete.
func openAuthority() (*authority, error) {
	if fileExists(caCert) {
		return loadAuthority()
	}
	ca, root, err := newAuthority()
	if err != nil {
		return nil, err
	}
	server, err := ca.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
	})
	if err != nil {
		return nil, err
	}
	_, tokens, err := newKey()
	if err != nil {
		return nil, err
	}
	return ca, writeFiles([]namedFile{
		{serverCert, server.cert}, {serverKey, server.key}, {tokenKey, tokens}, {caKey, root.key}, {caCert, root.cert},
	})
}

func loadAuthority() (*authority, error) {
	certPEM, err := os.ReadFile(caCert)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(caKey)
	if err != nil {
		return nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s or %s is not PEM: remove both to get new ones", caCert, caKey)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", caCert, err)
	}
	signer, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", caKey, err)
	}
	return &authority{cert: cert, signer: signer, pem: certPEM}, nil
}

func newAuthority() (*authority, pair, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "plumbline-lab"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, pair{}, err
	}
	certPEM, cert, err := sign(template, template, key, key)
	if err != nil {
		return nil, pair{}, err
	}
	return &authority{cert: cert, signer: key, pem: certPEM}, pair{certPEM, keyPEM}, nil
}

// issueClient signs a certificate that Kubernetes takes for the user and groups.
func (a *authority) issueClient(user string, groups ...string) (pair, error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) issue(template *x509.Certificate) (pair, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key, keyPEM, err := newKey()
	if err != nil {
		return pair{}, err
	}
	certPEM, _, err := sign(template, a.cert, key, a.signer)
	return pair{certPEM, keyPEM}, err
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func sign(template, parent *x509.Certificate, key, signer crypto.Signer) ([]byte, *x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour) // clocks of clients may be a little behind
	template.NotAfter = template.NotBefore.Add(certLifetime)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate of %q: %w", template.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert, err
}

type namedFile struct {
	name string
	data []byte
}

func writeFiles(files []namedFile) error {
	for _, f := range files {
		if err := os.WriteFile(f.name, f.data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
