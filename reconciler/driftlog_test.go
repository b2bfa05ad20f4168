package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-dev/plumbline/reconciler/apply"
)

func TestDriftLog(t *testing.T) {
	id := func(i int) apply.ID { return apply.ID{Kind: "ConfigMap", Namespace: "o11y", Name: fmt.Sprint("c", i)} }
	start := time.Unix(1_000_000, 0)
	drift := func(i int, stack string) Drift {
		var fields []apply.FieldChange
		for range fieldsOfDrift {
			fields = append(fields, apply.FieldChange{Path: strings.Repeat("p", 100), Have: strings.Repeat("h", 256), Want: strings.Repeat("w", 256)})
		}
		return Drift{Stack: stack, Fields: fields, Detected: start.Add(time.Duration(i) * time.Second)}
	}
	t.Run("open, then past, the newest first", func(t *testing.T) {
		var log driftLog
		for i := range 3 {
			log.put(id(i), drift(i, "a"))
		}
		log.put(id(9), drift(9, "b"))
		log.find("a", id(1)).Corrected = start
		log.close("a", id(1))
		log.close("a", id(7))
		got := log.list("a")
		if len(got) != 3 || !got[0].Detected.After(got[2].Detected) || got[1].Open() || len(log.list("")) != 4 {
			t.Errorf("%d records: %v", len(got), got)
		}
		if kinds := log.kinds("a"); kinds["ConfigMap"] != 2 {
			t.Errorf("open: %v", kinds)
		}
		log.forget("a")
		if len(log.of("a")) != 0 || log.openBytes != drift(9, "b").size() {
			t.Errorf("%d bytes are left", log.openBytes)
		}
	})
	t.Run("bounded", func(t *testing.T) {
		log := &driftLog{}
		for i := range 5000 {
			log.put(id(i), drift(i, "a"))
		}
		if len(log.open) != 5000 || log.openBytes > driftBytes {
			t.Errorf("%d are open, with %d bytes", len(log.open), log.openBytes)
		}
		for i := range 5000 {
			log.close("a", id(i))
		}
		if log.openBytes != 0 || log.pastBytes > driftBytes || len(log.past) > driftsKept {
			t.Errorf("%d are past, with %d bytes; open %d bytes", len(log.past), log.pastBytes, log.openBytes)
		}
	})
	t.Run("once more", func(t *testing.T) {
		var log driftLog
		log.put(id(1), drift(1, "a"))
		log.put(id(1), drift(2, "a"))
		if log.openBytes != drift(1, "a").size() {
			t.Errorf("%d bytes for one", log.openBytes)
		}
	})
}
