package e2e

import (
	"context"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	behaviour = "lab.plumbline.dev/behaviour"
	goodImage = "registry.example/app:1"
)

var labels = map[string]string{"app": "test"}

func podTemplate(image string, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
}

func deployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(goodImage, nil),
			ProgressDeadlineSeconds: new(int32(2)),
		},
	}
}

func TestDeploymentProgresses(t *testing.T) {
	client := shared.client(t)
	deployments := client.AppsV1().Deployments(newNamespace(t, client))
	if _, err := deployments.Create(t.Context(), deployment(2), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		got, err := deployments.Get(ctx, "app", metav1.GetOptions{})
		if err == nil && got.Status.AvailableReplicas != 2 {
			err = fmt.Errorf("status: %+v", got.Status)
		}
		return err
	})
}

func TestStatefulSetProgressesWithVolumes(t *testing.T) {
	client := shared.client(t)
	namespace := newNamespace(t, client)
	sets := client.AppsV1().StatefulSets(namespace)
	_, err := sets.Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(goodImage, nil),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		got, err := sets.Get(ctx, "app", metav1.GetOptions{})
		if err == nil && got.Status.AvailableReplicas != 2 {
			err = fmt.Errorf("status: %+v", got.Status)
		}
		return err
	})
	claim, err := client.CoreV1().PersistentVolumeClaims(namespace).Get(t.Context(), "data-app-0", metav1.GetOptions{})
	if err != nil || claim.Status.Phase != corev1.ClaimBound {
		t.Fatalf("claim: %v, %v", claim.Status.Phase, err)
	}
	// Volumes go with the namespace; the claim is deleted by its controller.
	if err := client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := client.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
		return wantNotFound(err)
	})
}

func TestDaemonSetRunsOnEachNode(t *testing.T) {
	client := shared.client(t)
	sets := client.AppsV1().DaemonSets(newNamespace(t, client))
	_, err := sets.Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "app"},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: podTemplate(goodImage, nil)},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		got, err := sets.Get(ctx, "app", metav1.GetOptions{})
		if err == nil && got.Status.NumberAvailable != 3 {
			err = fmt.Errorf("status: %+v", got.Status)
		}
		return err
	})
}

func TestJobs(t *testing.T) {
	client := shared.client(t)
	namespace := newNamespace(t, client)
	for name, test := range map[string]struct {
		annotations   map[string]string
		restartPolicy corev1.RestartPolicy
		want          batchv1.JobConditionType
	}{
		"completes": {nil, corev1.RestartPolicyNever, batchv1.JobComplete},
		"fails":     {map[string]string{behaviour: "exit"}, corev1.RestartPolicyNever, batchv1.JobFailed},
		"crashes":   {map[string]string{behaviour: "exit"}, corev1.RestartPolicyOnFailure, batchv1.JobFailed},
		"exits-zero": {map[string]string{behaviour: "exit", "lab.plumbline.dev/exit-code": "0"},
			corev1.RestartPolicyNever, batchv1.JobComplete},
		"delayed": {map[string]string{"lab.plumbline.dev/delay": "100ms"}, corev1.RestartPolicyNever, batchv1.JobComplete},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			jobs := client.BatchV1().Jobs(namespace)
			template := podTemplate(goodImage, test.annotations)
			template.Spec.RestartPolicy = test.restartPolicy
			_, err := jobs.Create(t.Context(), &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Spec:       batchv1.JobSpec{BackoffLimit: new(int32(0)), Template: template},
			}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, func(ctx context.Context) error {
				got, err := jobs.Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				for _, condition := range got.Status.Conditions {
					if condition.Type == test.want && condition.Status == corev1.ConditionTrue {
						return nil
					}
				}
				return fmt.Errorf("status: %+v", got.Status)
			})
		})
	}
}

func TestBrokenRolloutFailsAndRecovers(t *testing.T) {
	client := shared.client(t)
	deployments := client.AppsV1().Deployments(newNamespace(t, client))
	if _, err := deployments.Create(t.Context(), deployment(1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ image, wantReason string }{
		{goodImage, "NewReplicaSetAvailable"},
		{"registry.invalid/app:2", "ProgressDeadlineExceeded"},
		{"registry.example/app:3", "NewReplicaSetAvailable"},
		{"registry.example/app:does-not-exist", "ProgressDeadlineExceeded"},
	} {
		patch := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, step.image)
		patched, err := deployments.Patch(t.Context(), "app", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func(ctx context.Context) error {
			got, err := deployments.Get(ctx, "app", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, condition := range got.Status.Conditions {
				if condition.Type == appsv1.DeploymentProgressing && condition.Reason == step.wantReason &&
					got.Status.ObservedGeneration >= patched.Generation && got.Status.AvailableReplicas == 1 {
					return nil
				}
			}
			return fmt.Errorf("with image %s, want %s: %+v", step.image, step.wantReason, got.Status)
		})
	}
}
