package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A podState is what a stage brings a pod into.
type podState string

const (
	podRuns      podState = "run"         // all containers run and are ready
	podCompletes podState = "complete"    // all containers ended well
	podPullFails podState = "pull-failed" // some image cannot be pulled
	podIsUnready podState = "never-ready" // all containers run, none is ready
	podCrashes   podState = "crash"       // all containers ended badly and wait for a restart
	podRestarts  podState = "restart"     // all containers were restarted, none is ready
	podExits     podState = "exit"        // all containers ended, for good
)

var unpullable = regexp.MustCompile(badImagePattern)

// podStatusJSON is podStatus for KWOK's templates, which hold a pod as maps.
func podStatusJSON(object any, to string, hostIP, podIP string) (string, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return "", err
	}
	var pod corev1.Pod
	if err := json.Unmarshal(data, &pod); err != nil {
		return "", err
	}
	status := podStatus(&pod, podState(to), metav1.Now())
	status.HostIP, status.HostIPs = hostIP, []corev1.HostIP{{IP: hostIP}}
	status.PodIP, status.PodIPs = podIP, []corev1.PodIP{{IP: podIP}}
	data, err = json.Marshal(patch{status, explicit(status.Conditions)})
	return string(data), err
}

// A patch is a status with conditions that say also what is empty: conditions are
// merged by type, and what a condition leaves out would stay.
type patch struct {
	corev1.PodStatus
	Conditions []explicitCondition `json:"conditions"`
}

type explicitCondition struct {
	corev1.PodCondition
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func explicit(conditions []corev1.PodCondition) []explicitCondition {
	var all []explicitCondition
	for _, c := range conditions {
		all = append(all, explicitCondition{c, c.Reason, c.Message})
	}
	return all
}

// podStatus is what a kubelet would report of a pod in that state, to be merged
// into the status that the pod has.
func podStatus(pod *corev1.Pod, to podState, now metav1.Time) corev1.PodStatus {
	status := corev1.PodStatus{
		Phase:              podPhase(pod, to),
		StartTime:          cmp.Or(pod.Status.StartTime, &now),
		ObservedGeneration: pod.Generation,
	}
	initialized := true
	for _, container := range pod.Spec.InitContainers {
		state := initContainerStatus(pod, container, to, initialized, now)
		initialized = initialized && state.Ready
		status.InitContainerStatuses = append(status.InitContainerStatuses, state)
	}
	var unready []string
	for _, container := range pod.Spec.Containers {
		state := containerStatus(pod, container, to, initialized, now)
		if !state.Ready {
			unready = append(unready, container.Name)
		}
		status.ContainerStatuses = append(status.ContainerStatuses, state)
	}
	status.Conditions = podConditions(pod, to, initialized, unready, now)
	return status
}

func podPhase(pod *corev1.Pod, to podState) corev1.PodPhase {
	switch to {
	case podPullFails:
		return pod.Status.Phase
	case podCompletes:
		return corev1.PodSucceeded
	case podExits:
		if exitCode(pod) == 0 {
			return corev1.PodSucceeded
		}
		return corev1.PodFailed
	}
	return corev1.PodRunning
}

// initContainerStatus has nothing fail but the pull of an image. A container
// behind one that failed waits.
func initContainerStatus(pod *corev1.Pod, c corev1.Container, to podState, initialized bool, now metav1.Time) corev1.ContainerStatus {
	status := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Ready: true, Started: new(true)}
	sidecar := c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	ended := to == podCompletes || to == podExits
	switch {
	case !initialized:
		setWaiting(&status, "PodInitializing", "")
	case to == podPullFails && unpullable.MatchString(c.Image):
		setWaiting(&status, "ImagePullBackOff", pullMessage(c.Image))
	case sidecar && !ended:
		status.State.Running = running(previous(pod.Status.InitContainerStatuses, c.Name), now)
	default:
		status.Started = new(false)
		status.State.Terminated = terminated(0, now, now)
	}
	return status
}

