package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/libvirttest"
)

// nodeTest is one node on a hypervisor of the test's own.
type nodeTest struct {
	host    *libvirttest.Host
	tf      *Terraform
	key     string
	archive string
}

// machine is what the tests change of the node.
type machine struct {
	image  string
	memory string
	disk   string
	label  string
	value  string // of the service's variable
	retain bool   // the data of the volume
	size   string // of the volume
}

const nodeConfiguration = `
provider "skerry" {
  hypervisor = %[1]q
  ssh        = { key = %[2]q, agent = false }
}
resource "skerry_node" "one" {
  name      = "one"
  pool      = %[3]q
  image     = { source = %[4]q }
  memory    = %[5]q
  disk      = %[6]q
  data_disk = { size = "1GiB" }
  networks  = [{ network = %[7]q }]
  labels    = { zone = %[8]q }
}
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [skerry_node.one.endpoint]
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %[9]q
}
resource "skerry_volume" "rows" {
  cluster           = skerry_cluster.home.endpoint
  name              = "rows"
  size              = %[12]q
  retain_on_destroy = %[11]t
}
resource "skerry_service" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  image   = skerry_image.web.reference
  ports   = [{ target = 8080, published = 80 }]
  env     = { GREETING = %[10]q }
  mounts  = [{ volume = skerry_volume.rows.name, path = "/data" }]
}
`

func (n *nodeTest) configure(t *testing.T, m machine) {
	t.Helper()
	text := fmt.Sprintf(nodeConfiguration, n.host.URI, n.key, n.host.Pool, m.image, m.memory, m.disk, n.host.Network, m.label, n.archive, m.value, m.retain, m.size)
	if n.tf == nil {
		n.tf = NewTerraform(t, bin, text)
		n.tf.Within = []string{"nsenter", "--net=" + n.host.Namespace}
		return
	}
	n.tf.Configure(t, text)
}

func nodeImage(t *testing.T, release string) string {
	t.Helper()
	path, err := filepath.Abs("../../build/image/skerry-node-" + release + ".qcow2")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("the node image %s is missing: run make test-images: %v", release, err)
	}
	return path
}

func sshKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// explain shows what the nodes say of themselves.
func (n *nodeTest) explain(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer cancel()
	leases := n.virsh(t, "net-dhcp-leases", n.host.Network)
	t.Log(leases)
	for _, address := range append(regexp.MustCompile(`[0-9.]+/`).FindAllString(leases, -1), workerAddress) {
		out, err := n.host.SSH(ctx, n.key, strings.TrimSuffix(address, "/"),
			"uptime; skerry status; skerry events; podman ps -a; systemctl --failed; journalctl -b -u skerry-agent -u skerry-server -n 60 --no-pager; nft list ruleset").CombinedOutput()
		t.Logf("%s says (%v):\n%s", address, err, out)
	}
	consoles, err := filepath.Glob(filepath.Join(n.host.PoolDir, "*-console.log"))
	if err != nil {
		t.Log(err)
	}
	for _, path := range consoles {
		if log, err := os.ReadFile(path); err == nil {
			t.Logf("%s:\n%s", filepath.Base(path), log[max(0, len(log)-8000):])
		}
	}
}

// answers asks the service until it says what is wanted.
func (n *nodeTest) answers(t *testing.T, want string) {
	t.Helper()
	address, ok := n.tf.Attribute(t, "skerry_node.one", "address").(string)
	if !ok {
		t.Fatal("the node has no address")
	}
	answers(t, n.host.Client(), "http://"+address+"/", want)
}

