package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
	"github.com/skerry-io/skerry/test/volumeplugin"
)

// watcher is a service beside the one with the volume, on the same node.
const watcherConfiguration = `
resource "skerry_service" "watcher" {
  cluster   = skerry_cluster.home.endpoint
  name      = "watcher"
  image     = skerry_image.web.reference
  resources = { cpu = "50m", memory = "32MiB" }
  placement = { constraints = [%q] }
}
`

// What rows on storage that both nodes reach live through: a volume of a plugin of
// Podman's, with a single writer.
func TestSharedVolume(t *testing.T) {
	t.Parallel()
	plugin := volumeplugin.Start(t)
	hosts := startHosts(t, 2)
	for _, h := range hosts {
		h.Podman.AddVolumePlugin(t, "plugin", plugin.Socket)
	}
	archive := images.Archive(t)
	text := func(service string) string {
		return fmt.Sprintf(volumesConfiguration, testbed.Endpoints(hosts[0].Host), testbed.Endpoints(hosts[1].Host),
			"driver = \"plugin\"\n  options = { kind = \"fast\" }", archive, service)
	}
	second := "node.id == " + string(hosts[1].Node(t))
	prefers := fmt.Sprintf("placement = { affinity = [%q] }", second)
	tf := NewTerraform(t, bin, text(prefers)+fmt.Sprintf(watcherConfiguration, second))
	tf.Apply(t)
	r := &rows{service: "web", run: hosts[0].ask}
	r.write(t)
	tf.Settled(t)
	if text, err := os.ReadFile(filepath.Join(plugin.Dir, "skerry-rows", "rows")); err != nil || string(text) != "row-0\n" {
		t.Errorf("the plugin has %q: %v", text, err)
	}
	if options := plugin.Options("skerry-rows"); options["kind"] != "fast" {
		t.Errorf("the plugin was given the options %v", options)
	}
	running := func(host *dev, service string) bool {
		out, err := host.Podman.Podman(t.Context(), "ps", "-q", "--filter", "label=io.skerry.service="+service).Output()
		if err != nil {
			t.Fatal(err)
		}
		return len(out) > 0
	}
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if t.Failed() {
			return
		}
		t.Run(name, func(t *testing.T) {
			f(t)
			r.write(t)
		})
	}

	step("a backup and copies go through the node of the writer", func(t *testing.T) {
		dir := t.TempDir()
		archive, local := filepath.Join(dir, "rows.tar.zst"), filepath.Join(dir, "local")
		hosts[0].says(t, []string{"volume", "backup", "rows", archive, "--pause"}, "volume rows is in")
		hosts[0].until(t, "the replica runs after the backup", []string{"services"}, "1/1")
		before := len(r.written)
		r.write(t)
		hosts[0].says(t, []string{"volume", "cp", "rows:rows", local}, "rows:rows is in "+local)
		if text, err := os.ReadFile(local); err != nil || string(text) != strings.Join(r.written, "\n")+"\n" {
			t.Errorf("the copy is %q: %v", text, err)
		}
		hosts[0].says(t, []string{"volume", "cp", local, "rows:/again"}, "is in rows:/again")
		if text, err := os.ReadFile(filepath.Join(plugin.Dir, "skerry-rows", "again")); err != nil || len(text) == 0 {
			t.Errorf("the copy to the volume: %q, %v", text, err)
		}
		hosts[0].says(t, []string{"volume", "restore", "rows", archive}, "volume rows has the data of rows from")
		hosts[0].until(t, "the replica runs after the restore", []string{"services"}, "1/1")
		r.written = r.written[:before]
		r.check(t)
		entries, err := os.ReadDir(filepath.Join(plugin.Dir, "skerry-rows"))
		if err != nil || len(entries) != 1 {
			t.Errorf("the volume has more than what was restored: %v %v", entries, err)
		}
	})
	step("a node that lost its power asks a server before it writes", func(t *testing.T) {
		hosts[0].End(os.Kill)
		hosts[1].PowerOff(t)
		hosts[1].PowerOn(t)
		eventually(t, "the replica without a volume runs again", func() (string, bool) { return "", running(hosts[1], "watcher") })
		if running(hosts[1], "web") {
			t.Error("the writer was started, and nobody has said that it is one still")
		}
		hosts[0].Start(t)
		hosts[0].until(t, "the writer runs again", []string{"services"}, "1/1")
		eventually(t, "the writer runs where it was", func() (string, bool) { return "", running(hosts[1], "web") })
	})
	step("a silent node keeps the volume until it is forgotten", func(t *testing.T) {
		before := r.replica(t)
		hosts[1].PowerOff(t)
		hosts[0].until(t, "the node is silent", []string{"nodes"}, "silent")
		hosts[0].until(t, "the replica in its place waits", []string{"replicas", "web"}, "volume rows has a single writer, and replica "+before)
		if out, err := hosts[0].operate(t, "", "volume", "backup", "rows", filepath.Join(t.TempDir(), "rows")); err == nil {
			t.Errorf("a backup goes through another node than the writer's: %s", out)
		}
		if running(hosts[0], "web") {
			t.Error("there is a second writer")
		}
		hosts[0].says(t, []string{"node", "forget", string(hosts[1].Node(t))}, "is forgotten")
		eventually(t, "the writer runs on the other node", func() (string, bool) { return "", running(hosts[0], "web") })
	})
	step("the forgotten node comes back, and writes nothing", func(t *testing.T) {
		hosts[1].PowerOn(t)
		tf.Apply(t)
		if running(hosts[1], "web") {
			t.Error("there is a second writer")
		}
	})
	step("a rollout", func(t *testing.T) {
		tf.Configure(t, text(prefers+"\n  env = { GREETING = \"new\" }")+fmt.Sprintf(watcherConfiguration, second))
		tf.Apply(t)
	})
	if t.Failed() {
		return
	}
	tf.Destroy(t)
	if text, err := os.ReadFile(filepath.Join(plugin.Dir, "skerry-rows", "rows")); err != nil || string(text) != strings.Join(r.written, "\n")+"\n" {
		t.Errorf("the data after the destroy: %q, %v", text, err)
	}
	if slices.Contains(plugin.Calls(), "VolumeDriver.Remove skerry-rows") {
		t.Error("the plugin was asked to remove the volume")
	}
}
