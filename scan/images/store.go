package images

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// store keeps by digest what doesn't change. What can't be kept is found out again.
type store struct{ dir string }

// unusedFor is for how long something is kept that nobody asked for.
const unusedFor = 30 * 24 * time.Hour

func (s store) file(kind, name string) string {
	return filepath.Join(s.dir, kind, name+".json")
}

// place is a directory for what is on disk for a moment; "": the system's.
func (s store) place() string {
	if s.dir == "" || os.MkdirAll(s.dir, 0o700) != nil {
		return ""
	}
	return s.dir
}

func (s store) load(kind, name string, into any) bool {
	if s.dir == "" {
		return false
	}
	data, err := os.ReadFile(s.file(kind, name))
	if err != nil || json.Unmarshal(data, into) != nil {
		return false
	}
	now := time.Now()
	_ = os.Chtimes(s.file(kind, name), now, now)
	return true
}

func (s store) save(kind, name string, value any) {
	if s.dir == "" {
		return
	}
	data, err := json.Marshal(value)
	if err != nil || os.MkdirAll(filepath.Join(s.dir, kind), 0o700) != nil {
		return
	}
	s.tidy(kind)
	temporary, err := os.CreateTemp(filepath.Join(s.dir, kind), ".new-*")
	if err != nil {
		return
	}
	_, err = temporary.Write(data)
	if closed := temporary.Close(); err == nil && closed == nil {
		err = os.Rename(temporary.Name(), s.file(kind, name))
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
}

// tidy removes what nobody asked for since long.
func (s store) tidy(kind string) {
	files, err := os.ReadDir(filepath.Join(s.dir, kind))
	if err != nil {
		return
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && time.Since(info.ModTime()) > unusedFor {
			_ = os.Remove(filepath.Join(s.dir, kind, f.Name()))
		}
	}
}
