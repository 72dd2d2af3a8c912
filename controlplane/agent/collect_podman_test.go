package agent

import (
	"io"
	"log"
	"log/slog"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
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
	var all []v1.Image
	for v := range 12 {
		image, err := images.Web(strconv.Itoa(v), "amd64")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, image)
	}
	archive := images.ArchiveVersion(t, "loaded")
	smallDisk(t, 64*resources.MiB)
	service := podmantest.StartService(t)
	server := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	server.Listener = service.Listen(t, "127.0.0.1:5055")
	server.Start()
	t.Cleanup(server.Close)
	podman := podmanruntime.New(service.Socket)
	pull := func(version int) resources.Replica {
		tag, err := name.NewTag("127.0.0.1:5055/web:"+strconv.Itoa(version), name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, all[version], remote.WithTransport(service.Client().Transport)); err != nil {
			t.Fatal(err)
		}
		r := withImage(replica(resources.RestartAlways), tag.String())
		if version%2 == 1 { // some by their digest
			digest, err := all[version].Digest()
			if err != nil {
				t.Fatal(err)
			}
			r.ImageDigest = digest.String()
		}
		if err := podman.Pull(t.Context(), r.Template.Image, r.ImageDigest, resources.PullMissing); err != nil {
			t.Fatal(err)
		}
		return r
	}
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

	// The first has a container, a replica needs the second, and one was loaded by hand.
	used := pull(0)
	used.Template.Resources.Memory = 64 * resources.MiB
	if _, err := podman.Create(t.Context(), used); err != nil {
		t.Fatal(err)
	}
	needed := pull(1)
	l.take(resources.Assignment{Replicas: []resources.Replica{needed}}, time.Now())
	loaded := withImage(replica(resources.RestartAlways), service.Load(t, archive))
	var unneeded []resources.Replica
	for i := 2; i < len(all) && !full(t, root); i++ {
		unneeded = append(unneeded, pull(i))
	}
	if !full(t, root) {
		t.Fatalf("%d images don't fill the disk", len(all))
	}
	has := func(r resources.Replica) bool {
		id, err := podman.ImageID(t.Context(), r.Template.Image, r.ImageDigest)
		if err != nil {
			t.Fatal(err)
		}
		return id != ""
	}

	now := time.Now()
	if err := k.look(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	for _, r := range unneeded {
		if !has(r) {
			t.Errorf("%s was removed at once", r.Template.Image)
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
	for _, r := range []resources.Replica{used, needed, loaded} {
		if !has(r) {
			t.Errorf("%s was removed", r.Template.Image)
		}
	}
	stay := 0
	for _, r := range unneeded {
		if has(r) {
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
