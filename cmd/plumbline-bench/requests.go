package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// The server counts requests by verb or by user, never by both: except that it
// counts those that a FlowSchema matched. So the user plumbline gets a FlowSchema
// for each verb. It costs nothing, unlike an audit log.
//
// To Kubernetes, a server-side apply is a patch too. How many of the patches
// are applies, and dry-runs, comes from apiserver_request_total, which knows no
// users: but nobody else on this control plane applies while the daemon is measured.
var verbs = []string{"get", "list", "watch", "create", "patch", "update", "delete"}

const (
	ourSchema    = "plumbline"        // cmd/plumbline-lab brings it: whatever has no schema below
	leasesSchema = "plumbline-leases" // the election, which goes on all the time: not counted
)

var flowSchemas = schema.GroupVersionResource{Group: "flowcontrol.apiserver.k8s.io", Version: "v1", Resource: "flowschemas"}

// countByVerb makes the FlowSchemas.
func countByVerb(ctx context.Context, client dynamic.Interface) error {
	for _, verb := range verbs {
		u := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": flowSchemas.GroupVersion().String(), "kind": "FlowSchema",
			"metadata": map[string]any{"name": schemaOf(verb)},
			"spec": map[string]any{
				"matchingPrecedence":         int64(450), // after the leases, before the rest
				"priorityLevelConfiguration": map[string]any{"name": "workload-high"},
				"rules": []any{map[string]any{
					"subjects": []any{map[string]any{"kind": "User", "user": map[string]any{"name": "plumbline"}}},
					"resourceRules": []any{map[string]any{"verbs": []any{verb}, "apiGroups": []any{"*"}, "resources": []any{"*"},
						"namespaces": []any{"*"}, "clusterScope": true}},
				}},
			},
		}}
		if _, err := client.Resource(flowSchemas).Create(ctx, u, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("make the FlowSchema of %s: %w", verb, err)
		}
	}
	return nil
}

func schemaOf(verb string) string { return ourSchema + "-" + verb }

// requests is how many requests there were, by unit.
type requests map[string]float64

const (
	unitRequests = "requests"
	unitApply    = "apply-req"
	unitDryRun   = "dryrun-req"
	unitPatch    = "patch-req"
	unitOther    = "other-req" // what is about no object: discovery
)

// total is all of the daemon's requests.
func (r requests) total() float64 { return r[unitRequests] }

// since is what was added, in units that say something.
func (r requests) since(before requests) requests {
	out := requests{}
	for unit, n := range r {
		out[unit] = n - before[unit]
	}
	// applies are patches to the one metric, and not to the other
	out[unitPatch] -= out[unitApply] + out[unitDryRun]
	return out
}

// values are in a fixed order, those that are 0 left out but for the total.
func (r requests) values() []value {
	out := []value{{unitRequests, r.total()}}
	for _, unit := range slices.Sorted(maps.Keys(r)) {
		if unit != unitRequests && r[unit] != 0 {
			out = append(out, value{unit, r[unit]})
		}
	}
	return out
}

// countRequests reads the server's metrics.
func countRequests(ctx context.Context, client rest.Interface) (requests, error) {
	text, err := readMetrics(ctx, client)
	return parseRequests(text), err
}

func readMetrics(ctx context.Context, client rest.Interface) ([]byte, error) {
	text, err := client.Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the server's metrics: %w", err)
	}
	return text, nil
}

// parseLeases counts the requests of the election.
func parseLeases(text []byte) (sum float64) {
	for line := range bytes.Lines(text) {
		metric, labels, n, ok := parseSample(string(line))
		if ok && metric == "apiserver_flowcontrol_dispatched_requests_total" && labels["flow_schema"] == leasesSchema {
			sum += n
		}
	}
	return sum
}

func parseRequests(text []byte) requests {
	out := requests{}
	for line := range bytes.Lines(text) {
		metric, labels, n, ok := parseSample(string(line))
		switch {
		case !ok:
		case metric == "apiserver_flowcontrol_dispatched_requests_total":
			out.dispatched(labels["flow_schema"], n)
		case metric == "apiserver_request_total" && labels["verb"] == "APPLY" && labels["dry_run"] != "":
			out[unitDryRun] += n
		case metric == "apiserver_request_total" && labels["verb"] == "APPLY":
			out[unitApply] += n
		}
	}
	return out
}

func (r requests) dispatched(flowSchema string, n float64) {
	verb, ours := strings.CutPrefix(flowSchema, ourSchema+"-")
	switch {
	case flowSchema == ourSchema:
		r[unitOther] += n
	case ours && slices.Contains(verbs, verb):
		r[verb+"-req"] += n
	default: // leases, and other users
		return
	}
	r[unitRequests] += n
}

// parseSample reads a line of the Prometheus text format, as the API server
// writes it: without timestamps, and no label here has a quote in its value.
func parseSample(line string) (metric string, labels map[string]string, n float64, ok bool) {
	series, number, ok := cutLast(strings.TrimSpace(line), " ")
	if !ok || strings.HasPrefix(line, "#") {
		return "", nil, 0, false
	}
	n, err := strconv.ParseFloat(number, 64)
	metric, rest, _ := strings.Cut(series, "{")
	labels = map[string]string{}
	for _, pair := range strings.Split(strings.TrimSuffix(rest, "}"), ",") {
		if key, quoted, ok := strings.Cut(pair, "="); ok {
			labels[key] = strings.Trim(quoted, `"`)
		}
	}
	return metric, labels, n, err == nil
}

// settle is longer than the daemon keeps passing states from the API server.
const settle = 2500 * time.Millisecond

// settled waits until the daemon has asked nothing for a moment, and returns what
// it asked until then: a result counts with all that follows from it.
func settled(ctx context.Context, client rest.Interface) (requests, error) {
	before, err := countRequests(ctx, client)
	for err == nil {
		if err = pause(ctx, settle); err != nil {
			break
		}
		var now requests
		if now, err = countRequests(ctx, client); err == nil && now.total() == before.total() {
			return now, nil
		}
		before = now
	}
	return nil, err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
