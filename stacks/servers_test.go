//go:build linux

// The real programs run on Linux only: all of 127.0.0.0/8 answers there, so each gets an address of its own.

package stacks_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// build gives the path of a real program. The first run compiles it; that it cannot be had is a failure.
func build(t *testing.T, name string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command(filepath.Join(servers, "build.sh"), name)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, errs.String())
	}
	return strings.TrimSpace(string(out))
}

// A deployed is a stack as its pod sees it: files where the volumes put them, arguments, environment. The paths are
// moved below a temporary root, and ports are opened on a loopback address that no other test has.
type deployed struct {
	stack
	root string
	ip   string
	env  []string
	args []string
}

// deploy writes down what a kubelet would mount. edit changes the configuration on its way, or is nil.
func deploy(t *testing.T, s stack, hosts map[string]string, edit func(file, text string) string) deployed {
	t.Helper()
	d := deployed{stack: s, root: t.TempDir(), ip: hosts[s.name]}
	move := relocate(s.container(), d.root, hosts)
	for _, m := range s.container().VolumeMounts {
		if err := os.MkdirAll(filepath.Join(d.root, m.MountPath), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range mounted(s, m) {
			text = move(text)
			if edit != nil {
				text = edit(file, text)
			}
			path := filepath.Join(d.root, m.MountPath, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, arg := range s.container().Args {
		d.args = append(d.args, strings.Replace(move(arg), "=:", "="+d.ip+":", 1))
	}
	for _, e := range s.container().Env {
		value := variable.ReplaceAllStringFunc(e.Value, func(v string) string { return s.spec.Vars[v[2:len(v)-1]] })
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "status.podIP" {
			value = d.ip
		}
		d.env = append(d.env, e.Name+"="+value)
	}
	return d
}

// mounted lists a volume's files, by the ConfigMap's keys or by the paths that its items give them.
func mounted(s stack, m corev1.VolumeMount) map[string]string {
	i := slices.IndexFunc(s.workloads[0].pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
	if i < 0 || s.workloads[0].pod.Spec.Volumes[i].ConfigMap == nil {
		return nil
	}
	source := s.workloads[0].pod.Spec.Volumes[i].ConfigMap
	data := s.configMaps[source.Name].Data
	if len(source.Items) == 0 {
		return data
	}
	files := map[string]string{}
	for _, item := range source.Items {
		files[item.Path] = data[item.Key]
	}
	return files
}

// relocate puts root before the container's mount paths, and addresses in place of the stacks' names.
func relocate(c corev1.Container, root string, hosts map[string]string) func(string) string {
	var mounts []string
	for _, m := range c.VolumeMounts {
		mounts = append(mounts, regexp.QuoteMeta(m.MountPath))
	}
	path := regexp.MustCompile(`(^|[\s="'\[])((?:` + strings.Join(mounts, "|") + `)(?:[/\s"'\]},]|$))`)
	host := regexp.MustCompile(`\b(otel-collector|victoria-logs|prometheus|alertmanager|grafana|localhost):(\d+)\b`)
	return func(text string) string {
		text = host.ReplaceAllStringFunc(text, func(address string) string {
			name, port, _ := strings.Cut(address, ":")
			if name == "localhost" {
				name = c.Name
			}
			if hosts[name] == "" {
				return address
			}
			return hosts[name] + ":" + port
		})
		return path.ReplaceAllString(text, "${1}"+root+"${2}")
	}
}

// check runs a program that ends by itself and gives its output and whether it was content.
func check(t *testing.T, d deployed, program string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = d.root, append(os.Environ(), d.env...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s %v did not end", filepath.Base(program), args)
	}
	return string(out), err == nil
}

// start runs a server until the test ends and waits until the pod's own readiness probe is content.
func start(t *testing.T, d deployed, program string) {
	t.Helper()
	var log logBuffer
	cmd := exec.Command(program, d.args...)
	cmd.Dir, cmd.Env = d.root, append(os.Environ(), d.env...)
	cmd.Stdout, cmd.Stderr = &log, &log
	done := run(t, cmd)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s does not stop cleanly: %v\n%s", d.name, err, log.String())
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("%s does not stop when asked to\n%s", d.name, log.String())
		}
	})
	probe := d.container().ReadinessProbe.HTTPGet
	port, _ := containerPort(d.container(), probe.Port.String())
	url := fmt.Sprintf("http://%s:%d%s", d.ip, port, probe.Path)
	eventually(t, d.name+" is ready", func() error {
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s ended: %v\n%s", d.name, err, log.String())
		default:
		}
		_, err := get(url)
		return err
	})
}

// run starts a process that does not outlive this one, however the test ends, and gives the channel of its end.
func run(t *testing.T, cmd *exec.Cmd) chan error {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the signal is sent when the parent's thread ends, not its process
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return done
}

// eventually waits for other processes, whose clock is the real one.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("not within a minute: %s: %v", what, err)
}

var client = http.Client{Timeout: 10 * time.Second}

func get(url string) (string, error) {
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	return answer(res)
}

func answer(res *http.Response) (string, error) {
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, body)
	}
	return string(body), err
}

// A logBuffer is written by a process and read by the test.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
