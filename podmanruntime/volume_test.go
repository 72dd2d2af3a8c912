package podmanruntime

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/volumeplugin"
)

// bound is a volume whose data is in a directory.
func bound(name, dir string) resources.RuntimeVolume {
	return resources.RuntimeVolume{Name: name, Driver: resources.DriverLocal, Options: map[string]string{"type": "none", "o": "bind", "device": dir}}
}

// writes makes the container add a line to a file.
func (n node) writes(t *testing.T, container, path, line string) {
	t.Helper()
	code, output, err := n.Exec(t.Context(), container, []string{"/web", "-append", path, "-greeting", line})
	if err != nil || code != 0 {
		t.Fatalf("write %s: code %d, %v: %s", path, code, err, output)
	}
}

func reads(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What one container wrote is there for the next one, and nothing of it goes with
// the volume, which is made again as often as it is lost.
func testVolume(t *testing.T, n node) {
	dir := t.TempDir()
	row := filepath.Join(dir, "row")
	for i, line := range []string{"one", "two"} {
		for range 2 { // the second one finds it
			if err := n.PutVolume(t.Context(), bound("data", dir)); err != nil {
				t.Fatal(err)
			}
		}
		id := "data-0-" + line
		container, _ := n.run(t, id, func(t *resources.Template) {
			t.Mounts = []resources.Mount{{Volume: "data", Path: "/data", CopyUp: true}}
		})
		n.writes(t, container, "/data/row", line)
		if err := n.RemoveVolume(t.Context(), "data"); err == nil {
			t.Error("a volume that a container has was removed")
		}
		if want, got := strings.Join([]string{"one", "two"}[:i+1], "\n")+"\n", reads(t, row); got != want {
			t.Fatalf("the directory has %q, want %q", got, want)
		}
		if err := n.Remove(t.Context(), container); err != nil {
			t.Fatal(err)
		}
		if err := n.RemoveVolume(t.Context(), "data"); err != nil {
			t.Fatal(err)
		}
		if names, err := n.ListVolumes(t.Context()); err != nil || slices.Contains(names, "data") {
			t.Errorf("volumes %v, %v", names, err)
		}
	}
	if diff := cmp.Diff("one\ntwo\n", reads(t, row)); diff != "" {
		t.Errorf("after the removal (-want +got):\n%s", diff)
	}
	if err := n.RemoveVolume(t.Context(), "data"); err != nil {
		t.Errorf("remove an absent volume: %v", err)
	}
}

// A volume leads elsewhere once no container has it.
func testVolumeElsewhere(t *testing.T, n node) {
	t.Cleanup(func() {
		if err := n.RemoveVolume(context.Background(), "moved"); err != nil {
			t.Error(err)
		}
	})
	before, after := t.TempDir(), t.TempDir()
	for _, dir := range []string{before, after} {
		if err := n.PutVolume(t.Context(), bound("moved", dir)); err != nil {
			t.Fatal(err)
		}
		container, _ := n.run(t, "moved-0-"+filepath.Base(dir), func(t *resources.Template) {
			t.Mounts = []resources.Mount{{Volume: "moved", Path: "/data"}}
		})
		n.writes(t, container, "/data/row", filepath.Base(dir))
		if dir == before {
			if err := n.PutVolume(t.Context(), bound("moved", after)); err == nil {
				t.Error("a volume that a container has leads elsewhere")
			}
		}
		if err := n.Remove(t.Context(), container); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{before, after} {
		if got := reads(t, filepath.Join(dir, "row")); got != filepath.Base(dir)+"\n" {
			t.Errorf("%s has %q", dir, got)
		}
	}
}

// A container can't write to what it mounts read-only.
func testVolumeReadOnly(t *testing.T, n node) {
	if err := n.PutVolume(t.Context(), bound("read", t.TempDir())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.RemoveVolume(context.Background(), "read"); err != nil {
			t.Error(err)
		}
	})
	container, _ := n.run(t, "read-0-only", func(t *resources.Template) {
		t.Mounts = []resources.Mount{{Volume: "read", Path: "/data", ReadOnly: true}}
	})
	if code, output, err := n.Exec(t.Context(), container, []string{"/web", "-append", "/data/row"}); err == nil && code == 0 || !strings.Contains(output, "read-only") {
		t.Errorf("it wrote to it: code %d, %v: %s", code, err, output)
	}
	if err := n.Remove(t.Context(), container); err != nil {
		t.Fatal(err)
	}
}

// A volume can be reached though no container runs that mounts it, and is let go
// again.
func testMountedVolume(t *testing.T, n node) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "row"), []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := resources.Replica{Template: resources.Template{Image: n.image}}
	for range 2 {
		at, _, err := n.MountVolume(t.Context(), bound("reached", dir), r)
		if err != nil {
			t.Fatal(err)
		}
		if text := reads(t, filepath.Join(at, "row")); text != "one" {
			t.Errorf("it holds %q", text)
		}
		// An agent that ends leaves it mounted; the next one finds it so.
		_, release, err := n.MountVolume(t.Context(), bound("reached", dir), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.RemoveVolume(t.Context(), "reached"); err != nil {
		t.Error(err)
	}
	if all, err := n.List(t.Context()); err != nil || slices.ContainsFunc(all, func(c resources.Container) bool { return c.Replica == "" }) {
		t.Errorf("the runtime lists %+v, %v", all, err)
	}
}

// The data of a plugin's volume is the plugin's, and outlives what a node does.
func testVolumePlugin(t *testing.T, n node) {
	p := volumeplugin.Start(t)
	n.service.AddVolumePlugin(t, "plugin", p.Socket)
	made := resources.RuntimeVolume{Name: "plugged", Driver: "plugin", Options: map[string]string{"kind": "fast"}}
	for range 2 {
		if err := n.PutVolume(t.Context(), made); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(made.Options, p.Options("skerry-plugged")); diff != "" {
		t.Errorf("the plugin's options (-want +got):\n%s", diff)
	}
	container, _ := n.run(t, "plugged-0-a", func(t *resources.Template) {
		t.Mounts = []resources.Mount{{Volume: "plugged", Path: "/data", CopyUp: true}}
	})
	n.writes(t, container, "/data/row", "one")
	at, release, err := n.MountVolume(t.Context(), made, n.replica(t, "plugged-0-b", nil))
	if err != nil {
		t.Fatal(err)
	}
	if text := reads(t, filepath.Join(at, "row")); text != "one\n" {
		t.Errorf("it holds %q", text)
	}
	if err := release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context(), container); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveVolume(t.Context(), "plugged"); err != nil {
		t.Fatal(err)
	}
	made.Options = map[string]string{"kind": "slow"}
	if err := n.PutVolume(t.Context(), made); err == nil || !strings.Contains(err.Error(), "podman volume rm skerry-plugged") {
		t.Errorf("another one of the name: %v", err)
	}
	if text := reads(t, filepath.Join(p.Dir, "skerry-plugged", "row")); text != "one\n" {
		t.Errorf("afterwards it holds %q", text)
	}
	if slices.Contains(p.Calls(), "VolumeDriver.Remove skerry-plugged") {
		t.Error("the plugin was asked to remove the volume")
	}
}
