package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// OpenBao is a running server in its dev mode: unsealed, in memory, with KV
// version 2 at secret/, as a child process that dies with us.
type OpenBao struct {
	Address   string // http://127.0.0.1:port; https with -dev-tls
	CAFile    string // of -dev-tls
	Token     string // may do everything
	UnsealKey string
	process   *process
}

// StartOpenBao starts the bao program, and returns when it answers. dir is its
// own. Flags may be added, as -dev-tls.
func StartOpenBao(ctx context.Context, program, dir string, flags ...string) (*OpenBao, error) {
	var err error
	for range 5 { // somebody else may take the port first
		var b *OpenBao
		if b, err = startOpenBao(ctx, program, dir, flags); !errors.Is(err, errPortTaken) {
			return b, err
		}
	}
	return nil, err
}

var errPortTaken = errors.New("the port was taken")

func startOpenBao(ctx context.Context, program, dir string, flags []string) (*OpenBao, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	b := &OpenBao{Address: "http://" + address, Token: rand.Text()}
	args := []string{"server", "-dev", "-dev-no-store-token", "-dev-root-token-id=" + b.Token, "-dev-listen-address=" + address}
	for _, flag := range flags {
		if flag == "-dev-tls" {
			b.Address, b.CAFile = "https://"+address, filepath.Join(dir, "vault-ca.pem")
			args = append(args, "-dev-tls-cert-dir="+dir)
		}
	}
	log, err := os.Create(filepath.Join(dir, "openbao.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, out, err := start(ctx, program, append(args, flags...), []string{"HOME=" + dir, "BAO_API_ADDR=", "VAULT_API_ADDR="}, log)
	if err != nil {
		return nil, err
	}
	b.process = p
	impatient := context.AfterFunc(ctx, p.kill)
	said, err := b.hear(out)
	if !impatient() {
		<-p.done
		return nil, context.Cause(ctx)
	}
	if err == nil {
		return b, b.answers(ctx)
	}
	_ = p.stop(time.Minute)
	if text, _ := os.ReadFile(log.Name()); strings.Contains(said+string(text), "address already in use") {
		return nil, errPortTaken
	}
	return nil, fmt.Errorf("OpenBao did not start: %s", strings.TrimSpace(said))
}

// hear reads what the server says until it is up.
func (b *OpenBao) hear(out io.Reader) (said string, err error) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		said += line
		if err != nil {
			return said, err
		}
		if key, ok := strings.CutPrefix(line, "Unseal Key: "); ok {
			b.UnsealKey = strings.TrimSpace(key)
		}
		if strings.HasPrefix(line, "Root Token: ") {
			go func() { _, _ = io.Copy(io.Discard, lines) }() // ends with the child
			return said, nil
		}
	}
}

// answers waits until the mounts of the dev mode are there. Over TLS the listener
// is up first, and nobody has to wait.
func (b *OpenBao) answers(ctx context.Context) error {
	if b.CAFile != "" {
		return nil
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.Address+"/v1/secret/config", http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("X-Vault-Token", b.Token)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			_ = b.Stop()
			return context.Cause(ctx)
		case <-b.process.done:
			return errors.New("OpenBao ended while it started")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server, and with it everything that it held.
func (b *OpenBao) Stop() error { return b.process.stop(30 * time.Second) }

// Kill ends it as a power cut would.
func (b *OpenBao) Kill() { b.process.kill() }

// freeAddress is one that nobody listens on just now.
func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
