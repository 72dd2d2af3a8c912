package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// fourReplicas are small enough for any machine.
const fourReplicas = `
  replicas  = 4
  resources = { cpu = "50m", memory = "32MiB" }`

// allRun returns once all replicas of the web service run, and counts them by node.
func allRun(t *testing.T, control *client.Server) map[resources.NodeID]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	count := map[resources.NodeID]int{}
	var last resources.ServiceStatus
	err := control.WatchService(ctx, "web", func(s resources.ServiceStatus) (bool, error) {
		clear(count)
		running := 0
		for _, r := range s.Replicas {
			if r.Status.State == resources.ReplicaRunning && r.Wanted {
				count[r.Node]++
				running++
			}
		}
		last = s
		return running != s.Service.Replicas, nil
	})
	if err != nil {
		t.Fatalf("%v; the service is %+v", err, last)
	}
	return count
}

// aSecret is one that the web service has: without the keys of the control plane its
// replicas don't start.
const aSecret = `
resource "skerry_secret" "word" {
  cluster = skerry_cluster.home.endpoint
  name    = "word"
  value   = "open sesame"
}
`

// sameKeys fails the test unless the hosts, which are servers, have one key to seal
// with, the same.
func sameKeys(t *testing.T, hosts ...*dev) {
	t.Helper()
	var first []byte
	for i, h := range hosts {
		text, err := os.ReadFile(filepath.Join(h.Dir, "data", "pki", "sealing.json"))
		if i == 0 {
			first = text
		}
		if err != nil || !bytes.Equal(text, first) || bytes.Count(text, []byte(`"secret"`)) != 1 {
			t.Errorf("host %d: %v", i, err)
		}
	}
}

// A cluster of many nodes: servers and workers join and leave, and one server
// after the other may be lost.
func TestCluster(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 4)
	archive := images.Archive(t)
	configure := func(servers, workers []*dev) string {
		return testbed.Configuration(plain(servers), plain(workers), archive, fourReplicas+"\n  secrets = [{ secret = skerry_secret.word.name }]") + aSecret
	}
	tf := NewTerraform(t, bin, configure(hosts[:1], hosts[3:]))
	tf.Apply(t)
	tf.Settled(t)
	step := func(name string, f func(t *testing.T)) {
		t.Helper()
		if !t.Failed() && !t.Run(name, f) {
			t.FailNow() // a cluster that is broken waits long for its end
		}
	}

	step("servers join", func(t *testing.T) {
		tf.Configure(t, configure(hosts[:3], hosts[3:]))
		tf.Apply(t)
		tf.Settled(t)
		status, err := controlOf(t, hosts[0]).Cluster(t.Context())
		if err != nil || len(status.Members) != 3 {
			t.Errorf("%+v, %v", status, err)
		}
		// Keys stay on the nodes, and nobody needs a secret to join.
		state, err := os.ReadFile(filepath.Join(tf.Dir, "terraform.tfstate"))
		if err != nil || strings.Contains(string(state), "PRIVATE") {
			t.Errorf("the state has a private key, or is not there: %v", err)
		}
		sameKeys(t, hosts[:3]...)
		hosts[1].says(t, []string{"secrets", "rotate-key"}, "1 values are sealed with the new key")
		sameKeys(t, hosts[:3]...)
	})
	step("the leader is lost", func(t *testing.T) {
		began := time.Now()
		hosts[0].End(os.Kill)
		control := controlOf(t, hosts[1:3]...)
		for {
			status, err := control.Cluster(t.Context())
			if err == nil && status.Leader != "" && status.Waiting == "" {
				break
			}
			if time.Since(began) > 30*time.Second {
				t.Fatalf("nobody leads: %+v, %v", status, err)
			}
		}
		t.Logf("another server leads after %s", time.Since(began).Round(time.Millisecond))
		// Its replicas run elsewhere, from an image that was pushed to it.
		count := allRun(t, control)
		t.Logf("its replicas run elsewhere after %s: %v", time.Since(began).Round(time.Millisecond), count)
		hosts[0].Start(t)
	})
	step("two servers' machines go at once", func(t *testing.T) {
		control := controlOf(t, hosts[:3]...)
		members := func(n int) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var last resources.ClusterStatus
			err := control.WatchCluster(ctx, func(s resources.ClusterStatus) (bool, error) {
				last = s
				return len(s.Members) != n || s.Waiting != "", nil
			})
			if err != nil {
				t.Fatalf("%d servers: %v, %+v", n, err, last)
			}
		}
		members(3) // the first one is back
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		group, ctx := errgroup.WithContext(ctx)
		dialer := client.NewDialer(client.Options{})
		t.Cleanup(dialer.Close)
		for _, h := range hosts[1:3] {
			endpoint, err := resources.ParseEndpoint(h.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			group.Go(func() error { return dialer.Agent(endpoint).Leave(ctx, false) })
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		hosts[1].End(os.Kill)
		hosts[2].End(os.Kill)
		members(1)
		if count := allRun(t, control); count[hosts[1].Node(t)]+count[hosts[2].Node(t)] > 0 {
			t.Errorf("replicas run on %v", count)
		}
		// Where they come back, they are what they were.
		hosts[1].Start(t)
		hosts[2].Start(t)
		members(3)
		sameKeys(t, hosts[:3]...)
	})
	step("a worker leaves", func(t *testing.T) {
		tf.Configure(t, configure(hosts[:3], nil))
		tf.Apply(t)
		tf.Settled(t)
		nodes, err := controlOf(t, hosts[0]).Nodes(t.Context())
		if err != nil || len(nodes) != 3 {
			t.Errorf("%d nodes, %v", len(nodes), err)
		}
	})
	step("servers leave", func(t *testing.T) {
		tf.Configure(t, configure(hosts[1:2], nil))
		tf.Apply(t)
		tf.Settled(t)
		if count := allRun(t, controlOf(t, hosts[1])); len(count) != 1 {
			t.Errorf("replicas run on %v", count)
		}
	})
	step("everything is lost but a snapshot", func(t *testing.T) {
		// A worker lives on.
		tf.Configure(t, configure(hosts[1:2], hosts[3:]))
		tf.Apply(t)
		file := filepath.Join(t.TempDir(), "snapshot")
		hosts[1].skerry(t, "cluster", "snapshot", "save", file, "--endpoint", "unix://"+filepath.Join(hosts[1].Dir, "run", "server.sock"))
		hosts[1].End(os.Kill)
		hosts[2].skerry(t, "cluster", "snapshot", "restore", file,
			"--data", filepath.Join(hosts[2].Dir, "data"), "--run", filepath.Join(hosts[2].Dir, "run"))
		services, err := controlOf(t, hosts[2]).Services(t.Context())
		if err != nil || len(services) != 1 || services[0].Service.Name != "web" {
			t.Fatalf("services %+v, %v", services, err)
		}
		tf.Configure(t, configure(hosts[2:3], hosts[3:]))
		tf.Apply(t)
		tf.Settled(t)
		control := controlOf(t, hosts[2])
		allRun(t, control)
		if nodes, err := control.Nodes(t.Context()); err != nil || len(nodes) != 2 {
			t.Errorf("%d nodes, %v", len(nodes), err)
		}
		hosts[2].says(t, []string{"secrets", "rotate-key"}, "1 values are sealed with the new key")
	})
	tf.Destroy(t)
}

// skerry runs the command on the host.
func (d *dev) skerry(t *testing.T, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), skerry(), args...)
	c.Env = append(os.Environ(), "SKERRY_PASSPHRASE=correct horse battery")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("skerry %s: %v: %s", strings.Join(args, " "), err, out)
	}
}
