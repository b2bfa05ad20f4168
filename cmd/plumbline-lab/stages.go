package main

import (
	"fmt"
	"slices"

	"sigs.k8s.io/kwok/kustomize/stage/node/fast"
	heartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
)

// jq expressions over a pod. An expression "exists" where it yields a value.
const (
	behaviour = `.metadata.annotations["lab.plumbline.dev/behaviour"]`
	delay     = `.metadata.annotations["lab.plumbline.dev/delay"]`
	deleted   = `.metadata.deletionTimestamp`
	phase     = `.status.phase`
	ready     = `.status.conditions[]? | select(.type == "Ready") | .status`
	waiting   = `.status.containerStatuses[]?, .status.initContainerStatuses[]? | .state.waiting.reason`
	badImage  = `.spec.containers[], .spec.initContainers[]? | .image | select(` + badImageTest + `)`
	jobOwned  = `.metadata.ownerReferences[]? | select(.kind == "Job")`

	// badImageTest holds for images that cannot be pulled; podStatus asks the same of
	// single containers.
	badImageTest    = `test("` + badImagePattern + `")`
	badImagePattern = `^[^/]+[.]invalid(:[0-9]+)?/|:does-not-exist$`

	// A process that exits is started again, unless the restartPolicy forbids it.
	crashes = `select(` + behaviour + ` == "crash-loop" or (` + behaviour + ` == "exit" and .spec.restartPolicy != "Never"))`
	exits   = `select(` + behaviour + ` == "exit" and .spec.restartPolicy == "Never")`

	// stillReady yields a value until all containers run and none is ready.
	stillReady = `[.status.containerStatuses[]? | .state.running != null and (.ready | not)] | select(length == 0 or any(not))`

	// backOff is what crashBackOff says, as jq.
	backOff = `[pow(2; .status.containerStatuses[0].restartCount), 60] | min | tostring + "s"`
	// A crashing container is seen running for a moment, except at first.
	crashDelay = `select(.status.containerStatuses[0].state.running) | "500ms"`
)

// A condition of a stage: a requirement on the object.
type condition = internalversion.MatchExpression

func match(jq string, op internalversion.SelectorOperator, values ...string) condition {
	return condition{JQ: &internalversion.SelectorJQ{Key: jq, Operator: op, Values: values}}
}

func in(jq string, values ...string) condition {
	return match(jq, internalversion.SelectorOpIn, values...)
}

func notIn(jq string, values ...string) condition {
	return match(jq, internalversion.SelectorOpNotIn, values...)
}

func exists(jq string) condition { return match(jq, internalversion.SelectorOpExists) }
func absent(jq string) condition { return match(jq, internalversion.SelectorOpDoesNotExist) }

// stages says when an object changes its state: KWOK's own stages for nodes, ours
// for pods and volumes. At most one stage of ours matches a pod at any time: each
// asks for what the pod's image and annotations demand and is not so yet.
func stages() (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	all := slices.Concat(podStages(), volumeStages())
	for _, text := range []string{fast.DefaultNodeInit, heartbeat.DefaultNodeHeartbeatWithLease} {
		stage, err := kwokconfig.UnmarshalWithType[*internalversion.Stage](text)
		if err != nil {
			return nil, fmt.Errorf("read stage: %w", err)
		}
		all = append(all, stage)
	}
	byKind := make(map[internalversion.StageResourceRef][]*internalversion.Stage)
	for _, stage := range all {
		byKind[stage.Spec.ResourceRef] = append(byKind[stage.Spec.ResourceRef], stage)
	}
	return byKind, nil
}

// podStages is the table of what happens to pods: into which state, when, how long
// after that, and with which events.
func podStages() []*internalversion.Stage {
	alive := []condition{absent(deleted), in(phase, "Pending", "Running")}
	pulled := append(slices.Clone(alive), absent(badImage))
	var all []*internalversion.Stage
	for _, stage := range []struct {
		to     podState
		when   []condition
		and    []condition
		after  string
		events []string
	}{
		{podRuns, pulled, []condition{absent(behaviour), notIn(ready, "True")}, delay, nil},
		{podCompletes, pulled, []condition{absent(behaviour), in(ready, "True"), exists(jobOwned)}, delay, nil},
		{podPullFails, alive, []condition{exists(badImage), notIn(waiting, "ImagePullBackOff")}, "",
			[]string{"Failed", "Error: ErrImagePull", "Failed", "Error: ImagePullBackOff"}},
		{podIsUnready, pulled, []condition{in(behaviour, "never-ready"), exists(stillReady)}, "",
			[]string{"Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"}},
		{podCrashes, pulled, []condition{exists(crashes), notIn(waiting, "CrashLoopBackOff")}, crashDelay,
			[]string{"BackOff", "Back-off restarting failed container"}},
		{podRestarts, pulled, []condition{exists(crashes), in(waiting, "CrashLoopBackOff")}, backOff, nil},
		{podExits, pulled, []condition{exists(exits)}, delay, nil},
	} {
		all = append(all, newStage("Pod", string(stage.to), slices.Concat(stage.when, stage.and), stage.after,
			append(warnings(stage.events), patchStatus(stage.to))...))
	}
	return append(all, newStage("Pod", "delete", []condition{exists(deleted)}, "", internalversion.StageStep{Delete: true}))
}

