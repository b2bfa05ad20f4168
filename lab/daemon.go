package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Record is one line of the daemon's log.
type Record map[string]any

// Text is a field of the record, "" where it has none.
func (r Record) Text(key string) string {
	s, _ := r[key].(string)
	return s
}

// Daemon is a running plumbline, as a process of its own.
type Daemon struct {
	process *process
	mu      sync.Mutex
	records []Record
	more    chan struct{} // closed and made anew with each record
}

// StartDaemon runs "plumbline run" with a configuration. Its log goes to log too,
// which has to be safe for concurrent use.
func StartDaemon(ctx context.Context, binary, config string, env []string, log io.Writer) (*Daemon, error) {
	p, out, err := start(ctx, binary, []string{"run", "-v", "-c", config}, env, orDiscard(log))
	if err != nil {
		return nil, err
	}
	d := &Daemon{process: p, more: make(chan struct{})}
	go d.read(io.TeeReader(out, orDiscard(log)))
	return d, nil
}

func (d *Daemon) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var r Record
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			r = Record{"msg": lines.Text()} // a panic, say
		}
		d.mu.Lock()
		d.records = append(d.records, r)
		close(d.more)
		d.more = make(chan struct{})
		d.mu.Unlock()
	}
}

// Records is the log so far.
func (d *Daemon) Records() []Record {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Record{}, d.records...)
}

// WaitFor waits for a record, from the one with this index on, and returns the
// index after it.
func (d *Daemon) WaitFor(ctx context.Context, from int, match func(Record) bool) (Record, int, error) {
	for {
		d.mu.Lock()
		records, more := d.records, d.more
		d.mu.Unlock()
		for ; from < len(records); from++ {
			if match(records[from]) {
				return records[from], from + 1, nil
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, from, context.Cause(ctx)
		}
	}
}

// Stop ends the daemon, and waits for it.
func (d *Daemon) Stop() error { return d.process.stop(30 * time.Second) }

// Kill ends it as kill -9 does.
func (d *Daemon) Kill() { d.process.kill() }

// PID is its process.
func (d *Daemon) PID() int { return d.process.cmd.Process.Pid }

// Ended is closed when the process has ended.
func (d *Daemon) Ended() <-chan struct{} { return d.process.done }
