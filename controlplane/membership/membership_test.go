package membership

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

func TestPlan(t *testing.T) {
	voter := func(id uint64, node resources.NodeID) Peer { return Peer{ID: id, Node: node} }
	learner := func(id uint64, node resources.NodeID) Peer { return Peer{ID: id, Node: node, Learner: true} }
	recorded := func(nodes ...resources.NodeID) map[resources.NodeID]bool {
		all := map[resources.NodeID]bool{}
		for _, n := range nodes {
			all[n] = true
		}
		return all
	}
	ready := map[resources.NodeID]bool{"a": true, "b": true, "c": true, "d": true}
	but := func(silent ...resources.NodeID) map[resources.NodeID]bool {
		all := maps.Clone(ready)
		for _, n := range silent {
			all[n] = false
		}
		return all
	}
	abc := []resources.NodeID{"a", "b", "c"}
	three := []Peer{voter(1, "a"), voter(2, "b"), voter(3, "c")}
	for name, c := range map[string]struct {
		in      Input
		want    Action
		waiting string
	}{
		"done":                            {Input{Wanted: abc, Peers: three, Recorded: recorded(abc...), Ready: ready}, Action{}, ""},
		"the first joins":                 {Input{Wanted: abc, Peers: three[:1], Recorded: recorded("a"), Ready: ready}, Action{Add, "b", 0}, "the server on node b joins the others"},
		"a learner is told to run":        {Input{Wanted: abc, Peers: []Peer{voter(1, "a"), learner(2, "b")}, Recorded: recorded("a"), Ready: ready}, Action{Record, "b", 0}, "node b is told to run a server"},
		"one at a time":                   {Input{Wanted: abc, Peers: []Peer{voter(1, "a"), learner(2, "b")}, Recorded: recorded("a", "b"), Ready: ready}, Action{Promote, "b", 2}, "the server on node b catches up with the others"},
		"a learner is wanted no more":     {Input{Wanted: abc[:1], Peers: []Peer{voter(1, "a"), learner(2, "b")}, Recorded: recorded("a", "b"), Ready: ready}, Action{Remove, "b", 2}, "the server on node b is taken out"},
		"a join was given up":             {Input{Wanted: abc[:2], Peers: []Peer{voter(1, "a"), learner(2, "b")}, Recorded: recorded("a", "b"), Ready: ready, Failed: map[resources.NodeID]string{"b": "no room"}}, Action{Remove, "b", 2}, "the server on node b is taken out"},
		"it is not tried again":           {Input{Wanted: abc[:2], Peers: three[:1], Recorded: recorded("a"), Ready: ready, Failed: map[resources.NodeID]string{"b": "no room"}}, Action{}, "no room"},
		"a node is silent":                {Input{Wanted: abc, Peers: three[:2], Recorded: recorded("a", "b"), Ready: but("c")}, Action{}, "node c, which is to be a server, is silent"},
		"a node is unknown":               {Input{Wanted: []resources.NodeID{"a", "x"}, Peers: three[:1], Recorded: recorded("a"), Ready: ready}, Action{}, "node x, which is to be a server, has not registered yet"},
		"add before remove":               {Input{Wanted: []resources.NodeID{"a", "b", "d"}, Peers: three, Recorded: recorded(abc...), Ready: but("c")}, Action{Add, "d", 0}, "the server on node d joins the others"},
		"a dead one makes room":           {Input{Wanted: []resources.NodeID{"a", "b", "x"}, Peers: three, Recorded: recorded(abc...), Ready: but("c")}, Action{Remove, "c", 3}, "the server on node c is removed"},
		"the removed one is told":         {Input{Wanted: abc[:1], Peers: three[:1], Recorded: recorded("a", "b"), Ready: ready}, Action{Forget, "b", 0}, "node b is told to run no server"},
		"the leader goes last":            {Input{Wanted: abc[1:2], Peers: three, Recorded: recorded(abc...), Ready: ready}, Action{Remove, "c", 3}, "the server on node c is removed"},
		"the leader resigns":              {Input{Wanted: abc[1:2], Peers: three[:2], Recorded: recorded("a", "b"), Ready: ready}, Action{Resign, "a", 0}, "another server than node a is to lead"},
		"the majority is not put at risk": {Input{Wanted: abc[:1], Peers: append(slices.Clone(three), voter(4, "d"), voter(5, "e")), Recorded: recorded("a", "b", "c", "d", "e"), Ready: map[resources.NodeID]bool{"a": true}}, Action{}, "the server on node b can't be removed: too few of the others are well for a majority"},
	} {
		c.in.Self = "a"
		got, waiting := Plan(c.in)
		if got != c.want || waiting != c.waiting {
			t.Errorf("%s: %+v %q, want %+v %q", name, got, waiting, c.want, c.waiting)
		}
	}
}

