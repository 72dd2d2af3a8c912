package firstboot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNothingIsMountedBelowWhatIsRemoved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts; needs root")
	}
	dir, other := t.TempDir(), t.TempDir()
	outer := filepath.Join(dir, "a")
	for _, made := range []string{outer, filepath.Join(other, "b")} {
		if err := os.Mkdir(made, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{outer, filepath.Join(outer, "b")} {
		if err := unix.Mount(other, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := unmountBelow(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(outer, "b")); err == nil {
		t.Error("it is mounted still")
	}
	if err := unmountBelow(dir); err != nil {
		t.Errorf("where nothing is mounted: %v", err)
	}
}
