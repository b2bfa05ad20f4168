package secrets

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is an object and the file it was written in.
type Object struct {
	*unstructured.Unstructured
	Origin string
}

func (o Object) title() string {
	if ns := o.GetNamespace(); ns != "" {
		return o.GetKind() + " " + ns + "/" + o.GetName()
	}
	return o.GetKind() + " " + o.GetName()
}

// field is a string in an object that is not plain text alone.
type field struct {
	object int   // index
	path   []any // keys, and indices
	pieces []piece
	base64 bool
}

func (f field) pointer() string {
	var b strings.Builder
	for _, step := range f.path {
		b.WriteByte('/')
		switch step := step.(type) {
		case string:
			b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(step))
		case int:
			b.WriteString(strconv.Itoa(step))
		}
	}
	return b.String()
}

// key is the last name on the way to the field.
func (f field) key() string {
	for _, step := range slices.Backward(f.path) {
		if name, ok := step.(string); ok {
			return name
		}
	}
	return ""
}

func (f field) error(o Object, reference string, err error) *ReferenceError {
	return &ReferenceError{Origin: o.Origin, Object: o.title(), Field: f.pointer(), Reference: reference, Err: err}
}

// finder looks for references in objects.
type finder struct {
	kinds  []string
	fields []field
	errs   []*ReferenceError
}

func (f *finder) object(i int, o Object) {
	kind := o.GroupVersionKind().GroupKind()
	f.walk(i, o, kind, o.Object, nil)
}

func (f *finder) walk(i int, o Object, kind schema.GroupKind, value any, path []any) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			at := append(slices.Clip(path), key)
			if hasReference(piecesOf(key)) {
				f.errs = append(f.errs, field{path: path}.error(o, quoted(key), errors.New("a reference can't be the name of a field")))
			}
			f.walk(i, o, kind, value[key], at)
		}
	case []any:
		for n, item := range value {
			f.walk(i, o, kind, item, append(slices.Clip(path), n))
		}
	case string:
		f.text(field{object: i, path: path}, o, kind, value)
	}
}

func (f *finder) text(at field, o Object, kind schema.GroupKind, text string) {
	if isBase64(kind, at.path) {
		if decoded, err := base64.StdEncoding.DecodeString(text); err == nil {
			text, at.base64 = string(decoded), true
		} else if hasReference(piecesOf(text)) {
			f.errs = append(f.errs, at.error(o, quoted(text), errors.New("this field holds base64: put the reference into stringData, or encode it")))
			return
		}
	}
	at.pieces = piecesOf(text)
	if at.pieces == nil {
		return
	}
	misplaced := f.misplaced(kind, at.path)
	wrong := false
	for _, p := range at.pieces {
		err := p.err
		if err == nil && p.reference != nil {
			err = misplaced
		}
		if err != nil {
			wrong = true
			f.errs = append(f.errs, at.error(o, p.written(), err))
		}
	}
	if !wrong {
		f.fields = append(f.fields, at)
	}
}

func (p piece) written() string {
	if p.reference != nil {
		return p.reference.String()
	}
	return p.text
}

var secretKind = schema.GroupKind{Kind: "Secret"}

func isBase64(kind schema.GroupKind, path []any) bool {
	return len(path) == 2 && (kind == secretKind && path[0] == "data" || kind == schema.GroupKind{Kind: "ConfigMap"} && path[0] == "binaryData")
}

// misplaced says why there may be no reference in a field; nil: there may.
func (f *finder) misplaced(kind schema.GroupKind, path []any) error {
	switch {
	case path[0] == "metadata":
		return errors.New("there are no references in metadata: it is shown to everybody")
	case path[0] == "apiVersion" || path[0] == "kind" || path[0] == "status":
		return fmt.Errorf("there are no references in %s", path[0])
	case kind == secretKind && path[0] != "data" && path[0] != "stringData":
		return errors.New("references in a Secret stand in stringData or data")
	case kind == secretKind:
		return nil
	case !slices.ContainsFunc(f.kinds, func(k string) bool { return schema.ParseGroupKind(k) == kind }):
		return fmt.Errorf("whoever may read a %s would see the value: put it into a Secret, or allow it in stack.yaml by spec.secrets.references: [%s]", kind.Kind, kind)
	}
	return nil
}

// put sets the field in an object.
func (f field) put(object map[string]any, value string) {
	if f.base64 {
		value = base64.StdEncoding.EncodeToString([]byte(value))
	}
	var at any = object
	for i, step := range f.path {
		last := i == len(f.path)-1
		switch container := at.(type) {
		case map[string]any:
			name, _ := step.(string)
			if last {
				container[name] = value
			}
			at = container[name]
		case []any:
			n, _ := step.(int)
			if last {
				container[n] = value
			}
			at = container[n]
		}
	}
}