// cluster is a toy of the store and its nodes, to which actions are done.
type cluster struct {
	in   Input
	next uint64
}

func (c *cluster) voters() (all, well int) {
	for _, p := range c.in.Peers {
		if p.Learner {
			continue
		}
		all++
		if c.in.well(p.Node) {
			well++
		}
	}
	return all, well
}

func (c *cluster) do(a Action) {
	switch a.Do {
	case None:
	case Record:
		c.in.Recorded[a.Node] = true
	case Forget:
		delete(c.in.Recorded, a.Node)
	case Add:
		c.next++
		c.in.Peers = append(c.in.Peers, Peer{ID: c.next, Node: a.Node, Learner: true})
	case Promote:
		i := slices.IndexFunc(c.in.Peers, func(p Peer) bool { return p.ID == a.Peer })
		// A silent learner doesn't catch up, and is given up.
		if !c.in.well(a.Node) {
			c.in.Failed[a.Node] = "silent"
			return
		}
		c.in.Peers[i].Learner = false
	case Remove:
		c.in.Peers = slices.DeleteFunc(c.in.Peers, func(p Peer) bool { return p.ID == a.Peer })
	case Resign:
		for _, p := range c.in.Peers {
			if p.Node != c.in.Self && !p.Learner && c.in.Ready[p.Node] {
				c.in.Self = p.Node
				return
			}
		}
	}
}

// Whatever is wanted and whatever fails, what votes has a majority that is well
// as long as faults alone leave one, and when faults stop the members come to be
// what is wanted.
func TestTheMajorityIsNeverPutAtRisk(t *testing.T) {
	nodes := []resources.NodeID{"a", "b", "c", "d", "e", "f", "g"}
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{next: 1, in: Input{
			Wanted: []resources.NodeID{"a"}, Peers: []Peer{{ID: 1, Node: "a"}}, Self: "a",
			Recorded: map[resources.NodeID]bool{"a": true}, Ready: map[resources.NodeID]bool{}, Failed: map[resources.NodeID]string{},
		}}
		for _, n := range nodes {
			c.in.Ready[n] = true
		}
		step := func() Action {
			action, _ := Plan(c.in)
			allBefore, wellBefore := c.voters()
			c.do(action)
			if all, well := c.voters(); 2*wellBefore > allBefore && 2*well <= all {
				t.Fatalf("%v leaves %d of %d voters well", action, well, all)
			}
			return action
		}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				size := rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "size")
				c.in.Wanted = slices.Clone(rapid.Permutation(nodes).Draw(t, "wanted")[:size])
				clear(c.in.Failed)
			case 1:
				n := rapid.SampledFrom(nodes).Draw(t, "node")
				// A leader that falls silent leads no more: here it is spared, and
				// so is the majority.
				was := c.in.Ready[n]
				c.in.Ready[n] = !was
				if all, well := c.voters(); n == c.in.Self || 2*well <= all {
					c.in.Ready[n] = was
				}
			default:
				step()
			}
		}
		for _, n := range nodes {
			c.in.Ready[n] = true
		}
		clear(c.in.Failed)
		for range 100 {
			if step().Do == None {
				break
			}
		}
		var members []resources.NodeID
		for _, p := range c.in.Peers {
			if !p.Learner {
				members = append(members, p.Node)
			}
		}
		slices.Sort(members)
		slices.Sort(c.in.Wanted)
		if !slices.Equal(members, c.in.Wanted) || len(c.in.Recorded) != len(members) {
			t.Fatalf("the members are %v, recorded %v, wanted %v", members, fmt.Sprint(c.in.Recorded), c.in.Wanted)
		}
	})
}
