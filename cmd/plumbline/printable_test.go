package main

import (
	"bytes"
	"testing"
)

func TestPrintable(t *testing.T) {
	var out bytes.Buffer
	n, err := printable{&out}.Write([]byte("a\x1b]0;title\a\tb\n\x9bé\r"))
	if err != nil || n != 18 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got := out.String(); got != "a\ufffd]0;title\ufffd\tb\n\ufffdé\ufffd" {
		t.Errorf("%q", got)
	}
}
