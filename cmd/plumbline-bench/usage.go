package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what a process takes. Memory is in bytes, and its peak.
type usage struct {
	anon, rss int64
	cpu       time.Duration
}

const sampleEvery = 50 * time.Millisecond

// ticks is USER_HZ, in which Linux counts CPU time for everyone.
const ticks = time.Second / 100

// watcher samples a process until it is stopped.
type watcher struct {
	pid  int
	end  chan struct{}
	done chan struct{}

	mu   sync.Mutex
	peak usage
	from time.Duration
}

// watchProcess starts to sample: RssAnon has no high-water mark in /proc.
func watchProcess(pid int) *watcher {
	w := &watcher{pid: pid, end: make(chan struct{}), done: make(chan struct{})}
	w.from, _ = cpuOf(pid)
	w.sample()
	go func() {
		defer close(w.done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-w.end:
				return
			case <-tick.C:
				w.sample()
			}
		}
	}()
	return w
}

func (w *watcher) sample() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid))
	if err != nil {
		return // it has ended
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peak.anon = max(w.peak.anon, statusBytes(status, "RssAnon"))
	w.peak.rss = max(w.peak.rss, statusBytes(status, "VmRSS"))
}

// stop ends the sampling, and returns the peaks and the CPU time since its start.
func (w *watcher) stop() (usage, error) {
	w.sample()
	close(w.end)
	<-w.done
	now, err := cpuOf(w.pid)
	w.peak.cpu = now - w.from
	return w.peak, err
}

// statusBytes reads a size from /proc/PID/status; 0 where there is none.
func statusBytes(status []byte, key string) int64 {
	for line := range bytes.Lines(status) {
		if rest, ok := strings.CutPrefix(string(line), key+":"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// cpuOf is the CPU time of a process: utime and stime of /proc/PID/stat.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return statCPU(string(stat))
}

var errStat = errors.New("/proc/PID/stat: not in the form of proc(5)")

func statCPU(stat string) (time.Duration, error) {
	_, rest, ok := cutLast(stat, ") ") // the name before may hold anything
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errStat
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, errStat
	}
	return time.Duration(user+system) * ticks, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