func containerStatus(pod *corev1.Pod, c corev1.Container, to podState, initialized bool, now metav1.Time) corev1.ContainerStatus {
	old := previous(pod.Status.ContainerStatuses, c.Name)
	status := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, Started: new(true),
		RestartCount:         old.RestartCount,
		LastTerminationState: old.LastTerminationState,
	}
	since := now
	if old.State.Running != nil {
		since = old.State.Running.StartedAt
	}
	switch {
	case !initialized:
		setWaiting(&status, "PodInitializing", "")
	case to == podPullFails && unpullable.MatchString(c.Image):
		setWaiting(&status, "ImagePullBackOff", pullMessage(c.Image))
	case to == podCrashes:
		// The first restart comes without a back-off, so the first wait is after it.
		status.RestartCount = max(1, old.RestartCount)
		status.LastTerminationState.Terminated = terminated(exitCode(pod), since, now)
		setWaiting(&status, "CrashLoopBackOff", crashMessage(pod, c.Name, status.RestartCount))
	case to == podCompletes, to == podExits:
		code := int32(0)
		if to == podExits {
			code = exitCode(pod)
		}
		status.Started = new(false)
		status.State.Terminated = terminated(code, since, now)
	default:
		status.Ready = to == podRuns || to == podPullFails
		status.State.Running = running(old, now)
		if old.State.Waiting != nil && old.State.Waiting.Reason == "CrashLoopBackOff" {
			status.RestartCount++
		}
	}
	return status
}

func podConditions(pod *corev1.Pod, to podState, initialized bool, unready []string, now metav1.Time) []corev1.PodCondition {
	reason, message := "", ""
	switch {
	case to == podCompletes, to == podExits && exitCode(pod) == 0:
		reason = "PodCompleted"
	case to == podExits:
		reason = "PodFailed"
	case len(unready) > 0:
		reason, message = "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", unready)
	}
	conditions := []corev1.PodCondition{
		{Type: corev1.PodReadyToStartContainers, Status: truth(to != podCompletes && to != podExits)},
		{Type: corev1.PodInitialized, Status: truth(initialized)},
		{Type: corev1.ContainersReady, Status: truth(len(unready) == 0), Reason: reason, Message: message},
		{Type: corev1.PodReady, Status: truth(len(unready) == 0), Reason: reason, Message: message},
	}
	if to == podRuns {
		for _, gate := range pod.Spec.ReadinessGates {
			conditions = append(conditions, corev1.PodCondition{Type: gate.ConditionType, Status: corev1.ConditionTrue})
		}
	}
	for i := range conditions {
		conditions[i].LastTransitionTime = now
		for _, old := range pod.Status.Conditions {
			if old.Type == conditions[i].Type && old.Status == conditions[i].Status {
				conditions[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	return conditions
}

func previous(statuses []corev1.ContainerStatus, name string) corev1.ContainerStatus {
	for _, status := range statuses {
		if status.Name == name {
			return status
		}
	}
	return corev1.ContainerStatus{}
}

func setWaiting(status *corev1.ContainerStatus, reason, message string) {
	status.Ready, status.Started = false, new(false)
	status.State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: message}
}

func running(old corev1.ContainerStatus, now metav1.Time) *corev1.ContainerStateRunning {
	if old.State.Running != nil {
		return old.State.Running
	}
	return &corev1.ContainerStateRunning{StartedAt: now}
}

func terminated(code int32, started, finished metav1.Time) *corev1.ContainerStateTerminated {
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, StartedAt: started, FinishedAt: finished}
}

func pullMessage(image string) string {
	cause := "not found"
	if !strings.HasSuffix(image, ":does-not-exist") {
		host, _, _ := strings.Cut(image, "/")
		cause = fmt.Sprintf("failed to do request: dial tcp: lookup %s: no such host", host)
	}
	return fmt.Sprintf("Back-off pulling image %q: ErrImagePull: failed to resolve reference %q: %s", image, image, cause)
}

func crashMessage(pod *corev1.Pod, container string, restarts int32) string {
	return fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
		crashBackOff(restarts), container, pod.Name, pod.Namespace, pod.UID)
}

// crashBackOff is the kubelet's, shorter: 2s, 4s, 8s … a minute.
func crashBackOff(restarts int32) time.Duration {
	return min(time.Second<<min(restarts, 6), time.Minute)
}

// exitCode is 1 unless the pod's annotation is another number.
func exitCode(pod *corev1.Pod) int32 {
	code, err := strconv.ParseInt(pod.Annotations["lab.plumbline.dev/exit-code"], 10, 32)
	if err != nil {
		return 1
	}
	return int32(code)
}

func truth(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
