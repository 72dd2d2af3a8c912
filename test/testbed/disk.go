package testbed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

// SmallDisk gives what skerry keeps on a host a disk of its own, which outlives a
// power cut. The host must not run.
func (h *Host) SmallDisk(t testing.TB, size resources.Bytes) {
	t.Helper()
	data, before := filepath.Join(h.Dir, "data"), filepath.Join(h.Dir, "before")
	if err := errors.Join(os.Rename(data, before), os.Mkdir(data, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", data, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", size)); err != nil {
		t.Fatalf("mount a disk: %v", err)
	}
	if err := os.CopyFS(data, os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
}

func (h *Host) filler() string { return filepath.Join(h.Dir, "data", "filler") }

// FillDisk takes all that is left of the host's small disk.
func (h *Host) FillDisk(t testing.TB) {
	t.Helper()
	file, err := os.Create(h.filler())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // nobody reads it
	for err == nil {
		_, err = file.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// FreeDisk gives back what FillDisk took.
func (h *Host) FreeDisk(t testing.TB) {
	t.Helper()
	if err := os.Remove(h.filler()); err != nil {
		t.Fatal(err)
	}
}
