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

// StackView is a stack as the cluster tells of it, for which no daemon has to run,
// or as the daemon knows it.
type StackView struct {
	// Name is SOURCE.STACK.
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	// Stalled is true where it can't become Ready by itself.
	Stalled bool `json:"stalled"`
	// Suspended is true where it is left alone, by Git or by hand.
	Suspended bool `json:"suspended"`
	// Contended is true where somebody insists on a drift, and it is left so.
	Contended bool `json:"contended"`
	// Drift is how many objects are not as Git wants them although Git has not moved.
	Drift int `json:"drift"`
	// Reason of the condition Ready; docs/errors.md lists them.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Since is when Ready changed last.
	Since time.Time `json:"since"`
	// Objects is how many are ready, of how many, as in 3/4.
	Objects string `json:"objects"`
	// Revision is the commit at which an input of the stack changed last.
	Revision string `json:"revision"`
	// Applied is the commit that is in the cluster.
	Applied string `json:"applied"`
	Source  string `json:"source"`
	// URL of the source's repository.
	URL string `json:"url"`
	// Path is the directory of its stack.yaml.
	Path string `json:"path"`
	// Held is why nothing is deleted.
	Held string `json:"held,omitempty"`
	// Removal is the name by which the held deletions can be confirmed.
	Removal string `json:"removal,omitempty"`
}

// SourceView is a source as the cluster tells of it, or as the daemon knows it.
type SourceView struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
	// Reason is Fetched or Failed.
	Reason string `json:"reason"`
	URL    string `json:"url"`
	// Revision is the commit that is in force.
	Revision string `json:"revision"`
	// Subject of that commit.
	Subject string `json:"subject"`
	// Author of that commit.
	Author string `json:"author"`
	// Stacks is how many it declares.
	Stacks int `json:"stacks"`
	// Broken is how many of them can't be used.
	Broken  int    `json:"broken"`
	Message string `json:"message"`
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
	v := viewOf(u.GetName(), statusOf(u))
	v.Path = stackPath(u)
	v.Source, _, _ = unstructured.NestedString(u.Object, "spec", "source")
	v.URL, _, _ = unstructured.NestedString(u.Object, "spec", "url")
	drifted, _, _ := unstructured.NestedInt64(u.Object, "status", "drift", "objects")
	v.Drift = int(drifted)
	return v
}

// viewOf is what a status says of a stack.
func viewOf(name string, s Status) StackView {
	v := StackView{Name: name, Reason: "Pending", Objects: s.Objects, Revision: s.Revision, Applied: s.Applied}
	for _, c := range s.Conditions {
		on := c.Status == metav1.ConditionTrue
		switch c.Type {
		case ConditionReady:
			v.Ready, v.Reason, v.Message, v.Since = on, c.Reason, c.Message, c.LastTransitionTime.Time
			v.Suspended = c.Reason == "Suspended"
		case ConditionStalled:
			v.Stalled = on
		case ConditionContended:
			v.Contended = on
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
	url, _, _ := unstructured.NestedString(u.Object, "spec", "url")
	return viewOfSource(u.GetName(), url, s)
}

// viewOfSource is what a status says of a source.
func viewOfSource(name, url string, s SourceStatus) SourceView {
	v := SourceView{Name: name, URL: url, Revision: s.Revision, Subject: s.Subject, Author: s.Author, Stacks: s.Stacks, Broken: s.Broken}
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
