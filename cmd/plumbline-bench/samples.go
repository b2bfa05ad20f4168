package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline-dev/plumbline/lab"
)

// sample is one object that somebody changed, and what came of it.
type sample struct {
	kind, name     string
	was            any       // what the field was
	sent, answered time.Time // of the request that changed it
	detected       time.Time // as the daemon's log tells; zero: it doesn't
	changed        bool      // our own watch has shown it changed
	corrected      time.Time // when our own watch showed it as it was
}

// drift is a log record of the daemon, as far as it matters here.
type drift struct {
	kind, namespace, name string
	seen, detected        time.Time
}

// driftsIn reads the records of drift in a log.
func driftsIn(records []lab.Record) ([]drift, error) {
	var out []drift
	for _, r := range records {
		if r.Text("msg") != "drift" {
			continue
		}
		kind, _, _ := strings.Cut(r.Text("kind"), ".") // Deployment.apps
		d := drift{kind: kind, namespace: r.Text("namespace"), name: r.Text("name")}
		var err1, err2 error
		d.seen, err1 = time.Parse(time.RFC3339Nano, r.Text("seen"))
		d.detected, err2 = time.Parse(time.RFC3339Nano, r.Text("detected"))
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("a record of drift says neither when it was seen nor when detected: %v", r)
		}
		out = append(out, d)
	}
	return out, nil
}

// matched is how samples and records fit together.
type matched struct {
	untold      int // samples of which the log says nothing
	unexplained int // records of drift that nobody made
	early       int // records that say they were seen before the change was made
}

func (m matched) values() (out []value) {
	for _, v := range []value{{"untold", float64(m.untold)}, {"unexplained", float64(m.unexplained)}, {"seen-early", float64(m.early)}} {
		if v.number > 0 {
			out = append(out, v)
		}
	}
	return out
}

// match gives each sample the record of its drift. An object may have been changed
// several times: a record is of the last of them before it was detected.
func match(samples []*sample, drifts []drift) (m matched) {
	of := map[string][]*sample{}
	for _, s := range samples {
		s.detected = time.Time{}
		of[s.kind+"/"+s.name] = append(of[s.kind+"/"+s.name], s)
	}
	for _, d := range drifts {
		var last *sample
		for _, s := range of[d.kind+"/"+d.name] {
			if d.namespace == namespace && !s.sent.After(d.detected) && (last == nil || s.sent.After(last.sent)) {
				last = s
			}
		}
		switch {
		case last == nil || !last.detected.IsZero():
			m.unexplained++
			continue
		case d.seen.Before(last.sent):
			m.early++
		}
		last.detected = d.detected
	}
	for _, s := range samples {
		if s.detected.IsZero() {
			m.untold++
		}
	}
	return m
}

// percentile is the smallest of the durations that so many percent are no longer
// than (nearest rank). It sorts them.
func percentile(all []time.Duration, percent float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	rank := int(math.Ceil(percent / 100 * float64(len(all))))
	return all[max(rank, 1)-1]
}

// latencies are percentiles of what the samples took. The clock starts when the
// change was answered; patch-* is how long that took, and so how much later
// that is than the change at most.
func latencies(samples []*sample) []value {
	var detect, correct, patch []time.Duration
	for _, s := range samples {
		if !s.detected.IsZero() {
			detect = append(detect, s.detected.Sub(s.answered))
		}
		correct = append(correct, s.corrected.Sub(s.answered))
		patch = append(patch, s.answered.Sub(s.sent))
	}
	var out []value
	for _, of := range []struct {
		name string
		all  []time.Duration
	}{{"detect", detect}, {"correct", correct}, {"patch", patch}} {
		for _, p := range []float64{50, 99, 100} {
			unit := "p" + strconv.FormatFloat(p, 'f', -1, 64)
			if p == 100 {
				unit = "max"
			}
			out = append(out, value{of.name + "-" + unit + "-ms", percentile(of.all, p).Seconds() * 1000})
		}
	}
	return append(out, value{"samples", float64(len(samples))})
}
