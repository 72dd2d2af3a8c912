package agent

import (
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/podmanruntime"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/podmantest"
)

// A real Podman on a disk of its own, which images fill.
func TestImagesAreCollectedFromPodman(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Podman and root; left out by -short")
	}
	var archives []string
	for v := range 12 {
		archives = append(archives, images.ArchiveVersion(t, strconv.Itoa(v)))
	}
	smallDisk(t, 64*resources.MiB)
	service := podmantest.StartService(t)
	podman := podmanruntime.New(service.Socket)
	root, err := podman.StorageRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(nil, slog.New(slog.DiscardHandler))
	var said string
	k := &keeper{
		storage: podman, loop: l, log: slog.New(slog.DiscardHandler), data: root, disk: diskOf,
		say: func(shortage string) { said = shortage },
	}

	// The first has a container, and a replica needs the second.
	used := withImage(replica(resources.RestartAlways), service.Load(t, archives[0]))
	used.Template.Resources.Memory = 64 * resources.MiB
	if _, err := podman.Create(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	needed := withImage(replica(resources.RestartAlways), service.Load(t, archives[1]))
	l.take([]resources.Replica{needed})
	var unneeded []string
	for i := 2; i < len(archives) && !full(t, root); i++ {
		unneeded = append(unneeded, service.Load(t, archives[i]))
	}
	if !full(t, root) {
		d, _ := diskOf(root)
		t.Fatalf("%d images don't fill the disk: %d of %d is free", len(archives), d.free, d.size)
	}
	has := func(reference string) bool {
		id, err := podman.ImageID(t.Context(), reference, "")
		if err != nil {
			t.Fatal(err)
		}
		return id != ""
	}

	now := time.Now()
	if err := k.look(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, reference := range unneeded {
		if !has(reference) {
			t.Errorf("%s was removed at once", reference)
		}
	}
	if said == "" {
		t.Error("the node does not say that its disk is full")
	}
	if err := k.look(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	d, err := diskOf(root)
	if err != nil {
		t.Fatal(err)
	}
	if d.free < d.part(goalFree) || said != "" {
		t.Errorf("%s of %s is free, and the node says %q", d.free, d.size, said)
	}
	for _, reference := range []string{used.Template.Image, needed.Template.Image} {
		if !has(reference) {
			t.Errorf("%s was removed", reference)
		}
	}
	stay := 0
	for _, reference := range unneeded {
		if has(reference) {
			stay++
		}
	}
	if stay == 0 {
		t.Error("more was removed than it takes")
	}
}

func full(t *testing.T, path string) bool {
	t.Helper()
	d, err := diskOf(path)
	if err != nil {
		t.Fatal(err)
	}
	return d.full()
}

// smallDisk puts temporary directories on a disk of that size until the test ends.
func smallDisk(t *testing.T, size resources.Bytes) {
	t.Helper()
	dir, err := os.MkdirTemp("", "disk") //nolint:usetesting // the name of t.TempDir is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.FormatInt(int64(size), 10)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", dir)
}
