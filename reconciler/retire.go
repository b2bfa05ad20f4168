package reconciler

import (
	"fmt"
	"path"
	"slices"
	"time"
)

// nameOf finds the stack that a broken file declares: by its name, or by where
// it was declared before.
func (l *Loop) nameOf(source *sourceState, b Broken) string {
	if b.Name != "" {
		return b.Name
	}
	for name, s := range l.stacks {
		if s.declared.Source == source.config.Name && s.declared.File == b.File {
			return name
		}
	}
	for _, parent := range l.Cluster.Stacks(source.config.Name) {
		if stackPath(parent) == path.Dir(b.File) {
			return parent.GetName()
		}
	}
	return ""
}

// retire marks the stacks of the source that are no longer in it: those that
// the loop knows, and those that only the cluster remembers.
func (l *Loop) retire(source *sourceState, candidates []candidate, broken []Broken) {
	there, unsure := l.present(source, candidates, broken)
	known := l.stacksOf(source.config.Name)
	var gone []string
	for _, name := range known {
		if !there[name] {
			gone = append(gone, name)
		}
	}
	if unsure == "" && len(gone) > 1 && 2*len(gone) > len(known) {
		unsure = fmt.Sprintf("%d of the %d stacks of source %s left Git: each has to be confirmed", len(gone), len(known), source.config.Name)
	}
	for _, name := range gone {
		l.retireStack(source, name, unsure)
	}
}

// present are the stacks that the source still has, and why that may not be all.
func (l *Loop) present(source *sourceState, candidates []candidate, broken []Broken) (there map[string]bool, unsure string) {
	there = map[string]bool{}
	for _, c := range candidates {
		there[c.declared.Name] = true
	}
	for _, b := range broken {
		there[l.nameOf(source, b)] = true
		if b.Name == "" {
			unsure = fmt.Sprintf("%s can't be read: it may be this stack's", b.File)
		}
	}
	if len(there) == 0 {
		unsure = "the source holds no stack at all any more: is " + source.config.dir() + " still the right directory?"
	}
	return there, unsure
}

func (l *Loop) stacksOf(source string) []string {
	var names []string
	for _, parent := range l.Cluster.Stacks(source) {
		names = append(names, parent.GetName())
	}
	for name, s := range l.stacks {
		if s.declared.Source == source {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (l *Loop) retireStack(source *sourceState, name, unsure string) {
	s := l.stack(name)
	if from := stackURL(s.parent); unsure == "" && s.parent != nil && from != source.config.URL {
		unsure = fmt.Sprintf("it was declared by %s, not by %s", from, source.config.URL)
	}
	if s.declared.Spec.Kustomize == nil && s.parent != nil { // only the cluster remembers it
		var ok bool
		if s.declared.Spec.Prune, ok = mirroredPrune(s.parent); !ok && unsure == "" {
			unsure = "nobody remembers what it allows to be deleted"
		}
	}
	leaves := !s.removed
	if leaves {
		l.supersede(name, s)
		s.generation++
		s.pushed = time.Now()
	}
	s.gate, s.tree = nil, nil
	if s.judging != nil {
		s.judging()
	}
	s.removed, s.broken, s.ready, s.wants, s.rendered, s.hash = true, nil, false, nil, nil, ""
	s.declared.Source, s.unsure, s.revision = source.config.Name, unsure, source.snapshot.Commit
	if leaves {
		s.deliver(source)
	}
	l.trigger(name, TriggerRevision)
}
