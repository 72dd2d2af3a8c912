package main

import (
	"os"
	"strings"
	"testing"
)

// resident is what the process has resident of files, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssFile:")
	for _, c := range strings.Fields(rest)[0] {
		kib = 10*kib + int(c-'0')
	}
	return kib
}

// The pages go, and the program goes on.
func TestForgetPages(t *testing.T) {
	before := resident(t)
	if err := forgetPages(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); after > before-1024 {
		t.Errorf("%d KiB of files are resident, of %d before", after, before)
	}
}
