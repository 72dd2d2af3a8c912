package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/libvirttest"
)

const cloudConfiguration = `
provider "skerry" {
  hypervisor = %[1]q
  ssh        = { key = %[2]q, agent = false }
}
resource "skerry_node" "cloud" {
  name      = "cloud"
  pool      = %[3]q
  image     = { source = %[4]q }
  # A stock image does not know how to patch its kernel where processors are
  # emulated; see image/README.md.
  cpus      = 1
  memory    = "1GiB"
  disk      = "5GiB"
  networks  = [{ network = %[5]q, address = "192.168.122.9/24", gateway = "192.168.122.1" }]
  user_data = "#cloud-config\nwrite_files: [{ path: /etc/from-user-data, content: here }]\n"
}
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [skerry_node.cloud.endpoint]
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %[6]q
}
resource "skerry_service" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  image   = skerry_image.web.reference
}
`

// An image with cloud-init becomes a node through it: with the user's own user
// data, a static address, and a root that has grown to its disk. When its
// machine is deleted by hand, nothing that ran there stops a destroy.
func TestCloudImage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots a VM; left out by -short")
	}
	host, key := libvirttest.Start(t), sshKey(t)
	tf := NewTerraform(t, bin, fmt.Sprintf(cloudConfiguration, host.URI, key, host.Pool, nodeImage(t, "trixie-cloud"), host.Network, images.Archive(t)))
	tf.Within = []string{"nsenter", "--net=" + host.Namespace}
	tf.Apply(t)
	tf.Settled(t)
	if address := tf.Attribute(t, "skerry_node.cloud", "address"); address != "192.168.122.9" {
		t.Errorf("address %v", address)
	}
	// The node's host key is pinned by the endpoint, which the plugin has used.
	look := host.SSH(context.WithoutCancel(t.Context()), key, "192.168.122.9",
		"cat /etc/from-user-data; test $(df --output=size -BM / | tail -1 | tr -dc 0-9) -gt 4000 && systemctl is-active skerry-agent && hostname")
	out, err := look.CombinedOutput()
	if want := "hereactive\ncloud\n"; err != nil || string(out) != want {
		t.Errorf("the node says %q (%v), want %q", out, err, want)
	}
	for _, verb := range []string{"destroy", "undefine"} {
		if out, err := host.Virsh(context.WithoutCancel(t.Context()), verb, "cloud"); err != nil {
			t.Fatalf("virsh %s: %v: %s", verb, err, out)
		}
	}
	if said := tf.Destroy(t); !strings.Contains(strings.Join(strings.Fields(said), " "), "is gone from its hypervisor") {
		t.Errorf("the destroy does not say that the machine is gone:\n%s", said)
	}
	if left, err := os.ReadDir(host.PoolDir); err != nil || len(left) > 0 {
		t.Errorf("volumes after the destroy: %v, %v", left, err)
	}
}
