package observe

import (
	"context"
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Bounds of one look at a workload: a pod, or an event, may have a megabyte.
const (
	podsOfLook   = 20
	pagesOfLook  = 5 // of pods, each for itself: as long as all in them are ready
	eventsOfLook = 20
)

var workloads = map[schema.GroupKind]string{
	{Group: "apps", Kind: "Deployment"}:  "deployments",
	{Group: "apps", Kind: "StatefulSet"}: "statefulsets",
	{Group: "apps", Kind: "DaemonSet"}:   "daemonsets",
	{Group: "apps", Kind: "ReplicaSet"}:  "replicasets",
	{Group: "batch", Kind: "Job"}:        "jobs",
}

var (
	podResource   = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	eventResource = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

// IsWorkload tells whether an object has pods that can say why it is not ready.
func IsWorkload(id ID) bool { return workloads[id.GroupKind()] != "" }

// Explain asks why a workload is not ready: two to eight requests, bounded in what they return. The answer is in words
// like those of kubectl, and empty where neither the workload nor its pods tell.
func Explain(ctx context.Context, client dynamic.Interface, id ID) (string, error) {
	resource := schema.GroupVersionResource{Group: id.Group, Version: "v1", Resource: workloads[id.GroupKind()]}
	workload, err := client.Resource(resource).Namespace(id.Namespace).Get(ctx, id.Name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read %s: %w", id, err)
	}
	pod, unready, made, err := worstOf(ctx, client, workload)
	if err != nil {
		return "", fmt.Errorf("list the pods of %s: %w", id, err)
	}
	var ownEvents, podEvents []corev1.Event
	if tellsByEvents(id.Kind) && made < wanted(workload) {
		if ownEvents, err = eventsOf(ctx, client, id.Namespace, workload.GetUID()); err != nil {
			return "", fmt.Errorf("list the events of %s: %w", id, err)
		}
	}
	if pod != nil {
		if podEvents, err = eventsOf(ctx, client, id.Namespace, pod.UID); err != nil {
			return "", fmt.Errorf("list the events of a pod of %s: %w", id, err)
		}
	}
	return told(refusal(workload, made, ownEvents), pod, podEvents, unready), nil
}

// tellsByEvents: these have no condition for pods that can't be made.
func tellsByEvents(kind string) bool {
	return kind == "StatefulSet" || kind == "DaemonSet" || kind == "Job"
}

// worstOf finds the pod of a workload that tells most, on the first page that has one that isn't ready. Of what is on
// later pages, it is not known that it wasn't made.
func worstOf(ctx context.Context, client dynamic.Interface, workload *unstructured.Unstructured) (pod *corev1.Pod, unready, made int, err error) {
	selector, err := selectorOf(workload)
	if err != nil {
		return nil, 0, 0, err
	}
	page := metav1.ListOptions{LabelSelector: selector, Limit: podsOfLook}
	for range pagesOfLook {
		list, err := client.Resource(podResource).Namespace(workload.GetNamespace()).List(ctx, page)
		if err != nil {
			return nil, 0, 0, err
		}
		pods := slices.DeleteFunc(decoded[corev1.Pod](list), func(pod corev1.Pod) bool { return !controls(workload, &pod) })
		made += len(pods)
		pod, unready = worst(pods)
		if page.Continue = list.GetContinue(); page.Continue == "" {
			return pod, unready, made, nil
		}
		if pod != nil {
			break
		}
	}
	return pod, unready, math.MaxInt, nil
}

// selectorOf is what chooses the pods of a workload.
func selectorOf(workload *unstructured.Unstructured) (string, error) {
	raw, _, err := unstructured.NestedMap(workload.Object, "spec", "selector")
	if err != nil {
		return "", err
	}
	var labels metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &labels); err != nil {
		return "", err
	}
	selector, err := metav1.LabelSelectorAsSelector(&labels)
	if err != nil {
		return "", err
	}
	return selector.String(), nil
}

// controls tells whether a workload made a pod, or its ReplicaSet did.
func controls(workload *unstructured.Unstructured, pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	switch {
	case owner == nil:
		return false
	case workload.GetKind() == "Deployment":
		return owner.Kind == "ReplicaSet" && owner.Name == workload.GetName()+"-"+pod.Labels["pod-template-hash"]
	}
	return owner.UID == workload.GetUID()
}

func eventsOf(ctx context.Context, client dynamic.Interface, namespace string, uid types.UID) ([]corev1.Event, error) {
	list, err := client.Resource(eventResource).Namespace(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(uid), Limit: eventsOfLook})
	if err != nil {
		return nil, err
	}
	events := decoded[corev1.Event](list)
	for i := range events { // of the two sorts of events that there are, one has no lastTimestamp
		e := &events[i]
		switch {
		case !e.LastTimestamp.IsZero():
		case e.Series != nil:
			e.LastTimestamp = metav1.NewTime(e.Series.LastObservedTime.Time)
		case !e.EventTime.IsZero():
			e.LastTimestamp = metav1.NewTime(e.EventTime.Time)
		default:
			e.LastTimestamp = e.CreationTimestamp
		}
	}
	return events, nil
}

// decoded are the items that can be read.
func decoded[T any](list *unstructured.UnstructuredList) (items []T) {
	for i := range list.Items {
		var item T
		if runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &item) == nil {
			items = append(items, item)
		}
	}
	return items
}
