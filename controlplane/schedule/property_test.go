package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/resources"
)

// drawNodes draws a small cluster in which everything happens: labels, taints,
// nodes that take nothing.
func drawNodes(t *rapid.T, most int) []schedule.Node {
	var nodes []schedule.Node
	for i := range rapid.IntRange(0, most).Draw(t, "nodes") {
		n := schedule.Node{Ready: likely(t, "ready"), Cordoned: !likely(t, "not cordoned"), DiskPressure: !likely(t, "disk")}
		n.ID, n.Name, n.Labels = resources.NodeID(fmt.Sprint("id", i)), fmt.Sprint("n", i), map[string]string{}
		n.Allocatable.CPU = resources.MilliCPU(100 * rapid.IntRange(0, 60).Draw(t, "cpu"))
		n.Allocatable.Memory = resources.Bytes(rapid.IntRange(0, 50).Draw(t, "memory")) * 64 * resources.MiB
		for _, key := range []string{"zone", "disk"} {
			if value := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, key); value != "" {
				n.Labels[key] = value
			}
		}
		if !likely(t, "untainted") {
			n.Taints = []string{rapid.SampledFrom([]string{"gpu:NoSchedule", "old:PreferNoSchedule"}).Draw(t, "taint")}
		}
		if rapid.Bool().Draw(t, "networked") {
			n.Overlay = &resources.NodeOverlay{}
		}
		if rapid.Bool().Draw(t, "an image") {
			n.Images = []string{"nginx"}
		}
		nodes = append(nodes, n)
	}
	return nodes
}

func likely(t *rapid.T, label string) bool { return rapid.IntRange(0, 5).Draw(t, label) > 0 }

// some draws elements of a list.
func some(t *rapid.T, label string, from ...string) []string {
	return slices.DeleteFunc(slices.Clone(from), func(string) bool { return likely(t, label) })
}

func drawDemand(t *rapid.T, service string, revision int) *schedule.Demand {
	d := &schedule.Demand{Service: service, Revision: revision, Image: rapid.SampledFrom([]string{"nginx", "redis"}).Draw(t, "image")}
	d.Resources.CPU = resources.MilliCPU(50 * rapid.IntRange(0, 8).Draw(t, "cpu"))
	d.Resources.Memory = resources.Bytes(rapid.IntRange(0, 8).Draw(t, "memory")) * 32 * resources.MiB
	if !likely(t, "no port") {
		d.Ports = []resources.Port{{Target: rapid.IntRange(80, 81).Draw(t, "port"), Protocol: "tcp", Mode: rapid.SampledFrom([]string{"", resources.PortHost, resources.PortCluster}).Draw(t, "mode")}}
	}
	if !likely(t, "no label") {
		d.Labels = map[string]string{"tier": "web"}
	}
	p := &d.Placement
	p.Constraints = some(t, "constraint", "zone == a", "disk != b", "zone in (b, c)", "zone exists")
	p.Affinity = some(t, "affinity", "disk == a", "service == s0", "service.tier == web")
	p.AntiAffinity = some(t, "anti-affinity", "disk == b", "service == s1", "service.tier exists")
	p.Tolerations = some(t, "toleration", "gpu", "old")
	p.Strategy = rapid.SampledFrom([]string{"spread", "spread", "binpack"}).Draw(t, "strategy")
	p.MaxReplicasPerNode = rapid.SampledFrom([]int{0, 0, 1, 2, 3}).Draw(t, "max")
	if !likely(t, "no spread") {
		p.Spread = []string{rapid.SampledFrom([]string{"zone", "disk", "unknown"}).Draw(t, "spread")}
	}
	return d
}

// workload draws replicas of services, which are revised now and then.
type workload struct {
	demands map[string]*schedule.Demand
	made    int
}

func (w *workload) draw(t *rapid.T, services, each int) []schedule.Replica {
	if w.demands == nil {
		w.demands = map[string]*schedule.Demand{}
	}
	var all []schedule.Replica
	for i := range rapid.IntRange(0, services).Draw(t, "services") {
		name := fmt.Sprint("s", i)
		if old := w.demands[name]; old == nil || rapid.Bool().Draw(t, "revised") {
			w.made++
			w.demands[name] = drawDemand(t, name, w.made)
		}
		for range rapid.IntRange(0, each).Draw(t, "replicas") {
			w.made++
			all = append(all, schedule.Replica{ID: resources.ReplicaID(fmt.Sprintf("%s-%d", name, w.made)), Demand: w.demands[name]})
		}
	}
	return all
}

