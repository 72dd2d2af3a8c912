package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAwaitText(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // the test has its result
	found := make(chan error, 1)
	go func() { found <- awaitText(t.Context(), path, "the end", 1) }()
	for _, text := range []string{"the beginning\n", "the e", "nd\n"} {
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-found; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitText(ctx, path, "nothing", 1); err == nil {
		t.Error("found what is not there")
	}
}

func TestProcessStart(t *testing.T) {
	started, err := processStart("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(started); age < 0 || age > time.Hour {
		t.Errorf("this process is %s old", age)
	}
}
