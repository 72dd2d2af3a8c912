package schedule_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/resources"
)

// life is a cluster over time: replicas wait, run, stop, and are replaced.
type life struct {
	*rapid.T
	nodes   []schedule.Node
	placed  []schedule.Replica
	pending []schedule.Replica
	made    int
}

// lead places what waits, and checks each decision.
func (l *life) lead(c *schedule.Cluster) (preempted int) {
	decisions := c.Place(l.pending)
	stopping := map[resources.ReplicaID]bool{}
	var waiting []schedule.Replica
	for i, d := range decisions {
		r := l.pending[i]
		if (d.Node == "") == (d.Refusal == nil) {
			l.Fatalf("%s has node %q and refusal %v", r.ID, d.Node, d.Refusal)
		}
		for _, id := range d.Preempt {
			if stopping[id] {
				l.Fatalf("%s is stopped twice", id)
			}
			stopping[id] = true
			l.checkVictim(r, id, d)
		}
		if d.Node == "" {
			waiting = append(waiting, r)
			continue
		}
		r.Node = d.Node
		l.placed = append(l.placed, r)
	}
	for i := range l.placed {
		l.placed[i].Stopping = l.placed[i].Stopping || stopping[l.placed[i].ID]
	}
	l.pending = waiting
	l.checkNodes()
	return len(stopping)
}

// checkVictim holds that only who is less important stops, and only where
// somebody waits for it.
func (l *life) checkVictim(r schedule.Replica, id resources.ReplicaID, d schedule.Decision) {
	i := slices.IndexFunc(l.placed, func(p schedule.Replica) bool { return p.ID == id })
	if i < 0 {
		l.Fatalf("%s is to stop, and is not placed", id)
	}
	victim := l.placed[i]
	if victim.Stopping || victim.Demand.Placement.Priority >= r.Demand.Placement.Priority {
		l.Fatalf("%v is to stop for %v", victim, r)
	}
	n := l.nodes[slices.IndexFunc(l.nodes, func(n schedule.Node) bool { return n.ID == victim.Node })]
	if !n.Ready || n.Name != d.Refusal.Room {
		l.Fatalf("%s is to stop on %s, and %s waits for %s", id, n.Name, r.ID, d.Refusal.Room)
	}
}

// checkNodes holds that no node has promised more than it has, and no port
// twice, and that the most replicas per node are not exceeded.
func (l *life) checkNodes() {
	for _, n := range l.nodes {
		var sum resources.Capacity
		ports, services := map[int]bool{}, map[string]int{}
		for _, r := range l.placed {
			if r.Node != n.ID {
				continue
			}
			sum.CPU, sum.Memory = sum.CPU+r.Demand.Resources.CPU, sum.Memory+r.Demand.Resources.Memory
			for _, p := range r.Demand.Ports {
				if n.Overlay != nil && p.Mode == resources.PortCluster {
					continue
				}
				if ports[p.Node()] {
					l.Fatalf("node %s publishes port %d twice", n.Name, p.Node())
				}
				ports[p.Node()] = true
			}
			services[r.Demand.Service]++
			if most := r.Demand.Placement.MaxReplicasPerNode; most > 0 && services[r.Demand.Service] > most {
				l.Fatalf("node %s has %d replicas of %s", n.Name, services[r.Demand.Service], r.Demand.Service)
			}
		}
		if sum.CPU > n.Allocatable.CPU || sum.Memory > n.Allocatable.Memory {
			l.Fatalf("node %s has %v, and has promised %v", n.Name, n.Allocatable, sum)
		}
	}
}

// gone lets those that stop be gone; each is wanted again elsewhere where
// replace says so.
func (l *life) gone(c *schedule.Cluster, replace bool) {
	var stays []schedule.Replica
	for _, r := range l.placed {
		if !r.Stopping {
			stays = append(stays, r)
			continue
		}
		if c != nil {
			c.Remove(r.Node, r.ID)
		}
		if replace {
			l.made++
			l.pending = append(l.pending, schedule.Replica{ID: resources.ReplicaID(fmt.Sprintf("%s-again-%d", r.Demand.Service, l.made)), Demand: r.Demand})
		}
	}
	l.placed = stays
}

