package apply

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// leaving is an object as it is prepared under rules for these fields.
func leaving(t *testing.T, git *unstructured.Unstructured, fields ...string) prepared {
	t.Helper()
	p, err := newHasher(nil).prepare(Object{Unstructured: git}, Resource{Namespaced: true},
		Request{Stack: "home.app", Ignore: []Ignore{{Kind: git.GetKind(), Fields: fields}}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// managed is an object whose fields have these owners, by Apply.
func managed(t *testing.T, text string, owners ...string) *unstructured.Unstructured {
	t.Helper()
	u := object(t, text)
	var entries []metav1.ManagedFieldsEntry
	for i := 0; i < len(owners); i += 2 {
		entries = append(entries, metav1.ManagedFieldsEntry{Manager: owners[i], Operation: metav1.ManagedFieldsOperationApply,
			APIVersion: u.GetAPIVersion(), FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(owners[i+1])})
	}
	u.SetManagedFields(entries)
	return u
}

const (
	ownsImage  = `"f:image":{}`
	ownsPolicy = `"f:imagePullPolicy":{}`
)

func ownsApp(fields string) string {
	return `"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:name":{},` + fields + `}}`
}

func TestHandOff(t *testing.T) {
	deployment := func(spec string) string {
		return `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, uid: u, labels: {applyset.kubernetes.io/part-of: x}}, spec: ` + spec + `}`
	}
	app := `containers: [{name: side, image: s}, {name: app, image: a, imagePullPolicy: Never}]`
	for _, test := range []struct {
		name, git     string
		rules         []string
		before, after *unstructured.Unstructured
		want, back    string // spec; null: an apply of none; empty: no apply
	}{
		{"a field", `{replicas: 4}`, []string{"/spec/replicas"},
			managed(t, deployment(`{replicas: 4}`), Manager, `{"f:spec":{"f:replicas":{}}}`), managed(t, deployment(`{replicas: 1}`)), `{replicas: 4}`, ``},
		{"another, where one is kept", `{replicas: 4, ready: 7}`, []string{"/spec/replicas", "/spec/ready"},
			managed(t, deployment(`{replicas: 4, ready: 7}`), Manager, `{"f:spec":{"f:ready":{}}}`, leftManager, `{"f:spec":{"f:replicas":{}}}`),
			managed(t, deployment(`{replicas: 4}`)), `{replicas: 4, ready: 7}`, ``},
		{"one that somebody else has too", `{replicas: 4}`, []string{"/spec/replicas"},
			managed(t, deployment(`{replicas: 4}`), Manager, `{"f:spec":{"f:replicas":{}}}`), managed(t, deployment(`{replicas: 4}`)), ``, ``},
		{"one that Git has again", `{replicas: 4, ready: 7}`, []string{"/spec/ready"},
			managed(t, deployment(`{replicas: 4, ready: 7}`), leftManager, `{"f:spec":{"f:replicas":{},"f:ready":{}}}`),
			managed(t, deployment(`{replicas: 4, ready: 7}`), Manager, `{"f:spec":{"f:replicas":{}}}`), `{replicas: 4, ready: 7}`, `{ready: 7}`},
		{"all of a map", `{m: {a: x, b: y}}`, []string{"/spec/m/*"},
			managed(t, deployment(`{m: {a: x, b: y, c: z}}`), Manager, `{"f:spec":{"f:m":{"f:a":{},"f:b":{}}}}`), managed(t, deployment(`{m: {c: z}}`)), `{m: {a: x, b: y}}`, ``},
		{"of each item", `{containers: [{name: app, image: a, imagePullPolicy: Never}]}`, []string{"/spec/containers/*/imagePullPolicy"},
			managed(t, deployment(`{`+app+`}`), Manager, `{"f:spec":{`+ownsApp(ownsImage+","+ownsPolicy)+`}}`),
			managed(t, deployment(`{containers: [{name: side, image: s}, {name: app, image: a}]}`), Manager, `{"f:spec":{`+ownsApp(ownsImage)+`}}`),
			`{containers: [{name: app, imagePullPolicy: Never}]}`, ``},
		{"of an item by its place in Git", `{containers: [{name: app, image: a, imagePullPolicy: Never}]}`, []string{"/spec/containers/0/imagePullPolicy"},
			managed(t, deployment(`{`+app+`}`), Manager, `{"f:spec":{`+ownsApp(ownsImage+","+ownsPolicy)+`}}`),
			managed(t, deployment(`{containers: [{name: side, image: s}, {name: app, image: a}]}`), Manager, `{"f:spec":{`+ownsApp(ownsImage)+`}}`),
			`{containers: [{name: app, imagePullPolicy: Never}]}`, ``},
		{"of an item that left Git", `{containers: []}`, []string{"/spec/containers/*/imagePullPolicy"},
			managed(t, deployment(`{`+app+`}`), leftManager, `{"f:spec":{`+ownsApp(ownsPolicy)+`}}`), managed(t, deployment(`{containers: []}`)), `null`, `null`},
		{"of an item that somebody else took over", `{containers: [{name: app, image: a}]}`, []string{"/spec/containers/*/imagePullPolicy"},
			managed(t, deployment(`{`+app+`}`), leftManager, `{"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:name":{}}}}}`),
			managed(t, deployment(`{`+app+`}`)), `null`, `null`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := leaving(t, object(t, deployment(test.git)), test.rules...)
			if diff := cmp.Diff(wanted(t, test.want), specOf(t, p.handOff(test.before, test.after))); diff != "" {
				t.Errorf("before: %s", diff)
			}
			if diff := cmp.Diff(wanted(t, test.back), specOf(t, p.giveBack(test.before))); diff != "" {
				t.Errorf("after: %s", diff)
			}
		})
	}
}

func wanted(t *testing.T, spec string) string {
	t.Helper()
	if spec == "" || spec == "null" {
		return spec
	}
	return text(object(t, "{spec: "+spec+"}").Object["spec"])
}

func specOf(t *testing.T, h *handOff) string {
	t.Helper()
	if h == nil {
		return ""
	}
	body, err := h.body()
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		t.Fatal(err)
	}
	if object["spec"] == nil {
		return "null"
	}
	return text(object["spec"])
}

func TestConflictDropsField(t *testing.T) {
	u := managed(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {v: a, w: b}}`, leftManager, `{"f:data":{"f:v":{},"f:w":{}}}`)
	kept, _ := leaving(t, u, "/data/*").left(u)
	h := newHandOff(u, kept)
	conflict := apierrors.NewApplyConflict([]metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Field: ".data.v"}}, "conflict")
	if !h.drop(conflict) || len(h.fields) != 1 || h.fields[0].path.String() != ".data.w" {
		t.Errorf("kept %v", h.fields)
	}
	if h.drop(conflict) || h.drop(errors.New("other")) || h.drop(&apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusConflict}}) {
		t.Error("an error that names no field drops one")
	}
}

func TestTorn(t *testing.T) {
	role := `{apiVersion: v1, kind: Role, metadata: {name: a}, rules: [{verbs: [get], resources: [pods]}], nodes: {a: x}, m: {a: x}}`
	for _, test := range []struct{ name, rule, owns, after, want string }{
		{"an item's field", "/rules/*/verbs", `{"f:rules":{}}`, role, "/rules/*/verbs is a part of /rules"},
		{"by its place", "/rules/0/verbs", `{"f:rules":{}}`, role, "/rules/0/verbs is a part of /rules"},
		{"the whole", "/rules", `{"f:nodes":{}}`, role, ""},
		{"what is not there", "/rules/*/other", `{"f:rules":{}}`, role, ""},
		{"all of a map that is one", "/nodes/*", `{"f:nodes":{}}`, `{apiVersion: v1, kind: Role, nodes: {}}`, "/nodes/* is a part of /nodes"},
		{"all of a map", "/m/*", `{"f:m":{}}`, role, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := leaving(t, object(t, role), test.rule).torn(managed(t, role, Manager, test.owns), managed(t, test.after, Manager, test.owns))
			if (test.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}
