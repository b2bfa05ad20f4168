package observe

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// lab returns a client configuration for a real control plane. The tests of this package share it.
func lab(t testing.TB) *rest.Config {
	config, err := startLab()
	if err != nil {
		t.Fatalf("start plumbline-lab: %v", err)
	}
	config = rest.CopyConfig(config)
	config.QPS = -1
	return config
}

var labInput io.Closer // the lab ends when this pipe breaks: when we do

var startLab = sync.OnceValues(func() (*rest.Config, error) {
	binary := os.Getenv("PLUMBLINE_LAB")
	if binary == "" {
		binary = "../../.cache/plumbline-lab"
		if err := buildLab(binary); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(binary, "up", "--die-with-parent")
	labInput, _ = cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kubeconfig, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%w; to see why, run %s up", err, binary)
	}
	return clientcmd.BuildConfigFromFlags("", strings.TrimSpace(kubeconfig))
})

// buildLab builds the lab if it is not there. Other packages' tests may be about to do the same.
func buildLab(binary string) error {
	script := `mkdir -p "$(dirname "$0")" && exec 9>"$0.lock" && flock 9 && { test -x "$0" || ../../cmd/plumbline-lab/build.sh "$0"; }`
	if out, err := exec.Command("sh", "-c", script, binary).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}
