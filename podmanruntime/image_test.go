package podmanruntime

import (
	"slices"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
)

func (n node) local(t *testing.T, id string) (resources.LocalImage, bool) {
	t.Helper()
	all, err := n.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i resources.LocalImage) bool { return i.ID == id })
	if i < 0 {
		return resources.LocalImage{}, false
	}
	return all[i], true
}

func testImages(t *testing.T, n node) {
	reference := n.service.Load(t, images.ArchiveVersion(t, "9"))
	if out, err := n.service.Podman(t.Context(), "tag", reference, "localhost/other:1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	id, err := n.ImageID(t.Context(), reference, "")
	if err != nil || id == "" {
		t.Fatalf("the image's ID is %q, %v", id, err)
	}
	if other, err := n.ImageID(t.Context(), "localhost/other:1", ""); err != nil || other != id {
		t.Errorf("by its other name, the ID is %q, %v; want %q", other, err, id)
	}
	if got, found := n.local(t, id); !found || got.InUse || got.Size < resources.MiB {
		t.Errorf("unused, it is listed as %+v, %t", got, found)
	}
	container, err := n.Create(t.Context(), n.replica(t, "image-0-aaaaaa", func(p *resources.Template) { p.Image = reference }))
	if err != nil {
		t.Fatal(err)
	}
	if got, found := n.local(t, id); !found || !got.InUse {
		t.Errorf("used, it is listed as %+v, %t", got, found)
	}
	if c, found := n.listed(t, container); !found || c.Image != id {
		t.Errorf("the container says that its image is %q; want %q", c.Image, id)
	}
	if err := n.RemoveImage(t.Context(), id); err == nil {
		t.Error("an image that a container has was removed")
	}
	if got, found := n.local(t, id); !found || !got.InUse {
		t.Errorf("after a removal that failed, it is listed as %+v, %t", got, found)
	}
	for _, name := range []string{reference, "localhost/other:1"} {
		if got, err := n.ImageID(t.Context(), name, ""); err != nil || got != id {
			t.Errorf("after a removal that failed, %s is %q, %v", name, got, err)
		}
	}
	if err := n.Remove(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	twice(t, func() error { return n.RemoveImage(t.Context(), id) })
	if got, found := n.local(t, id); found {
		t.Errorf("after its removal, it is listed as %+v", got)
	}
	if id, err := n.ImageID(t.Context(), reference, ""); err != nil || id != "" {
		t.Errorf("after its removal, its ID is %q, %v", id, err)
	}
	root, err := n.StorageRoot(t.Context())
	if err != nil || !strings.HasPrefix(root, "/") {
		t.Errorf("the storage is at %q, %v", root, err)
	}
}
