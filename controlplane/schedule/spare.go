package schedule

import "cmp"

// Spare gives the index of the one of some replicas that is missed least: the
// one whose node would take another one last. Of those that stand alike, the
// last one. Replicas on nodes that are not known come before all others. The
// Cluster stays as it is.
func (c *Cluster) Spare(some []Replica) int {
	c.order()
	groups := map[*Demand]*group{}
	best, stands := -1, standing{}
	for i, r := range some {
		n := c.byID[r.Node]
		if n == nil {
			return i
		}
		g := groups[r.Demand]
		if g == nil {
			g = c.group(r.Demand)
			groups[r.Demand] = g
		}
		s := g.standing(n)
		if best < 0 || cmp.Or(s.compare(stands), cmp.Compare(s.fullness(), stands.fullness())) >= 0 {
			best, stands = i, s
		}
	}
	return best
}

// fullness is how full the node is, exactly; how empty with binpack.
func (s standing) fullness() uint64 { return s.score.low >> 32 }
