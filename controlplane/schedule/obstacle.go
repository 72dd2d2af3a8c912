package schedule

import (
	"fmt"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Kind is what keeps a replica from a node.
type Kind uint8

// The kinds, the hardest to change first: a node counts under the first that
// holds. A silent node comes last, so that it counts as silent only where it
// could take the replica once it is back.
const (
	none        Kind = iota
	Unreadable       // the placement can't be read
	Unlabelled       // no node has a label of placement.spread
	Elsewhere        // what the replica is bound to is on another node
	Unmet            // a constraint is not met
	Tainted          // a taint is not tolerated
	TooFewCPUs       // less processor time than asked for, even when empty
	TooSmall         // less memory than asked for, even when empty
	Cordoned         // the node takes no new replicas
	DiskFull         // the node's disk is too full
	Crowded          // the most replicas per node are there
	PortTaken        // a published port is taken
	LacksCPU         // processor time is promised to others
	LacksMemory      // memory is promised to others
	Silent           // the node's agent is not heard
	Gone             // the only node that the replica may be on is not in the cluster
)

// obstacle is what keeps a replica from one node; of the kind none where
// nothing does.
type obstacle struct {
	kind Kind
	// index of the constraint, taint or port that it is about.
	index int
	// missing is how many millicores or bytes it lacks.
	missing int64
}

// group is a demand, made ready for comparing all nodes with it.
type group struct {
	c       *Cluster
	buffers *buffers
	demand  *Demand
	tally   *tally
	need    amount
	// ports are those that it takes of its node: hostPorts where the node is on the
	// cluster's networks.
	ports, hostPorts []port
	max              int32
	// problem is why the placement can't be read, or empty.
	problem string
	// unknown is a label of placement.spread that no node has, or empty.
	unknown     string
	constraints [][]bool // by constraint and rank
	tolerations []resources.Toleration
	levels      []*labelling
	bound       map[resources.NodeID]bool
	// By rank: the wanted replicas of the revision; where there is a most per
	// node, all that count for it; and, once any do, those that wait for the node.
	wanted, all, waiting []int32
	score                scoring
	// plain is true where only constraints, processor time and memory can be
	// missing on a node that takes replicas and is not tainted.
	plain bool
}

// group makes a demand ready. It holds until the nodes change, and while no
// other replicas come or go.
func (c *Cluster) group(d *Demand) *group { return c.groupIn(d, &buffers{}) }

// buffers are used again by each group of a batch, after the one before.
type buffers struct {
	wanted []int32
	image  []bool
	// candidates is taken from free.
	candidates, free []candidate
}

// room makes room to take candidates for all nodes, so many times, and takes
// the first.
func (b *buffers) room(nodes, times int) []candidate {
	if cap(b.candidates) < nodes*times {
		b.candidates = make([]candidate, nodes*times)
	}
	b.free = b.candidates[:nodes*times]
	return b.take(nodes)
}

// take takes n candidates, whatever they hold.
func (b *buffers) take(n int) []candidate {
	taken := b.free[:n:n]
	b.free = b.free[n:]
	return taken
}

// zeroed returns n zero values, in the buffer where they fit.
func zeroed[T any](buffer *[]T, n int) []T {
	if cap(*buffer) < n {
		*buffer = make([]T, n)
	}
	*buffer = (*buffer)[:n]
	clear(*buffer)
	return *buffer
}

func (c *Cluster) groupIn(d *Demand, b *buffers) *group {
	c.order()
	g := &group{
		c: c, buffers: b, demand: d, tally: c.tally(d), need: d.need(), ports: portsOf(d, false), hostPorts: portsOf(d, true), max: int32(d.Placement.MaxReplicasPerNode),
		wanted: zeroed(&b.wanted, len(c.nodes)),
	}
	for n, on := range g.tally.on {
		g.wanted[n.rank] = on.wanted()
	}
	if g.max > 0 {
		g.all = g.countService()
	}
	for _, text := range d.Placement.Constraints {
		condition, err := resources.ParseCondition(text)
		if err != nil {
			g.problem = err.Error()
			continue
		}
		g.constraints = append(g.constraints, c.fulfil(condition))
	}
	for _, text := range d.Placement.Tolerations {
		t, err := resources.ParseToleration(text)
		if err != nil {
			g.problem = err.Error()
			continue
		}
		g.tolerations = append(g.tolerations, t)
	}
	for _, key := range d.Placement.Spread {
		l := c.labelling(key)
		if l.values == 0 && g.unknown == "" {
			g.unknown = key
		}
		g.levels = append(g.levels, l)
	}
	if d.Bound != nil {
		g.bound = map[resources.NodeID]bool{}
		for _, id := range d.Bound.Nodes {
			g.bound[id] = true
		}
	}
	g.score = c.scoring(g)
	g.plain = g.problem == "" && g.unknown == "" && g.bound == nil && g.max == 0 && len(g.ports) == 0
	return g
}

// countService counts the replicas of the service, of whatever revision, by
// node: the most per node is of all.
func (g *group) countService() []int32 {
	all := make([]int32, len(g.c.nodes))
	for t := range g.c.byService[g.demand.Service] {
		for n, on := range t.on {
			all[n.rank] += on.all()
		}
	}
	return all
}

// fits is true where nothing keeps a replica of the group from the node now. It
// looks at what most nodes are refused by before it looks at the node itself.
func (g *group) fits(s *seat) bool {
	if s.closed != none || s.silent ||
		s.used.cpu+s.claimed.cpu+g.need.cpu > s.all.cpu || s.used.memory+s.claimed.memory+g.need.memory > s.all.memory {
		return false
	}
	if !s.tainted && g.plain {
		for _, fulfilled := range g.constraints {
			if !fulfilled[s.rank] {
				return false
			}
		}
		return true
	}
	return g.obstacle(g.c.nodes[s.rank]).kind == none
}

// obstacle says what keeps a replica of the group from the node now.
func (g *group) obstacle(n *node) obstacle {
	if o := g.lasting(n); o.kind != none {
		return o
	}
	if o := g.passing(n); o.kind != none {
		return o
	}
	if n.silent {
		return obstacle{kind: Silent}
	}
	return obstacle{}
}

// lasting says what keeps a replica from the node whatever is placed there.
func (g *group) lasting(n *node) obstacle {
	switch {
	case g.problem != "":
		return obstacle{kind: Unreadable}
	case g.unknown != "":
		return obstacle{kind: Unlabelled}
	case g.bound != nil && !g.bound[n.ID]:
		return obstacle{kind: Elsewhere}
	}
	for i, fulfilled := range g.constraints {
		if !fulfilled[n.rank] {
			return obstacle{kind: Unmet, index: i}
		}
	}
	for i, taint := range n.taints {
		if taint.Effect != resources.PreferNoSchedule && !g.tolerates(taint) {
			return obstacle{kind: Tainted, index: i}
		}
	}
	switch {
	case g.need.cpu > n.all.cpu:
		return obstacle{kind: TooFewCPUs, missing: g.need.cpu - n.all.cpu}
	case g.need.memory > n.all.memory:
		return obstacle{kind: TooSmall, missing: g.need.memory - n.all.memory}
	}
	return obstacle{kind: n.closed}
}

func (g *group) tolerates(taint resources.Taint) bool {
	return slices.ContainsFunc(g.tolerations, func(t resources.Toleration) bool { return t.Tolerates(taint) })
}

// passing says which of the replicas that are there keep another from the node.
func (g *group) passing(n *node) obstacle {
	if g.max > 0 && g.all[n.rank] >= g.max {
		return obstacle{kind: Crowded}
	}
	for i, p := range g.portsOn(n) {
		if portTaken(n.ports, p) >= 0 || portTaken(n.claimedPorts, p) >= 0 {
			return obstacle{kind: PortTaken, index: i}
		}
	}
	if missing := n.used.cpu + n.claimed.cpu + g.need.cpu - n.all.cpu; missing > 0 {
		return obstacle{kind: LacksCPU, missing: missing}
	}
	if missing := n.used.memory + n.claimed.memory + g.need.memory - n.all.memory; missing > 0 {
		return obstacle{kind: LacksMemory, missing: missing}
	}
	return obstacle{}
}

// portsOn gives the ports that a replica takes on the node.
func (g *group) portsOn(n *node) []port {
	if n.networked() {
		return g.hostPorts
	}
	return g.ports
}

// portTaken gives the index of what takes the port, or -1.
func portTaken(uses []portUse, p port) int {
	return slices.IndexFunc(uses, func(u portUse) bool { return u.port == p })
}

// detail names what an obstacle is about.
func (g *group) detail(n *node, o obstacle) string {
	switch o.kind {
	case Unreadable:
		return g.problem
	case Unlabelled:
		return g.unknown
	case Elsewhere:
		return g.demand.Bound.To
	case Unmet:
		return g.demand.Placement.Constraints[o.index]
	case Tainted:
		return n.taints[o.index].String()
	case Crowded:
		return fmt.Sprint(g.max)
	case PortTaken:
		p := g.portsOn(n)[o.index]
		taken := n.ports
		if portTaken(taken, p) < 0 {
			taken = n.claimedPorts
		}
		return fmt.Sprintf("%d/%s taken by %s", p.number, p.protocol, taken[portTaken(taken, p)].demand.Service)
	case none, TooFewCPUs, TooSmall, Cordoned, DiskFull, LacksCPU, LacksMemory, Silent, Gone:
	}
	return ""
}
