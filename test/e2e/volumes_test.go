package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// rows are lines in the file /data/rows of a service: those that were acknowledged
// have to be there, in their order, whatever has happened since.
type rows struct {
	service string
	run     func(t *testing.T, command string) string // skerry, on a server
	written []string
}

// replica waits until the service has a replica that runs, and gives its name.
func (r *rows) replica(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(r.run(t, "replicas "+r.service)) {
		if fields := strings.Fields(line); len(fields) > 0 && strings.HasPrefix(fields[0], r.service+"-0-") {
			return fields[0]
		}
	}
	t.Fatal("the service has no replica")
	return ""
}

// write writes one more row, and checks that all are there.
func (r *rows) write(t *testing.T) {
	t.Helper()
	row := fmt.Sprintf("row-%d", len(r.written))
	r.run(t, "exec "+r.replica(t)+" -- /web -append /data/rows -greeting "+row)
	r.written = append(r.written, row)
	r.check(t)
}

func (r *rows) check(t *testing.T) {
	t.Helper()
	there := strings.Fields(r.run(t, "exec "+r.replica(t)+" -- /web -show /data/rows"))
	if strings.Join(there, " ") != strings.Join(r.written, " ") {
		t.Fatalf("of the rows %v there are %v", r.written, there)
	}
}

// A service that keeps rows on a local volume, of a single writer. The third
// place is for attributes of the volume, and the fourth for those of the service.
const volumesConfiguration = `
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [%[1]s]
  workers = [%[2]s]
}
resource "skerry_volume" "rows" {
  cluster = skerry_cluster.home.endpoint
  name    = "rows"
  %[3]s
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %[4]q
}
resource "skerry_service" "web" {
  cluster   = skerry_cluster.home.endpoint
  name      = "web"
  image     = skerry_image.web.reference
  resources = { cpu = "50m", memory = "32MiB" }
  mounts    = [{ volume = "rows", path = "/data" }]
  depends_on = [skerry_volume.rows]
  %[5]s
}
`

