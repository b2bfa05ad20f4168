package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestStopsCleanly(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			l := start(t, "up", "--nodes=1")
			if dir := filepath.Dir(filepath.Dir(l.kubeconfig)); dir != temp {
				t.Errorf("kubeconfig under %s, want the temporary directory %s", dir, temp)
			}
			if err := l.stop(signal); err != nil {
				t.Error(err)
			}
			wantEmpty(t, temp)
			for line := range strings.Lines(l.stderr.String()) {
				if !strings.HasPrefix(line, "ready after ") && line != "stopping\n" {
					t.Errorf("noise on stderr: %s", line)
				}
			}
		})
	}
}

// parentEnv makes the test binary the parent of a lab, see TestMain.
const parentEnv = "PLUMBLINE_LAB_E2E_PARENT_OF"

// beParent starts a lab, says which, and waits to be killed.
func beParent() {
	cmd := exec.Command(os.Getenv(parentEnv), "up", "--die-with-parent", "--nodes=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		panic(err)
	}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	fmt.Println(cmd.Process.Pid)
	_ = cmd.Wait()
}

func TestDiesWithItsParent(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv(parentEnv, binary)
	parent := exec.Command(os.Args[0])
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var kubeconfig string
	if _, err := fmt.Fscan(stdout, &pid, &kubeconfig); err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if !alive(pid) {
		t.Fatal("the lab is not there")
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	eventually(t, func(context.Context) error {
		if alive(pid) {
			return fmt.Errorf("process %d lives on", pid)
		}
		return nil
	})
	wantEmpty(t, temp)
}

// alive does not count a process that only waits for its exit code to be read.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestContinuesAfterKill(t *testing.T) {
	// Longer than the path of a socket may be.
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 20))
	args := []string{"up", "--nodes=1", "--dir=" + dir, "--port=" + strconv.Itoa(freePort(t))}
	first := start(t, args...)
	client := first.client(t) // goes on to be used: same address, same certificates
	namespace := newNamespace(t, client)
	if _, err := client.AppsV1().Deployments(namespace).Create(t.Context(), deployment(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	available := func(want int32) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := client.AppsV1().Deployments(namespace).Get(ctx, "app", metav1.GetOptions{})
			if err == nil && got.Status.AvailableReplicas != want {
				err = fmt.Errorf("status: %+v", got.Status)
			}
			return err
		}
	}
	eventually(t, available(1))
	before := onlyPod(t, first, namespace)
	first.kill()
	<-first.exited

	second := start(t, args...)
	if second.kubeconfig != first.kubeconfig {
		t.Errorf("kubeconfig %s, then %s", first.kubeconfig, second.kubeconfig)
	}
	if after := onlyPod(t, second, namespace); after.UID != before.UID {
		t.Errorf("pod %s became %s", before.UID, after.UID)
	}
	scale := []byte(`{"spec":{"replicas":2}}`)
	_, err := client.AppsV1().Deployments(namespace).Patch(t.Context(), "app", types.MergePatchType, scale, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, available(2))
	if err := second.stop(os.Interrupt); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(second.kubeconfig); err != nil {
		t.Errorf("the directory was not kept: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	dir := filepath.Dir(shared.kubeconfig)
	port := strings.TrimPrefix(shared.config(t, "kubeconfig").Host, "https://127.0.0.1:")
	t.Setenv("TMPDIR", t.TempDir())
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"directory in use": {[]string{"up", "--dir=" + dir}, 1, "directory " + dir + " is in use by another plumbline-lab"},
		"port in use":      {[]string{"up", "--port=" + port}, 1, "port " + port + " is in use, choose another --port or none\n"},
		"no nodes":         {[]string{"up", "--nodes=0"}, 2, "--nodes 0: want 1 to 250"},
		"unknown flag":     {[]string{"up", "--prot=1"}, 2, "not defined: -prot"},
		"argument":         {[]string{"up", "down"}, 2, `unexpected argument "down"`},
		"unknown command":  {[]string{"down"}, 2, `unknown command "down"`},
		"no command":       {nil, 2, "Usage:"},
		"help":             {[]string{"--help"}, 0, "--die-with-parent"},
		"help of up":       {[]string{"up", "--help"}, 0, "--die-with-parent"},
		"version":          {[]string{"version"}, 0, "Kubernetes v1."},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, test.args...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.want, out)
			}
		})
	}
	wantEmpty(t, os.Getenv("TMPDIR"))
}

func start(t *testing.T, args ...string) *lab {
	t.Helper()
	l, err := startLab(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.kill()
		<-l.exited
	})
	return l
}

func onlyPod(t *testing.T, l *lab, namespace string) corev1.Pod {
	t.Helper()
	pods, err := l.client(t).CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d pods, %v", len(pods.Items), err)
	}
	return pods.Items[0]
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in %s: %v, %v", dir, entries, err)
	}
}