func drawLife(t *rapid.T) *life {
	l := &life{T: t, nodes: drawNodes(t, 5)}
	for i := range rapid.IntRange(1, 5).Draw(t, "services") {
		d := drawDemand(t, fmt.Sprint("s", i), 1)
		d.Placement.Priority = rapid.IntRange(-1, 2).Draw(t, "priority")
		for j := range rapid.IntRange(0, 6).Draw(t, "replicas") {
			l.pending = append(l.pending, schedule.Replica{ID: resources.ReplicaID(fmt.Sprintf("s%d-%d", i, j)), Demand: d})
		}
	}
	return l
}

// Whatever waits, stops and comes back in whatever order, nothing is promised
// twice, and only the less important make room.
func TestNeverOvercommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		queue := l.pending
		l.pending = nil
		c := schedule.New(l.nodes, nil)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			more := rapid.IntRange(0, len(queue)).Draw(t, "more")
			l.pending, queue = append(l.pending, queue[:more]...), queue[more:]
			switch rapid.SampledFrom([]string{"nothing", "stop", "gone", "node", "anew"}).Draw(t, "event") {
			case "stop":
				for i := range l.placed {
					if r := &l.placed[i]; !r.Stopping && rapid.Bool().Draw(t, "stops") {
						c.Remove(r.Node, r.ID)
						r.Stopping = true
						c.Add(*r)
					}
				}
			case "gone":
				l.gone(c, rapid.Bool().Draw(t, "replace"))
			case "node":
				for i := range l.nodes {
					l.nodes[i].Ready = likely(t, "ready")
					c.PutNode(l.nodes[i])
				}
			case "anew": // a Cluster that is made anew knows the same
				c = schedule.New(l.nodes, l.placed)
			}
			l.lead(c)
		}
	})
}

// A Cluster that was kept up to date decides as one that is made anew.
func TestKeptUpToDate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		kept := schedule.New(l.nodes, nil)
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			l.lead(kept)
			if rapid.Bool().Draw(t, "gone") {
				l.gone(kept, true)
			}
		}
		want := schedule.New(l.nodes, l.placed).Place(l.pending)
		if diff := cmp.Diff(want, kept.Place(l.pending)); diff != "" {
			t.Fatalf("decisions (-anew +kept):\n%s", diff)
		}
	})
}

// Preemption comes to rest: the replicas that stopped wait, or are elsewhere,
// and nobody stops again and again.
func TestPreemptionComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		queue := l.pending
		l.pending = nil
		// Those of low priority are there first.
		for priority := -1; priority <= 2; priority++ {
			for _, r := range queue {
				if r.Demand.Placement.Priority == priority {
					l.pending = append(l.pending, r)
				}
			}
			for step := 0; ; step++ {
				preempted := l.lead(schedule.New(l.nodes, l.placed))
				stopping := slices.ContainsFunc(l.placed, func(r schedule.Replica) bool { return r.Stopping })
				if preempted == 0 && !stopping {
					break
				}
				if step > 100 {
					t.Fatalf("%d replicas stop in step %d", preempted, step)
				}
				l.gone(nil, true)
			}
		}
		for _, r := range l.pending {
			for _, d := range schedule.New(l.nodes, l.placed).Place([]schedule.Replica{r}) {
				if d.Node != "" || d.Preempt != nil {
					t.Fatalf("%s was left waiting, and could be placed: %v", r.ID, d)
				}
			}
		}
	})
}

// Rebalancing proposes what is valid, and then nothing more.
func TestRebalanceComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLife(t)
		before := slices.Clone(l.nodes)
		for i := range before {
			before[i].Cordoned = rapid.Bool().Draw(t, "cordoned before")
		}
		l.lead(schedule.New(before, nil))
		l.gone(nil, false)
		moves := schedule.New(l.nodes, l.placed).Rebalance(1000)
		if short := schedule.New(l.nodes, l.placed).Rebalance(len(moves) / 2); len(short) != len(moves)/2 {
			t.Fatalf("%d moves, and %d where %d are asked for", len(moves), len(short), len(moves)/2)
		}
		moved := map[resources.ReplicaID]bool{}
		for _, m := range moves {
			i := slices.IndexFunc(l.placed, func(r schedule.Replica) bool { return r.ID == m.Replica })
			if moved[m.Replica] || l.placed[i].Node != m.From || m.From == m.To || m.Reason == "" {
				t.Fatalf("%v is no move of %v", m, l.placed[i])
			}
			moved[m.Replica] = true
			l.placed[i].Node = m.To
		}
		l.checkNodes()
	})
}