// What rows on a local volume live through, on two hosts.
func TestVolumes(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2)
	archive := images.Archive(t)
	text := func(volume, service string) string {
		return fmt.Sprintf(volumesConfiguration, testbed.Endpoints(hosts[0].Host), testbed.Endpoints(hosts[1].Host), volume, archive, service)
	}
	sized := func(size string) string {
		return fmt.Sprintf("constraints = [%q]\n  size = %q", "node.id == "+string(hosts[1].Node(t)), size)
	}
	onSecond := sized("64MiB")
	tf := NewTerraform(t, bin, text(onSecond, ""))
	tf.Apply(t)
	t.Cleanup(func() { tf.Try(t, "destroy", "-auto-approve") }) //nolint:errcheck // the hosts go anyway
	data := filepath.Join(hosts[1].Dir, "data", "volumes", "rows")
	r := &rows{service: "web", run: hosts[0].ask}
	r.write(t)
	tf.Settled(t)
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if t.Failed() {
			return
		}
		t.Run(name, func(t *testing.T) {
			f(t)
			tf.Apply(t) // waits until the service runs again
			r.write(t)
		})
	}

	step("the container ends", func(t *testing.T) {
		for _, id := range hosts[1].containers(t, "web") {
			if out, err := hosts[1].Podman.Podman(t.Context(), "kill", "--signal=KILL", id).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	})
	step("the agent is killed", func(*testing.T) {
		hosts[1].End(os.Kill)
		hosts[1].Start(t)
	})
	step("the node loses power, and the replica waits for it", func(t *testing.T) {
		before := r.replica(t)
		hosts[1].PowerOff(t)
		hosts[0].until(t, "the node is silent", []string{"nodes"}, "silent")
		if out := hosts[0].says(t, []string{"replicas", "web"}, before); !strings.Contains(out, "has a single writer, and replica "+before) {
			t.Errorf("the replica in its place does not wait for the writer:\n%s", out)
		}
		if out, err := hosts[0].Podman.Podman(t.Context(), "ps", "-aq", "--filter", "label=io.skerry.service=web").Output(); err != nil || len(out) > 0 {
			t.Errorf("the replica is on the other node, away from its data: %v %s", err, out)
		}
		hosts[1].PowerOn(t)
		hosts[0].until(t, "the replica runs again", []string{"services"}, "1/1")
	})
	step("a rollout, and the volume grows", func(t *testing.T) {
		if size := sizeOf(t, filepath.Join(data, "disk")); size > 64*resources.MiB {
			t.Errorf("of 64MiB it has %s", size)
		}
		onSecond = sized("96MiB")
		tf.Configure(t, text(onSecond, `env = { GREETING = "new" }`))
		tf.Apply(t)
		if size := sizeOf(t, filepath.Join(data, "disk")); size < 80*resources.MiB || size > 96*resources.MiB {
			t.Errorf("of 96MiB it has %s", size)
		}
	})
	step("a volume does not shrink", func(t *testing.T) {
		tf.Configure(t, text(sized("32MiB"), ""))
		if said := tf.ApplyFails(t); !strings.Contains(said, "was 96MiB, and the volume on node") {
			t.Error(said)
		}
		tf.Configure(t, text(onSecond, ""))
	})
	step("more than one writer is refused", func(t *testing.T) {
		tf.Configure(t, text(onSecond, "replicas = 2"))
		if said := tf.ApplyFails(t); !strings.Contains(said, "volume rows has a single writer") {
			t.Error(said)
		}
		tf.Configure(t, text(onSecond, `update = { order = "start-first" }`))
		if said := tf.ApplyFails(t); !strings.Contains(said, `let order be "stop-first"`) {
			t.Error(said)
		}
		tf.Configure(t, text(onSecond, ""))
	})
	step("a volume in use can't be destroyed", func(t *testing.T) {
		err := controlOf(t, hosts...).DeleteVolume(t.Context(), "rows")
		if err == nil || !strings.Contains(err.Error(), "while services mount it: web") {
			t.Error(err)
		}
	})
	step("the service is destroyed and made again", func(t *testing.T) {
		tf.Run(t, "destroy", "-auto-approve", "-no-color", "-target=skerry_service.web")
	})
	step("the volume is destroyed, its data stays, and an import brings it back", func(t *testing.T) {
		said := tf.Run(t, "destroy", "-auto-approve", "-no-color", "-target=skerry_volume.rows")
		if !strings.Contains(strings.Join(strings.Fields(said), " "), "data of volume rows stays on node") {
			t.Errorf("nothing says where the data stays:\n%s", said)
		}
		if said := tf.ApplyFails(t); !strings.Contains(said, "kept when that volume was destroyed") {
			t.Errorf("a new volume takes what another has left: %s", said)
		}
		tf.Run(t, "import", "skerry_volume.rows", "rows@"+tf.Attribute(t, "skerry_cluster.home", "endpoint").(string))
	})
	step("a backup brings back what was there, and a broken one nothing", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "rows.tar.zst")
		hosts[0].says(t, []string{"volume", "ls"}, "96MiB", "single-writer", "web")
		hosts[0].says(t, []string{"volume", "backup", "rows", file, "--pause"}, "volume rows is in "+file)
		hosts[0].until(t, "the replica runs after the backup", []string{"services"}, "1/1")
		before := len(r.written)
		r.write(t)
		archive, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		broken := filepath.Join(t.TempDir(), "broken.tar.zst")
		if err := os.WriteFile(broken, archive[:len(archive)-10], 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := hosts[0].operate(t, "", "volume", "restore", "rows", broken); err == nil || !strings.Contains(out, "the archive is broken") {
			t.Errorf("a broken backup: %v %s", err, out)
		}
		r.check(t)
		hosts[0].says(t, []string{"volume", "restore", "rows", file}, "volume rows has the data of rows from")
		hosts[0].until(t, "the replica runs after the restore", []string{"services"}, "1/1")
		r.written = r.written[:before]
		r.check(t)
	})
	step("several replicas share what many write", func(t *testing.T) {
		tf.Configure(t, text(onSecond+"\n  access = \"multi-writer\"\n  retain_on_destroy = false", "replicas = 3"))
		tf.Apply(t)
		if all := hosts[1].containers(t, "web"); len(all) != 3 {
			t.Errorf("%d containers where the volume is", len(all))
		}
	})
	if _, err := os.Stat(data); err != nil {
		t.Errorf("the data is elsewhere: %v", err)
	}
	if t.Failed() {
		return
	}
	tf.Run(t, "destroy", "-auto-approve", "-no-color", "-target=skerry_volume.rows")
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the data of a volume that goes with it: %v", err)
	}
	out, err := hosts[1].Podman.Podman(t.Context(), "volume", "ls", "-q").Output()
	if err != nil || len(out) > 0 {
		t.Errorf("Podman's volumes after the destroy: %v %s", err, out)
	}
	tf.Destroy(t)
}

// until asks skerry again and again until it says what is wanted.
func (d *dev) until(t *testing.T, what string, args []string, want string) {
	t.Helper()
	eventually(t, what, func() (string, bool) {
		out, err := d.operate(t, "", args...)
		return out, err == nil && strings.Contains(out, want)
	})
}

// ask runs a command of skerry's there, and gives what it says.
func (d *dev) ask(t *testing.T, command string) string {
	t.Helper()
	out, err := d.operate(t, "", strings.Fields(command)...)
	if err != nil {
		t.Fatalf("skerry %s: %v: %s", command, err, out)
	}
	return out
}

// sizeOf is how large the file system of a directory is.
func sizeOf(t *testing.T, dir string) resources.Bytes {
	t.Helper()
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		t.Fatal(err)
	}
	return resources.Bytes(disk.Blocks) * resources.Bytes(disk.Bsize)
}
