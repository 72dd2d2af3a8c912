package podmanruntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/resources"
)

// damage empties a file that Podman's storage has written and not synced, as a
// power loss does: the one that names the layers below the container's own.
func (n node) damage(t *testing.T, container string) {
	t.Helper()
	out, err := n.service.Podman(t.Context(), "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", container).Output()
	if err != nil {
		t.Fatalf("look for the layer of %s: %v", container, err)
	}
	lower := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "lower")
	if info, err := os.Stat(lower); err != nil || info.Size() == 0 {
		t.Fatalf("%s is no file of the storage: %v", lower, err)
	}
	if err := os.Truncate(lower, 0); err != nil {
		t.Fatal(err)
	}
}

// A container that a power loss has damaged hides no other one, and can be made
// anew.
func testDamage(t *testing.T, n node) {
	other, pid := n.run(t, "other-0-x", nil)
	id, _ := n.run(t, "damaged-0-x", nil)
	if err := n.Stop(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	n.damage(t, id)
	c, found := n.listed(t, id)
	if want := (resources.Container{ID: id, Replica: "damaged-0-x", Image: c.Image, Damaged: true}); !found || c != want {
		t.Fatalf("it is listed as %+v", c)
	}
	if err := n.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	again, _ := n.run(t, "damaged-0-x", nil)
	if c, found := n.listed(t, again); !found || !c.Running {
		t.Errorf("made anew it is %+v", c)
	}
	if c, found := n.listed(t, other); !found || !c.Running || c.PID != pid {
		t.Errorf("the other one is %+v", c)
	}
}
