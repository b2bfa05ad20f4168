package secrets

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, fails := 0, true
		source := Remembered(KeySource{Name: "a", Read: func(context.Context) ([]byte, error) {
			if reads++; fails {
				return nil, errors.New("boom")
			}
			return []byte("key"), nil
		}}, time.Minute)
		if _, err := source.Read(t.Context()); err == nil {
			t.Error("an error is lost")
		}
		fails = false
		for range 3 {
			got, err := source.Read(t.Context())
			if err != nil || string(got) != "key" || source.Name != "a" {
				t.Errorf("got %q, %v", got, err)
			}
			clear(got) // as whoever parses it does
		}
		if reads != 2 {
			t.Errorf("read %d times: an error isn't remembered, a key is", reads)
		}
		time.Sleep(time.Minute)
		if _, err := source.Read(t.Context()); err != nil || reads != 3 {
			t.Errorf("a key that rotated is not read again: %d, %v", reads, err)
		}
	})
}
