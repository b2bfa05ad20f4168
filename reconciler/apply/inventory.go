package apply

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Names of the ApplySet specification, KEP-3659.
const (
	PartOfLabel          = "applyset.kubernetes.io/part-of"
	setIDLabel           = "applyset.kubernetes.io/id"
	toolingAnnotation    = "applyset.kubernetes.io/tooling"
	groupKindsAnnotation = "applyset.kubernetes.io/contains-group-kinds"
	namespacesAnnotation = "applyset.kubernetes.io/additional-namespaces"
	tooling              = "plumbline/v1alpha1"
)

// Stacks is where the parents live: a cluster-scoped custom resource.
var Stacks = Resource{schema.GroupVersionResource{Group: "plumbline.dev", Version: "v1alpha1", Resource: "stacks"}, "Stack", false}

// SetID is the ApplySet's identity, as KEP-3659 derives it from the parent:
// base64url(sha256("<name>.<namespace>.<kind>.<group>")).
func SetID(stack string) string {
	sum := sha256.Sum256([]byte(stack + ".." + Stacks.Kind + "." + Stacks.Group))
	return "applyset-" + base64.RawURLEncoding.EncodeToString(sum[:]) + "-v1"
}

// Inventory is what a stack owns after an apply.
type Inventory struct {
	Stack   string
	Parent  *unstructured.Unstructured // as the server last answered; nil once it was deleted
	Applied map[ID]Applied
	When    map[ID]time.Time // what was written, and when
	Waiting []ID             // being deleted, or not yet usable: run again when they change
	Partial bool             // some objects could not be validated yet: the foundation they need was laid only now
}

// contents are the group-kinds and namespaces that a parent admits to have.
type contents struct {
	kinds      []schema.GroupKind
	namespaces []string
}

func contentsOf(ids []ID) contents {
	c := contents{kinds: groupKinds(ids)}
	for _, id := range ids {
		if id.Namespace != "" {
			c.namespaces = append(c.namespaces, id.Namespace)
		}
	}
	slices.Sort(c.namespaces)
	c.namespaces = slices.Compact(c.namespaces)
	return c
}

func (c contents) union(other contents) contents {
	kinds := slices.Concat(c.kinds, other.kinds)
	slices.SortFunc(kinds, compareGroupKinds)
	namespaces := slices.Concat(c.namespaces, other.namespaces)
	slices.Sort(namespaces)
	return contents{slices.Compact(kinds), slices.Compact(namespaces)}
}

// ContainedKinds reads the group-kinds that a Stack object admits to have.
func ContainedKinds(parent *unstructured.Unstructured) []schema.GroupKind {
	return admitted(parent).kinds
}

func admitted(parent *unstructured.Unstructured) contents {
	var c contents
	if parent == nil {
		return c
	}
	for _, s := range split(parent.GetAnnotations()[groupKindsAnnotation]) {
		c.kinds = append(c.kinds, schema.ParseGroupKind(s))
	}
	slices.SortFunc(c.kinds, compareGroupKinds)
	c.namespaces = split(parent.GetAnnotations()[namespacesAnnotation])
	return c
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// parentObject is the Stack object as we apply it.
func parentObject(stack string, spec map[string]any, c contents) *unstructured.Unstructured {
	var kinds []string
	for _, gk := range c.kinds {
		kinds = append(kinds, gk.String())
	}
	slices.Sort(kinds)
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": Stacks.GroupVersion().String(), "kind": Stacks.Kind, "spec": spec,
	}}
	u.SetName(stack)
	u.SetLabels(map[string]string{setIDLabel: SetID(stack)})
	u.SetAnnotations(map[string]string{
		toolingAnnotation:    tooling,
		groupKindsAnnotation: strings.Join(kinds, ","),
		namespacesAnnotation: strings.Join(c.namespaces, ","),
	})
	return u
}

// setParent makes the Stack object say what it contains. It costs nothing when
// it says so already.
func (e *Engine) setParent(ctx context.Context, live *unstructured.Unstructured, stack string, spec map[string]any, c contents) (*unstructured.Unstructured, error) {
	want := parentObject(stack, spec, c)
	if live != nil && says(live, want) {
		return live, nil
	}
	body, err := json.Marshal(want.Object)
	if err != nil {
		return live, fmt.Errorf("encode the Stack object: %w", err)
	}
	parent, _, err := e.client.apply(ctx, Stacks, IDOf(want), body, applyStrictly)
	if err != nil {
		return live, fmt.Errorf("write the Stack object %s: %w", stack, err)
	}
	return parent, nil
}

// says is true when everything in want is in live.
func says(live, want *unstructured.Unstructured) bool {
	has := func(all, some map[string]string) bool {
		for k, v := range some {
			if got, ok := all[k]; !ok || got != v {
				return false
			}
		}
		return true
	}
	return live.GetDeletionTimestamp() == nil && has(live.GetLabels(), want.GetLabels()) &&
		has(live.GetAnnotations(), want.GetAnnotations()) &&
		equality.Semantic.DeepEqual(live.Object["spec"], want.Object["spec"])
}

func (e *Engine) deleteParent(ctx context.Context, live *unstructured.Unstructured) error {
	if live == nil {
		return nil
	}
	_, err := e.client.delete(ctx, Stacks, IDOf(live), live.GetUID(), "")
	if err != nil && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete the Stack object %s: %w", live.GetName(), err)
	}
	return nil
}

// IDs lists what the stack owns, sorted.
func (i Inventory) IDs() []ID { return slices.SortedFunc(maps.Keys(i.Applied), ID.Compare) }

// Digest sums up what is known of a stack's objects. Without the key it says
// nothing about them.
func Digest(key []byte, known map[ID]Applied) string {
	var b bytes.Buffer
	for _, id := range slices.SortedFunc(maps.Keys(known), ID.Compare) {
		a := known[id]
		fmt.Fprintf(&b, "%q %x %s %x", id, a.Hash, a.UID, a.Fingerprint)
		if a.Adrift {
			b.WriteString(" adrift") // which nobody recalls: then all is asked for
		}
		b.WriteByte('\n')
	}
	return base64.RawURLEncoding.EncodeToString(hasher(key).sum(b.Bytes())[:16])
}

func isSecret(id ID) bool { return id.Kind == "Secret" && id.Group == "" }

// recall is what was known before a restart: when Git and the cluster together
// still give the digest that was stored when all was well, nobody has to ask.
func (e *Engine) recall(req Request, wanted []prepared) map[ID]Applied {
	known := map[ID]Applied{}
	for _, p := range wanted {
		live, ok := e.live.Get(p.ID)
		if !ok || live.Deleting || live.Stack != req.Stack {
			return nil
		}
		known[p.ID] = Applied{Hash: p.hash, UID: live.UID, Fingerprint: live.Fingerprint}
	}
	if Digest(e.hashes, known) != req.Digest {
		return nil
	}
	return known
}

// Register makes the Stack object of a stack that was never applied, so that
// there is a place to say why.
//
// It creates and never changes: a run may be writing the same object now, with
// the kinds that it is about to apply.
func (e *Engine) Register(ctx context.Context, stack string, spec map[string]any) (*unstructured.Unstructured, error) {
	want := parentObject(stack, spec, contents{})
	want.SetAnnotations(map[string]string{toolingAnnotation: tooling})
	body, err := json.Marshal(want.Object)
	if err != nil {
		return nil, fmt.Errorf("encode the Stack object: %w", err)
	}
	parent, err := e.client.create(ctx, Stacks, IDOf(want), body)
	if err != nil {
		return nil, fmt.Errorf("write the Stack object %s: %w", stack, err)
	}
	return parent, nil
}
