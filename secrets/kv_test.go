package secrets_test

import (
	"testing"
)

func TestKVVersion2(t *testing.T) {
	s := theServer(t)
	kv := s.kv2()
	s.do("POST", kv+"/data/team/web", document{"data": document{"password": "first-hunter2", "user": "grafana"}})
	b := s.client()
	if got := value(t, b, "${bao:"+kv+"/team/web#password}"); got != "first-hunter2" {
		t.Errorf("got %q", got)
	}
	s.do("POST", kv+"/data/team/web", document{"data": document{"password": "second-hunter2"}})
	if got := value(t, b, "${bao:"+kv+"/team/web#password}"); got != "second-hunter2" {
		t.Errorf("after a rotation: got %q", got)
	}
	if got := value(t, b, "${bao:"+kv+"/team/web#password?version=1}"); got != "first-hunter2" {
		t.Errorf("pinned: got %q", got)
	}
}
