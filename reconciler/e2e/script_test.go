package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
)

type scenarioKey struct{}

// TestScripts runs the scenarios in testdata. In files and arguments, $NS is the
// scenario's namespace, $ID a name that no other scenario uses, and $home the
// source of the repository home. $home_dir is its working tree.
func TestScripts(t *testing.T) {
	cmds := map[string]func(*testscript.TestScript, bool, []string){}
	all := maps.Clone(words)
	maps.Copy(all, sealingWords)
	maps.Copy(all, apiWords)
	for name, w := range all {
		cmds[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			s := ts.Value(scenarioKey{}).(*scenario)
			for i := range args {
				args[i] = s.expand(args[i])
			}
			if len(args) < w.args || (neg && !w.neg) {
				ts.Fatalf("usage: %s", w.usage)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			ts.Check(w.run(ctx, script{s, ts, neg}, args))
		}
	}
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: setup, Cmds: cmds, RequireUniqueNames: true})
}

func setup(env *testscript.Env) error {
	home := filepath.Join(env.WorkDir, ".scenario")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	s, err := newScenario(context.Background(), home, shared)
	if err != nil {
		return err
	}
	env.Values[scenarioKey{}] = s
	env.Setenv("NS", s.namespace)
	env.Setenv("ID", s.id)
	env.Setenv("KUBECONFIG", s.plane.Kubeconfig)
	t := env.T()
	env.Defer(func() {
		err := s.close()
		if err != nil || t.(interface{ Failed() bool }).Failed() {
			t.Log(s.story())
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	return nil
}

// script is what a word of a script has at hand.
type script struct {
	*scenario
	ts  *testscript.TestScript
	neg bool
}

// word is a command of the scripts.
type word struct {
	usage string
	args  int  // at least
	neg   bool // may stand behind "!"
	run   func(context.Context, script, []string) error
}

var words = map[string]word{
	"repo": {"repo NAME [yaml of the source]", 1, false, func(_ context.Context, s script, args []string) error {
		s.ts.Setenv(args[0], s.source(args[0]))
		defer func() { s.ts.Setenv(args[0]+"_dir", s.repos[args[0]].Dir) }()
		return s.repo(args[0], strings.Join(args[1:], " "))
	}},
	"configure": {"configure NAME yaml of the source: for the next start of the daemon", 2, false, func(_ context.Context, s script, args []string) error {
		return s.configure(args[0], strings.Join(args[1:], " "))
	}},
	"unfollow": {"unfollow NAME: no source any more, from the next start of the daemon", 1, false, func(_ context.Context, s script, args []string) error {
		s.names = slices.DeleteFunc(s.names, func(name string) bool { return name == args[0] })
		return nil
	}},
	"push": {"push NAME message [dir over it...]: commits the directory NAME", 2, false, func(_ context.Context, s script, args []string) error {
		return s.push(args[0], args[1], args[2:])
	}},
	"force-push": {"force-push NAME: makes the working tree's HEAD the branch", 1, false, func(_ context.Context, s script, args []string) error {
		_, err := s.repos[args[0]].Git("push", "-q", "--force", "origin", "HEAD:main")
		return err
	}},
	"git": {"git NAME args...: in the working tree", 2, false, func(_ context.Context, s script, args []string) error {
		_, err := s.repos[args[0]].Git(args[1:]...)
		return err
	}},
	"hide": {"hide NAME: the repository vanishes from the server; ! hide: it is back", 1, true, func(_ context.Context, s script, args []string) error {
		bare := s.repos[args[0]].Bare
		if s.neg {
			return os.Rename(bare+".hidden", bare)
		}
		return os.Rename(bare, bare+".hidden")
	}},
	"daemon": {"daemon start [counted] | stop | kill", 1, false, daemonWord},
	"configmaps": {"configmaps FILE COUNT [PREFIX [VALUE]]: writes a file", 2, false, func(_ context.Context, s script, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		args = append(args, "many", "1")
		return os.WriteFile(s.ts.MkAbs(args[0]), []byte(configMaps(n, args[2], args[3])), 0o600)
	}},
	"big": {"big FILE NAME BYTES: a ConfigMap", 3, false, func(_ context.Context, s script, args []string) error {
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		text := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata:\n  text: %s\n", args[1], strings.Repeat("x", n))
		return os.WriteFile(s.ts.MkAbs(args[0]), []byte(text), 0o600)
	}},
	"still-ready": {"still-ready STACK...: whatever changed it last", 1, false, func(ctx context.Context, s script, args []string) error {
		for _, stack := range args {
			if err := s.stillReady(ctx, stack); err != nil {
				return err
			}
		}
		return nil
	}},
	"expect-ready": {"expect-ready STACK...: with what was pushed last", 1, false, func(ctx context.Context, s script, args []string) error {
		for _, stack := range args {
			if err := s.expectReady(ctx, stack); err != nil {
				return err
			}
		}
		return nil
	}},
	"expect-reason": {"expect-reason STACK REASON [regexp of the message]", 2, false, func(ctx context.Context, s script, args []string) error {
		return s.expectReason(ctx, "Stack", args[0], args[1], strings.Join(args[2:], " "))
	}},
	"expect-event": {"expect-event STACK REASON [regexp of the message]: is shown by kubectl describe", 2, false, func(ctx context.Context, s script, args []string) error {
		return eventually(ctx, func(ctx context.Context) error {
			n, err := s.events(ctx, args[0], args[1], strings.Join(args[2:], " "))
			if err == nil && n == 0 {
				err = fmt.Errorf("no Event %s of %s", args[1], args[0])
			}
			return err
		})
	}},
	"is-event": {"is-event COUNT STACK [REASON]: that many are shown, at once", 2, false, func(ctx context.Context, s script, args []string) error {
		n, err := s.events(ctx, args[1], strings.Join(args[2:], " "), "")
		if err == nil && strconv.Itoa(n) != args[0] {
			err = fmt.Errorf("%d Events %v, want %s", n, args[1:], args[0])
		}
		return err
	}},
	"expect-source": {"expect-source NAME REASON [regexp of the message]", 2, false, func(ctx context.Context, s script, args []string) error {
		return s.expectReason(ctx, "Source", s.source(args[0]), args[1], strings.Join(args[2:], " "))
	}},
	"expect-object": {"expect-object KIND NAME [jsonpath pattern]...", 2, false, func(ctx context.Context, s script, args []string) error {
		return s.expect(ctx, args[0], args[1], args[2:]...)
	}},
	"is-object": {"is-object KIND NAME [jsonpath pattern]...: at once", 2, false, func(ctx context.Context, s script, args []string) error {
		u, err := s.cluster.get(ctx, args[0], s.namespace, args[1])
		if err != nil {
			return err
		}
		return holds(u, args[2:])
	}},
	"is-gone": {"is-gone KIND NAME: at once", 2, false, func(ctx context.Context, s script, args []string) error {
		_, err := s.cluster.get(ctx, args[0], s.namespace, args[1])
		return gone(err)
	}},
	"expect-gone": {"expect-gone KIND NAME", 2, false, func(ctx context.Context, s script, args []string) error {
		return s.expectGone(ctx, args[0], args[1])
	}},
	"expect-synced": {"expect-synced NAME: the source is at the working tree's commit", 1, false, func(ctx context.Context, s script, args []string) error {
		return s.expectSynced(ctx, args[0])
	}},
	"remember": {"remember KIND NAME: for expect-same and expect-new", 2, false, func(ctx context.Context, s script, args []string) error {
		u, err := s.cluster.get(ctx, args[0], s.namespace, args[1])
		if err != nil {
			return err
		}
		s.uids[strings.Join(args, " ")] = string(u.GetUID())
		return nil
	}},
	"expect-same": {"expect-same KIND NAME: has the UID that was remembered", 2, false, func(ctx context.Context, s script, args []string) error {
		return s.expect(ctx, args[0], args[1], ".metadata.uid", s.uids[strings.Join(args, " ")])
	}},
	"expect-new": {"expect-new KIND NAME: is there, with another UID", 2, false, func(ctx context.Context, s script, args []string) error {
		return eventually(ctx, func(ctx context.Context) error {
			u, err := s.cluster.get(ctx, args[0], s.namespace, args[1])
			if err == nil && string(u.GetUID()) == s.uids[strings.Join(args, " ")] {
				return errors.New("has the same UID")
			}
			return err
		})
	}},
	"edit-live": {"edit-live KIND NAME patch", 3, false, func(ctx context.Context, s script, args []string) error {
		return s.cluster.patch(ctx, args[0], s.namespace, args[1], strings.Join(args[2:], " "))
	}},
	"take-live": {"take-live KIND NAME fields MANAGER: a forced server-side apply", 4, false, func(ctx context.Context, s script, args []string) error {
		return s.cluster.take(ctx, args[0], s.namespace, args[1], strings.Join(args[2:len(args)-1], " "), args[len(args)-1])
	}},
	"insist": {"insist KIND NAME fields MANAGER: a controller that applies them whenever they are not so; ! insist KIND NAME: it ends", 2, true, insistWord},
	"replace-live": {"replace-live FILE: deletes what is there under its name, and creates it", 1, false, func(ctx context.Context, s script, args []string) error {
		return s.cluster.replace(ctx, s.namespace, s.expand(s.ts.ReadFile(args[0])))
	}},
	"edit-status": {"edit-status KIND NAME patch: of the status, as its controller would", 3, false, func(ctx context.Context, s script, args []string) error {
		return eventually(ctx, func(ctx context.Context) error {
			return s.cluster.patch(ctx, args[0], s.namespace, args[1], strings.Join(args[2:], " "), "status")
		})
	}},
	"create-live": {"create-live FILE", 1, false, func(ctx context.Context, s script, args []string) error {
		return s.cluster.create(ctx, s.namespace, s.expand(s.ts.ReadFile(args[0])))
	}},
	"delete-live": {"delete-live KIND NAME", 2, false, func(ctx context.Context, s script, args []string) error {
		name, on, err := s.cluster.find(args[0], s.namespace, args[1])
		if err != nil {
			return err
		}
		return on.Delete(ctx, name, metav1.DeleteOptions{})
	}},
	"mark": {"mark: the log and the requests count from here", 0, false, func(_ context.Context, s script, _ []string) error {
		s.seen = len(s.daemon.Records())
		s.proxy.take()
		if s.seals.front != nil {
			s.seals.front.take()
		}
		return nil
	}},
	"expect-log": {"[!] expect-log [key pattern]...: since the mark; negated, at once", 2, true, func(ctx context.Context, s script, args []string) error {
		if !s.neg {
			return s.expectLog(ctx, args...)
		}
		if n, err := s.logged(args...); n > 0 || err != nil {
			return errors.Join(fmt.Errorf("%d such records", n), err)
		}
		return nil
	}},
	"at-most": {"at-most COUNT [key pattern]...: records since the mark", 1, false, func(_ context.Context, s script, args []string) error {
		most, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		if n, err := s.logged(args[1:]...); n > most || err != nil {
			return errors.Join(fmt.Errorf("%d such records, want at most %d", n, most), err)
		}
		return nil
	}},
	"requests": {"requests COUNT [regexp]: that many since the mark", 1, false, func(_ context.Context, s script, args []string) error {
		return s.requests(args[0], strings.Join(args[1:], " "))
	}},
	"removal": {"removal NAME STACK: remembers what would confirm the deletions that are held", 2, false, func(ctx context.Context, s script, args []string) error {
		u, err := s.cluster.get(ctx, "Stack", "", args[1])
		if err != nil {
			return err
		}
		s.uids[args[0]], err = field(u, ".status.held.removal")
		return err
	}},
	"exec-removal": {"exec-removal NAME STACK: confirms it, and waits", 2, false, func(_ context.Context, s script, args []string) error {
		if s.uids[args[0]] == "" {
			return fmt.Errorf("%s: nothing is held", args[1])
		}
		return s.ts.Exec(binary, "reconcile", args[1], "--confirm", s.uids[args[0]])
	}},
	"cli": {"cli [-CODE] args...: runs plumbline, which ends with this exit code", 1, false, func(_ context.Context, s script, args []string) error {
		want := 0
		if code, err := strconv.Atoi(args[0]); err == nil && code < 0 {
			want, args = -code, args[1:]
		}
		err := s.ts.Exec(binary, args...)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == want || err == nil && want == 0 {
			return nil
		}
		return fmt.Errorf("want exit code %d: %w", want, err)
	}},
	"log-lacks": {"log-lacks TEXT: in all that the daemon ever said", 1, false, func(_ context.Context, s script, args []string) error {
		if strings.Contains(s.log.String(), args[0]) {
			return fmt.Errorf("the daemon's log holds %q", args[0])
		}
		return nil
	}},
}

// events counts what kubectl describe shows of a stack, as that looks for it. An
// Event that stands for several counts as so many.
func (s *scenario) events(ctx context.Context, stack, reason, message string) (n int, err error) {
	u, err := s.cluster.get(ctx, "Stack", "", stack)
	if gone(err) == nil {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	on, err := s.cluster.on("Event", "default")
	if err != nil {
		return 0, err
	}
	list, err := on.List(ctx, metav1.ListOptions{FieldSelector: fields.Set{"involvedObject.kind": "Stack", "involvedObject.name": stack,
		"involvedObject.uid": string(u.GetUID())}.String()})
	if err != nil {
		return 0, err
	}
	for _, e := range list.Items {
		if reason != "" && e.Object["reason"] != reason {
			continue
		}
		if holds(&e, []string{".message", ".*(?:" + message + ").*"}) == nil {
			count, _, _ := unstructured.NestedInt64(e.Object, "count")
			n += int(count)
		}
	}
	return n, nil
}

func daemonWord(ctx context.Context, s script, args []string) error {
	switch strings.Join(args, " ") {
	case "start":
		return s.run(ctx, s.plane.Plumbline)
	case "start counted":
		return s.run(ctx, s.proxy.Kubeconfig)
	case "stop":
		return s.stop()
	case "kill":
		return s.kill(ctx)
	}
	return fmt.Errorf("what is daemon %q?", args)
}

func (s script) push(name, message string, over []string) error {
	dir := s.ts.MkAbs(name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, other := range over {
		if err := copyOver(dir, s.ts.MkAbs(other)); err != nil {
			return err
		}
	}
	if err := s.tree(name, dir); err != nil {
		return err
	}
	_, err := s.repos[name].Push(message)
	return err
}

// copyOver is cp -r.
func copyOver(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(from, path)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, text, 0o600)
	})
}

// expectSynced waits until the daemon has accepted what was pushed last.
func (s *scenario) expectSynced(ctx context.Context, name string) error {
	commit, err := s.repos[name].Git("rev-parse", "HEAD")
	if err != nil {
		return err
	}
	return s.expect(ctx, "Source", s.source(name), ".status.revision", commit)
}

func (s *scenario) requests(count, pattern string) error {
	want, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	matching, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	var got []string
	for _, r := range s.proxy.seen() {
		if matching.MatchString(r) {
			got = append(got, r)
		}
	}
	if len(got) != want {
		return fmt.Errorf("%d requests, want %d:\n%s", len(got), want, strings.Join(got, "\n"))
	}
	return nil
}

// configMaps are many objects: many-0, many-1…
func configMaps(n int, prefix, value string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: %s-%d}, data: {value: %q}}\n", prefix, i, value)
	}
	return b.String()
}
