package stacks_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A flow is a connection that one stack's configuration makes to another's Service.
type flow struct {
	from, to string
	port     int32
}

func (f flow) String() string { return fmt.Sprintf("%s → %s:%d", f.from, f.to, f.port) }

// flows reads the connections from the configurations themselves: whatever says NAME:PORT of a Service.
func flows(all map[string]stack) map[flow]bool {
	address := regexp.MustCompile(`\b(` + strings.Join(names(all), "|") + `):(\d+)\b`)
	found := map[flow]bool{}
	for from, s := range all {
		for _, m := range address.FindAllStringSubmatch(s.configuration(), -1) {
			port, _ := strconv.Atoi(m[2])
			found[flow{from, m[1], int32(port)}] = true
		}
	}
	return found
}

// configuration is all text that its program reads.
func (s stack) configuration() string {
	text := s.container().Args
	for _, name := range slices.Sorted(maps.Keys(s.configMaps)) {
		text = append(text, slices.Collect(maps.Values(s.configMaps[name].Data))...)
	}
	return strings.Join(text, "\n")
}

func TestConfigurationsNameExistingServices(t *testing.T) {
	all := load(t)
	found := flows(all)
	for f := range found {
		ports := all[f.to].services[0].Spec.Ports
		if !slices.ContainsFunc(ports, func(p corev1.ServicePort) bool { return p.Port == f.port }) {
			t.Errorf("%v: the Service has no such port", f)
		}
	}
	// Guards the reading of configurations: these must be among what was found.
	for _, f := range []flow{{"otel-collector", "victoria-logs", 9428}, {"otel-collector", "prometheus", 9090}, {"prometheus", "grafana", 3000},
		{"prometheus", "alertmanager", 9093}, {"grafana", "victoria-logs", 9428}} {
		if !found[f] {
			t.Errorf("%v is not configured any more", f)
		}
	}
}

func TestEveryPodIsBehindPolicies(t *testing.T) {
	all := load(t)
	for _, name := range names(all) {
		var own, types []string
		for _, p := range policies(all) {
			if !selects(&p.Spec.PodSelector, all[name].workloads[0].pod.Labels) {
				continue
			}
			own = append(own, p.Name)
			for _, pt := range p.Spec.PolicyTypes {
				types = append(types, string(pt))
			}
		}
		if !slices.Contains(own, "default-deny") || !slices.Contains(own, "allow-dns") || !slices.Contains(own, name) {
			t.Errorf("%s is selected by policies %v; want default-deny, allow-dns and its own", name, own)
		}
		if !slices.Contains(types, "Ingress") || !slices.Contains(types, "Egress") {
			t.Errorf("%s: policies cover %v only", name, types)
		}
	}
}

// A connection needs both sides, and what no configuration uses needs none.
func TestPoliciesAllowExactlyTheFlows(t *testing.T) {
	all := load(t)
	found := flows(all)
	for _, from := range names(all) {
		for _, to := range names(all) {
			for _, p := range all[to].services[0].Spec.Ports {
				f := flow{from, to, p.Port}
				out, in := allowed(all, f)
				switch {
				case from == to:
				case found[f] && !out:
					t.Errorf("%v: %s's policy does not let it out", f, from)
				case found[f] && !in:
					t.Errorf("%v: %s's policy does not let it in", f, to)
				case !found[f] && out:
					t.Errorf("%v is allowed out, and nothing is configured to use it", f)
				case !found[f] && in && !openToAll[to+":"+p.Name]:
					t.Errorf("%v is allowed in, and nothing is configured to use it", f)
				}
			}
		}
	}
}

// Any pod of the cluster may send telemetry.
var openToAll = map[string]bool{"otel-collector:otlp-grpc": true, "otel-collector:otlp-http": true}

func TestAMissingPolicyIsSeen(t *testing.T) {
	for _, side := range []string{"prometheus", "alertmanager"} {
		all := load(t)
		s := all[side]
		s.policies = slices.DeleteFunc(s.policies, func(p networkingv1.NetworkPolicy) bool { return p.Name == side })
		all[side] = s
		if out, in := allowed(all, flow{"prometheus", "alertmanager", 9093}); out && in {
			t.Errorf("without %s's policy, its scrape by Prometheus still passes", side)
		}
	}
}

func policies(all map[string]stack) (p []networkingv1.NetworkPolicy) {
	for _, name := range names(all) {
		p = append(p, all[name].policies...)
	}
	return p
}

func allowed(all map[string]stack, f flow) (out, in bool) {
	from, to := all[f.from].workloads[0].pod.Labels, all[f.to].workloads[0].pod.Labels
	for _, p := range policies(all) {
		if selects(&p.Spec.PodSelector, from) {
			for _, r := range p.Spec.Egress {
				out = out || peers(r.To, to) && port(r.Ports, f.port)
			}
		}
		if selects(&p.Spec.PodSelector, to) {
			for _, r := range p.Spec.Ingress {
				in = in || peers(r.From, from) && port(r.Ports, f.port)
			}
		}
	}
	return out, in
}

// peers says whether a pod of this namespace is one of them. An empty list would be everybody: refused as a mistake.
func peers(list []networkingv1.NetworkPolicyPeer, labels map[string]string) bool {
	return slices.ContainsFunc(list, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.NamespaceSelector != nil && len(p.NamespaceSelector.MatchLabels)+len(p.NamespaceSelector.MatchExpressions) > 0 {
			return false // a named namespace, not this one
		}
		return p.IPBlock == nil && (p.PodSelector == nil || selects(p.PodSelector, labels))
	})
}

func port(list []networkingv1.NetworkPolicyPort, want int32) bool {
	return slices.ContainsFunc(list, func(p networkingv1.NetworkPolicyPort) bool { return p.Port != nil && p.Port.IntVal == want })
}

func selects(s *metav1.LabelSelector, labels map[string]string) bool {
	return matches(s.MatchLabels, labels) && len(s.MatchExpressions) == 0
}