// One batch puts every replica where the reference puts it, which looks at each
// one alone.
func TestPlaceEqualsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, 8)
		cluster := schedule.New(nodes, nil)
		slow := &reference{nodes: nodes}
		var work workload
		for range rapid.IntRange(1, 3).Draw(t, "batches") {
			pending := work.draw(t, 4, 6)
			want := slow.place(pending)
			got := map[resources.ReplicaID]resources.NodeID{}
			for _, d := range cluster.Place(pending) {
				got[d.Replica] = d.Node
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("placements (-reference +batch):\n%s", diff)
			}
		}
	})
}

// The counts of a refusal sum to the number of nodes, and it is temporary only
// where a node is silent or there is none.
func TestRefusalsCountEveryNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := drawNodes(t, 6)
		silent := slices.ContainsFunc(nodes, func(n schedule.Node) bool { return !n.Ready })
		for _, d := range schedule.New(nodes, nil).Place((&workload{}).draw(t, 3, 8)) {
			if d.Refusal == nil {
				continue
			}
			sum := 0
			for _, reason := range d.Refusal.Reasons {
				sum += reason.Count
			}
			if sum != len(nodes) || d.Refusal.Nodes != len(nodes) {
				t.Fatalf("%d nodes, and the refusal counts %d: %s", len(nodes), sum, d.Refusal)
			}
			if d.Refusal.Temporary() && !silent && len(nodes) > 0 {
				t.Fatalf("no node is silent, and the refusal is temporary: %s", d.Refusal)
			}
		}
	})
}

// Neither the order of the nodes nor that of the replicas decides anything.
func TestOrderDecidesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes, pending := drawNodes(t, 6), (&workload{}).draw(t, 4, 5)
		half := schedule.New(nodes, nil)
		var placed []schedule.Replica
		for i, d := range half.Place(pending[:len(pending)/2]) {
			if r := pending[i]; d.Node != "" {
				r.Node = d.Node
				placed = append(placed, r)
			}
		}
		pending = pending[len(pending)/2:]
		decide := func() map[resources.ReplicaID]string {
			got := map[resources.ReplicaID]string{}
			for _, d := range schedule.New(nodes, placed).Place(pending) {
				got[d.Replica] = fmt.Sprint(d.Node, d.Refusal, d.Preempt)
			}
			return got
		}
		want := decide()
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		rand.Shuffle(len(placed), func(i, j int) { placed[i], placed[j] = placed[j], placed[i] })
		rand.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })
		if diff := cmp.Diff(want, decide()); diff != "" {
			t.Fatalf("decisions after a shuffle (-before +after):\n%s", diff)
		}
	})
}

// Zones that have room differ by at most one replica.
func TestSpreadIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []schedule.Node
		zones := rapid.IntRange(1, 5).Draw(t, "zones")
		for i := range rapid.IntRange(zones, 20).Draw(t, "nodes") {
			n := schedule.Node{Ready: true}
			n.ID, n.Name = resources.NodeID(fmt.Sprint("n", i)), fmt.Sprint("n", i)
			n.Labels = map[string]string{"zone": fmt.Sprint(i % zones)}
			n.Allocatable = resources.Capacity{CPU: 1e9, Memory: resources.PiB}
			nodes = append(nodes, n)
		}
		d := &schedule.Demand{Service: "web", Resources: resources.Reservation{CPU: 100, Memory: resources.MiB}, Placement: resources.Placement{Spread: []string{"zone"}}}
		var pending []schedule.Replica
		for i := range rapid.IntRange(1, 100).Draw(t, "replicas") {
			pending = append(pending, schedule.Replica{ID: resources.ReplicaID(fmt.Sprint("web-", i)), Demand: d})
		}
		perZone, perNode := make([]int, zones), map[string][]int{}
		on := map[resources.NodeID]int{}
		for _, decision := range schedule.New(nodes, nil).Place(pending) {
			on[decision.Node]++
		}
		for i, n := range nodes {
			perZone[i%zones] += on[n.ID]
			perNode[n.Labels["zone"]] = append(perNode[n.Labels["zone"]], on[n.ID])
		}
		if skew := slices.Max(perZone) - slices.Min(perZone); skew > 1 {
			t.Fatalf("zones have %v replicas", perZone)
		}
		for zone, counts := range perNode {
			if skew := slices.Max(counts) - slices.Min(counts); skew > 1 {
				t.Fatalf("the nodes of zone %s have %v replicas", zone, counts)
			}
		}
	})
}