func (n *nodeTest) virsh(t *testing.T, args ...string) string {
	t.Helper()
	out, err := n.host.Virsh(context.WithoutCancel(t.Context()), args...)
	if err != nil {
		t.Fatalf("virsh %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (n *nodeTest) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(n.host.PoolDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// isGone expects that nothing is left after a destroy.
func (n *nodeTest) isGone(t *testing.T) {
	t.Helper()
	if machines := strings.TrimSpace(n.virsh(t, "list", "--all", "--name")); machines != "" {
		t.Errorf("machines after the destroy: %s", machines)
	}
	if left := n.files(t); len(left) > 0 {
		t.Errorf("volumes after the destroy: %v", left)
	}
}

// What a node lives through, from a create that is killed to a destroy that
// leaves nothing. The steps share one machine, because each boot takes a minute
// or two under emulation.
func TestNode(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots a VM; left out by -short")
	}
	trixie, bookworm := nodeImage(t, "trixie"), nodeImage(t, "bookworm")
	n := &nodeTest{host: libvirttest.Start(t), key: sshKey(t), archive: images.Archive(t)}
	m := machine{image: trixie, memory: "1GiB", disk: "4GiB", label: "a", value: "hello", retain: true, size: "64MiB"}
	n.configure(t, m)

	r := &rows{service: "web", run: func(t *testing.T, command string) string {
		t.Helper()
		return n.skerry(t, n.tf.Attribute(t, "skerry_node.one", "address").(string), command)
	}}
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if t.Failed() {
			return
		}
		passed := t.Run(name, func(t *testing.T) {
			f(t)
			r.write(t)
		})
		if !passed {
			n.explain(t)
		}
	}

	step("a create that is killed leaves no orphan", func(t *testing.T) {
		n.killDuringCreate(t)
		n.tf.Apply(t)
		n.answers(t, "hello")
		n.tf.Settled(t)
		if machines := strings.Fields(n.virsh(t, "list", "--all", "--name")); !slices.Equal(machines, []string{"one"}) {
			t.Errorf("machines: %v", machines)
		}
	})

	step("memory, disk, labels and the service change in place", func(t *testing.T) {
		id := n.tf.Attribute(t, "skerry_node.one", "id")
		m.memory, m.disk, m.label, m.value = "1200MiB", "5GiB", "b", "changed"
		n.configure(t, m)
		n.tf.Apply(t)
		n.answers(t, "changed")
		n.tf.Settled(t)
		if now := n.tf.Attribute(t, "skerry_node.one", "id"); now != id {
			t.Errorf("the node was replaced: %v, %v", id, now)
		}
	})

	step("a volume grows while a replica has it mounted", func(t *testing.T) {
		address := n.tf.Attribute(t, "skerry_node.one", "address").(string)
		before := n.on(t, address, "podman ps --no-trunc --format '{{.ID}} {{.StartedAt}}'")
		m.size = "96MiB"
		n.configure(t, m)
		n.tf.Apply(t)
		eventually(t, "the file system is larger", func() (string, bool) {
			var mib int
			out := n.on(t, address, "df --block-size=1M --output=size /var/lib/skerry/volumes/rows/disk | tail -n 1")
			_, err := fmt.Sscan(out, &mib)
			return out, err == nil && mib > 70
		})
		if after := n.on(t, address, "podman ps --no-trunc --format '{{.ID}} {{.StartedAt}}'"); before != after {
			t.Errorf("containers before: %s, after: %s", before, after)
		}
		n.tf.Settled(t)
	})

	step("everything can be imported", func(t *testing.T) {
		cluster := n.tf.Attribute(t, "skerry_cluster.home", "endpoint").(string)
		node := n.tf.Attribute(t, "skerry_node.one", "endpoint").(string)
		n.tf.Forget(t)
		n.tf.Run(t, "import", "skerry_node.one", n.host.Pool+"/one")
		n.tf.Run(t, "import", "skerry_cluster.home", node)
		n.tf.Run(t, "import", "skerry_image.web", "web="+n.archive+"@"+cluster)
		n.tf.Run(t, "import", "skerry_volume.rows", "rows@"+cluster)
		n.tf.Run(t, "import", "skerry_service.web", "web@"+cluster)
		n.tf.Settled(t)
	})

	step("a stopped machine is drift, and one that was deleted is repaired", func(t *testing.T) {
		n.virsh(t, "destroy", "one")
		if out, err := n.tf.Try(t, "plan", "-detailed-exitcode", "-no-color"); err == nil || !strings.Contains(out, `"stopped"`) {
			t.Errorf("a stopped machine is no drift: %v\n%s", err, out)
		}
		n.virsh(t, "undefine", "one")
		n.tf.Apply(t)
		n.answers(t, "changed")
		n.tf.Settled(t)
	})

	step("another image keeps the cluster and its services", func(t *testing.T) {
		cluster := n.tf.Attribute(t, "skerry_cluster.home", "id")
		m.image = bookworm
		n.configure(t, m)
		n.tf.Apply(t)
		n.answers(t, "changed")
		n.tf.Settled(t)
		if now := n.tf.Attribute(t, "skerry_cluster.home", "id"); now != cluster {
			t.Errorf("the cluster was replaced: %v, %v", cluster, now)
		}
		if revision := n.tf.Attribute(t, "skerry_service.web", "revision"); fmt.Sprint(revision) != "2" {
			t.Errorf("the service begins anew: its revision is %v, and it was changed once", revision)
		}
	})

	step("the data outlives a destroy of everything, and comes back", func(t *testing.T) {
		n.tf.Destroy(t)
		if left := n.files(t); len(left) == 0 {
			t.Fatal("nothing is left of the node, and its disk had data to keep")
		}
		n.tf.Run(t, "apply", "-auto-approve", "-no-color", "-target=skerry_cluster.home")
		n.tf.Run(t, "import", "skerry_volume.rows", "rows@"+n.tf.Attribute(t, "skerry_cluster.home", "endpoint").(string))
		m.retain = false
		n.configure(t, m)
		n.tf.Apply(t)
		n.answers(t, "changed")
	})

	n.tf.Destroy(t)
	n.isGone(t)
}

// killDuringCreate kills Terraform and the plugin once the machine runs.
func (n *nodeTest) killDuringCreate(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	apply := n.tf.Command(ctx, "apply", "-auto-approve", "-no-color")
	ownGroup(apply)
	if err := apply.Start(); err != nil {
		t.Fatal(err)
	}
	for ctx.Err() == nil && strings.TrimSpace(n.virsh(t, "list", "--name")) == "" {
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond): // libvirt's events don't reach this process
		}
	}
	killGroup(apply)
	apply.Wait() //nolint:errcheck // it was killed
	if ctx.Err() != nil {
		t.Fatal("the machine does not start")
	}
}
