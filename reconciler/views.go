package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"
)

// StackView is a stack as the cluster tells of it: no daemon has to run.
type StackView struct {
	Name     string    `json:"name"`
	Ready    bool      `json:"ready"`
	Stalled  bool      `json:"stalled"`
	Reason   string    `json:"reason"`
	Message  string    `json:"message"`
	Since    time.Time `json:"since"` // of the last change of Ready
	Objects  string    `json:"objects"`
	Revision string    `json:"revision"`
	Applied  string    `json:"applied"`
	Source   string    `json:"source"`
	URL      string    `json:"url"`
	Path     string    `json:"path"`
	Held     string    `json:"held,omitempty"`
	Removal  string    `json:"removal,omitempty"`
}

// SourceView is a source as the cluster tells of it.
type SourceView struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Reason   string `json:"reason"`
	URL      string `json:"url"`
	Revision string `json:"revision"`
	Subject  string `json:"subject"`
	Author   string `json:"author"`
	Stacks   int    `json:"stacks"`
	Broken   int    `json:"broken"`
	Message  string `json:"message"`
}

// Views reads all Source and Stack objects, sorted by name.
func (c *Cluster) Views(ctx context.Context) ([]SourceView, []StackView, error) {
	sources, err := c.client.Resource(sourcesResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list sources: %w", err)
	}
	stacks, err := c.client.Resource(stacksResource).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("list stacks: %w", err)
	}
	sourceViews, stackViews := []SourceView{}, []StackView{}
	for i := range sources.Items {
		sourceViews = append(sourceViews, sourceView(&sources.Items[i]))
	}
	for i := range stacks.Items {
		stackViews = append(stackViews, stackView(&stacks.Items[i]))
	}
	return sourceViews, stackViews, nil
}

func stackView(u *unstructured.Unstructured) StackView {
	s := statusOf(u)
	v := StackView{Name: u.GetName(), Reason: "Pending", Objects: s.Objects, Revision: s.Revision, Applied: s.Applied, Path: stackPath(u)}
	v.Source, _, _ = unstructured.NestedString(u.Object, "spec", "source")
	v.URL, _, _ = unstructured.NestedString(u.Object, "spec", "url")
	for _, c := range s.Conditions {
		switch c.Type {
		case ConditionReady:
			v.Ready, v.Reason, v.Message, v.Since = c.Status == metav1.ConditionTrue, c.Reason, c.Message, c.LastTransitionTime.Time
		case ConditionStalled:
			v.Stalled = c.Status == metav1.ConditionTrue
		}
	}
	if s.Held != nil {
		v.Held, v.Removal = s.Held.Message, s.Held.Removal
	}
	return v
}

func sourceView(u *unstructured.Unstructured) SourceView {
	var s SourceStatus
	raw, _ := u.Object["status"].(map[string]any)
	_ = runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &s) // what can't be read is written anew
	v := SourceView{Name: u.GetName(), Revision: s.Revision, Subject: s.Subject, Author: s.Author, Stacks: s.Stacks, Broken: s.Broken}
	v.URL, _, _ = unstructured.NestedString(u.Object, "spec", "url")
	for _, c := range s.Conditions {
		if c.Type == ConditionReady {
			v.Ready, v.Reason, v.Message = c.Status == metav1.ConditionTrue, c.Reason, c.Message
		}
	}
	return v
}

// handManager owns what people ask for.
const handManager = "plumbline-cli"

// Annotate writes annotations on a Stack or Source object; nil values remove.
func (c *Cluster) Annotate(ctx context.Context, source bool, name string, annotations map[string]any) error {
	resource, kind := stacksResource, "stack"
	if source {
		resource, kind = sourcesResource, "source"
	}
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": annotations}})
	if err != nil {
		return err
	}
	_, err = c.client.Resource(resource).Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: handManager})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("no %s %q in this cluster: see plumbline status", kind, name)
	}
	return err
}

// Outcome is what came of a request by hand.
type Outcome struct {
	Ready bool
	Text  string
}

// String is the outcome for people.
func (o Outcome) String() string { return o.Text }

// Handled waits until the daemon has carried out a request, and the stack's
// objects are Ready, or something stands in the way.
func (c *Cluster) Handled(ctx context.Context, source bool, name, at string) (Outcome, error) {
	resource := stacksResource
	if source {
		resource = sourcesResource
	}
	one := "metadata.name=" + name
	var outcome Outcome
	_, err := watchtools.UntilWithSync(ctx, listWatch(c.client.Resource(resource), one), &unstructured.Unstructured{}, nil,
		func(e watch.Event) (bool, error) {
			u, ok := e.Object.(*unstructured.Unstructured)
			if !ok {
				return false, nil
			}
			if e.Type == watch.Deleted {
				outcome = Outcome{true, "removed"}
				return true, nil
			}
			if handled, _, _ := unstructured.NestedString(u.Object, "status", "handledAt"); handled != at {
				return false, nil
			}
			if source {
				v := sourceView(u)
				outcome = Outcome{v.Ready, strings.TrimSuffix(fmt.Sprintf("%s %s, stacks: %d\n%s", v.Reason, v.Revision, v.Stacks, v.Message), "\n")}
				return true, nil
			}
			v := stackView(u)
			outcome = Outcome{v.Ready, fmt.Sprintf("%s: %s", v.Reason, v.Message)}
			passing := v.Reason == "Progressing" || v.Reason == "Removing"
			return !passing || v.Held != "", nil
		})
	return outcome, err
}
