package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestReady needs no patience: what up promises holds when it has printed.
func TestReady(t *testing.T) {
	client := shared.client(t)
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error(); err != nil {
		t.Error(err)
	}
	nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 3 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	for _, node := range nodes.Items {
		if len(node.Spec.Taints) > 0 || node.Status.Allocatable.Cpu().Value() != 16 {
			t.Errorf("node %s: taints %v, allocatable %v", node.Name, node.Spec.Taints, node.Status.Allocatable)
		}
	}
	if _, err := client.CoreV1().ServiceAccounts("default").Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil || !regexp.MustCompile(`^v1\.\d+\.\d+$`).MatchString(version.GitVersion) {
		t.Errorf("version %v, %v: clients cannot parse it", version, err)
	}
}

func TestOthersAreRefused(t *testing.T) {
	admin := shared.client(t)
	token, err := admin.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	anonymous := rest.AnonymousClientConfig(shared.config(t, "kubeconfig"))
	unprivileged := rest.CopyConfig(anonymous)
	unprivileged.BearerToken = token.Status.Token
	for name, config := range map[string]*rest.Config{"anonymous": anonymous, "a ServiceAccount": unprivileged} {
		_, err := newClient(t, config).CoreV1().Secrets("kube-system").List(t.Context(), metav1.ListOptions{})
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s lists secrets: %v, want forbidden", name, err)
		}
	}
}

func TestUserPlumblineIsAdministratorByRBAC(t *testing.T) {
	client := newClient(t, shared.config(t, "plumbline.kubeconfig"))
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(t.Context(),
		&authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	user := review.Status.UserInfo
	if user.Username != "plumbline" || slices.Contains(user.Groups, "system:masters") {
		t.Errorf("user %q of %v", user.Username, user.Groups)
	}
	if _, err := client.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

// TestRequestsOfUserPlumblineAreCounted counts to the request: benchmarks do.
func TestRequestsOfUserPlumblineAreCounted(t *testing.T) {
	admin, client := shared.client(t), newClient(t, shared.config(t, "plumbline.kubeconfig"))
	namespace := newNamespace(t, admin)
	for _, test := range []struct {
		flowSchema string
		request    func(kubernetes.Interface) error
	}{
		{"plumbline", func(c kubernetes.Interface) error {
			_, err := c.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
			return err
		}},
		{"plumbline", func(c kubernetes.Interface) error {
			_, err := c.Discovery().RESTClient().Get().AbsPath("/apis/apps/v1").DoRaw(t.Context())
			return err
		}},
		{"plumbline-leases", func(c kubernetes.Interface) error {
			_, err := c.CoordinationV1().Leases(namespace).Create(t.Context(),
				&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"}}, metav1.CreateOptions{})
			return err
		}},
	} {
		const times = 3
		before := dispatched(t, admin)
		for range times {
			if err := test.request(client); err != nil {
				t.Fatal(err)
			}
			if err := test.request(admin); err != nil {
				t.Fatal(err)
			}
		}
		want := map[string]int{"plumbline": before["plumbline"], "plumbline-leases": before["plumbline-leases"]}
		want[test.flowSchema] += times
		// The counter moves when a request has been answered, not before.
		eventually(t, func(context.Context) error {
			got := dispatched(t, admin)
			for name, count := range want {
				if got[name] != count {
					return fmt.Errorf("%s counts %d, want %d", name, got[name], count)
				}
			}
			return nil
		})
	}
}

// dispatched returns the number of requests so far by FlowSchema.
func dispatched(t *testing.T, client kubernetes.Interface) map[string]int {
	t.Helper()
	metrics, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="([^"]+)",.*\} (\d+)$`)
	counts := make(map[string]int)
	for _, match := range line.FindAllStringSubmatch(string(metrics), -1) {
		count, err := strconv.Atoi(match[2])
		if err != nil {
			t.Fatal(err)
		}
		counts[match[1]] += count
	}
	return counts
}

func wantNotFound(err error) error {
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		return fmt.Errorf("it is still there")
	}
	return err
}
