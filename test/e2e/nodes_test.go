package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/libvirttest"
	"github.com/skerry-io/skerry/test/nfstest"
)

// workerAddress is that of the node whose address is fixed.
const workerAddress = "192.168.122.200"

// Two nodes: one is the server, and the other a worker with an address of its
// own. The web service would rather be on the worker, and so would the keeper,
// which keeps rows on an NFS server.
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
resource "skerry_cluster" "home" {
  name    = "home"
  servers = [skerry_node.one.endpoint]
  %[7]s
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
  mounts    = [{ volume = skerry_volume.common.name, path = "/data" }]
}
resource "skerry_volume" "common" {
  cluster = skerry_cluster.home.endpoint
  name    = "common"
  driver  = "nfs"
  nfs     = { server = "192.168.122.1", path = "/export" }
  access  = "multi-writer"
}
resource "skerry_volume" "rows" {
  cluster = skerry_cluster.home.endpoint
  name    = "rows"
  driver  = "nfs"
  nfs     = { server = "192.168.122.1", path = "/export" }
}
resource "skerry_service" "keeper" {
  cluster   = skerry_cluster.home.endpoint
  name      = "keeper"
  image     = skerry_image.web.reference
  resources = { cpu = "50m", memory = "32MiB" }
  mounts    = [{ volume = skerry_volume.rows.name, path = "/data", subpath = "keeper" }]
  placement = { affinity = ["role == worker"] }
}
# What it writes is twice as much as its log may take.
resource "skerry_service" "chatty" {
  cluster   = skerry_cluster.home.endpoint
  name      = "chatty"
  image     = skerry_image.web.reference
  args      = ["-lines", "40000"]
  logs      = { max_size = "1MiB", max_files = 3 }
  resources = { cpu = "200m", memory = "32MiB" }
  placement = { constraints = ["role != worker"] }
}
`

const workerConfiguration = `
resource "skerry_node" "two" {
  name     = "two"
  pool     = skerry_node.one.pool
  image    = skerry_node.one.image
  memory   = "1GiB"
  labels   = { role = "worker" }
  networks = [{ network = "%[1]s", address = "%[2]s/24", gateway = "192.168.122.1" }]
}
`

// twoNodes is the configuration with more attributes of the cluster. The worker is
// there where it is among these.
func (n *nodeTest) twoNodes(t *testing.T, cluster ...string) string {
	t.Helper()
	attributes := strings.Join(cluster, "\n  ")
	text := fmt.Sprintf(nodesConfiguration, n.host.URI, n.key, n.host.Pool, nodeImage(t, "trixie"), n.host.Network, n.archive, attributes)
	if strings.Contains(attributes, "skerry_node.two") {
		text += fmt.Sprintf(workerConfiguration, n.host.Network, workerAddress)
	}
	return text
}

// What two nodes live through. The steps share the machines.
func TestTwoNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("boots VMs; left out by -short")
	}
	n := &nodeTest{host: libvirttest.Start(t), key: sshKey(t), archive: images.Archive(t)}
	const worker = "workers = [skerry_node.two.endpoint]"
	n.tf = NewTerraform(t, bin, n.twoNodes(t, worker))
	n.tf.Within = []string{"nsenter", "--net=" + n.host.Namespace}
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Failed() && !t.Run(name, f) {
			n.explain(t)
		}
	}
	server := nfstest.Start(t, n.host.Namespace, n.host.DialContext)
	// An NFS server makes no directories for who mounts them.
	if err := os.Mkdir(filepath.Join(server.Dir, "keeper"), 0o755); err != nil {
		t.Fatal(err)
	}
	const two = workerAddress
	var one, before string
	r := &rows{service: "keeper", run: func(t *testing.T, command string) string {
		t.Helper()
		return n.skerry(t, one, command)
	}}
	step("both come up", func(t *testing.T) {
		n.tf.Apply(t)
		n.tf.Settled(t)
		one, _ = n.tf.Attribute(t, "skerry_node.one", "address").(string)
		answers(t, n.host.Client(), "http://"+two+"/", "hello from web-0-")
	})
	step("a replica finds and reaches one on the other node", func(t *testing.T) {
		link := n.on(t, one, "ip -d link show skerry-wg")
		if !strings.Contains(link, "wireguard") {
			t.Errorf("the way between the nodes is not the kernel's WireGuard:\n%s", link)
		}
		n.finds(t, one)
	})
	step("both nodes have the NFS server's directory", func(t *testing.T) {
		on := n.nodesOf(t, one, "pair")
		n.skerry(t, one, "exec "+on["two"]+" -- /web -append /data/common -greeting from-two")
		if said := n.skerry(t, one, "exec "+on["one"]+" -- /web -show /data/common"); strings.TrimSpace(said) != "from-two" {
			t.Errorf("the other node sees %q", said)
		}
		r.write(t)
		text, err := os.ReadFile(filepath.Join(server.Dir, "keeper", "rows"))
		if err != nil || strings.TrimSpace(string(text)) != r.written[0] {
			t.Errorf("the server has %q: %v", text, err)
		}
	})
	step("a volume of the NFS server is backed up and restored through its writer's node", func(t *testing.T) {
		n.skerry(t, one, "volume backup rows /root/rows.tar.zst --pause")
		n.keeperRunsOn(t, one, "two")
		before := len(r.written)
		r.write(t)
		n.skerry(t, one, "volume cp rows:keeper/rows /root/rows")
		if said := strings.Fields(n.on(t, one, "cat /root/rows")); strings.Join(said, " ") != strings.Join(r.written, " ") {
			t.Errorf("the copy has %v", said)
		}
		n.skerry(t, one, "volume restore rows /root/rows.tar.zst")
		n.keeperRunsOn(t, one, "two")
		r.written = r.written[:before]
		r.check(t)
	})
	step("agent and server are killed, and nobody notices", func(t *testing.T) {
		requests := n.keepAsking(t, "http://"+one+"/")
		defer requests.hold(t)
		before := n.on(t, one, "podman ps --no-trunc --format '{{.ID}} {{.StartedAt}}'")
		n.on(t, one, "systemctl kill --signal=KILL skerry-agent skerry-server; until systemctl is-active skerry-agent skerry-server; do sleep 0.2; done")
		n.tf.Settled(t)
		if after := n.on(t, one, "podman ps --no-trunc --format '{{.ID}} {{.StartedAt}}'"); before != after || before == "" {
			t.Errorf("containers before: %s, after: %s", before, after)
		}
		n.finds(t, one)
		n.on(t, two, "systemctl kill --signal=KILL skerry-agent; until systemctl is-active skerry-agent; do sleep 0.2; done")
		n.finds(t, one)
	})
	step("a clock jumps", func(t *testing.T) {
		before := n.skerry(t, one, "replicas")
		// It would keep the wrong time for the next boot, which is soon.
		n.on(t, two, "systemctl stop systemd-timesyncd")
		for _, jump := range []string{"+1 hour", "-1 hour"} {
			n.on(t, two, "date --set '"+jump+"'")
			wrong := jump == "+1 hour"
			eventually(t, "the cluster hears of the clock after "+jump, func() (string, bool) {
				nodes := n.skerry(t, one, "nodes")
				return nodes, strings.Contains(nodes, "ClockSkew") == wrong
			})
		}
		n.on(t, two, "systemctl start systemd-timesyncd")
		n.tf.Settled(t)
		if after := n.skerry(t, one, "replicas"); firstColumns(before) != firstColumns(after) {
			t.Errorf("replicas before:\n%s\nafter:\n%s", before, after)
		}
	})
	step("the worker loses power, and its replicas run elsewhere", func(t *testing.T) {
		t.Logf("$ skerry status\n%s", n.skerry(t, one, "status"))
		before = r.replica(t)
		n.virsh(t, "destroy", "two")
		began := time.Now()
		refused := 0
		client := n.host.Client()
		client.Timeout = time.Second
		eventually(t, "the service answers at the other node", func() (string, bool) {
			for _, address := range []string{two, one} {
				if page, err := get(t.Context(), client, "http://"+address+"/"); err == nil {
					t.Logf("after %s and %d requests that failed: %s", time.Since(began).Round(100*time.Millisecond), refused, page)
					return page, true
				}
			}
			refused++
			return "no answer", false
		})
		t.Logf("$ skerry status\n%s\n$ skerry events\n%s", n.skerry(t, one, "status"), n.skerry(t, one, "events"))
	})
	step("what may write to the NFS server still is waited for, until somebody says that it does not", func(t *testing.T) {
		waits := n.skerry(t, one, "replicas keeper")
		if !strings.Contains(waits, "volume rows has a single writer, and replica "+before) || !strings.Contains(waits, "skerry node forget two") {
			t.Errorf("it does not wait:\n%s", waits)
		}
		if out := n.on(t, one, "podman ps -aq --filter label=io.skerry.service=keeper"); out != "" {
			t.Errorf("a second writer on the other node: %s", out)
		}
		n.skerry(t, one, "node forget two")
		n.keeperRunsOn(t, one, "one")
		r.write(t)
	})
	step("a node that was down asks before it writes again", func(t *testing.T) {
		// Both crash while there is nobody to ask, though the agent starts its server.
		const held = "/run/systemd/system/skerry-server.service.d"
		n.on(t, one, "mkdir -p "+held+"; printf '[Unit]\\nConditionPathExists=/nowhere\\n' >"+held+"/held.conf; systemctl daemon-reload; systemctl stop skerry-server skerry-agent; "+
			"podman kill $(podman ps -q --filter label=io.skerry.service=keeper) $(podman ps -q --filter label=io.skerry.service=web); systemctl start skerry-agent")
		eventually(t, "the replica without a volume is started again", func() (string, bool) {
			out := n.on(t, one, "podman ps -q --filter label=io.skerry.service=web")
			return out, out != ""
		})
		if out := n.on(t, one, "podman ps -q --filter label=io.skerry.service=keeper"); out != "" {
			t.Errorf("the writer was started, and nobody has said that it is one still: %s", out)
		}
		n.on(t, one, "rm -r "+held+"; systemctl daemon-reload; systemctl start skerry-server")
		n.keeperRunsOn(t, one, "one")
		r.write(t)
	})
	step("an apply brings the worker back", func(t *testing.T) {
		n.tf.Apply(t)
		n.tf.Settled(t)
		eventually(t, "the worker is ready, and nothing runs twice", func() (string, bool) {
			nodes, replicas := n.skerry(t, one, "nodes"), n.skerry(t, one, "replicas")
			return nodes + replicas, strings.Count(nodes, " ready ") == 2 && strings.Count(replicas, "web-0-") == 1 && strings.Count(replicas, "pair-") == 2
		})
		r.check(t)
		t.Logf("$ skerry status\n%s", n.skerry(t, one, "status"))
	})
	step("logs stay within their bounds", func(t *testing.T) {
		const logOf = "podman inspect --format '{{.HostConfig.LogConfig.Path}}' $(podman ps -q --filter label=io.skerry.service=chatty)"
		for run := range 2 {
			eventually(t, "it has written all", func() (string, bool) {
				last := n.on(t, one, "tail -n 1 $("+logOf+")")
				return last, strings.Contains(last, "listening on")
			})
			size, err := strconv.Atoi(strings.TrimSpace(n.on(t, one, "stat -c %s $("+logOf+")")))
			t.Logf("after run %d the log has %d bytes", run, size)
			if err != nil || size > 3<<20 || size < 100_000 {
				t.Errorf("the log has %d bytes, and may take 3 MiB: %v", size, err)
			}
			n.on(t, one, "podman kill $(podman ps -q --filter label=io.skerry.service=chatty)")
		}
		// What an unset bound comes to: 10 MiB x 3, less the one that a start keeps.
		if said := n.on(t, one, "podman inspect --format '{{.HostConfig.LogConfig.Size}}' $(podman ps -q --filter label=io.skerry.service=pair | head -n 1)"); strings.TrimSpace(said) != "20.97MB" {
			t.Errorf("the log of a run is bound to %s", said)
		}
	})
	const version = `version = "0.2.0"`
	next := buildVersion(t, "0.2.0")
	step("both are upgraded under load", func(t *testing.T) {
		// Two filters of one label would ask for containers that have both.
		const running = "for s in web pair; do podman ps --no-trunc --filter label=io.skerry.service=$s --format '{{.ID}} {{.StartedAt}}'; done"
		before := n.on(t, one, running) + n.on(t, two, running)
		atOne, atTwo := n.keepAsking(t, "http://"+one+"/"), n.keepAsking(t, "http://"+two+"/")
		n.tf.Use(t, next)
		n.tf.Configure(t, n.twoNodes(t, worker, version))
		n.tf.Apply(t)
		t.Logf("while the program was replaced on the server")
		atOne.hold(t)
		t.Logf("and on the worker")
		atTwo.hold(t)
		if after := n.on(t, one, running) + n.on(t, two, running); before != after || before == "" {
			t.Errorf("containers before:\n%s\nafter:\n%s", before, after)
		}
		nodes := n.skerry(t, one, "nodes")
		t.Logf("$ skerry nodes\n%s", nodes)
		if strings.Count(nodes, " 0.2.0 ") != 2 {
			t.Errorf("the nodes run:\n%s", nodes)
		}
		n.tf.Settled(t)
		n.finds(t, one)
	})
	step("the worker is removed", func(t *testing.T) {
		n.tf.Configure(t, n.twoNodes(t, version))
		n.tf.Apply(t)
		n.isAlone(t, one, "one")
		n.tf.Settled(t)
		r.check(t)
	})
	n.tf.Destroy(t)
	n.isGone(t)
}

// isAlone expects a cluster of one node, with all that runs on it, and nothing left
// of a node that was removed from the configuration. Terraform removes the node and
// then changes the cluster, and Pulumi does it the other way round.
func (n *nodeTest) isAlone(t *testing.T, address, name string) {
	t.Helper()
	nodes, replicas := strings.Fields(n.skerry(t, address, "nodes")), n.skerry(t, address, "replicas")
	if strings.Count(strings.Join(nodes, " "), " ready ") != 1 || !slices.Contains(nodes, name) {
		t.Errorf("the nodes are %v", nodes)
	}
	lines := strings.Split(strings.TrimSpace(replicas), "\n")
	if len(lines) < 2 {
		t.Error("nothing runs")
	}
	for i, line := range lines {
		if fields := strings.Fields(line); i > 0 && (len(fields) < 3 || fields[1] != name || fields[2] != "running" && fields[2] != "ready") {
			t.Errorf("a replica does not run on node %s: %s", name, line)
		}
	}
	if machines := strings.Fields(n.virsh(t, "list", "--all", "--name")); !slices.Equal(machines, []string{name}) {
		t.Errorf("the machines are %v", machines)
	}
	for _, file := range n.files(t) {
		if !strings.HasPrefix(file, name) && !strings.HasPrefix(file, "skerry-") {
			t.Errorf("%s is left of the node that was removed", file)
		}
	}
}

// finds lets the replica on a node reach the service on the other one by each of
// its names, and not the node itself.
func (n *nodeTest) finds(t *testing.T, node string) {
	t.Helper()
	replica := n.nodesOf(t, node, "pair")["one"]
	for _, name := range []string{"web", "0.web", "replicas.web.default", "web.default.skerry.internal"} {
		said := n.skerry(t, node, "exec "+replica+" -- /web -fetch http://"+name+":8080/")
		if !strings.Contains(said, "hello from web-0-") {
			t.Errorf("%s reaches %q at %s", replica, said, name)
		}
	}
	said := n.on(t, node, "skerry exec "+replica+" -- /web -fetch http://"+node+":5058/ 2>&1 || true")
	if !strings.Contains(said, "connection refused") {
		t.Errorf("%s reaches its node: %s", replica, said)
	}
}

// nodesOf gives a replica of a service on each node, by the node's name.
func (n *nodeTest) nodesOf(t *testing.T, server, service string) map[string]string {
	t.Helper()
	on := map[string]string{}
	for line := range strings.Lines(n.skerry(t, server, "replicas "+service)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			on[fields[1]] = fields[0]
		}
	}
	return on
}

// keeperRunsOn returns once the only replica of the service keeper runs on the node.
func (n *nodeTest) keeperRunsOn(t *testing.T, server, node string) {
	t.Helper()
	const service = "keeper"
	eventually(t, service+" runs on node "+node, func() (string, bool) {
		out, err := n.host.SSH(t.Context(), n.key, server, "skerry replicas "+service).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return string(out), err == nil && len(lines) == 2 && strings.Contains(lines[1], " "+node+" ") && strings.Contains(lines[1], "running")
	})
}

// requests are made without a pause, until they are held against what they found.
type requests struct {
	end    context.CancelFunc
	ended  chan struct{}
	count  int
	failed []error
}

// keepAsking asks a URL again and again, on a new connection each time.
func (n *nodeTest) keepAsking(t *testing.T, url string) *requests {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &requests{end: cancel, ended: make(chan struct{})}
	client := n.host.Client()
	client.Timeout = 10 * time.Second
	go func() {
		defer close(r.ended)
		for ctx.Err() == nil {
			if _, err := get(ctx, client, url); err != nil && ctx.Err() == nil {
				r.failed = append(r.failed, fmt.Errorf("at %s: %w", time.Now().UTC().Format(time.TimeOnly+".000"), err))
			}
			r.count++
		}
	}()
	return r
}

// hold ends the requests, and expects that none has failed.
func (r *requests) hold(t *testing.T) {
	t.Helper()
	r.end()
	<-r.ended
	t.Logf("%d requests, %d failed", r.count, len(r.failed))
	if len(r.failed) > 0 || r.count < 10 {
		t.Errorf("of %d requests failed %d, from %v to %v", r.count, len(r.failed), r.failed[:min(1, len(r.failed))], r.failed[max(0, len(r.failed)-1):])
	}
}

// on runs a command on a node, and gives what it says.
func (n *nodeTest) on(t *testing.T, address, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := n.host.SSH(ctx, n.key, address, command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s on %s: %v: %s", command, address, err, out)
	}
	return string(out)
}

func (n *nodeTest) skerry(t *testing.T, server, command string) string {
	t.Helper()
	return n.on(t, server, "skerry "+command)
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
