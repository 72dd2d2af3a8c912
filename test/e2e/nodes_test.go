package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/libvirttest"
)

// Two nodes: one is the server, and the other a worker with an address of its
// own. The web service would rather be on the worker.
const nodesConfiguration = `
provider "skerry" {
  hypervisor = %[1]q
  ssh        = { key = %[2]q, agent = false }
}
resource "skerry_node" "one" {
  name     = "one"
  pool     = %[3]q
  image    = { source = %[4]q }
  memory   = "1GiB"
  networks = [{ network = %[5]q }]
}
resource "skerry_node" "two" {
  name     = "two"
  pool     = %[3]q
  image    = { source = %[4]q }
  memory   = "1GiB"
  labels   = { role = "worker" }
  networks = [{ network = %[5]q, address = "192.168.122.200/24", gateway = "192.168.122.1" }]
}
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [skerry_node.one.endpoint]
  workers = [skerry_node.two.endpoint]
}
resource "skerry_image" "web" {
  cluster = skerry_cluster.home.endpoint
  name    = "web"
  archive = %[6]q
}
resource "skerry_service" "web" {
  cluster   = skerry_cluster.home.endpoint
  name      = "web"
  image     = skerry_image.web.reference
  ports     = [{ target = 8080, published = 80 }]
  placement = { affinity = ["role == worker"] }
}
resource "skerry_service" "pair" {
  cluster   = skerry_cluster.home.endpoint
  name      = "pair"
  image     = skerry_image.web.reference
  replicas  = 2
  resources = { cpu = "50m", memory = "32MiB" }
}
`

// What two nodes live through. The steps share the machines.
func TestTwoNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("boots VMs; left out by -short")
	}
	n := &nodeTest{host: libvirttest.Start(t), key: sshKey(t), archive: images.Archive(t)}
	n.tf = NewTerraform(t, bin, fmt.Sprintf(nodesConfiguration, n.host.URI, n.key, n.host.Pool, nodeImage(t, "trixie"), n.host.Network, n.archive))
	n.tf.Within = []string{"nsenter", "--net=" + n.host.Namespace}
	t.Cleanup(func() {
		for _, name := range []string{"one", "two"} {
			if log, err := os.ReadFile(filepath.Join(n.host.PoolDir, name+"-console.log")); err == nil && t.Failed() {
				t.Logf("the console of %s:\n%s", name, log[max(0, len(log)-3000):])
			}
		}
	})
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Failed() && !t.Run(name, f) {
			n.explain(t)
		}
	}
	const two = "192.168.122.200"
	var one string
	step("both come up", func(t *testing.T) {
		n.tf.Apply(t)
		n.tf.Settled(t)
		one, _ = n.tf.Attribute(t, "skerry_node.one", "address").(string)
		answers(t, n.host.Client(), "http://"+two+"/", "hello from web-0-")
	})
	step("agent and server are killed, and nobody notices", func(t *testing.T) {
		before := n.on(t, one, "podman ps --no-trunc --format '{{.ID}} {{.StartedAt}}'")
		n.on(t, one, "systemctl kill --signal=KILL skerry-agent skerry-server; until systemctl is-active skerry-agent skerry-server; do sleep 0.2; done")
		n.tf.Settled(t)
		if after := n.on(t, one, "podman ps --no-trunc --format '{{.ID}} {{.StartedAt}}'"); before != after || before == "" {
			t.Errorf("containers before: %s, after: %s", before, after)
		}
	})
	step("a clock jumps", func(t *testing.T) {
		before := n.skerry(t, one, "replicas")
		for _, jump := range []string{"+1 hour", "-1 hour"} {
			n.on(t, two, "date --set '"+jump+"'")
			wrong := jump == "+1 hour"
			n.await(t, "the cluster hears of the clock after "+jump, func() bool {
				return strings.Contains(n.skerry(t, one, "nodes"), "ClockSkew") == wrong
			})
		}
		n.tf.Settled(t)
		if after := n.skerry(t, one, "replicas"); firstColumns(before) != firstColumns(after) {
			t.Errorf("replicas before:\n%s\nafter:\n%s", before, after)
		}
	})
	step("the worker loses power, and its replicas run elsewhere", func(t *testing.T) {
		t.Logf("$ skerry status\n%s", n.skerry(t, one, "status"))
		n.virsh(t, "destroy", "two")
		began := time.Now()
		refused := 0
		client := n.host.Client()
		client.Timeout = time.Second
		n.await(t, "the service answers at the other node", func() bool {
			for _, address := range []string{two, one} {
				if page, err := get(t.Context(), client, "http://"+address+"/"); err == nil {
					t.Logf("after %s and %d requests that failed: %s", time.Since(began).Round(100*time.Millisecond), refused, page)
					return true
				}
			}
			refused++
			return false
		})
		t.Logf("$ skerry status\n%s\n$ skerry events\n%s", n.skerry(t, one, "status"), n.skerry(t, one, "events"))
	})
	step("an apply brings the worker back", func(t *testing.T) {
		n.tf.Apply(t)
		n.tf.Settled(t)
		n.await(t, "the worker is ready, and nothing runs twice", func() bool {
			nodes, replicas := n.skerry(t, one, "nodes"), n.skerry(t, one, "replicas")
			return strings.Count(nodes, " ready ") == 2 && strings.Count(replicas, "web-0-") == 1 && strings.Count(replicas, "pair-") == 2
		})
		t.Logf("$ skerry status\n%s", n.skerry(t, one, "status"))
	})
	n.tf.Destroy(t)
	if machines := strings.TrimSpace(n.virsh(t, "list", "--all", "--name")); machines != "" {
		t.Errorf("machines after the destroy: %s", machines)
	}
}

// on runs a command on a node, and gives what it says.
func (n *nodeTest) on(t *testing.T, address, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := n.host.Command(ctx, "ssh", "-i", n.key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"root@"+address, command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s on %s: %v: %s", command, address, err, out)
	}
	return string(out)
}

func (n *nodeTest) skerry(t *testing.T, server, command string) string {
	t.Helper()
	return n.on(t, server, "skerry "+command)
}

// await returns once a condition holds that nothing tells of.
func (n *nodeTest) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * patience)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it does not come about within %s", what, 2*patience)
		}
		<-look.C
	}
}

// firstColumns leaves the replicas and their nodes of a list: ages change.
func firstColumns(list string) string {
	var kept []string
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		kept = append(kept, strings.Join(fields[:min(2, len(fields))], " "))
	}
	return strings.Join(kept, "\n")
}
