package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skerry-io/skerry/resources"
	"github.com/skerry-io/skerry/test/images"
	"github.com/skerry-io/skerry/test/testbed"
)

// operate runs skerry with the endpoint of the host, and gives its output and
// how it ended.
func (d *dev) operate(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), skerry(), args...)
	c.Env = append(c.Environ(), "SKERRY_ENDPOINT=unix://"+filepath.Join(d.Dir, "run", "server.sock"))
	c.Stdin = strings.NewReader(in)
	out, err := c.CombinedOutput()
	return string(out), err
}

// says fails unless skerry succeeds and says all that is wanted.
func (d *dev) says(t *testing.T, args []string, want ...string) string {
	t.Helper()
	out, err := d.operate(t, "", args...)
	for _, one := range want {
		if err != nil || !strings.Contains(out, one) {
			t.Errorf("skerry %s: %v, says nothing of %q:\n%s", strings.Join(args, " "), err, one, out)
		}
	}
	return out
}

// follows runs skerry until the test ends, and gives what reads its next line.
func (d *dev) follows(t *testing.T, args ...string) func(*testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	c := exec.CommandContext(ctx, skerry(), args...)
	c.Env = append(c.Environ(), "SKERRY_ENDPOINT=unix://"+filepath.Join(d.Dir, "run", "server.sock"))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		c.Wait() //nolint:errcheck // it was killed
	})
	lines := bufio.NewScanner(out)
	return func(t *testing.T) string {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("skerry %s ended", strings.Join(args, " "))
		}
		return lines.Text()
	}
}

// What a person does with a cluster, from one of its servers: the other host is
// a worker, whose agent only servers reach.
func TestOperations(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2)
	d := hosts[0]
	archive := images.Archive(t)
	tf := NewTerraform(t, bin, testbed.Configuration(plain(hosts[:1]), plain(hosts[1:2]), archive, fourReplicas))
	tf.Apply(t)
	t.Cleanup(func() { tf.Try(t, "destroy", "-auto-approve") }) //nolint:errcheck // the hosts go anyway

	var replicas []struct {
		Service string
		resources.ReplicaSummary
	}
	list := func() {
		t.Helper()
		if err := json.Unmarshal([]byte(d.says(t, []string{"replicas", "web", "--json"})), &replicas); err != nil {
			t.Fatal(err)
		}
	}
	list()
	if len(replicas) != 4 || replicas[0].Service != "web" {
		t.Fatalf("%d replicas, %+v", len(replicas), replicas)
	}
	d.says(t, []string{"status"}, "Cluster home", "(leads)", "web", "4/4")
	nodes := strings.Count(d.says(t, []string{"nodes"}, "server", "worker", "ready"), "\n")
	if nodes != 3 {
		t.Errorf("nodes are shown in %d lines", nodes)
	}
	d.says(t, []string{"services"}, "running", "4/4")
	d.says(t, []string{"events"}, "node/", "Joined", "RolledOut")

	t.Run("logs", func(t *testing.T) {
		for _, r := range replicas {
			d.says(t, []string{"logs", string(r.ID), "--tail", "1"}, "listening on :8080\n")
		}
		all := d.says(t, []string{"logs", "web"}, string(replicas[0].ID)+" | listening on")
		if strings.Count(all, " | listening on") != 4 {
			t.Errorf("the logs of all replicas are:\n%s", all)
		}
		if out, err := d.operate(t, "", "logs", "web-"); err == nil || !strings.Contains(out, "give more of its name") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("exec", func(t *testing.T) {
		for _, r := range replicas {
			out, err := d.operate(t, "typed\n", "exec", "-i", string(r.ID), "--", "/web", "-echo", "5")
			if exit := new(exec.ExitError); !asExit(err, &exit) || exit.ExitCode() != 5 || !strings.Contains(out, "typed\n") {
				t.Errorf("%v: %s", err, out)
			}
		}
		if out, err := d.operate(t, "", "exec", "web", "--", "/web"); err == nil || !strings.Contains(out, "has 4 replicas; name one") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("drain and rebalance", func(t *testing.T) {
		worker := ""
		for _, r := range replicas {
			if id := r.Node; id != "" && worker == "" && !isServer(t, d, id) {
				worker = string(id)
			}
		}
		if worker == "" {
			t.Fatal("no replica runs on the worker")
		}
		d.says(t, []string{"drain", worker[:6], "--timeout", "1m"}, "is drained")
		list()
		for _, r := range replicas {
			if string(r.Node) == worker {
				t.Errorf("%s is still there", r.ID)
			}
		}
		d.says(t, []string{"nodes"}, "ready,drained")
		if out, err := d.operate(t, "", "drain", "nobody"); err == nil || !strings.Contains(out, `there is no node "nobody"`) {
			t.Errorf("%v: %s", err, out)
		}
		d.says(t, []string{"uncordon", worker}, "gets replicas again")
		d.says(t, []string{"rebalance", "--dry-run"}, " -> ")
		d.says(t, []string{"rebalance", "--timeout", "1m"}, "every replica is where it belongs")
		list()
		count := map[resources.NodeID]int{}
		for _, r := range replicas {
			if r.Wanted {
				count[r.Node]++
			}
		}
		if count[resources.NodeID(worker)] != 2 {
			t.Errorf("replicas by node: %v", count)
		}
	})
	t.Run("follow", func(t *testing.T) {
		next := d.follows(t, "events", "--follow", "--json")
		id := string(replicas[0].Node)
		d.says(t, []string{"cordon", id}, "gets no more replicas")
		for {
			var e resources.Event
			if err := json.Unmarshal([]byte(next(t)), &e); err != nil {
				t.Fatal(err)
			}
			if e.Reason == "Availability" && strings.Contains(e.Message, "cordoned") {
				break
			}
		}
		d.says(t, []string{"uncordon", id})
	})
	t.Run("a node is gone for good", func(t *testing.T) {
		worker := string(hosts[1].Node(t))
		if out, err := d.operate(t, "", "node", "forget", worker); err == nil || !strings.Contains(out, "is heard") {
			t.Errorf("a node that is heard is forgotten: %v: %s", err, out)
		}
		hosts[1].PowerOff(t)
		for deadline := time.Now().Add(patience); !strings.Contains(d.says(t, []string{"nodes"}, "NODE"), "silent"); {
			if time.Now().After(deadline) {
				t.Fatal("the node is still heard")
			}
		}
		d.says(t, []string{"node", "forget", worker}, "is forgotten")
		if nodes := strings.Count(d.says(t, []string{"nodes"}, "NODE"), "\n"); nodes != 2 {
			t.Errorf("nodes are shown in %d lines", nodes)
		}
		hosts[1].PowerOn(t) // it knows of nothing, and the destroy tells it
	})
	tf.Destroy(t)
}

func asExit(err error, to **exec.ExitError) bool {
	exit, is := err.(*exec.ExitError) //nolint:errorlint // it is what exec gives
	*to = exit
	return is
}

func isServer(t *testing.T, d *dev, id resources.NodeID) bool {
	t.Helper()
	var nodes []resources.NodeStatus
	if err := json.NewDecoder(bytes.NewBufferString(d.says(t, []string{"nodes", "--json"}))).Decode(&nodes); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.ID == id {
			return n.Server
		}
	}
	return false
}
