package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Move is a proposal to replace a replica by one on another node.
type Move struct {
	Replica  resources.ReplicaID
	From, To resources.NodeID
	// Reason is a clause for people, as in "zone a has 3 more than zone b".
	Reason string
}

// minGain is by how many parts of 1/32 the new node has to be emptier (fuller,
// with binpack), where that is all that is better about it: a replica that
// moves for less costs more than it gains.
const minGain = 4

// Rebalance proposes moves, at most as many as limit, after which replicas are
// where they would be placed today, as far as that is clearly better. The
// Cluster stays as it is. No replica moves twice, and after the moves there are
// none to propose, unless limit cut them off.
func (c *Cluster) Rebalance(limit int) []Move {
	w := c.clone()
	w.order()
	var moves []Move
	moved := map[resources.ReplicaID]bool{}
	for _, t := range w.byImportance() {
		for len(moves) < limit {
			move, found := w.improve(t, moved)
			if !found {
				break
			}
			moved[move.Replica] = true
			moves = append(moves, move)
		}
	}
	return moves
}

// clone copies what placing and removing replicas changes.
func (c *Cluster) clone() *Cluster {
	copied := New(nil, nil)
	for _, n := range c.byID {
		copied.PutNode(n.Node)
	}
	for id, n := range c.byID {
		for _, r := range n.residents {
			copied.Add(Replica{ID: r.id, Demand: r.demand, Node: id, Stopping: r.stopping})
		}
	}
	return copied
}

// byImportance lists the demands that have replicas: those of a high priority
// first, then the largest, then by name.
func (c *Cluster) byImportance() []*Demand {
	byRevision := map[revision]*Demand{}
	for _, n := range c.nodes {
		for _, r := range n.residents {
			byRevision[revision{r.demand.Service, r.demand.Revision}] = r.demand
		}
	}
	var all []*Demand
	for _, d := range byRevision {
		all = append(all, d)
	}
	slices.SortFunc(all, func(x, y *Demand) int {
		return cmp.Or(
			cmp.Compare(y.Placement.Priority, x.Placement.Priority),
			cmp.Compare(y.Resources.Memory, x.Resources.Memory),
			cmp.Compare(y.Resources.CPU, x.Resources.CPU),
			strings.Compare(x.Service, y.Service),
			cmp.Compare(x.Revision, y.Revision),
		)
	})
	return all
}

// improve moves the replica of the demand that stands worst, if any is clearly
// better elsewhere.
func (c *Cluster) improve(d *Demand, moved map[resources.ReplicaID]bool) (Move, bool) {
	g := c.group(d)
	type place struct {
		replica  resources.ReplicaID
		standing standing
	}
	var places []place
	for n := range g.tally.on {
		for _, r := range sortedResidents(n) {
			if r.stopping || moved[r.id] || r.demand.Service != d.Service || r.demand.Revision != d.Revision || !n.Ready {
				continue
			}
			places = append(places, place{r.id, g.standing(n)})
			break
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(b.standing.compare(a.standing), cmp.Compare(a.standing.node.rank, b.standing.node.rank))
	})
	for i, s := range places {
		// Nodes that stand alike have the same alternatives.
		if i > 0 && places[i-1].standing.compare(s.standing) == 0 {
			continue
		}
		if move, found := c.try(d, s.replica, s.standing.node); found {
			return move, true
		}
	}
	return Move{}, false
}

// try moves a replica from its node, if another one is clearly better.
func (c *Cluster) try(d *Demand, id resources.ReplicaID, from *node) (Move, bool) {
	c.Remove(from.ID, id)
	g := c.group(d)
	to := g.domains().next()
	if to == nil {
		c.settle(from, c.tally(d), resident{id: id, demand: d})
		return Move{}, false
	}
	here, there := g.standing(from), g.standing(to)
	why := here.worseThan(there, g)
	if why == "" {
		c.settle(from, c.tally(d), resident{id: id, demand: d})
		return Move{}, false
	}
	c.settle(to, c.tally(d), resident{id: id, demand: d})
	return Move{Replica: id, From: from.ID, To: to.ID, Reason: why}, true
}

// standing is what one more replica on a node would mean, without what is too
// small to move for.
type standing struct {
	node *node
	// domains are the replicas in the node's domain of each label; those
	// without the label stand behind all others.
	domains []int64
	score   score
}

func (g *group) standing(n *node) standing {
	s := standing{node: n, score: g.rate(n.seat)}
	same := make([]bool, len(g.c.nodes))
	for i := range same {
		same[i] = true
	}
	for _, label := range g.levels {
		sum := int64(0)
		for i := range same {
			same[i] = same[i] && label.of[i] == label.of[n.rank]
			if same[i] {
				sum += int64(g.wanted[i])
			}
		}
		if int(label.of[n.rank]) == label.values {
			sum += 1 << 40
		}
		s.domains = append(s.domains, sum)
	}
	return s
}

// wish is the part of the score above how full the node is.
func (s standing) wish() uint64 { return s.score.high >> countShift }

// level is how full it is, in parts of 1/32; how empty with binpack.
func (s standing) level() uint64 { return s.score.high >> levelShift & 0xff }

func (s standing) compare(other standing) int {
	return cmp.Or(
		slices.Compare(s.domains, other.domains),
		cmp.Compare(s.wish(), other.wish()),
		cmp.Compare(s.level(), other.level()),
	)
}

// worseThan says what is clearly worse than elsewhere, or nothing.
func (s standing) worseThan(other standing, g *group) string {
	for i, replicas := range s.domains {
		if better := other.domains[i]; replicas != better {
			if replicas < better {
				return ""
			}
			key := g.demand.Placement.Spread[i]
			here, found := s.node.Labels[key]
			if !found {
				return fmt.Sprintf("node %s has no label %s", s.node.Name, key)
			}
			return fmt.Sprintf("%s %s has %d more than %s %s", key, here, replicas-better+1, key, other.node.Labels[key])
		}
	}
	if s.wish() < other.wish() {
		return ""
	}
	mask := func(shift int) uint64 { return s.score.high>>shift - other.score.high>>shift }
	switch {
	case mask(affinityShift) > 0:
		return fmt.Sprintf("node %s suits its affinities better", other.node.Name)
	case mask(taintShift) > 0:
		return fmt.Sprintf("node %s is tainted", s.node.Name)
	case mask(countShift) > 0:
		return fmt.Sprintf("node %s has %d more of %s than node %s", s.node.Name, mask(countShift)+1, g.demand.Service, other.node.Name)
	case s.level() >= other.level()+minGain && g.score.binpack:
		return fmt.Sprintf("node %s is fuller than node %s", other.node.Name, s.node.Name)
	case s.level() >= other.level()+minGain:
		return fmt.Sprintf("node %s is emptier than node %s", other.node.Name, s.node.Name)
	}
	return ""
}
