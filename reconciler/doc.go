// Package reconciler decides when, and in which order, what happens to a commit.
//
// A commit of a Source becomes a Snapshot; its stacks are rendered where an
// input of theirs changed, planned against the cluster, applied, and watched
// until they are Ready. pipeline.go is that road, loop.go is what sets a stack
// in motion.
//
// Invariants:
//
//   - One run per stack at a time; the newest inputs win.
//   - No worker ever waits for health, for a dependency, or for a retry: those
//     are events that put the stack back into the queue.
//   - All stacks of a commit are rendered before the first is planned, so that
//     an object which moves between stacks is known to have moved.
//   - Nothing is pruned because something could not be read.
//   - What is durable is in Git or in the cluster.
package reconciler
