package e2e

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"
)

// take applies fields with force, as another tool would that takes them over.
func (c *cluster) take(ctx context.Context, kind, namespace, name, fields, manager string) error {
	name, on, err := c.find(kind, namespace, name)
	if err != nil {
		return err
	}
	live, err := on.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(fields), &want.Object); err != nil {
		return err
	}
	want.SetAPIVersion(live.GetAPIVersion())
	want.SetKind(live.GetKind())
	want.SetName(name)
	want.SetNamespace(live.GetNamespace())
	_, err = on.Apply(ctx, name, want, metav1.ApplyOptions{FieldManager: manager, Force: true})
	return err
}

// replace deletes what is there under an object's name, and creates it anew, as fast
// as it can: Plumbline may come in between, and then has made it.
func (c *cluster) replace(ctx context.Context, namespace, text string) error {
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		return err
	}
	name, on, err := c.find(u.GetKind(), namespace, u.GetName())
	if err != nil {
		return err
	}
	if err := on.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if _, err = on.Create(ctx, u, metav1.CreateOptions{FieldManager: "somebody"}); apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// insisting are the controllers of a scenario, by kind and name.
type insisting struct {
	mu  sync.Mutex
	end map[string]func()
}

func insistWord(ctx context.Context, s script, args []string) error {
	key := args[0] + " " + args[1]
	if s.neg {
		s.insisting.mu.Lock()
		defer s.insisting.mu.Unlock()
		if end := s.insisting.end[key]; end != nil {
			end()
			delete(s.insisting.end, key)
			return nil
		}
		return errors.New("nobody does")
	}
	if len(args) < 4 {
		return errors.New("insist on what, and who?")
	}
	return s.insist(ctx, args[0], args[1], strings.Join(args[2:len(args)-1], " "), args[len(args)-1])
}

// insist starts a controller: it watches an object, and applies its fields whenever
// they are not so.
func (s *scenario) insist(ctx context.Context, kind, name, fields, manager string) error {
	full, on, err := s.cluster.find(kind, s.namespace, name)
	if err != nil {
		return err
	}
	var want map[string]any
	if err := yaml.Unmarshal([]byte(fields), &want); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // that ends with the word
	events, err := on.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + full})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event := range events.ResultChan() {
			u, ok := event.Object.(*unstructured.Unstructured)
			if ok && event.Type != watch.Deleted && !has(u.Object, want) {
				_ = s.cluster.take(ctx, kind, s.namespace, name, fields, manager) // the next event is the next try
			}
		}
	}()
	end := sync.OnceFunc(func() { events.Stop(); <-done })
	s.insisting.mu.Lock()
	defer s.insisting.mu.Unlock()
	if s.insisting.end == nil {
		s.insisting.end = map[string]func(){}
	}
	s.insisting.end[kind+" "+name] = end
	return nil
}

func (i *insisting) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, end := range i.end {
		end()
	}
}

// has is true for an object with these fields.
func has(have, want any) bool {
	w, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(fmt.Sprint(have), fmt.Sprint(want))
	}
	h, _ := have.(map[string]any)
	for key, value := range w {
		if !has(h[key], value) {
			return false
		}
	}
	return true
}
