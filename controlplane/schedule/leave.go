package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Misplacement is a replica that has to leave its node.
type Misplacement struct {
	Replica resources.ReplicaID
	Node    resources.NodeID
	// Reason is a clause for people, as in "node a is drained".
	Reason string
}

// Misplaced lists the replicas that may not stay where they are, by ID: their
// node is drained, has a taint NoExecute that they don't tolerate, or no longer
// meets their constraints; or there are more of a service than it allows on a
// node. What a replica would only not be placed on again, it does not leave.
func (c *Cluster) Misplaced() []Misplacement {
	c.order()
	var all []Misplacement
	groups := map[*Demand]*group{}
	for _, n := range c.nodes {
		perService := map[string]int{}
		residents := n.residents
		if slices.ContainsFunc(residents, func(r resident) bool { return r.demand.Placement.MaxReplicasPerNode > 0 }) {
			residents = sortedResidents(n) // those that are too many are the last ones
		}
		for _, r := range residents {
			if r.stopping {
				continue
			}
			g := groups[r.demand]
			if g == nil {
				g = c.group(r.demand)
				groups[r.demand] = g
			}
			perService[r.demand.Service]++
			if why := g.leaves(n, perService[r.demand.Service]); why != "" {
				all = append(all, Misplacement{Replica: r.id, Node: n.ID, Reason: why})
			}
		}
	}
	slices.SortFunc(all, func(a, b Misplacement) int { return strings.Compare(string(a.Replica), string(b.Replica)) })
	return all
}

func sortedResidents(n *node) []resident {
	return slices.SortedFunc(slices.Values(n.residents), func(a, b resident) int { return strings.Compare(string(a.id), string(b.id)) })
}

// leaves says why a replica of the group has to leave the node, where count of
// the service are there with it; or nothing.
func (g *group) leaves(n *node, count int) string {
	switch {
	case n.Draining:
		return fmt.Sprintf("node %s is drained", n.Name)
	case g.problem != "":
		return ""
	case g.max > 0 && count > int(g.max):
		return fmt.Sprintf("node %s has more than %d replicas of %s", n.Name, g.max, g.demand.Service)
	case g.bound != nil && !g.bound[n.ID]:
		return fmt.Sprintf("node %s is without %s", n.Name, g.demand.Bound.To)
	}
	for i, fulfilled := range g.constraints {
		if !fulfilled[n.rank] {
			return fmt.Sprintf("node %s doesn't meet %s", n.Name, g.demand.Placement.Constraints[i])
		}
	}
	for _, taint := range n.taints {
		if taint.Effect == resources.NoExecute && !g.tolerates(taint) {
			return fmt.Sprintf("node %s is tainted %s", n.Name, taint)
		}
	}
	return ""
}

// GlobalNodes lists the nodes that run a replica of a global service, by name:
// those that meet its placement and are large enough. A node that takes no new
// replicas keeps the one that it has. One whose room is promised to others is
// among them, so that its replica waits and says why.
func (c *Cluster) GlobalNodes(d *Demand) []resources.NodeID {
	g := c.group(d)
	defer c.tidy(g.tally)
	var ids []resources.NodeID
	for _, n := range c.nodes {
		kind := g.lasting(n).kind
		keeps := (kind == Cordoned || kind == DiskFull) && !n.Draining && g.serviceOn(n) > 0
		if kind == none || keeps {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// serviceOn counts the replicas of the service on the node, of any revision,
// that don't stop.
func (g *group) serviceOn(n *node) int32 {
	var sum int32
	for t := range g.c.byService[g.demand.Service] {
		sum += t.on[n].wanted()
	}
	return sum
}
