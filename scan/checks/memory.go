package checks

import (
	"context"
	"fmt"
	"runtime/metrics"
	"sync"
	"time"
)

// memoryBudget is how much the process may grow while a repository's check looks at one
// object. Nothing tells whose memory it is: others grow, too, so it is generous.
var memoryBudget uint64 = 256 << 20

// lookAfter is how often that is looked at. Most evaluations are done before.
const lookAfter = 10 * time.Millisecond

// withinMemory ends the context, with ErrMemory, when the process has grown by more than
// that. stop ends the looking.
func withinMemory(ctx context.Context, most uint64) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	before := heapBytes()
	var mu sync.Mutex
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(lookAfter, func() {
		if heapBytes() > before+most {
			cancel(fmt.Errorf("%w: more than %d MiB on one object", ErrMemory, most>>20))
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil {
			timer.Reset(lookAfter)
		}
	})
	return ctx, func() {
		cancel(nil)
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
	}
}

// heapBytes is the memory of objects, of which some may be garbage.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
