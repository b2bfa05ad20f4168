//go:build linux

package stacks_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The real programs with the shipped arguments and configurations, on loopback addresses in place of Services: what is
// sent to the collector is found in the stores, what is scraped answers, and alerts arrive.
func TestThePipelineWorks(t *testing.T) {
	all := load(t)
	hosts := map[string]string{}
	for i, name := range names(all) {
		hosts[name] = loopback(1 + i)
	}
	fast := func(_, text string) string {
		return regexp.MustCompile(`(_interval:) 30s`).ReplaceAllString(text, "$1 1s")
	}
	for _, name := range []string{"prometheus", "victoria-logs", "alertmanager", "otel-collector"} {
		program := build(t, name)
		start(t, deploy(t, all[name], hosts, fast), program)
	}
	prometheus := "http://" + hosts["prometheus"] + ":9090"

	t.Run("a log arrives in VictoriaLogs, in the stream of its service and cluster", func(t *testing.T) {
		send(t, hosts["otel-collector"], "logs", aLog)
		query := url.Values{"query": {`"hello from the test"`}}
		eventually(t, "the log is found", func() error {
			got, err := get("http://" + hosts["victoria-logs"] + ":9428/select/logsql/query?" + query.Encode())
			if err == nil && !strings.Contains(got, `"_stream":"{k8s.cluster.name=\"home\",service.name=\"flow-test\"}"`) {
				err = fmt.Errorf("found %q", got)
			}
			return err
		})
	})
	t.Run("a metric arrives in Prometheus, with its service and cluster", func(t *testing.T) {
		send(t, hosts["otel-collector"], "metrics", aMetric)
		eventually(t, "the metric is found", func() error {
			return wants(prometheus, `{"flow_test", service_name="flow-test", k8s_cluster_name="home"} == 42`, 1)
		})
	})
	t.Run("Prometheus scrapes every stack", func(t *testing.T) {
		eventually(t, "four targets are up; Grafana does not run here", func() error {
			if err := wants(prometheus, `up{job!="grafana"} == 1`, 4); err != nil {
				return err
			}
			return wants(prometheus, `up{job="grafana"} == 0`, 1)
		})
	})
	t.Run("an alert arrives in Alertmanager", func(t *testing.T) {
		eventually(t, "Watchdog is there, with the cluster's name", func() error {
			got, err := get("http://" + hosts["alertmanager"] + ":9093/api/v2/alerts")
			if err == nil && (!strings.Contains(got, `"Watchdog"`) || !strings.Contains(got, `"cluster":"home"`)) {
				err = fmt.Errorf("alerts are %s", got)
			}
			return err
		})
	})
	t.Run("alerts and dashboards ask for metrics that exist", func(t *testing.T) {
		eventually(t, "every metric is exported", func() error {
			have, err := metrics(prometheus)
			missing := slices.DeleteFunc(asked(all), func(name string) bool { return onlyAfterTrouble[name] || slices.Contains(have, name) })
			if err == nil && len(missing) > 0 {
				err = fmt.Errorf("nobody exports %q", missing)
			}
			return err
		})
	})
}

// The collector exports these from the first failure on: see TestTheCollectorCountsWhatItLoses.
var onlyAfterTrouble = map[string]bool{
	"otelcol_exporter_send_failed_log_records":      true,
	"otelcol_exporter_send_failed_metric_points":    true,
	"otelcol_exporter_enqueue_failed_log_records":   true,
	"otelcol_exporter_enqueue_failed_metric_points": true,
}

// With stores that fail once and then hang, and with hardly any patience or queue, what comes in is lost: it is counted
// by the names that the alerts know.
func TestTheCollectorCountsWhatItLoses(t *testing.T) {
	ip := loopback(1)
	hosts := map[string]string{"otel-collector": ip, "victoria-logs": ip, "prometheus": ip}
	done := make(chan struct{})
	for _, port := range []string{"9428", "9090"} {
		failThenHang(t, ip+":"+port, done)
	}
	impatient := strings.NewReplacer("max_elapsed_time: 10m", "enabled: false", "queue_size: 500", "queue_size: 1", "timeout: 2s", "timeout: 10ms").Replace
	start(t, deploy(t, load(t)["otel-collector"], hosts, func(_, text string) string { return impatient(text) }), build(t, "otel-collector"))
	t.Cleanup(func() { close(done) }) // before the collector is asked to stop, for it waits for its answers
	eventually(t, "every loss is counted", func() error {
		send(t, ip, "logs", aLog)
		send(t, ip, "metrics", aMetric)
		have, err := get("http://" + ip + ":8888/metrics")
		for name := range onlyAfterTrouble {
			if err == nil && !strings.Contains(have, "\n"+name+"{") {
				err = fmt.Errorf("there is no %s", name)
			}
		}
		return err
	})
}

func failThenHang(t *testing.T, address string, done chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) > 1 {
			<-done
		}
		http.Error(w, "no", http.StatusBadRequest)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

// loopback gives an address that no other test has at this moment. Linux answers on all of 127.0.0.0/8.
func loopback(last int) string {
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), last)
}

const (
	aLog    = `{"resourceLogs":[{"resource":%s,"scopeLogs":[{"logRecords":[{"timeUnixNano":"%d","body":{"stringValue":"hello from the test"}}]}]}]}`
	aMetric = `{"resourceMetrics":[{"resource":%s,"scopeMetrics":[{"metrics":[{"name":"flow.test","gauge":{"dataPoints":[{"timeUnixNano":"%d","asDouble":42}]}}]}]}]}`
)

// asked lists the metrics of the shipped programs that rules and dashboards name.
func asked(all map[string]stack) []string {
	text := all["prometheus"].configuration() + all["grafana"].configuration()
	found := regexp.MustCompile(`\b(vl|prometheus|alertmanager|otelcol)_[a-z0-9_]+`).FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func metrics(prometheus string) ([]string, error) {
	text, err := get(prometheus + "/api/v1/label/__name__/values")
	if err != nil {
		return nil, err
	}
	var got struct{ Data []string }
	err = json.Unmarshal([]byte(text), &got)
	return got.Data, err
}

// wants asks for so many series.
func wants(prometheus, query string, n int) error {
	text, err := get(prometheus + "/api/v1/query?" + url.Values{"query": {query}}.Encode())
	if err != nil {
		return err
	}
	var got struct{ Data struct{ Result []any } }
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return err
	}
	if len(got.Data.Result) != n {
		return fmt.Errorf("%s gives %v, want %d", query, got.Data.Result, n)
	}
	return nil
}

func send(t *testing.T, host, signal, format string) {
	t.Helper()
	resource := `{"attributes":[{"key":"service.name","value":{"stringValue":"flow-test"}}]}`
	body := fmt.Sprintf(format, resource, time.Now().UnixNano())
	res, err := client.Post("http://"+host+":4318/v1/"+signal, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := answer(res); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("send %s: %v %s", signal, err, got)
	}
}
