package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/resources"
)

func node(name string, cpu resources.MilliCPU, memory resources.Bytes) schedule.Node {
	return schedule.Node{Ready: true, NodeInfo: resources.NodeInfo{
		ID: resources.NodeID(name), Name: name, Allocatable: resources.Capacity{CPU: cpu, Memory: memory},
	}}
}

func template(cpu resources.MilliCPU, memory resources.Bytes, ports ...int) resources.Template {
	t := resources.Template{Resources: resources.Reservation{CPU: cpu, Memory: memory}}
	for _, p := range ports {
		t.Ports = append(t.Ports, resources.Port{Target: p, Protocol: "tcp"})
	}
	return t
}

func TestPlace(t *testing.T) {
	busy := node("a", 1000, resources.GiB)
	busy.Replicas = []resources.Replica{{Service: "web", Template: template(600, 512*resources.MiB, 80)}}
	silent := node("s", 1000, resources.GiB)
	silent.Ready = false
	for _, c := range []struct {
		name     string
		nodes    []schedule.Node
		template resources.Template
		want     string
	}{
		{"the emptier node", []schedule.Node{busy, node("b", 1000, resources.GiB)}, template(100, resources.MiB), "b"},
		{"equal nodes by name", []schedule.Node{node("c", 1000, resources.GiB), node("b", 1000, resources.GiB)}, template(100, resources.MiB), "b"},
		{"no nodes", nil, template(1, 1), "the cluster has no nodes"},
		{"too much memory", []schedule.Node{busy}, template(100, resources.GiB), "no node can take the replica: 1 of 1 short of memory, by 512MiB at least: lower resources.memory, or add a node"},
		{"every reason", []schedule.Node{busy, silent, node("d", 300, resources.GiB)}, template(350, resources.MiB, 80), "no node can take the replica: 1 of 3 not ready; 1 of 3 short of cpu, by 50m at least: lower resources.cpu, or add a node; 1 of 3 with port 80/tcp is taken by service web: publish another one, or add a node"},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, refusal := schedule.Place(c.nodes, c.template)
			got := string(id)
			if refusal != nil {
				got = refusal.String()
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("placement (-want +got):\n%s", diff)
			}
		})
	}
}

// A node never promises more than it has, and the order of the nodes decides
// nothing.
func TestPlaceNeverOvercommits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []schedule.Node
		for i := range rapid.IntRange(0, 5).Draw(t, "nodes") {
			nodes = append(nodes, node(fmt.Sprint("n", i), resources.MilliCPU(rapid.IntRange(0, 4000).Draw(t, "cpu")), resources.Bytes(rapid.IntRange(0, 4096).Draw(t, "memory"))))
		}
		for i := range rapid.IntRange(0, 30).Draw(t, "replicas") {
			tmpl := template(resources.MilliCPU(rapid.IntRange(1, 1000).Draw(t, "cpu")), resources.Bytes(rapid.IntRange(1, 1024).Draw(t, "memory")))
			id, _ := schedule.Place(nodes, tmpl)
			rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
			if again, _ := schedule.Place(nodes, tmpl); again != id {
				t.Fatalf("replica %d goes to %q, and to %q when the nodes are shuffled", i, id, again)
			}
			for j := range nodes {
				n := &nodes[j]
				if n.ID == id {
					n.Replicas = append(n.Replicas, resources.Replica{Template: tmpl})
				}
				if r := n.Reserved(); r.CPU > n.Allocatable.CPU || r.Memory > n.Allocatable.Memory {
					t.Fatalf("%s has promised %v of %v", n.Name, r, n.Allocatable)
				}
			}
		}
	})
}
