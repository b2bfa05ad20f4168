package observe

import (
	"cmp"
	"strings"
	"unique"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

const (
	// StackLabel names the stack that an object belongs to. Only objects that carry it are watched.
	StackLabel = "plumbline.dev/stack"
	// PartOfLabel names the ApplySet that an object is a member of (KEP-3659).
	PartOfLabel = "applyset.kubernetes.io/part-of"
)

// ID names an object. The version is left out: it is the same object in each.
type ID struct {
	Group, Kind, Namespace, Name string
}

// IDOf returns the name of an object.
func IDOf(obj *unstructured.Unstructured) ID {
	gk := obj.GroupVersionKind().GroupKind()
	return ID{gk.Group, gk.Kind, obj.GetNamespace(), obj.GetName()}
}

// GroupKind returns the kind of the object that the ID names.
func (id ID) GroupKind() schema.GroupKind {
	return schema.GroupKind{Group: id.Group, Kind: id.Kind}
}

// String returns the ID as in "Deployment.apps o11y/grafana", or "Namespace o11y" for what has no group and no namespace.
func (id ID) String() string {
	name := id.Name
	if id.Namespace != "" {
		name = id.Namespace + "/" + id.Name
	}
	return id.GroupKind().String() + " " + name
}

// Compare orders IDs by group, kind, namespace and name.
func (id ID) Compare(to ID) int {
	return cmp.Or(
		strings.Compare(id.Group, to.Group),
		strings.Compare(id.Kind, to.Kind),
		strings.Compare(id.Namespace, to.Namespace),
		strings.Compare(id.Name, to.Name),
	)
}

// Entry is what is remembered of a live object: a few hundred bytes instead of the object.
type Entry struct {
	ID
	UID             types.UID
	ResourceVersion string
	Generation      int64
	Stack           string        // the value of StackLabel
	PartOf          string        // the value of PartOfLabel
	Fingerprint     Fingerprint   // of what our manager owns by Apply
	Deleting        bool          // has a deletionTimestamp
	Status          status.Status // in the words of kstatus
	Message         string        // why the status is not Current, at most 256 bytes
}

// entryOf reduces a live object to its Entry. Manager is the field manager whose fields the fingerprint covers.
func entryOf(obj *unstructured.Unstructured, manager string, judge *judge) Entry {
	value, _, _ := unstructured.NestedFieldNoCopy(obj.Object, "metadata", "labels")
	labels, _ := value.(map[string]any)
	stack, _ := labels[StackLabel].(string)
	partOf, _ := labels[PartOfLabel].(string)
	health, message := judge.healthOf(obj, stack)
	return Entry{
		ID:              IDOf(obj),
		UID:             obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(),
		Generation:      obj.GetGeneration(),
		Stack:           stack,
		PartOf:          partOf,
		Fingerprint:     FingerprintOf(obj, manager),
		Deleting:        obj.GetDeletionTimestamp() != nil,
		Status:          health,
		Message:         message,
	}
}

// derived tells whether an object only looks like one of a stack: a controller, or a person who copied a manifest,
// took over the labels, as the Endpoints of a Service carry the Service's. A label is no proof: what our manager owns
// no field of, it did not make.
func derived(e Entry) bool { return e.Fingerprint == Fingerprint{} }

// A record is an Entry as it is kept. What many objects have in common is held by handle, so that it is kept once
// and only as long as an object needs it.
type record struct {
	gk             unique.Handle[schema.GroupKind]
	ns             unique.Handle[string]
	name           string
	uid            types.UID
	rv             string
	generation     int64
	stack, partOf  unique.Handle[string]
	status         unique.Handle[status.Status]
	message        unique.Handle[string]
	fingerprint    Fingerprint
	deleting, skip bool // skip: not ours after all
}

// A place is where an object of one kind is.
type place struct {
	ns   unique.Handle[string]
	name string
}

func recordOf(e Entry) record {
	return record{
		gk:          unique.Make(e.GroupKind()),
		ns:          unique.Make(e.Namespace),
		name:        e.Name,
		uid:         e.UID,
		rv:          e.ResourceVersion,
		generation:  e.Generation,
		stack:       unique.Make(e.Stack),
		partOf:      unique.Make(e.PartOf),
		status:      unique.Make(e.Status),
		message:     unique.Make(e.Message),
		fingerprint: e.Fingerprint,
		deleting:    e.Deleting,
	}
}

// reduce is entryOf for the store.
func reduce(obj *unstructured.Unstructured, manager string, judge *judge) record {
	e := entryOf(obj, manager, judge)
	r := recordOf(e)
	r.skip = e.Stack == "" || derived(e)
	return r
}

func (r *record) entry() Entry {
	return Entry{
		ID:              r.id(),
		UID:             r.uid,
		ResourceVersion: r.rv,
		Generation:      r.generation,
		Stack:           r.stack.Value(),
		PartOf:          r.partOf.Value(),
		Fingerprint:     r.fingerprint,
		Deleting:        r.deleting,
		Status:          r.status.Value(),
		Message:         r.message.Value(),
	}
}

func (r *record) id() ID {
	gk := r.gk.Value()
	return ID{gk.Group, gk.Kind, r.ns.Value(), r.name}
}

func (r *record) place() place { return place{r.ns, r.name} }

// same tells whether nothing but the resourceVersion differs.
func (r *record) same(as *record) bool {
	a, b := *r, *as
	a.rv, b.rv = "", ""
	return a == b
}

// older tells whether resourceVersion a is known to come before b. They are compared as numbers, which Kubernetes
// promises to be meaningful within one resource since 1.35 (KEP-5504); what is no number is not known to be older.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
