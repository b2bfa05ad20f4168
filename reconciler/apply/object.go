package apply

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Manager is the field manager of every server-side apply. It is one for all
// stacks, so that an object which moves between stacks keeps its one owner.
const Manager = "plumbline"

// Names that Plumbline writes on objects, or reads from them.
const (
	StackLabel        = "plumbline.dev/stack"   // for people and for watches: source.stack
	ReplaceAnnotation = "plumbline.dev/replace" // "true": delete and create again where a field is immutable
	PruneAnnotation   = "plumbline.dev/prune"   // "disabled": never delete this object
)

// ID names an object. The version is left out: an object is the same one in each.
type ID struct {
	Group, Kind, Namespace, Name string
}

// String is "Deployment.apps o11y/grafana".
func (id ID) String() string {
	name := id.Name
	if id.Namespace != "" {
		name = id.Namespace + "/" + id.Name
	}
	return id.GroupKind().String() + " " + name
}

// GroupKind is the kind without the name.
func (id ID) GroupKind() schema.GroupKind { return schema.GroupKind{Group: id.Group, Kind: id.Kind} }

// Compare orders IDs by group, kind, namespace and name.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Group, other.Group), cmp.Compare(id.Kind, other.Kind),
		cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

// IDOf is the ID of an object as it is written.
func IDOf(u *unstructured.Unstructured) ID {
	gvk := u.GroupVersionKind()
	return ID{gvk.Group, gvk.Kind, u.GetNamespace(), u.GetName()}
}

// Object is one object that a stack wants, and the file it came from.
type Object struct {
	*unstructured.Unstructured
	Origin string
}

// Hash identifies the content of a desired object, for those who have the key.
type Hash [16]byte

// Fingerprint identifies the live values of the fields that we own.
type Fingerprint [16]byte

// LiveObject is what the watches remember of an object in the cluster.
type LiveObject struct {
	ID
	UID             types.UID
	ResourceVersion string
	Generation      int64
	Stack, PartOf   string
	Fingerprint     Fingerprint
	Deleting        bool
}

// Applied is what was last known to be true of an object: this desired content
// led to these live values. As long as both hold, there is nothing to do.
type Applied struct {
	Hash        Hash
	UID         types.UID
	Fingerprint Fingerprint
	// Adrift is true where the live values are not what the content led to: they are
	// known, and wrong.
	Adrift bool
}

// prepared is a desired object as it is sent to the server.
type prepared struct {
	ID
	Resource Resource
	Origin   string
	Replace  bool
	body     []byte
	hash     Hash
	masks    Masks
	ignored  []pointer // fields that were taken out of the body

	whole, reduced map[string]any // where some were: the object before and after
}

// prepare labels a copy of the object for its stack and drops what only a
// server may say.
func (h hasher) prepare(o Object, r Resource, req Request) (prepared, error) {
	u := unnoted(o.Unstructured).DeepCopy()
	unstructured.RemoveNestedField(u.Object, "status")
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	if !r.Namespaced {
		u.SetNamespace("")
	}
	if isSecret(IDOf(u)) {
		encodeStringData(u)
	}
	labels := maps.Clone(u.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	labels[StackLabel], labels[PartOfLabel] = req.Stack, SetID(req.Stack)
	u.SetLabels(labels)
	noteSealed(u, req.Masks)
	p := prepared{ID: IDOf(u), Resource: r, Origin: o.Origin, masks: req.Masks, ignored: ignoredOf(req.Ignore, u)}
	if len(p.ignored) > 0 {
		p.whole, p.reduced = u.DeepCopy().Object, u.Object
	}
	for _, pointer := range p.ignored {
		pointer.remove(u.Object)
	}
	body, err := json.Marshal(u.Object)
	if err != nil {
		return prepared{}, fmt.Errorf("encode %s: %w", IDOf(u), err)
	}
	p.body, p.Replace = body, u.GetAnnotations()[ReplaceAnnotation] == "true"
	if len(p.ignored) > 0 { // whoever is given a field, or gives it back, is asked about
		body = fmt.Append(slices.Clone(body), p.ignored)
	}
	copy(p.hash[:], h.sum(body))
	return p, nil
}

// encodeStringData writes a Secret as the server stores it. What is applied as
// stringData is owned as stringData, which no object has: that others change the
// value would not be seen, nor would a key that leaves Git.
func encodeStringData(u *unstructured.Unstructured) {
	plain, ok := u.Object["stringData"].(map[string]any)
	if !ok {
		return
	}
	data, _ := u.Object["data"].(map[string]any)
	data = maps.Clone(data)
	if data == nil {
		data = map[string]any{}
	}
	for k, v := range plain {
		text, ok := v.(string)
		if !ok {
			return // the server says what is wrong with it
		}
		data[k] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	u.Object["data"] = data
	delete(u.Object, "stringData")
}

// groupKinds lists the kinds of some IDs, sorted, each once.
func groupKinds(ids []ID) []schema.GroupKind {
	var gks []schema.GroupKind
	for _, id := range ids {
		gks = append(gks, id.GroupKind())
	}
	slices.SortFunc(gks, compareGroupKinds)
	return slices.Compact(gks)
}

func compareGroupKinds(a, b schema.GroupKind) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
}
