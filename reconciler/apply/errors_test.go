package apply

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var deployments = schema.GroupResource{Group: "apps", Resource: "deployments"}

func invalid(detail string) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "web",
		field.ErrorList{field.Invalid(field.NewPath("spec", "selector"), "x", detail)})
}

// mistypedStatus is what an API server of 1.37 sends, word for word.
func mistypedStatus(message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: message}}
}

func TestClassifyMistypedFields(t *testing.T) {
	const patch = "failed to create typed patch object (o11y/web; apps/v1, Kind=Deployment): "
	for _, test := range []struct{ name, message, want string }{
		{"one unknown field", patch + ".spec.ports[port=80,protocol=\"TCP\"].nam: field not declared in schema",
			`spec.ports[port=80,protocol="TCP"].nam: unknown field`},
		{"two unknown fields", patch + "errors:\n  .spec.a: field not declared in schema\n  .spec.b: field not declared in schema",
			"spec.a: unknown field; spec.b: unknown field"},
		{"a wrong type", patch + ".spec.replicas: expected numeric (int or float), got string",
			"spec.replicas: expected numeric (int or float), got string"},
		{"a map for a number", "failed to convert new object (o11y/web; apps/v1, Kind=Deployment) to proper version: unable to convert unstructured object to apps/v1, Kind=Deployment: json: cannot unmarshal object into Go value of type int32",
			"unable to convert unstructured object to apps/v1, Kind=Deployment: json: cannot unmarshal object into Go value of type int32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			builtIn := classify(prepared{ID: ID{"apps", "Deployment", "o11y", "web"}}, mistypedStatus(test.message))
			if want := "Deployment.apps o11y/web: " + test.want; builtIn.Error() != want || !builtIn.Terminal {
				t.Errorf("got %q, terminal %v, want %q", builtIn, builtIn.Terminal, want)
			}
			custom := classify(prepared{ID: ID{"example.org", "Widget", "o11y", "web"}}, mistypedStatus(test.message))
			if custom.Terminal {
				t.Error("a custom resource is given up, although its CRD may change")
			}
		})
	}
	if e := classify(prepared{}, mistypedStatus("failed to create typed patch object (a; b): no corresponding type for b")); e.Terminal {
		t.Error("a schema that the server is still loading is taken for a mistake")
	}
}

func TestClassify(t *testing.T) {
	p := prepared{ID: ID{"apps", "Deployment", "o11y", "web"}, Origin: "web/app/deploy.yaml"}
	terminating := apierrors.NewForbidden(deployments, "web", errors.New("because it is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: "NamespaceTerminating"}}
	for _, test := range []struct {
		name     string
		err      error
		terminal bool
		want     string
	}{
		{"an invalid field", invalid("must be 1"), true, "spec.selector: Invalid value"},
		{"an immutable field", invalid("field is immutable"), true, `annotate the object plumbline.dev/replace: "true"`},
		{"forbidden", apierrors.NewForbidden(deployments, "web", errors.New("no")), true, "grant Plumbline's user"},
		{"over quota", apierrors.NewForbidden(deployments, "web", errors.New("exceeded quota: x")), false, "ResourceQuota"},
		{"a terminating namespace", terminating, false, "is being deleted"},
		{"a conflict", apierrors.NewConflict(deployments, "web", errors.New("again")), false, "again"},
		{"too many requests", apierrors.NewTooManyRequests("slow down", 1), false, "slow down"},
		{"a server error", apierrors.NewInternalError(errors.New("webhook is down")), false, "webhook is down"},
		{"too large", apierrors.NewRequestEntityTooLargeError("limit is 3145728"), true, "limit is 3145728"},
		{"the network", fmt.Errorf("dial: %w", http.ErrServerClosed), false, "dial"},
		{"claimed", fmt.Errorf("%w: other", ErrClaimed), true, "claimed by two stacks"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := classify(p, test.err)
			if e.Terminal != test.terminal || Terminal(Errors{e}) != test.terminal {
				t.Errorf("terminal: %v", e.Terminal)
			}
			for _, want := range []string{"web/app/deploy.yaml", "Deployment.apps o11y/web", test.want} {
				if !strings.Contains(e.Error(), want) {
					t.Errorf("%q doesn't say %q", e, want)
				}
			}
		})
	}
}

func TestErrorsListsAllSorted(t *testing.T) {
	var all Errors
	for _, name := range []string{"c", "a", "b"} {
		all = all.collect(prepared{ID: ID{Kind: "Pod", Name: name}}, errors.New("boom"))
	}
	want := "3 objects failed:\n  Pod a: boom\n  Pod b: boom\n  Pod c: boom"
	if got := all.sorted().Error(); got != want {
		t.Errorf("got %q", got)
	}
	if Terminal(append(all, &ObjectError{Terminal: true, Err: errors.New("x")})) {
		t.Error("one object that may recover makes the run worth trying again")
	}
}
