package imagefs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// fill writes into a new file until there is no more room, and gives how much
// there was.
func fill(t *testing.T, path string) resources.Bytes {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // it is about the writes
	chunk, written := make([]byte, resources.MiB), resources.Bytes(0)
	for {
		n, err := file.Write(chunk)
		written += resources.Bytes(n)
		if errors.Is(err, unix.ENOSPC) {
			return written
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFileSystemHasItsSizeAndNoMore(t *testing.T) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("mounts; needs root, and is left out by -short")
	}
	mountForOneself(t)
	dir := t.TempDir()
	file, at := filepath.Join(dir, "disk"), filepath.Join(dir, "mounted")
	t.Cleanup(func() {
		if err := Unmount(at); err != nil {
			t.Error(err)
		}
	})
	mount := func(size resources.Bytes) {
		t.Helper()
		if err := Mount(file, at, size); err != nil {
			t.Fatal(err)
		}
	}
	mount(16 * resources.MiB)
	if entries, err := os.ReadDir(at); err != nil || len(entries) > 0 {
		t.Errorf("a new one has %v: %v", entries, err)
	}
	if n := fill(t, filepath.Join(at, "a")); n < 10*resources.MiB || n > 16*resources.MiB {
		t.Errorf("it takes %s", n)
	}
	mount(64 * resources.MiB) // while it is mounted, and full
	if n := fill(t, filepath.Join(at, "b")); n < 40*resources.MiB || n > 48*resources.MiB {
		t.Errorf("grown, it takes %s more", n)
	}
	var disk unix.Stat_t
	if err := unix.Stat(file, &disk); err != nil || disk.Blocks*512 < int64(64*resources.MiB) {
		t.Errorf("it has %d bytes of its disk: %v", disk.Blocks*512, err)
	}
	mount(16 * resources.MiB) // it never shrinks
	elsewhere := t.TempDir()
	if err := unix.Mount(at, elsewhere, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	// It grows where the kernel lets it, or is as it was.
	if err := Mount(file, at, 80*resources.MiB); err != nil {
		if _, is := errors.AsType[*NotGrownError](err); !is {
			t.Error(err)
		}
		if mounted, err := Mounted(at); err != nil || !mounted {
			t.Errorf("what is in use is not mounted any more: %v", err)
		}
	}
	if err := unix.Unmount(elsewhere, 0); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(at); err != nil {
		t.Fatal(err)
	}
	mount(96 * resources.MiB) // while it is not
	if n := fill(t, filepath.Join(at, "c")); n < 24*resources.MiB {
		t.Errorf("grown again, it takes %s more", n)
	}
	if info, err := os.Stat(filepath.Join(at, "a")); err != nil || info.Size() < int64(10*resources.MiB) {
		t.Errorf("what was in it: %v %v", info, err)
	}
	err := Mount(file, at, resources.Bytes(1)<<50)
	if err == nil || !strings.Contains(err.Error(), "size is 1PiB, for which the node's disk has to have") {
		t.Errorf("more than the disk has: %v", err)
	}
}

// mountForOneself gives the test's thread mounts of its own: a container that
// another test starts at this moment would have a copy of these, and so use them.
func mountForOneself(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
}
