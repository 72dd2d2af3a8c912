package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// tb is a testing.TB outside of a test, for packages that are written for
// tests. It has what those use; the rest panics.
type tb struct {
	testing.TB
	ctx context.Context //nolint:containedctx // it is that of testing.TB

	mu       sync.Mutex // guards all below
	failures []error
	cleanups []func()
}

// withTB runs f, in a goroutine that it may end, and then its cleanups. It
// returns what f found wrong.
func withTB(ctx context.Context, f func(t *tb)) error {
	ctx, cancel := context.WithCancel(ctx)
	t := &tb{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.cleanUp()
		defer cancel() // as in a test, the context ends before the cleanups
		f(t)
	}()
	<-done
	return errors.Join(t.failures...)
}

func (t *tb) cleanUp() {
	for _, cleanup := range slices.Backward(t.cleanups) {
		cleanup()
	}
}

func (t *tb) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, err)
}

// must ends the measurement where a step of it failed.
func (t *tb) must(step string, err error) {
	if err != nil {
		t.fail(fmt.Errorf("%s: %w", step, err))
		runtime.Goexit()
	}
}

func (t *tb) Helper()                    {}
func (t *tb) Context() context.Context   { return t.ctx }
func (t *tb) Error(args ...any)          { t.fail(errors.New(fmt.Sprint(args...))) }
func (t *tb) Errorf(f string, a ...any)  { t.fail(fmt.Errorf(f, a...)) }
func (t *tb) Fatal(args ...any)          { t.Error(args...); runtime.Goexit() }
func (t *tb) Fatalf(f string, a ...any)  { t.Errorf(f, a...); runtime.Goexit() }
func (t *tb) Logf(f string, args ...any) { fmt.Fprintf(os.Stderr, f+"\n", args...) }

func (t *tb) Log(args ...any) { fmt.Fprintln(os.Stderr, args...) }

func (t *tb) TempDir() string {
	dir, err := os.MkdirTemp("", "bench-")
	t.must("make a directory", err)
	t.Cleanup(func() { os.RemoveAll(dir) }) //nolint:errcheck // a directory in the temporary directory
	return dir
}

func (t *tb) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) > 0
}

func (t *tb) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cleanups = append(t.cleanups, f)
}
