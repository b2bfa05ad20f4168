package stacks_test

import (
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

var pinned = regexp.MustCompile(`^[a-z0-9.-]+\.[a-z]+/[a-z0-9/_-]+:v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$`)

// A rule that no pod template may break. spoil breaks it in a good one, which shows that ok can say no.
type rule struct {
	name  string
	why   string
	ok    func(workload) bool
	spoil func(*workload)
}

var rules = []rule{
	{"a fixed user that is not root", "an image decides otherwise whom a break-out is, and whose files the volume holds",
		func(w workload) bool {
			c := w.pod.Spec.SecurityContext
			return c != nil && is(c.RunAsNonRoot, true) && above0(c.RunAsUser) && above0(c.RunAsGroup) && above0(c.FSGroup)
		},
		func(w *workload) { w.pod.Spec.SecurityContext.RunAsUser = new(int64) }},
	{"the runtime's seccomp profile", "without it every system call of the kernel is within reach",
		func(w workload) bool {
			c := w.pod.Spec.SecurityContext
			return c != nil && c.SeccompProfile != nil && c.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault
		},
		func(w *workload) {
			w.pod.Spec.SecurityContext.SeccompProfile.Type = corev1.SeccompProfileTypeUnconfined
		}},
	{"no privilege escalation", "a setuid binary in the image would undo the user above",
		inContainers(func(c corev1.Container) bool { return is(c.SecurityContext.AllowPrivilegeEscalation, false) }),
		func(w *workload) { w.pod.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil }},
	{"a read-only root", "what cannot be written cannot be replaced",
		inContainers(func(c corev1.Container) bool { return is(c.SecurityContext.ReadOnlyRootFilesystem, true) }),
		func(w *workload) { w.pod.Spec.Containers[0].SecurityContext.ReadOnlyRootFilesystem = nil }},
	{"no capabilities, not privileged", "none of these programs needs one",
		inContainers(func(c corev1.Container) bool {
			caps := c.SecurityContext.Capabilities
			return caps != nil && len(caps.Drop) == 1 && caps.Drop[0] == "ALL" && len(caps.Add) == 0 && !is(c.SecurityContext.Privileged, true)
		}),
		func(w *workload) {
			w.pod.Spec.Containers[0].SecurityContext.Capabilities.Add = []corev1.Capability{"NET_RAW"}
		}},
	{"nothing of the host", "its network, processes, ports and files are outside every policy here",
		func(w workload) bool {
			s := w.pod.Spec
			for _, v := range s.Volumes {
				if v.ConfigMap == nil && v.EmptyDir == nil {
					return false
				}
			}
			return !s.HostNetwork && !s.HostPID && !s.HostIPC && inContainers(func(c corev1.Container) bool {
				for _, p := range c.Ports {
					if p.HostPort != 0 {
						return false
					}
				}
				return true
			})(w)
		},
		func(w *workload) {
			w.pod.Spec.Volumes = append(w.pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
		}},
	{"requests and limits of cpu, memory and disk", "one that runs away must not take the node with it",
		inContainers(func(c corev1.Container) bool {
			for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
				req, lim := c.Resources.Requests[r], c.Resources.Limits[r]
				if req.IsZero() || lim.IsZero() || req.Cmp(lim) > 0 {
					return false
				}
			}
			return true
		}),
		func(w *workload) { delete(w.pod.Spec.Containers[0].Resources.Limits, corev1.ResourceEphemeralStorage) }},
	{"bounded scratch space", "an emptyDir without a size is the node's disk",
		func(w workload) bool {
			for _, v := range w.pod.Spec.Volumes {
				if v.EmptyDir != nil && (v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.IsZero()) {
					return false
				}
			}
			return true
		},
		func(w *workload) {
			w.pod.Spec.Volumes = append(w.pod.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		}},
	{"an account of its own without a token", "none of them asks the Kubernetes API anything, and the default account is everybody's",
		func(w workload) bool {
			account, ok := w.accounts[w.pod.Spec.ServiceAccountName]
			return ok && is(account.AutomountServiceAccountToken, false) && is(w.pod.Spec.AutomountServiceAccountToken, false)
		},
		func(w *workload) { w.pod.Spec.ServiceAccountName = "default" }},
	{"no service links", "environment variables that a neighbour's Service chooses end up in programs that read PROMETHEUS_… and GF_…",
		func(w workload) bool { return is(w.pod.Spec.EnableServiceLinks, false) },
		func(w *workload) { w.pod.Spec.EnableServiceLinks = nil }},
	{"a pinned image with its registry", "what runs must change by a commit only",
		inContainers(func(c corev1.Container) bool { return pinned.MatchString(c.Image) }),
		func(w *workload) { w.pod.Spec.Containers[0].Image = "docker.io/grafana/grafana:latest" }},
	{"all three probes, on declared ports", "a stack is Ready when its program says so, and a slow start must not look like a hang",
		inContainers(func(c corev1.Container) bool {
			for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
				if p == nil || p.HTTPGet == nil {
					return false
				}
				if _, ok := containerPort(c, p.HTTPGet.Port.String()); !ok {
					return false
				}
			}
			return true
		}),
		func(w *workload) { w.pod.Spec.Containers[0].StartupProbe = nil }},
	{"a chosen time to stop, and few old revisions", "stores write out what is in memory on the way down; ten old ReplicaSets help nobody",
		func(w workload) bool {
			return w.pod.Spec.TerminationGracePeriodSeconds != nil && w.history != nil && *w.history <= 3
		},
		func(w *workload) { w.pod.Spec.TerminationGracePeriodSeconds = nil }},
	{"volumes that any cluster can bind", "a class of ours would leave the pod Pending elsewhere; ReadWriteOnce is what every provisioner has",
		func(w workload) bool {
			for _, c := range w.claims {
				size := c.Spec.Resources.Requests[corev1.ResourceStorage]
				if c.Spec.StorageClassName != nil || len(c.Spec.AccessModes) != 1 || c.Spec.AccessModes[0] != corev1.ReadWriteOnce || size.Cmp(resource.MustParse("20Gi")) > 0 {
					return false
				}
			}
			return true
		},
		func(w *workload) { w.claims[0].Spec.StorageClassName = new(string) }},
}

func TestHardening(t *testing.T) {
	for name, s := range load(t) {
		for _, r := range rules {
			if !r.ok(s.workloads[0]) {
				t.Errorf("%s breaks the rule %q: %s", name, r.name, r.why)
			}
		}
	}
}

func TestEveryRuleCanBeBroken(t *testing.T) {
	for _, r := range rules {
		w := load(t)["prometheus"].workloads[0]
		r.spoil(&w)
		if r.ok(w) {
			t.Errorf("rule %q does not see that it is broken", r.name)
		}
	}
}

func inContainers(ok func(corev1.Container) bool) func(workload) bool {
	return func(w workload) bool {
		for _, c := range append(w.pod.Spec.InitContainers, w.pod.Spec.Containers...) {
			if c.SecurityContext == nil || !ok(c) {
				return false
			}
		}
		return true
	}
}

func is(b *bool, want bool) bool { return b != nil && *b == want }
func above0(id *int64) bool      { return id != nil && *id > 0 }
