package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"filippo.io/age"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/lab"
)

// server builds a real program from its module, once.
func server(name string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "../../testdata/servers/build.sh", name)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

var (
	sopsProgram = sync.OnceValues(func() (string, error) { return server("sops") })
	baoProgram  = sync.OnceValues(func() (string, error) { return server("openbao") })
)

// sealing is what a scenario has to seal things with.
type sealing struct {
	config    map[string]any // secrets: of plumbline.yaml
	recipient string
	bao       *lab.OpenBao
	front     *baoFront
}

// baoFront stands between the daemon and OpenBao: it can be away, and remembers
// what was asked.
type baoFront struct {
	*httptest.Server
	away atomic.Bool
	mu   sync.Mutex
	log  []string
}

func startFront(address string) (*baoFront, error) {
	to, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	front := &baoFront{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	front.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if front.away.Load() {
			panic(http.ErrAbortHandler) // the connection is cut
		}
		front.mu.Lock()
		front.log = append(front.log, r.Method+" "+r.URL.Path)
		front.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	return front, nil
}

func (f *baoFront) take() (log []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	log, f.log = f.log, nil
	return log
}

func (s *scenario) startBao(ctx context.Context) error {
	program, err := baoProgram()
	if err != nil {
		return err
	}
	if s.seals.bao, err = lab.StartOpenBao(ctx, program, s.dir); err != nil {
		return err
	}
	s.seals.front, err = startFront(s.seals.bao.Address)
	return err
}

// bao runs its command line, as an operator would.
func (s *scenario) baoCommand(ctx context.Context, args ...string) (string, error) {
	program, err := baoProgram()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"BAO_ADDR=" + s.seals.bao.Address, "BAO_TOKEN=" + s.seals.bao.Token, "HOME=" + s.dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("bao %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// ageKey makes an identity, and gives it to the daemons that start from now on.
func (s *scenario) ageKey() error {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	s.seals.recipient = identity.Recipient().String()
	file := filepath.Join(s.dir, "age.txt")
	s.secrets(map[string]any{"sops": map[string]any{"ageKeyFile": file}})
	return os.WriteFile(file, []byte(identity.String()+"\n"), 0o600)
}

func (s *scenario) secrets(more map[string]any) {
	if s.seals.config == nil {
		s.seals.config = map[string]any{}
	}
	for k, v := range more {
		s.seals.config[k] = v
	}
}

// seal encrypts a file in place, with the real sops.
func (s *scenario) seal(ctx context.Context, file string, flags ...string) error {
	program, err := sopsProgram()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(s.expand(string(text))), 0o600); err != nil {
		return err
	}
	args := []string{"encrypt", "--in-place"}
	if !slices.Contains(flags, "--hc-vault-transit") {
		args = append(args, "--age", s.seals.recipient)
	}
	args = append(args, flags...)
	cmd := exec.CommandContext(ctx, program, append(args, file)...)
	cmd.Env = []string{"HOME=" + s.dir}
	if s.seals.bao != nil {
		cmd.Env = append(cmd.Env, "VAULT_ADDR="+s.seals.bao.Address, "VAULT_TOKEN="+s.seals.bao.Token)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sops encrypt %s: %w\n%s", file, err, out)
	}
	return nil
}

var sealingWords = map[string]word{
	"age-key": {"age-key [in-cluster]: makes an identity that the daemon has, in a file or a Secret", 0, false, func(ctx context.Context, s script, args []string) error {
		if err := s.ageKey(); err != nil || len(args) == 0 {
			return err
		}
		identity, err := os.ReadFile(filepath.Join(s.dir, "age.txt"))
		if err != nil {
			return err
		}
		s.secrets(map[string]any{"sops": map[string]any{"ageKeySecret": map[string]any{"namespace": s.namespace, "name": "age"}}})
		return s.cluster.create(ctx, s.namespace, "{apiVersion: v1, kind: Secret, metadata: {name: age}, stringData: {home.agekey: '"+strings.TrimSpace(string(identity))+"', other: x}}")
	}},
	"seal": {"seal FILE [sops flags...]: encrypts it in place", 1, false, func(ctx context.Context, s script, args []string) error {
		return s.seal(ctx, s.ts.MkAbs(args[0]), args[1:]...)
	}},
	"openbao": {"openbao start | away | back", 1, false, func(ctx context.Context, s script, args []string) error {
		switch args[0] {
		case "start":
			return s.startBao(context.WithoutCancel(ctx))
		case "away", "back":
			s.seals.front.away.Store(args[0] == "away")
			s.seals.front.CloseClientConnections()
			return nil
		}
		return fmt.Errorf("what is openbao %q?", args[0])
	}},
	"bao": {"bao args...: its command line, as root", 1, false, func(ctx context.Context, s script, args []string) error {
		out, err := s.baoCommand(ctx, args...)
		s.ts.Setenv("bao_said", strings.TrimSpace(out))
		return err
	}},
	"secrets": {"secrets YAML: of plumbline.yaml, from the next start of the daemon; $BAO is the address of OpenBao", 1, false, func(_ context.Context, s script, args []string) error {
		var more map[string]any
		text := strings.Join(args, " ")
		if s.seals.front != nil {
			text = strings.ReplaceAll(text, "$BAO", s.seals.front.URL)
		}
		if err := yaml.Unmarshal([]byte(text), &more); err != nil {
			return err
		}
		s.secrets(more)
		return nil
	}},
	"bao-token": {"bao-token POLICY: writes token.txt beside the configuration", 1, false, func(ctx context.Context, s script, args []string) error {
		token, err := s.baoCommand(ctx, "token", "create", "-policy="+args[0], "-field=token", "-period=1h")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.dir, "token.txt"), []byte(strings.TrimSpace(token)), 0o600)
	}},
	"bao-requests": {"bao-requests COUNT REGEXP: that many since the last bao-requests or mark", 2, false, func(_ context.Context, s script, args []string) error {
		want, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		var got []string
		for _, r := range s.seals.front.take() {
			if regexp.MustCompile(args[1]).MatchString(r) {
				got = append(got, r)
			}
		}
		if len(got) != want {
			return fmt.Errorf("%d requests to OpenBao, want %d:\n%s", len(got), want, strings.Join(got, "\n"))
		}
		return nil
	}},
	"expect-condition": {"expect-condition STACK TYPE STATUS [regexp of the message]", 3, false, func(ctx context.Context, s script, args []string) error {
		at := `.status.conditions[?(@.type=="` + args[1] + `")]`
		want := []string{at + ".status", args[2]}
		if len(args) > 3 {
			want = append(want, at+".message", ".*(?:"+strings.Join(args[3:], " ")+").*")
		}
		return s.expect(ctx, "Stack", args[0], want...)
	}},
}
