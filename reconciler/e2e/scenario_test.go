package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/plumbline-dev/plumbline/lab"
	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

// A scenario has a namespace, sources, and daemons of its own, on a plane that
// others may use too.
type scenario struct {
	id        string
	namespace string
	dir       string
	plane     *lab.Plane
	cluster   *cluster
	proxy     *proxy
	names     []string // of the repositories, as scripts call them
	repos     map[string]*lab.Repo
	sources   map[string]map[string]any // as in plumbline.yaml
	daemon    *lab.Daemon
	seen      int // records of the daemon's log that were looked at
	log       *buffer
	uids      map[string]string
	seals     sealing
	insisting insisting
	listen    string   // address of the daemons; "": none
	env       []string // of the daemons, beside ours
	temp      string   // of the daemons' temporary files; "": as usual
	resync    string   // of the daemons that start from now on; "": as usual
	scan      any      // the same
}

var scenarios atomic.Int64

func newScenario(ctx context.Context, dir string, plane *lab.Plane) (*scenario, error) {
	id := fmt.Sprintf("x%d", scenarios.Add(1))
	s := &scenario{id: id, namespace: "e2e-" + id, dir: dir, plane: plane, log: &buffer{},
		repos: map[string]*lab.Repo{}, sources: map[string]map[string]any{}, uids: map[string]string{}}
	var err error
	if s.cluster, err = openCluster(plane.Kubeconfig); err != nil {
		return nil, err
	}
	if s.proxy, err = startProxy(plane.Plumbline, filepath.Join(dir, "proxy.kubeconfig")); err != nil {
		return nil, err
	}
	return s, s.cluster.create(ctx, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+s.namespace+"}}")
}

// start makes a scenario for a Go test.
func start(t *testing.T, plane *lab.Plane, repos ...string) *scenario {
	t.Helper()
	s, err := newScenario(t.Context(), t.TempDir(), plane)
	must(t, err)
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(s.story())
		}
	})
	for _, name := range repos {
		must(t, s.repo(name, ""))
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// close stops the daemon, and complains of what nobody looked for.
func (s *scenario) close() error {
	var err error
	s.insisting.stop()
	if s.daemon != nil {
		err = s.stop()
	}
	s.proxy.close()
	if s.seals.front != nil {
		s.seals.front.Close()
		err = errors.Join(err, s.seals.bao.Stop())
	}
	for _, sign := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(s.log.String(), sign) {
			err = errors.Join(err, fmt.Errorf("the daemon's log has: %s", sign))
		}
	}
	return err
}

// story is what the daemon said, for a test that failed.
func (s *scenario) story() string {
	text := s.log.String()
	if most := 20000; len(text) > most && !strings.Contains(text, "DATA RACE") {
		text = "…" + text[len(text)-most:]
	}
	return "the daemon's log:\n" + text
}

// source is the name of a repository's source: no two scenarios share one.
func (s *scenario) source(repo string) string { return repo + "-" + s.id }

// stack is the name of a stack in the cluster.
func (s *scenario) stack(repo, stack string) string { return s.source(repo) + "." + stack }

// expand fills in what only this scenario knows: $NS, $ID, and the sources.
func (s *scenario) expand(text string) string {
	pairs := []string{"$NS", s.namespace, "$ID", s.id}
	for _, name := range s.names {
		pairs = append(pairs, "$"+name, s.source(name))
	}
	text = strings.NewReplacer(pairs...).Replace(text)
	return setOf.ReplaceAllStringFunc(text, func(m string) string { return apply.SetID(setOf.FindStringSubmatch(m)[1]) })
}

// setOf stands for the ApplySet of a stack: set-of(STACK).
var setOf = regexp.MustCompile(`set-of\(([^)]+)\)`)

// repo makes an empty repository, and a source of it; more is YAML for the source.
func (s *scenario) repo(name, more string) error {
	repo, err := git.Create(s.source(name))
	if err != nil {
		return err
	}
	s.names, s.repos[name] = append(s.names, name), repo
	return s.configure(name, more)
}

// configure writes the configuration of a source, for the next start of the daemon.
func (s *scenario) configure(name, more string) error {
	source := map[string]any{"name": s.source(name), "url": s.repos[name].URL, "interval": "300ms", "ref": map[string]any{"branch": "main"},
		"defaults": map[string]any{"namespace": s.namespace}}
	if err := yaml.Unmarshal([]byte(s.expand(more)), &source); err != nil {
		return fmt.Errorf("configuration of %s: %w", name, err)
	}
	s.sources[name] = source
	return nil
}

