// Package e2e tests plumbline-lab from outside: it builds the binary, starts it,
// and looks at the cluster as a user would.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	corev1 "k8s.io/api/core/v1"
)

// patience is for busy machines; nothing here takes a tenth of it on an idle one.
const patience = time.Minute

var (
	binary string
	shared *lab
)

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) != "" {
		beParent() // see TestDiesWithItsParent
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	var err error
	if binary, err = build(); err != nil {
		fmt.Fprintln(os.Stderr, "build plumbline-lab:", err)
		return 1
	}
	if shared, err = startLab("up"); err != nil {
		fmt.Fprintln(os.Stderr, "start the shared lab:", err)
		return 1
	}
	defer shared.kill()
	code := m.Run()
	if err := shared.stop(os.Interrupt); err != nil {
		fmt.Fprintln(os.Stderr, "stop the shared lab:", err)
		return 1
	}
	return code
}

// build puts the binary where the next run finds it: linking takes longer than
// the tests, and go build leaves alone what is up to date.
func build() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	out := filepath.Join(cache, "plumbline", "e2e", "plumbline-lab")
	if text, err := exec.Command("../build.sh", out).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return out, nil
}

// A lab is a running plumbline-lab.
type lab struct {
	cmd        *exec.Cmd
	kubeconfig string
	rest       *bufio.Reader // of its stdout, behind the kubeconfig
	stderr     *lockedBuffer
	exited     chan struct{}
	exit       error
}

// startLab returns when the lab says that it is ready. Its standard input is at
// its end from the start, which must not stop it.
func startLab(args ...string) (*lab, error) {
	l := &lab{cmd: exec.Command(binary, args...), stderr: &lockedBuffer{}, exited: make(chan struct{})}
	l.cmd.Stderr = l.stderr
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for leftovers
	// Not StdoutPipe: Wait would close it before it is read.
	stdout, stdoutEnd, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l.cmd.Stdout = stdoutEnd
	err = l.cmd.Start()
	_ = stdoutEnd.Close()
	if err != nil {
		return nil, err
	}
	go func() {
		l.exit = l.cmd.Wait()
		close(l.exited)
	}()
	watchdog := time.AfterFunc(patience, l.kill)
	defer watchdog.Stop()
	l.rest = bufio.NewReader(stdout)
	line, err := l.rest.ReadString('\n')
	if err != nil {
		<-l.exited
		return nil, fmt.Errorf("no kubeconfig printed: %w; %v; stderr:\n%s", err, l.exit, l.stderr)
	}
	l.kubeconfig = strings.TrimSuffix(line, "\n")
	return l, nil
}

func (l *lab) kill() { _ = l.cmd.Process.Kill() }

// stop asks the lab to end, and complains unless it does so soon, with exit code
// 0, leaving no process of its group behind, and having said nothing more.
func (l *lab) stop(signal os.Signal) error {
	if err := l.cmd.Process.Signal(signal); err != nil {
		return err
	}
	select {
	case <-l.exited:
	case <-time.After(15 * time.Second):
		l.kill()
		return fmt.Errorf("still there 15s after %v; stderr:\n%s", signal, l.stderr)
	}
	if l.exit != nil {
		return fmt.Errorf("after %v: %w; stderr:\n%s", signal, l.exit, l.stderr)
	}
	if err := syscall.Kill(-l.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("processes are left in its group: %v", err)
	}
	if more, _ := io.ReadAll(l.rest); len(more) > 0 {
		return fmt.Errorf("more than one line on stdout: %q", more)
	}
	return nil
}

func (l *lab) config(t *testing.T, file string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(filepath.Dir(l.kubeconfig), file))
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func (l *lab) client(t *testing.T) kubernetes.Interface {
	t.Helper()
	return newClient(t, l.config(t, filepath.Base(l.kubeconfig)))
}

func newClient(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// newNamespace gives each test a namespace of its own, with its ServiceAccount.
func newNamespace(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	namespace, err := client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(namespace.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return namespace.Name
}

// eventually repeats the check until it has no complaint.
func eventually(t *testing.T, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(t.Context())
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", patience, err)
		}
	}
}

// lockedBuffer may be read while the process still writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
