package schedule

import (
	"math/bits"

	"github.com/skerry-io/skerry/resources"
)

// score orders the nodes that fit: the lowest is the best. It holds, from its
// highest bits to its lowest:
//
//	high  16  affinities not met, and anti-affinities met
//	       8  taints that would rather not have the replica
//	      24  replicas of the revision on the node (not for binpack)
//	       6  how full the node would be, in parts of 1/32
//	       1  whether the image has to be pulled
//	low   32  how full the node would be, exactly
//	      32  the rank of the node's name
//
// What the user asked for comes first. Then each service spreads over nodes, so
// that the loss of one costs little of it. Of nodes that are about as full, one
// that has the image is taken. binpack turns "full" around.
type score struct{ high, low uint64 }

const (
	affinityShift = 48
	taintShift    = 40
	countShift    = 16
	levelShift    = 8
	levelBits     = 5 // and one more value, for a full node

	maxCount = 1<<24 - 1
	maxTaint = 1<<8 - 1
)

func (a score) less(b score) bool { return a.high < b.high || a.high == b.high && a.low < b.low }

// fullBits is the precision of a share: a node is full at 1<<fullBits.
const fullBits = 20

// full gives the larger share of its processor time and memory that the node
// would have promised with need more. A replica that asks for nothing finds the
// emptiest node too.
func (n *seat) full(need amount) uint64 {
	cpu, ofCPU := n.used.cpu+n.claimed.cpu+need.cpu, n.all.cpu
	// In KiB, so that the share of a petabyte does not overflow.
	memory, ofMemory := (n.used.memory+n.claimed.memory+need.memory)>>10, n.all.memory>>10
	if cpu >= ofCPU || memory >= ofMemory {
		return 1 << fullBits
	}
	// The larger share is found without a division, which is the slowest part.
	a, b := uint64(cpu), uint64(ofCPU)
	high, low := bits.Mul64(uint64(memory), b)
	if h, l := bits.Mul64(a, uint64(ofMemory)); high > h || high == h && low > l {
		a, b = uint64(memory), uint64(ofMemory)
	}
	return a << fullBits / b
}

// scoring is a group's preferences, made ready.
type scoring struct {
	binpack bool
	// affinity of each node by its labels, in affinities missed and
	// anti-affinities met; nil where there are none.
	affinity []int32
	// near are the conditions about services.
	near []nearness
	// image tells which nodes have the image.
	image []bool
}

// nearness is a condition about the services that run on a node.
type nearness struct {
	avoid bool
	// met tells which nodes fulfil it.
	met []bool
	// own is true where a replica of the group fulfils it for others.
	own bool
}

func (c *Cluster) scoring(g *group) scoring {
	s := scoring{binpack: g.demand.Placement.Strategy == resources.StrategyBinpack}
	g.prefer(&s, g.demand.Placement.Affinity, false)
	g.prefer(&s, g.demand.Placement.AntiAffinity, true)
	if image := g.demand.Image; image != "" {
		s.image = zeroed(&g.buffers.image, len(c.nodes))
		for t := range c.byImage[image] {
			for n := range t.on {
				s.image[n.rank] = true
			}
		}
		for i, n := range c.nodes {
			s.image[i] = s.image[i] || len(n.images) > 0 && n.images[image]
		}
	}
	return s
}

// prefer adds the conditions to the scoring.
func (g *group) prefer(s *scoring, conditions []string, avoid bool) {
	for _, text := range conditions {
		condition, err := resources.ParseCondition(text)
		switch {
		case err != nil:
			g.problem = err.Error()
		case condition.Service():
			s.near = append(s.near, g.nearness(condition, avoid))
		default:
			if s.affinity == nil {
				s.affinity = make([]int32, len(g.c.nodes))
			}
			for i, fulfilled := range g.c.fulfil(condition) {
				if fulfilled == avoid {
					s.affinity[i]++
				}
			}
		}
	}
}

func (g *group) nearness(condition resources.Condition, avoid bool) nearness {
	near := nearness{avoid: avoid, met: make([]bool, len(g.c.nodes))}
	label, byLabel := condition.ServiceLabel()
	mark := func(t *tally) {
		for n, on := range t.on {
			near.met[n.rank] = near.met[n.rank] || on.wanted() > 0
		}
	}
	if !byLabel {
		for _, name := range condition.Values {
			for t := range g.c.byService[name] {
				mark(t)
			}
		}
		near.own = condition.Matches(g.demand.Service, true)
		return near
	}
	matches := func(labels map[string]string) bool {
		value, found := labels[label]
		return condition.Matches(value, found)
	}
	for _, t := range g.c.tallies {
		if matches(t.labels) {
			mark(t)
		}
	}
	near.own = matches(g.demand.Labels)
	return near
}

// rate gives the node's score for one more replica of the group.
func (g *group) rate(n *seat) score {
	s := &g.score
	var distance uint64
	if s.affinity != nil {
		distance = uint64(s.affinity[n.rank])
	}
	for i := range s.near {
		if near := &s.near[i]; near.met[n.rank] == near.avoid {
			distance++
		}
	}
	var unwelcome uint64
	if n.tainted {
		for _, taint := range g.c.nodes[n.rank].taints {
			if taint.Effect == resources.PreferNoSchedule && !g.tolerates(taint) {
				unwelcome++
			}
		}
	}
	full := n.full(g.need)
	same := min(uint64(g.wanted[n.rank]), maxCount)
	if s.binpack {
		full, same = 1<<fullBits-full, 0
	}
	high := distance<<affinityShift | min(unwelcome, maxTaint)<<taintShift | same<<countShift | full>>(fullBits-levelBits)<<levelShift
	if s.image != nil && !s.image[n.rank] {
		high |= 1
	}
	return score{high, full<<32 | uint64(n.rank)}
}