// tree makes the files of a directory those of a repository. A stack without a
// kustomization gets one, with all the files beside it.
func (s *scenario) tree(name, dir string) error {
	repo := s.repos[name]
	old, err := os.ReadDir(repo.Dir)
	if err != nil {
		return err
	}
	for _, entry := range old {
		if entry.Name() != ".git" {
			if err := os.RemoveAll(filepath.Join(repo.Dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	files := map[string]string{}
	if err := os.CopyFS(repo.Dir, os.DirFS(dir)); err != nil {
		return err
	}
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(dir, path)
		text, err := os.ReadFile(path)
		files[relative] = s.expand(string(text))
		return err
	})
	if err != nil {
		return err
	}
	addKustomizations(files)
	return repo.Write(files)
}

func addKustomizations(files map[string]string) {
	beside := map[string][]string{}
	for file := range files {
		dir := filepath.Dir(file)
		if _, ok := files[filepath.Join(dir, "stack.yaml")]; ok && filepath.Base(file) != "stack.yaml" && filepath.Ext(file) == ".yaml" {
			beside[dir] = append(beside[dir], filepath.Base(file))
		}
	}
	for dir, names := range beside {
		own := filepath.Join(dir, "kustomization.yaml")
		slices.Sort(names)
		if _, ok := files[own]; !ok {
			files[own] = "resources: [" + strings.Join(names, ", ") + "]\n"
		}
	}
}

// config writes plumbline.yaml.
func (s *scenario) config(name, kubeconfig string) (string, error) {
	var sources []any
	for _, repo := range s.names {
		sources = append(sources, s.sources[repo])
	}
	config := map[string]any{
		"sources": sources, "listen": cmp.Or(s.listen, "off"), "stateDir": filepath.Join(s.dir, name),
		"cluster":  map[string]any{"kubeconfig": kubeconfig},
		"election": map[string]any{"name": s.id},
	}
	if s.seals.config != nil {
		config["secrets"] = s.seals.config
	}
	if s.resync != "" {
		config["resync"] = s.resync
	}
	if s.scan != nil {
		config["scan"] = s.scan
	}
	raw, err := yaml.Marshal(config)
	if err != nil {
		return "", err
	}
	file := filepath.Join(s.dir, name+".yaml")
	return file, os.WriteFile(file, raw, 0o600)
}

// run starts a daemon, with or without the proxy between it and the API server.
func (s *scenario) run(ctx context.Context, kubeconfig string) error {
	daemon, err := s.runAs(ctx, "plumbline", kubeconfig)
	s.daemon, s.seen = daemon, 0
	return err
}

func (s *scenario) runAs(ctx context.Context, name, kubeconfig string) (*lab.Daemon, error) {
	file, err := s.config(name, kubeconfig)
	if err != nil {
		return nil, err
	}
	env := slices.Clone(s.env)
	if s.temp != "" {
		env = append(env, "TMPDIR="+s.temp)
	}
	return lab.StartDaemon(ctx, binary, file, env, s.log)
}

// stop ends the daemon as SIGTERM does.
func (s *scenario) stop() error {
	daemon := s.daemon
	s.daemon = nil
	return daemon.Stop()
}

// kill ends the daemon as kill -9 does, and takes away the Lease that it left,
// which would expire after some seconds only: TestTwoDaemons waits for that.
func (s *scenario) kill(ctx context.Context) error {
	s.daemon.Kill()
	s.daemon = nil
	return s.dropLease(ctx)
}

func (s *scenario) dropLease(ctx context.Context) error {
	leases, err := s.cluster.on("Lease", "plumbline-system")
	if err != nil {
		return err
	}
	if err := leases.Delete(ctx, s.id, metav1.DeleteOptions{}); err != nil && gone(err) != nil {
		return err
	}
	return nil
}

// expect waits until an object has these fields: path, pattern, path, pattern…
func (s *scenario) expect(ctx context.Context, kind, name string, want ...string) error {
	return eventually(ctx, func(ctx context.Context) error {
		u, err := s.cluster.get(ctx, kind, s.namespace, name)
		if err != nil {
			return err
		}
		return holds(u, want)
	})
}

// expectGone waits until an object is not there.
func (s *scenario) expectGone(ctx context.Context, kind, name string) error {
	err := eventually(ctx, func(ctx context.Context) error {
		_, err := s.cluster.get(ctx, kind, s.namespace, name)
		return gone(err)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	return nil
}

const readyIs = `.status.conditions[?(@.type=="Ready")]`

// expectReady waits until a stack is Ready with what was pushed last.
func (s *scenario) expectReady(ctx context.Context, stack string) error {
	source, _, _ := strings.Cut(stack, ".")
	commit, err := s.repos[strings.TrimSuffix(source, "-"+s.id)].Git("rev-parse", "HEAD")
	if err != nil {
		return err
	}
	return s.expect(ctx, "Stack", stack, ".status.revision", commit, readyIs+".status", "True")
}

// stillReady waits until a stack is Ready, whatever changed it last.
func (s *scenario) stillReady(ctx context.Context, stack string) error {
	err := s.expect(ctx, "Stack", stack, readyIs+".status", "True")
	if u, getErr := s.cluster.get(ctx, "Stack", "", stack); err != nil && getErr == nil {
		why, _ := field(u, readyIs+".message")
		err = fmt.Errorf("%w: %s", err, why)
	}
	return err
}

// expectReason waits until a stack is not Ready, or Suspended, for this reason.
func (s *scenario) expectReason(ctx context.Context, kind, name, reason, message string) error {
	return s.expect(ctx, kind, name, readyIs+".reason", reason, readyIs+".message", ".*(?:"+message+").*")
}

// expectLog waits for a record of the daemon, from the last mark on: key, pattern, key, pattern…
func (s *scenario) expectLog(ctx context.Context, want ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no record with %q", want))
	defer cancel()
	match, err := matcher(want)
	if err != nil {
		return err
	}
	_, _, err = s.daemon.WaitFor(ctx, s.seen, match)
	return err
}

// logged counts the records since the last mark.
func (s *scenario) logged(want ...string) (n int, err error) {
	match, err := matcher(want)
	if err != nil {
		return 0, err
	}
	for _, r := range s.daemon.Records()[s.seen:] {
		if match(r) {
			n++
		}
	}
	return n, nil
}

func matcher(want []string) (func(lab.Record) bool, error) {
	for i := 1; i < len(want); i += 2 {
		if _, err := whole(want[i]); err != nil {
			return nil, err
		}
	}
	return func(r lab.Record) bool {
		for i := 0; i+1 < len(want); i += 2 {
			pattern, _ := whole(want[i+1])
			if !pattern.MatchString(fmt.Sprint(r[want[i]])) {
				return false
			}
		}
		return true
	}, nil
}

// buffer may be written to while it is read.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
