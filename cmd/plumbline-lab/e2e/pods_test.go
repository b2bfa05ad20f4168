package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestPodsFail has one pod fail in each way.
func TestPodsFail(t *testing.T) {
	client := shared.client(t)
	namespace := newNamespace(t, client)
	for name, test := range map[string]struct {
		edit func(*corev1.Pod)
		want func(*corev1.Pod) bool
	}{
		"bad-host": {
			edit: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.invalid:5000/app:1" },
			want: waits("ImagePullBackOff", "no such host"),
		},
		"bad-tag": {
			edit: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.example/app:does-not-exist" },
			want: waits("ImagePullBackOff", "ErrImagePull"),
		},
		"bad-init-image": {
			edit: func(p *corev1.Pod) {
				p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "registry.invalid/init:1"}}
			},
			want: func(p *corev1.Pod) bool {
				return p.Status.Phase == corev1.PodPending && len(p.Status.InitContainerStatuses) == 1 &&
					isWaiting(p.Status.InitContainerStatuses[0], "ImagePullBackOff", "no such host") &&
					isWaiting(p.Status.ContainerStatuses[0], "PodInitializing", "")
			},
		},
		"crash-loop": {
			edit: func(p *corev1.Pod) {
				p.Annotations = map[string]string{behaviour: "crash-loop", "lab.plumbline.dev/exit-code": "137"}
			},
			want: func(p *corev1.Pod) bool {
				return waits("CrashLoopBackOff", "back-off")(p) && p.Status.ContainerStatuses[0].RestartCount >= 2 &&
					p.Status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode == 137
			},
		},
		"never-ready": {
			edit: func(p *corev1.Pod) { p.Annotations = map[string]string{behaviour: "never-ready"} },
			want: func(p *corev1.Pod) bool {
				return p.Status.Phase == corev1.PodRunning && p.Status.ContainerStatuses[0].State.Running != nil &&
					hasCondition(p, corev1.PodReady, corev1.ConditionFalse, "ContainersNotReady")
			},
		},
		"exit": {
			edit: func(p *corev1.Pod) {
				p.Annotations, p.Spec.RestartPolicy = map[string]string{behaviour: "exit"}, corev1.RestartPolicyNever
			},
			want: func(p *corev1.Pod) bool {
				return p.Status.Phase == corev1.PodFailed && p.Status.ContainerStatuses[0].State.Terminated.ExitCode == 1
			},
		},
		"no-such-node": {
			edit: func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"nobody": "has-it"} },
			want: unschedulable,
		},
		"too-big": {
			edit: func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("17")}
			},
			want: unschedulable,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: podTemplate(goodImage, nil).Spec}
			test.edit(pod)
			if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			waitForPod(t, namespace, name, test.want)
		})
	}
}

// TestBehaviourChangesWhileThePodRuns breaks a healthy pod in each way, and heals
// it again.
func TestBehaviourChangesWhileThePodRuns(t *testing.T) {
	client := shared.client(t)
	namespace := newNamespace(t, client)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "app"}, Spec: podTemplate(goodImage, nil).Spec}
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const annotated, image = `{"metadata":{"annotations":{%q:%s}}}`, `{"spec":{"containers":[{"name":"app","image":%q}]}}`
	healthy := func(p *corev1.Pod) bool { return hasCondition(p, corev1.PodReady, corev1.ConditionTrue, "") }
	for _, step := range []struct {
		patch string
		want  func(*corev1.Pod) bool
	}{
		{`{}`, healthy},
		{fmt.Sprintf(annotated, behaviour, `"never-ready"`), func(p *corev1.Pod) bool {
			return hasCondition(p, corev1.PodReady, corev1.ConditionFalse, "ContainersNotReady")
		}},
		{fmt.Sprintf(annotated, behaviour, `"crash-loop"`), waits("CrashLoopBackOff", "back-off")},
		{fmt.Sprintf(annotated, behaviour, "null"), healthy},
		{fmt.Sprintf(image, "registry.invalid/app:2"), waits("ImagePullBackOff", "no such host")},
		{fmt.Sprintf(image, "registry.example/app:3"), healthy},
	} {
		_, err := client.CoreV1().Pods(namespace).Patch(t.Context(), "app", types.StrategicMergePatchType, []byte(step.patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		waitForPod(t, namespace, "app", step.want)
	}
}

func waitForPod(t *testing.T, namespace, name string, want func(*corev1.Pod) bool) {
	t.Helper()
	client := shared.client(t)
	eventually(t, func(ctx context.Context) error {
		pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && !want(pod) {
			err = fmt.Errorf("status: %+v", pod.Status)
		}
		return err
	})
}

// waits wants the pod not to be ready because of a waiting container.
func waits(reason, message string) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		return len(pod.Status.ContainerStatuses) == 1 && isWaiting(pod.Status.ContainerStatuses[0], reason, message) &&
			hasCondition(pod, corev1.PodReady, corev1.ConditionFalse, "ContainersNotReady")
	}
}

func isWaiting(status corev1.ContainerStatus, reason, message string) bool {
	waiting := status.State.Waiting
	return waiting != nil && waiting.Reason == reason && strings.Contains(waiting.Message, message)
}

func unschedulable(pod *corev1.Pod) bool {
	return hasCondition(pod, corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable)
}

func hasCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus, reason string) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == kind && c.Status == status && c.Reason == reason
	})
}
