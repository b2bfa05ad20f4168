package reconciler

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressIn spaces passing states out, and starts again when there was a lull.
func TestProgressIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Loop
		for i := range 10 {
			if got, want := l.progressIn(), progressDelay+time.Duration(i)*progressEvery; got != want {
				t.Errorf("passing state %d: in %s, want %s", i, got, want)
			}
		}
		time.Sleep(time.Minute)
		if got := l.progressIn(); got != progressDelay {
			t.Errorf("after a lull: in %s, want %s", got, progressDelay)
		}
	})
}
