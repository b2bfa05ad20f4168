package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// client speaks the five requests that an apply needs. It sends prepared JSON
// as it is and tells a created object from a changed one, neither of which the
// dynamic client does.
type client struct {
	rest  rest.Interface
	slots chan struct{} // bounds the requests under way, over all stacks
}

func newClient(config *rest.Config, httpClient *http.Client, slots int) (*client, error) {
	config = rest.CopyConfig(config)
	config.GroupVersion = &schema.GroupVersion{}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion() // decodes the Status of an error
	config.ContentType = runtime.ContentTypeJSON
	config.AcceptContentTypes = runtime.ContentTypeJSON
	c, err := rest.UnversionedRESTClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("make the API client: %w", err)
	}
	return &client{rest: c, slots: make(chan struct{}, slots)}, nil
}

// send waits for a free slot, and sends the request.
func (c *client) send(ctx context.Context, req *rest.Request) (answer []byte, created bool, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	var code int
	result := req.Do(ctx).StatusCode(&code)
	if err := result.Error(); err != nil { // unlike Raw's, this is the server's own Status
		return nil, false, err
	}
	answer, err = result.Raw()
	return answer, code == http.StatusCreated, err
}

// do sends a request that is answered by an object.
func (c *client) do(ctx context.Context, req *rest.Request) (*unstructured.Unstructured, error) {
	raw, _, err := c.send(ctx, req)
	if err != nil {
		return nil, err
	}
	return decode(raw)
}

func decode(raw []byte) (*unstructured.Unstructured, error) {
	obj := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(raw, &obj.Object); err != nil {
		return nil, fmt.Errorf("decode the API server's answer: %w", err)
	}
	return obj, nil
}

// Ways to apply.
const (
	applyStrictly = iota // nobody has looked at the body yet
	applyDry             // look only
	applyDryShown        // look only, at what would be created too
	applyChecked         // a dry run has just passed: the server need not look for unknown fields again
	applyUnforced        // nothing is taken from others: a conflict is an error
)

// apply sends a server-side apply of the body. A dry run that would create the
// object returns none: nobody needs to know what it would be.
func (c *client) apply(ctx context.Context, r Resource, id ID, body []byte, how int) (*unstructured.Unstructured, bool, error) {
	return c.applyAs(ctx, Manager, r, id, body, how)
}

func (c *client) applyAs(ctx context.Context, manager string, r Resource, id ID, body []byte, how int) (*unstructured.Unstructured, bool, error) {
	validation := metav1.FieldValidationStrict
	if how == applyChecked || how == applyUnforced {
		validation = metav1.FieldValidationIgnore
	}
	req := c.rest.Patch(types.ApplyYAMLPatchType).AbsPath(r.path(id)...).Param("fieldManager", manager).
		Param("force", strconv.FormatBool(how != applyUnforced)).Param("fieldValidation", validation).Body(body)
	if how == applyDry || how == applyDryShown {
		req = req.Param("dryRun", metav1.DryRunAll)
	}
	raw, created, err := c.send(ctx, req)
	if err != nil || (created && how == applyDry) {
		return nil, created, err
	}
	obj, err := decode(raw)
	return obj, created, err
}

func (c *client) get(ctx context.Context, r Resource, id ID) (*unstructured.Unstructured, error) {
	return c.do(ctx, c.rest.Get().AbsPath(r.path(id)...))
}

// delete removes exactly the object with this UID, not a later one of its name;
// and, where version is given, only if nobody changed it since. gone is false
// while finalizers keep it.
func (c *client) delete(ctx context.Context, r Resource, id ID, uid types.UID, version string) (gone bool, err error) {
	propagation := metav1.DeletePropagationBackground
	preconditions := &metav1.Preconditions{UID: &uid}
	if version != "" {
		preconditions.ResourceVersion = &version
	}
	body, err := json.Marshal(metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions:     preconditions,
		PropagationPolicy: &propagation,
	})
	if err != nil {
		return false, err
	}
	answer, err := c.do(ctx, c.rest.Delete().AbsPath(r.path(id)...).Body(body))
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return err == nil && answer.GetDeletionTimestamp() == nil, err
}

// merge sends a JSON merge patch.
func (c *client) merge(ctx context.Context, r Resource, id ID, patch any) (*unstructured.Unstructured, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, c.rest.Patch(types.MergePatchType).AbsPath(r.path(id)...).
		Param("fieldManager", Manager).Body(body))
}

// create makes an object that is not there; one that is there is left as it is.
func (c *client) create(ctx context.Context, r Resource, id ID, body []byte) (*unstructured.Unstructured, error) {
	parts := r.path(id)
	obj, err := c.do(ctx, c.rest.Post().AbsPath(parts[:len(parts)-1]...).Param("fieldManager", Manager).Body(body))
	if apierrors.IsAlreadyExists(err) {
		return c.get(ctx, r, id)
	}
	return obj, err
}

// path is the object's place in the API: [apis group version namespaces ns resource name].
func (r Resource) path(id ID) []string {
	parts := []string{"apis", r.Group, r.Version}
	if r.Group == "" {
		parts = []string{"api", r.Version}
	}
	if r.Namespaced {
		parts = append(parts, "namespaces", id.Namespace)
	}
	return append(parts, r.GroupVersionResource.Resource, id.Name)
}
