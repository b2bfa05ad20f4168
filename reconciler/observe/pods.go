package observe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// How telling the state of a pod is; the most telling one is shown.
const (
	tellsBroken  = iota // it will not start as it is: image, configuration
	tellsEnded          // it started, and ended badly
	tellsWaiting        // it has no place, or lacks something
	tellsUnready        // it runs, and is not ready
	tellsStarting
	tellsNothing
)

// A clue is why one pod is not ready.
type clue struct {
	rank int
	text string
}

// worst finds the pod that tells most, and counts those that are not ready. Of equals, the newest speaks.
func worst(pods []corev1.Pod) (pod *corev1.Pod, unready int) {
	rank := tellsNothing
	for i := range pods {
		c := clueOf(&pods[i], nil)
		if c.rank == tellsNothing {
			continue
		}
		unready++
		if pod == nil || c.rank < rank || c.rank == rank && newer(&pods[i], pod) {
			pod, rank = &pods[i], c.rank
		}
	}
	return pod, unready
}

func newer(a, b *corev1.Pod) bool {
	at, bt := a.CreationTimestamp, b.CreationTimestamp
	return cmp.Or(bt.Compare(at.Time), strings.Compare(a.Name, b.Name)) < 0
}

// clueOf says why a pod is not ready, in the words of kubectl. Events are those of the pod; without them, it says less.
func clueOf(pod *corev1.Pod, events []corev1.Event) clue {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || condition(pod, corev1.PodReady).Status == corev1.ConditionTrue {
		return clue{rank: tellsNothing}
	}
	best := podClue(pod)
	each := func(what string, specs []corev1.Container, statuses []corev1.ContainerStatus) {
		for _, state := range statuses {
			i := slices.IndexFunc(specs, func(c corev1.Container) bool { return c.Name == state.Name })
			if i < 0 {
				continue
			}
			if c := containerClue(specs[i], state, what != "container", events); c.rank < best.rank {
				best = clue{c.rank, what + " " + state.Name + ": " + c.text}
			}
		}
	}
	each("init container", pod.Spec.InitContainers, pod.Status.InitContainerStatuses)
	each("container", pod.Spec.Containers, pod.Status.ContainerStatuses)
	if best.rank == tellsStarting {
		if e := latest(events, func(e corev1.Event) bool { return e.Type == corev1.EventTypeWarning }); e != nil {
			return clue{tellsWaiting, e.Reason + ": " + e.Message}
		}
	}
	return best
}

// podClue is about the pod as a whole.
func podClue(pod *corev1.Pod) clue {
	scheduled := condition(pod, corev1.PodScheduled)
	switch {
	case pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "":
		return clue{tellsEnded, sentence(pod.Status.Reason, pod.Status.Message)}
	case scheduled.Status == corev1.ConditionFalse:
		return clue{tellsWaiting, sentence(scheduled.Reason, scheduled.Message)}
	case pod.Status.Phase == corev1.PodFailed:
		return clue{tellsUnready, sentence("failed", pod.Status.Message)}
	case pod.Spec.NodeName == "":
		return clue{tellsStarting, "not scheduled yet"}
	}
	if condition(pod, corev1.ContainersReady).Status == corev1.ConditionTrue {
		for _, gate := range pod.Spec.ReadinessGates {
			if c := condition(pod, gate.ConditionType); c.Status != corev1.ConditionTrue {
				return clue{tellsUnready, strings.TrimSuffix(fmt.Sprintf("readiness gate %s is not met: %s", gate.ConditionType, c.Message), ": ")}
			}
		}
	}
	return clue{tellsStarting, "starting"}
}

func containerClue(spec corev1.Container, state corev1.ContainerStatus, init bool, events []corev1.Event) clue {
	sidecar := spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
	switch waiting, ended := state.State.Waiting, state.State.Terminated; {
	case waiting != nil && slices.Contains([]string{"", "PodInitializing", "ContainerCreating"}, waiting.Reason):
		return clue{rank: tellsNothing} // that, the pod tells
	case waiting != nil && waiting.Reason == "CrashLoopBackOff":
		return clue{tellsEnded, "CrashLoopBackOff: " + ending(state.LastTerminationState.Terminated) + restarted(state)}
	case waiting != nil:
		return clue{tellsBroken, sentence(waiting.Reason, pullMessage(spec, waiting, events))}
	case ended != nil && ended.ExitCode != 0:
		return clue{tellsEnded, sentence(ending(ended)+restarted(state), ended.Message)}
	case state.State.Running != nil && init && !sidecar:
		return clue{tellsUnready, "still running" + restarted(state)}
	case state.State.Running != nil && !state.Ready:
		return clue{tellsUnready, probe(spec, state, events)}
	}
	return clue{rank: tellsNothing}
}