// volumeStages play an external provisioner: they make a volume for a claim, and
// delete it when released. Binding them is the real controller's work.
func volumeStages() []*internalversion.Stage {
	return []*internalversion.Stage{
		newStage("PersistentVolumeClaim", "provision", []condition{
			absent(deleted),
			absent(`.spec.volumeName`),
			in(`.metadata.annotations["volume.kubernetes.io/storage-provisioner"]`, provisioner),
		}, "", internalversion.StageStep{Apply: &internalversion.StageApply{Template: volumeTemplate}}),
		newStage("PersistentVolume", "delete", []condition{
			absent(deleted),
			in(`.metadata.annotations["pv.kubernetes.io/provisioned-by"]`, provisioner),
			in(phase, "Released"),
			in(`.spec.persistentVolumeReclaimPolicy`, "Delete"),
		}, "", internalversion.StageStep{Delete: true}),
	}
}

// provisioner is that of the StorageClass in furnishing.yaml.
const provisioner = "lab.plumbline.dev/nowhere"

const volumeTemplate = `
apiVersion: v1
kind: PersistentVolume
metadata:
  name: pvc-{{ .metadata.uid }}
  annotations: {pv.kubernetes.io/provisioned-by: ` + provisioner + `}
spec:
  accessModes: {{ .spec.accessModes | toJson }}
  capacity: {{ .spec.resources.requests | toJson }}
  volumeMode: {{ .spec.volumeMode }}
  storageClassName: {{ .spec.storageClassName }}
  persistentVolumeReclaimPolicy: Delete
  hostPath: {path: /var/lib/nowhere/{{ .metadata.uid }}}
  claimRef:
    apiVersion: v1
    kind: PersistentVolumeClaim
    namespace: {{ .metadata.namespace }}
    name: {{ .metadata.name | quote }}
    uid: {{ .metadata.uid }}
`

// newStage takes a jq expression for the delay, which yields a duration or nothing.
func newStage(kind, name string, when []condition, after string, steps ...internalversion.StageStep) *internalversion.Stage {
	stage := &internalversion.Stage{Spec: internalversion.StageSpec{
		ResourceRef: internalversion.StageResourceRef{APIGroup: "v1", Kind: kind},
		Selector:    &internalversion.StageSelector{MatchExpressions: when},
		Steps:       steps,
	}}
	stage.Name = name
	if after != "" {
		stage.Spec.Delay = &internalversion.StageDelay{
			DurationMilliseconds: new(int64),
			DurationFrom:         &internalversion.ExpressionFrom{JQ: &internalversion.ExpressionJQ{Expression: after}},
		}
	}
	return stage
}

// warnings makes events of pairs of reason and message.
func warnings(pairs []string) []internalversion.StageStep {
	var steps []internalversion.StageStep
	for pair := range slices.Chunk(pairs, 2) {
		steps = append(steps, internalversion.StageStep{
			Event: &internalversion.StageEvent{Type: "Warning", Reason: pair[0], Message: pair[1]},
		})
	}
	return steps
}

// patchStatus sets what podStatus says. Addresses come from KWOK, which keeps
// account of those that it gave out, and gives another one each time it is asked.
func patchStatus(to podState) internalversion.StageStep {
	return internalversion.StageStep{Patch: &internalversion.StagePatch{
		Root:        "status",
		Subresource: "status",
		Template: `{{ PodStatus . "` + string(to) + `" (NodeIPWith .spec.nodeName) (or .status.podIP
			(PodIPWith .spec.nodeName (or .spec.hostNetwork false) .metadata.uid .metadata.name .metadata.namespace)) }}`,
	}}
}
