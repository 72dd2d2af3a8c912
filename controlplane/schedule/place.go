package schedule

import (
	"cmp"
	"slices"
	"strings"
)

// Place decides for each replica where it runs, and reserves that. Replicas of
// a higher priority come first, then those that ask for more, then by service
// and ID; the order of pending decides nothing. Each decision stands where its
// replica does.
func (c *Cluster) Place(pending []Replica) []Decision {
	c.order()
	b := &batch{c: c, pending: pending, decisions: make([]Decision, len(pending))}
	for i := range pending {
		b.decisions[i].Replica = pending[i].ID
	}
	for _, share := range b.shares() {
		b.place(share)
	}
	for _, n := range b.claimed {
		n.claimed, n.claimedPorts = amount{}, nil
	}
	return b.decisions
}

// batch is one call of Place.
type batch struct {
	c         *Cluster
	pending   []Replica
	decisions []Decision
	buffers   buffers
	// claimed are nodes where room is kept for replicas that wait.
	claimed []*node
}

// sharing is the replicas of a batch that have the same demand, as indexes into
// the batch.
type sharing struct {
	demand  *Demand
	members []int32
}

func (b *batch) shares() []*sharing {
	byDemand := map[*Demand]*sharing{}
	var all []*sharing
	var last *sharing
	for i := range b.pending {
		d := b.pending[i].Demand
		if last == nil || last.demand != d {
			if last = byDemand[d]; last == nil {
				last = &sharing{demand: d}
				byDemand[d] = last
				all = append(all, last)
			}
		}
		last.members = append(last.members, int32(i))
	}
	for _, s := range all {
		b.sort(s.members)
	}
	slices.SortFunc(all, b.compare)
	return all
}

// sort orders members by ID. They mostly are in order.
func (b *batch) sort(members []int32) {
	byID := func(x, y int32) int { return strings.Compare(string(b.pending[x].ID), string(b.pending[y].ID)) }
	if !slices.IsSortedFunc(members, byID) {
		slices.SortFunc(members, byID)
	}
}

func (b *batch) compare(x, y *sharing) int {
	p, q := &x.demand.Placement, &y.demand.Placement
	return cmp.Or(
		cmp.Compare(q.Priority, p.Priority),
		cmp.Compare(y.demand.Resources.Memory, x.demand.Resources.Memory),
		cmp.Compare(y.demand.Resources.CPU, x.demand.Resources.CPU),
		strings.Compare(x.demand.Service, y.demand.Service),
		cmp.Compare(x.demand.Revision, y.demand.Revision),
		strings.Compare(string(b.pending[x.members[0]].ID), string(b.pending[y.members[0]].ID)),
	)
}

// place decides for the replicas of one demand.
func (b *batch) place(s *sharing) {
	g := b.c.groupIn(s.demand, &b.buffers)
	defer b.c.tidy(g.tally)
	var free []int32
	for _, i := range s.members {
		if b.pending[i].Only == "" {
			free = append(free, i)
			continue
		}
		b.placeOnly(g, i)
	}
	if len(free) == 0 {
		return
	}
	nodes := g.domains()
	for len(free) > 0 {
		n := nodes.next()
		if n == nil {
			break
		}
		b.take(g, free[0], n)
		fits := g.passing(n).kind == none
		var now score
		if fits {
			now = g.rate(n.seat)
		}
		nodes.placed(now, fits)
		free = free[1:]
	}
	if len(free) > 0 {
		b.refuse(g, free)
	}
}

// placeOnly decides for a replica that can only be on one node.
func (b *batch) placeOnly(g *group, i int32) {
	n := b.c.byID[b.pending[i].Only]
	switch {
	case n == nil:
		gone := Reason{Kind: Gone, Count: 1, Detail: string(b.pending[i].Only)}
		b.decisions[i].Refusal = &Refusal{Nodes: 1, Reasons: []Reason{gone}}
	case g.obstacle(n).kind == none:
		b.take(g, i, n)
	default:
		b.refuseOnly(g, i, n)
	}
}

// take places a replica on the node.
func (b *batch) take(g *group, i int32, n *node) {
	b.decisions[i].Node = n.ID
	b.c.settle(n, g.tally, resident{id: b.pending[i].ID, demand: g.demand})
	g.wanted[n.rank]++
	if g.max > 0 {
		g.all[n.rank]++
	}
	if g.score.image != nil {
		g.score.image[n.rank] = true
	}
	for j := range g.score.near {
		if near := &g.score.near[j]; near.own {
			near.met[n.rank] = true
		}
	}
}
