package schedule_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/resources"
)

// reference is the scheduler written for reading: one replica after the other,
// every node from the beginning each time. It knows neither priorities nor
// replicas that stop.
type reference struct {
	nodes  []schedule.Node
	placed []schedule.Replica
}

// place returns the node of each replica, by ID; an empty one where none fits.
func (r *reference) place(pending []schedule.Replica) map[resources.ReplicaID]resources.NodeID {
	queue := slices.Clone(pending)
	slices.SortStableFunc(queue, func(a, b schedule.Replica) int {
		x, y := a.Demand, b.Demand
		return cmp.Or(
			cmp.Compare(y.Resources.Memory, x.Resources.Memory), cmp.Compare(y.Resources.CPU, x.Resources.CPU),
			cmp.Compare(x.Service, y.Service), cmp.Compare(x.Revision, y.Revision), cmp.Compare(a.ID, b.ID))
	})
	out := map[resources.ReplicaID]resources.NodeID{}
	for _, p := range queue {
		var best *schedule.Node
		for i := range r.nodes {
			n := &r.nodes[i]
			if r.fits(n, p.Demand) && (best == nil || slices.Compare(r.rank(n, p.Demand), r.rank(best, p.Demand)) < 0) {
				best = n
			}
		}
		out[p.ID] = ""
		if best != nil {
			out[p.ID], p.Node = best.ID, best.ID
			r.placed = append(r.placed, p)
		}
	}
	return out
}

// on counts the replicas for which keep holds on the node.
func (r *reference) on(n *schedule.Node, keep func(schedule.Replica) bool) int {
	count := 0
	for _, p := range r.placed {
		if p.Node == n.ID && keep(p) {
			count++
		}
	}
	return count
}

func (r *reference) reserved(n *schedule.Node) (cpu, memory int64) {
	for _, p := range r.placed {
		if p.Node == n.ID {
			cpu += int64(p.Demand.Resources.CPU)
			memory += int64(p.Demand.Resources.Memory)
		}
	}
	return cpu, memory
}

func (r *reference) fits(n *schedule.Node, d *schedule.Demand) bool {
	cpu, memory := r.reserved(n)
	if !n.Ready || n.Cordoned || n.Draining || n.DiskPressure ||
		cpu+int64(d.Resources.CPU) > int64(n.Allocatable.CPU) || memory+int64(d.Resources.Memory) > int64(n.Allocatable.Memory) {
		return false
	}
	for _, text := range d.Placement.Constraints {
		if !fulfils(n, text) {
			return false
		}
	}
	for _, text := range n.Taints {
		if taint, _ := resources.ParseTaint(text); taint.Effect != resources.PreferNoSchedule && !tolerated(d, taint) {
			return false
		}
	}
	takes := func(p resources.Port) bool { return n.Overlay == nil || p.Mode != resources.PortCluster }
	for _, want := range d.Ports {
		if takes(want) && r.on(n, func(p schedule.Replica) bool {
			return slices.ContainsFunc(p.Demand.Ports, func(have resources.Port) bool { return takes(have) && have.Node() == want.Node() })
		}) > 0 {
			return false
		}
	}
	for _, key := range d.Placement.Spread {
		if !slices.ContainsFunc(r.nodes, func(n schedule.Node) bool { _, found := n.Labels[key]; return found }) {
			return false
		}
	}
	most := d.Placement.MaxReplicasPerNode
	return most == 0 || r.on(n, func(p schedule.Replica) bool { return p.Demand.Service == d.Service }) < most
}

func fulfils(n *schedule.Node, text string) bool {
	c, err := resources.ParseCondition(text)
	if err != nil {
		return false
	}
	value, found := n.Labels[c.Key]
	return c.Matches(value, found)
}

func tolerated(d *schedule.Demand, taint resources.Taint) bool {
	return slices.ContainsFunc(d.Placement.Tolerations, func(text string) bool {
		t, _ := resources.ParseToleration(text)
		return t.Tolerates(taint)
	})
}

// rank is what nodes are ordered by, the smallest first.
func (r *reference) rank(n *schedule.Node, d *schedule.Demand) []string {
	var rank []string
	add := func(value int64) { rank = append(rank, fmt.Sprintf("%020d", value)) }
	same := func(p schedule.Replica) bool { return p.Demand.Service == d.Service && p.Demand.Revision == d.Revision }
	labels := d.Placement.Spread
	for i := range labels {
		// The nodes that have the same values up to this label are one domain.
		domain := int64(0)
		for j := range r.nodes {
			if values(&r.nodes[j], labels[:i+1]) == values(n, labels[:i+1]) {
				domain += int64(r.on(&r.nodes[j], same))
			}
		}
		if _, found := n.Labels[labels[i]]; !found {
			domain += 1 << 40
		}
		add(domain)
	}
	if len(labels) > 1 {
		// Between domains with as many replicas, the best node below decides,
		// which comparing node with node does not show.
		panic("the reference knows one label to spread over")
	}
	add(r.distance(n, d))
	unwelcome := int64(0)
	for _, text := range n.Taints {
		if taint, _ := resources.ParseTaint(text); taint.Effect == resources.PreferNoSchedule && !tolerated(d, taint) {
			unwelcome++
		}
	}
	add(unwelcome)
	cpu, memory := r.reserved(n)
	share := func(used, all int64) int64 {
		if all <= 0 || used >= all {
			return 1 << 20
		}
		return used << 20 / all
	}
	full := max(share(cpu+int64(d.Resources.CPU), int64(n.Allocatable.CPU)),
		share((memory+int64(d.Resources.Memory))/1024, int64(n.Allocatable.Memory)/1024))
	if d.Placement.Strategy == resources.StrategyBinpack {
		full = 1<<20 - full
	} else {
		add(int64(r.on(n, same)))
	}
	add(full * 32 >> 20)
	pull := int64(1)
	if slices.Contains(n.Images, d.Image) || r.on(n, func(p schedule.Replica) bool { return p.Demand.Image == d.Image }) > 0 {
		pull = 0
	}
	add(pull)
	add(full)
	return append(rank, n.Name)
}

// distance counts the wishes that the node does not grant.
func (r *reference) distance(n *schedule.Node, d *schedule.Demand) int64 {
	granted := func(text string) bool {
		c, _ := resources.ParseCondition(text)
		if !c.Service() {
			return fulfils(n, text)
		}
		return r.on(n, func(p schedule.Replica) bool {
			if key, byLabel := c.ServiceLabel(); byLabel {
				value, found := p.Demand.Labels[key]
				return c.Matches(value, found)
			}
			return c.Matches(p.Demand.Service, true)
		}) > 0
	}
	missed := int64(0)
	for _, text := range d.Placement.Affinity {
		if !granted(text) {
			missed++
		}
	}
	for _, text := range d.Placement.AntiAffinity {
		if granted(text) {
			missed++
		}
	}
	return missed
}

func values(n *schedule.Node, labels []string) string {
	var all []string
	for _, key := range labels {
		value, found := n.Labels[key]
		all = append(all, fmt.Sprint(value, found))
	}
	return strings.Join(all, "/")
}
