package checks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec" //nolint:depguard // it starts itself, without arguments and without an environment
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Rego can't be bounded from within: its compiler doesn't listen to a context, and a line of it
// can make a value that no memory holds. So a repository's checks are judged by a process of
// their own, which is this program under another name. It has no network that a check could
// reach, no environment, little memory, and is killed when its time is over.

// childName is what the program is called where it judges.
const childName = "plumbline-checks"

// Bounds of a child.
const (
	childBytes    = raceFactor * 384 << 20 // of memory
	childCPU      = 60                     // seconds, should whoever started it be gone
	answerBytes   = 64 << 20
	messageBytes  = 2000
	foundPerCheck = 100 // on one object
)

// ownBudget is for all of a repository's checks on all objects of a stack.
var ownBudget = raceFactor * 10 * time.Second

// children bounds how many there are at a time.
var children = make(chan struct{}, 1)

// ErrChild is why a repository's checks gave no answer, where they are not simply wrong.
var ErrChild = errors.New("the checks can't be evaluated")

type question struct {
	Files   map[string]string
	Objects []json.RawMessage
}

// answer is one line of a child: first what is wrong with the checks, then an object each.
type answer struct {
	Wrong string `json:",omitempty"`
	Found []told `json:",omitempty"`
}

type told struct {
	ID, Severity, Title, Fix, URL, File, Message, Field, Err string   `json:",omitempty"`
	Aliases                                                  []string `json:",omitempty"`
	Again                                                    bool     `json:",omitempty"`
}

// Judge has the checks of a repository look at objects. What they find is by object. Objects for
// which there was no time, or no memory, have an error there. The error is about the checks; it is
// an ErrChild where another try may end otherwise.
func Judge(ctx context.Context, files map[string]string, objects []map[string]any) ([][]Found, error) {
	asked := question{Files: files}
	for _, o := range objects {
		raw, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		asked.Objects = append(asked.Objects, raw)
	}
	text, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	select {
	case children <- struct{}{}:
		defer func() { <-children }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answers, failed := ask(ctx, text)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("%w: %w", ErrChild, failed)
	}
	if wrong := answers[0].Wrong; wrong != "" {
		return nil, errors.New(wrong)
	}
	return foundBy(answers[1:], len(objects), failed), nil
}

// foundBy is what the answers come to. What is missing failed.
func foundBy(answers []answer, objects int, failed error) [][]Found {
	out := make([][]Found, objects)
	for i := range out {
		if i >= len(answers) {
			out[i] = []Found{{Check: &Check{ID: "all"}, Err: failed, Again: true}}
			continue
		}
		for _, t := range answers[i].Found {
			f := Found{Check: &Check{ID: t.ID, Aliases: t.Aliases, Severity: t.Severity, Title: t.Title, Fix: t.Fix, URL: t.URL, File: t.File}, Message: t.Message, Field: t.Field, Again: t.Again}
			if t.Err != "" {
				f.Err = errors.New(t.Err)
			}
			out[i] = append(out[i], f)
		}
	}
	return out
}

// ask starts a child, and reads what it answers until it ends or is ended.
func ask(ctx context.Context, text []byte) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, ownBudget)
	defer cancel()
	self, err := executable()
	if err != nil {
		return nil, err
	}
	var complaint tail
	child := exec.CommandContext(ctx, self)
	child.Args, child.Env, child.Stdin, child.Stderr = []string{childName}, []string{}, bytes.NewReader(text), &complaint
	child.WaitDelay = time.Second
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", childName, err)
	}
	var answers []answer
	decoder := json.NewDecoder(io.LimitReader(out, answerBytes))
	for {
		var a answer
		if err = decoder.Decode(&a); err != nil {
			break
		}
		answers = append(answers, a)
	}
	late := ctx.Err() != nil
	cancel() // who says more than is read has said enough
	_ = child.Wait()
	switch {
	case late:
		return answers, fmt.Errorf("%w: all checks of the repository have %s for a stack", ErrBudget, ownBudget)
	case strings.Contains(complaint.String(), "out of memory") || strings.Contains(complaint.String(), "to allocate"):
		return answers, fmt.Errorf("%w: all checks of the repository have %d MiB", ErrMemory, childBytes>>20)
	}
	first, _, _ := strings.Cut(complaint.String(), "\n")
	return answers, fmt.Errorf("the process that judges ended, perhaps for want of memory: %.200s", first)
}

// executable is this program, also where its file was replaced meanwhile.
func executable() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// tail keeps the beginning of what is written.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	if left := 4096 - t.Len(); left > 0 {
		t.Buffer.Write(p[:min(len(p), left)])
	}
	return len(p), nil
}

// A program that links this package is a child where it is called so. That is decided here, so
// that it holds for every program, and for tests.
func init() {
	if len(os.Args) == 1 && os.Args[0] == childName {
		judge(os.Stdin, os.Stdout)
		os.Exit(0)
	}
}

// judge is what a child does.
func judge(in io.Reader, out io.Writer) {
	limit(childBytes, childCPU)
	debug.SetMemoryLimit(childBytes / 2)
	encoder := json.NewEncoder(out)
	var asked question
	if err := json.NewDecoder(in).Decode(&asked); err != nil {
		_ = encoder.Encode(answer{Wrong: err.Error()})
		return
	}
	set, err := Custom(asked.Files)
	if err != nil {
		_ = encoder.Encode(answer{Wrong: err.Error()})
		return
	}
	_ = encoder.Encode(answer{})
	for _, raw := range asked.Objects {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber()
		var object map[string]any
		if err := decoder.Decode(&object); err != nil {
			_ = encoder.Encode(answer{Found: []told{{ID: "input", Err: err.Error()}}})
			continue
		}
		_ = encoder.Encode(answer{Found: tellable(set.Run(context.Background(), object))})
	}
}

// tellable is what was found, with a bound on it.
func tellable(found []Found) (out []told) {
	count := map[string]int{}
	for _, f := range found {
		t := told{ID: f.ID, Aliases: f.Aliases, Severity: f.Severity, Title: f.Title, Fix: f.Fix, URL: f.URL, File: f.File, Message: cut(f.Message), Field: cut(f.Field), Again: f.Again}
		if f.Err != nil {
			t.Err = cut(f.Err.Error())
		}
		switch count[f.ID]++; {
		case count[f.ID] < foundPerCheck || t.Err != "":
			out = append(out, t)
		case count[f.ID] == foundPerCheck:
			t.Message = fmt.Sprintf("it finds more than %d things: the others are not told", foundPerCheck-1)
			out = append(out, t)
		}
	}
	return out
}

func cut(s string) string {
	if len(s) <= messageBytes {
		return s
	}
	return strings.ToValidUTF8(s[:messageBytes], "") + "…"
}
