package schedule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// room is a node that has room for a replica once others have stopped.
type room struct {
	node *node
	// victims are to stop for it, beside those that stop already.
	victims []int // indexes into node.residents
}

// refuse says of replicas that no node takes why that is. Where others stop, or
// have a lower priority and can be stopped, room is kept for them.
func (b *batch) refuse(g *group, members []int32) {
	refusal := g.refusal(b.c.nodes)
	rooms := g.rooms()
	for _, i := range members {
		d := &b.decisions[i]
		if len(rooms) == 0 {
			d.Refusal = refusal
			continue
		}
		n := rooms[0].node
		b.claim(g, d, n, refusal)
		if again, found := g.room(n); found {
			rooms[0].score = g.roomScore(again)
		} else {
			last := len(rooms) - 1
			rooms[0] = rooms[last]
			rooms = rooms[:last]
		}
		siftNode(rooms, 0)
	}
}

// refuseOnly does so for a replica that can only be on one node.
func (b *batch) refuseOnly(g *group, i int32, n *node) {
	refusal := g.refusal([]*node{n})
	if _, found := g.room(n); found {
		b.claim(g, &b.decisions[i], n, refusal)
		return
	}
	b.decisions[i].Refusal = refusal
}

// claim keeps room on the node for a replica, until the batch ends. The next
// one finds it there again, or a better place.
func (b *batch) claim(g *group, d *Decision, n *node, refusal *Refusal) {
	r, _ := g.room(n)
	for _, i := range r.victims {
		victim := n.residents[i]
		d.Preempt = append(d.Preempt, victim.id)
		b.c.Remove(n.ID, victim.id)
		victim.stopping = true
		b.c.settle(n, b.c.tally(victim.demand), victim)
		// Remove has moved the rest forward, and settle this one to the end.
		for j := range r.victims {
			if r.victims[j] > i {
				r.victims[j]--
			}
		}
	}
	slices.Sort(d.Preempt)
	if n.claimed == (amount{}) {
		b.claimed = append(b.claimed, n)
	}
	n.claimed.add(g.need)
	for _, p := range g.portsOn(n) {
		n.claimedPorts = append(n.claimedPorts, portUse{port: p, demand: g.demand})
	}
	if g.max > 0 {
		g.all[n.rank]++
		if g.waiting == nil {
			g.waiting = make([]int32, len(g.c.nodes))
		}
		g.waiting[n.rank]++
	}
	copied := *refusal
	copied.Room = n.Name
	for _, r := range n.residents {
		if r.stopping {
			copied.Stopping++
		}
	}
	d.Refusal = &copied
}

// rooms makes a heap of the nodes that have room once others have stopped.
func (g *group) rooms() []candidate {
	if g.c.stopping == 0 && !g.outranks() {
		return nil
	}
	var rooms []candidate
	for _, n := range g.c.nodes {
		if r, found := g.room(n); found {
			rooms = append(rooms, candidate{g.roomScore(r), n})
		}
	}
	for i := len(rooms)/2 - 1; i >= 0; i-- {
		siftNode(rooms, i)
	}
	return rooms
}

// outranks is true where some replica has a lower priority.
func (g *group) outranks() bool {
	for priority, count := range g.c.priorities {
		if count > 0 && priority < g.demand.Placement.Priority {
			return true
		}
	}
	return false
}

// roomScore orders rooms: those where nothing has to be stopped, then those
// whose most important victim is the least important, then those with the
// fewest victims, then the emptiest.
func (g *group) roomScore(r room) score {
	highest := uint64(0)
	for _, i := range r.victims {
		priority := r.node.residents[i].demand.Placement.Priority
		highest = max(highest, uint64(min(priority, resources.MaxPriority)+resources.MaxPriority+1))
	}
	return score{highest<<52 | uint64(len(r.victims))<<32 | r.node.full(g.need), uint64(r.node.rank)}
}

// room says what has to stop on the node so that it takes a replica: the least
// important ones, and no more than it needs.
func (g *group) room(n *node) (room, bool) {
	if g.lasting(n).kind != none || n.silent || g.max > 0 && g.staying(n) >= g.max || g.portClaimed(n) {
		return room{}, false
	}
	// What has to be freed beyond what those who stop leave behind.
	lacking := n.used
	lacking.sub(n.stopping)
	lacking.add(n.claimed)
	lacking.add(g.need)
	lacking.sub(n.all)
	priority := g.demand.Placement.Priority
	r := room{node: n}
	var others []int
	for i := range n.residents {
		resident := &n.residents[i]
		if resident.stopping {
			continue
		}
		lower := resident.demand.Placement.Priority < priority
		switch {
		case g.sharesPort(n, resident.demand):
			if !lower {
				return room{}, false
			}
			r.victims = append(r.victims, i)
			lacking.sub(resident.demand.need())
		case lower:
			others = append(others, i)
		}
	}
	chosen, enough := choose(n, others, lacking)
	r.victims = append(r.victims, chosen...)
	return r, enough
}

// choose takes victims, the least important and largest first, until nothing is
// lacking, and then spares whom it can, the most important first.
func choose(n *node, from []int, lacking amount) (victims []int, enough bool) {
	if lacking.nothing() {
		return nil, true
	}
	slices.SortFunc(from, func(a, b int) int {
		x, y := &n.residents[a], &n.residents[b]
		return cmp.Or(
			cmp.Compare(x.demand.Placement.Priority, y.demand.Placement.Priority),
			cmp.Compare(y.demand.Resources.Memory, x.demand.Resources.Memory),
			cmp.Compare(y.demand.Resources.CPU, x.demand.Resources.CPU),
			strings.Compare(string(x.id), string(y.id)),
		)
	})
	for _, i := range from {
		if lacking.nothing() {
			break
		}
		victims = append(victims, i)
		lacking.sub(n.residents[i].demand.need())
	}
	if !lacking.nothing() {
		return nil, false
	}
	for j, i := range slices.Backward(victims) {
		without := lacking
		without.add(n.residents[i].demand.need())
		if without.nothing() {
			lacking = without
			victims = slices.Delete(victims, j, j+1)
		}
	}
	return victims, true
}

// staying counts the replicas of the service on the node that don't stop, and
// those that wait for it.
func (g *group) staying(n *node) int32 {
	staying := g.serviceOn(n)
	if g.waiting != nil {
		staying += g.waiting[n.rank]
	}
	return staying
}

func (g *group) sharesPort(n *node, d *Demand) bool {
	ports := g.portsOn(n)
	return len(ports) > 0 && slices.ContainsFunc(portsOf(d, n.networked()), func(p port) bool { return slices.Contains(ports, p) })
}

func (g *group) portClaimed(n *node) bool {
	return slices.ContainsFunc(n.claimedPorts, func(u portUse) bool { return slices.Contains(g.portsOn(n), u.port) })
}