// ending is "exit code 137 (OOMKilled)".
func ending(t *corev1.ContainerStateTerminated) string {
	switch {
	case t == nil:
		return "it ended"
	case t.Reason == "" || t.Reason == "Error":
		return fmt.Sprintf("exit code %d", t.ExitCode)
	}
	return fmt.Sprintf("exit code %d (%s)", t.ExitCode, t.Reason)
}

func restarted(state corev1.ContainerStatus) string {
	switch state.RestartCount {
	case 0:
		return ""
	case 1:
		return ", restarted once"
	}
	return fmt.Sprintf(", restarted %d times", state.RestartCount)
}

// pullMessage is what the registry said: not every kubelet repeats it while it waits.
func pullMessage(spec corev1.Container, waiting *corev1.ContainerStateWaiting, events []corev1.Event) string {
	if waiting.Reason == "ImagePullBackOff" && !strings.Contains(waiting.Message, "ErrImagePull") {
		if e := latest(events, func(e corev1.Event) bool {
			return strings.HasPrefix(e.Message, "Failed to pull image") && ofContainer(e, spec.Name)
		}); e != nil {
			return e.Message
		}
	}
	return waiting.Message
}

// probe is why a container that runs is not ready.
func probe(spec corev1.Container, state corev1.ContainerStatus, events []corev1.Event) string {
	starts := spec.StartupProbe != nil && state.Started != nil && !*state.Started
	text := "running, not ready"
	switch {
	case starts:
		text = "startup probe fails"
	case spec.ReadinessProbe != nil:
		text = "readiness probe fails"
	}
	if e := latest(events, func(e corev1.Event) bool { return e.Reason == "Unhealthy" && ofContainer(e, spec.Name) }); e != nil {
		name, message, _ := strings.Cut(e.Message, " failed: ")
		if message == "" {
			message = e.Message
		} else {
			text = strings.ToLower(name) + " fails"
		}
		text += ": " + strings.TrimSpace(message)
	}
	if t := state.LastTerminationState.Terminated; t != nil {
		text += ", after " + ending(t) + restarted(state)
	}
	return text
}

func ofContainer(e corev1.Event, name string) bool {
	return e.InvolvedObject.FieldPath == "" || strings.HasSuffix(e.InvolvedObject.FieldPath, "{"+name+"}")
}

// latest is the newest event that fits.
func latest(events []corev1.Event, fits func(corev1.Event) bool) (found *corev1.Event) {
	for i := range events {
		if e := &events[i]; fits(*e) && (found == nil || found.LastTimestamp.Before(&e.LastTimestamp)) {
			found = e
		}
	}
	return found
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func sentence(reason, message string) string {
	return strings.TrimPrefix(strings.TrimSuffix(reason+": "+strings.TrimSpace(message), ": "), ": ")
}

// refusal is why a workload's pods are not even made: a quota, or an admission. A Deployment and a ReplicaSet say so
// in a condition, others by events.
func refusal(workload *unstructured.Unstructured, pods int, events []corev1.Event) string {
	conditions, _, _ := unstructured.NestedSlice(workload.Object, "status", "conditions")
	for _, item := range conditions {
		c, _ := item.(map[string]any)
		if c["type"] == "ReplicaFailure" && c["status"] == "True" {
			reason, _ := c["reason"].(string)
			message, _ := c["message"].(string)
			return sentence(reason, message)
		}
	}
	if pods >= wanted(workload) {
		return ""
	}
	if e := latest(events, func(e corev1.Event) bool { return e.Reason == "FailedCreate" }); e != nil {
		return sentence(e.Reason, e.Message)
	}
	return ""
}

// wanted is how many pods a workload asks for.
func wanted(workload *unstructured.Unstructured) int {
	for _, path := range [][]string{{"status", "desiredNumberScheduled"}, {"spec", "parallelism"}, {"spec", "replicas"}} {
		if n, ok, _ := unstructured.NestedInt64(workload.Object, path...); ok {
			return int(n)
		}
	}
	return 1
}

// told puts together what a workload and its pods say.
func told(refused string, pod *corev1.Pod, events []corev1.Event, unready int) string {
	var parts []string
	if refused != "" {
		parts = append(parts, refused)
	}
	if pod != nil {
		name := "pod " + pod.Name
		switch {
		case unready == 2:
			name += " (and 1 more pod)"
		case unready > 2:
			name += fmt.Sprintf(" (and %d more pods)", unready-1)
		}
		parts = append(parts, name+": "+clueOf(pod, events).text)
	}
	return bounded(strings.Join(parts, ", "))
}
