package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatALeaseNeeds(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	hour := func(n float64) time.Time { return began.Add(time.Duration(n * float64(time.Hour))) }
	renewable := lease{began: began, expires: hour(6), renewable: true}
	fixed := lease{began: began, expires: hour(6)}
	for name, test := range map[string]struct {
		lease       lease
		now         float64
		sessionEnds float64 // 0: never
		want        care
	}{
		"new":                        {renewable, 0, 0, careNone},
		"half gone":                  {renewable, 3, 0, careNone},
		"more than half":             {renewable, 3.1, 0, careRenew},
		"nearly over":                {renewable, 5.9, 0, careRenew},
		"over":                       {renewable, 6, 0, careLost},
		"fixed, half gone":           {fixed, 3.1, 0, careNone},
		"fixed, two thirds gone":     {fixed, 4.1, 0, careRead},
		"fixed, over":                {fixed, 6.1, 0, careLost},
		"session ends later":         {renewable, 3.1, 9, careNone},
		"session ends later, 2/3":    {renewable, 4.1, 9, careRead},
		"session ends before":        {renewable, 1.9, 3, careNone},
		"session ends before, 2/3":   {renewable, 2.1, 3, careRead},
		"session has ended":          {renewable, 3.1, 3, careLost},
		"session ended at beginning": {renewable, 0, 0.000001, careNone},
	} {
		t.Run(name, func(t *testing.T) {
			var ends time.Time
			if test.sessionEnds != 0 {
				ends = hour(test.sessionEnds)
			}
			if got := test.lease.needs(hour(test.now), ends); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

// A renewal that gives less than the session had means that its longest is near.
func TestSessionAtItsLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &session{token: "x", ttl: time.Hour, expires: time.Now().Add(time.Hour), renewable: true}
		time.Sleep(39 * time.Minute)
		if s.due(time.Now()) {
			t.Error("due with more than a third left")
		}
		time.Sleep(2 * time.Minute)
		if !s.due(time.Now()) {
			t.Error("not due with less than a third left")
		}
		s.extend(time.Now(), time.Hour, true)
		if s.due(time.Now()) || !s.canRenew() || !s.lasting().IsZero() {
			t.Error("after a whole renewal, the end is in sight")
		}
		s.extend(time.Now(), 25*time.Minute, true)
		if s.canRenew() || !s.lasting().Equal(time.Now().Add(25*time.Minute)) {
			t.Error("after a short renewal, the end is not in sight")
		}
		time.Sleep(6 * time.Minute)
		if !s.due(time.Now()) {
			t.Error("not due with less than a third of the whole left")
		}
		s.wait(time.Now().Add(patience))
		if s.due(time.Now()) {
			t.Error("due while it is waited")
		}
		time.Sleep(patience)
		if !s.due(time.Now()) {
			t.Error("never due again")
		}
		time.Sleep(20 * time.Minute)
		if s.alive(time.Now()) {
			t.Error("alive after its end")
		}
	})
}

func TestMountsAreBelievedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBao(BaoConfig{Address: "http://bao.lan", Auth: BaoAuthConfig{TokenFile: "/x"}})
		if err != nil {
			t.Fatal(err)
		}
		b.mounts["team/kv/"] = mount{path: "team/kv/", kind: "kv", kv: 2, asked: time.Now()}
		for path, want := range map[string]bool{"team/kv/web": true, "team/kv/a/b": true, "team/kv": true, "team/kv2/web": false, "team/web": false, "other/team/kv/web": false} {
			if _, got := b.knownMount(path); got != want {
				t.Errorf("%s: %v", path, got)
			}
		}
		time.Sleep(mountsHold)
		if _, ok := b.knownMount("team/kv/web"); ok {
			t.Error("believed for ever")
		}
	})
}

func TestKeptIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := NewBao(BaoConfig{Address: "http://bao.lan", Auth: BaoAuthConfig{TokenFile: "/x"}})
		if err != nil {
			t.Fatal(err)
		}
		keep := func(i int) {
			values := map[string]json.RawMessage{"key": json.RawMessage(`"hunter2"`)}
			if _, err := b.keep(fmt.Sprint(i), values, "", nil); err != nil {
				t.Fatal(err)
			}
			if string(values["key"]) != "\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
				t.Fatalf("what was sealed is still there: %q", values["key"])
			}
			time.Sleep(time.Second)
		}
		for i := range mostKept {
			keep(i)
		}
		b.find("0")
		keep(mostKept)
		if len(b.kept) != mostKept || b.kept["1"] != nil || b.kept["0"] == nil {
			t.Errorf("%d are kept, and not those that were used last", len(b.kept))
		}
		k := b.find("0")
		k.id = "2" // sealed for one name, opened under another
		if _, err := b.open(k); err == nil {
			t.Error("what is kept can be mistaken for something else")
		}
	})
}

func TestUnavailable(t *testing.T) {
	away := &baoAway{call{path: "x"}, errors.New("boom")}
	denied := &refusal{call{path: "x"}, 403, ""}
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"nil":            {nil, false},
		"away":           {away, true},
		"wrapped":        {&ReferenceError{Err: &loginError{away}}, true},
		"denied":         {&ReferenceError{Err: denied}, false},
		"login denied":   {&loginError{denied}, false},
		"one of several": {errors.Join(denied, away), true},
	} {
		if got := Unavailable(test.err); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if refusedAs(&loginError{denied}, 403) {
		t.Error("a login that is denied is taken for a path that is")
	}
}
