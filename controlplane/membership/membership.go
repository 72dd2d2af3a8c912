// Package membership plans which member of the store comes or goes next, until
// the members are the servers that are wanted.
//
// The plugin writes only which servers are wanted. The leader asks Plan for one
// step, carries it out and asks again, so that an apply that is killed, or a
// leader that dies, leaves nothing half done: the next one reads where things
// stand and goes on.
//
// A server comes as a learner, which copies and does not vote, and gets its
// vote once it has caught up. One comes or goes at a time. The quorum is never
// at risk: no step is taken after which fewer voters are ready than a majority
// of all. Nobody who is wanted and can come is waited for in vain: a member
// that leaves goes after the one that takes its place has come, unless it is
// dead; then it goes first, since it only makes a majority harder to have. The
// leader goes last, and by another's hand: it resigns, and its successor, which
// plans the same, removes it.
package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Input is all that a plan is made from.
type Input struct {
	// Wanted are the servers that there should be, in any order. Nothing is
	// planned while there are none: a cluster has a server.
	Wanted []resources.NodeID
	// Peers are the members that there are.
	Peers []Peer
	// Nodes are those that are registered with the cluster.
	Nodes map[resources.NodeID]Node
	// Self is the node that leads. It is ready.
	Self resources.NodeID
	// Failed has why a node could not join. It is removed, where it is a learner,
	// and not tried again until it is taken out of here, which the caller does
	// when what is wanted changes.
	Failed map[resources.NodeID]string
}

// Peer is a member of the store. Its fields are those of store.Peer.
type Peer struct {
	ID      uint64
	Node    resources.NodeID // empty until it has started once
	Address string           // host:port for other members
	Learner bool             // copies, and does not vote yet
}

// Node is what counts of a node here.
type Node struct {
	Name    string // for people
	Address string // host:port at which its member is, or would be, reached
	Ready   bool   // it is heard of
}

// Kind says what an action does.
type Kind int

// What an action does.
const (
	Wait    Kind = iota // nothing, now
	Add                 // add Address as a learner, and start the member on Node
	Promote             // give Peer its vote; it may not have caught up yet, which is tried again
	Remove              // remove Peer
	Resign              // stop leading, so that another member removes this one
)

func (k Kind) String() string {
	return [...]string{"wait", "add", "promote", "remove", "resign"}[k]
}

// Action is the next step.
type Action struct {
	Kind    Kind
	Node    resources.NodeID // whom it is about; empty for a member that nobody knows
	Peer    uint64           // ID of the member; 0 where it is added
	Address string
}

// Plan returns the next step, and for people what keeps the members from being
// those that are wanted: why there is nothing to do now, or who could not join.
// It is empty where all is done or just takes its course. The same input gives
// the same plan.
func Plan(in Input) (Action, string) {
	if len(in.Wanted) == 0 {
		return Action{}, ""
	}
	p := newPlanner(in)
	for _, step := range []func() (Action, bool){p.learners, p.dead, p.missing, p.unwanted} {
		if action, found := step(); found {
			return action, p.reasons()
		}
	}
	return Action{}, p.reasons()
}

// planner is the input in the form that the rules ask for it.
type planner struct {
	Input
	wanted   []resources.NodeID // sorted
	voters   []Peer             // by ID, and so are learners
	learning []Peer
	ready    int // voters that are
	waits    []string
}

func newPlanner(in Input) *planner {
	p := &planner{Input: in, wanted: slices.Compact(slices.Sorted(slices.Values(in.Wanted)))}
	owners := map[string]resources.NodeID{}
	for _, id := range slices.Sorted(maps.Keys(in.Nodes)) {
		owners[in.Nodes[id].Address] = id
	}
	for _, peer := range slices.SortedFunc(slices.Values(in.Peers), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) }) {
		if peer.Node == "" { // it has not started, so that only its address says whose it is
			peer.Node = owners[peer.Address]
		}
		if peer.Learner {
			p.learning = append(p.learning, peer)
			continue
		}
		p.voters = append(p.voters, peer)
		if p.isReady(peer.Node) {
			p.ready++
		}
	}
	return p
}

func (p *planner) isReady(node resources.NodeID) bool { return node == p.Self || p.Nodes[node].Ready }

func (p *planner) isWanted(node resources.NodeID) bool { return slices.Contains(p.wanted, node) }

// majority says whether so many of so many voters can decide.
func majority(ready, voters int) bool { return ready > voters/2 }

func (p *planner) wait(format string, values ...any) {
	p.waits = append(p.waits, fmt.Sprintf(format, values...))
}

func (p *planner) reasons() string { return strings.Join(p.waits, "; ") }

// learners brings whoever has begun to join to an end, one way or the other.
func (p *planner) learners() (Action, bool) {
	for _, l := range p.learning {
		if p.Failed[l.Node] != "" || !p.isWanted(l.Node) {
			return remove(l), true
		}
	}
	for _, l := range p.learning {
		// One more that is ready never costs a majority.
		if p.isReady(l.Node) {
			return Action{Kind: Promote, Node: l.Node, Peer: l.ID, Address: l.Address}, true
		}
		p.wait("server %s joins, and is not heard of", p.name(l))
	}
	// etcd has one learner at a time.
	return Action{}, len(p.learning) > 0
}

// dead removes voters that are neither wanted nor heard of.
func (p *planner) dead() (Action, bool) {
	for _, v := range p.voters {
		if p.isWanted(v.Node) || p.isReady(v.Node) {
			continue
		}
		if majority(p.ready, len(p.voters)-1) {
			return remove(v), true
		}
		p.wait("server %s is removed when more of the other servers are heard of: now %d of %d", p.name(v), p.ready, len(p.voters)-1)
	}
	return Action{}, false
}

// missing adds who is wanted.
func (p *planner) missing() (Action, bool) {
	for _, id := range p.wanted {
		if slices.ContainsFunc(p.voters, func(v Peer) bool { return v.Node == id }) {
			continue
		}
		node, registered := p.Nodes[id]
		called := p.name(Peer{Node: id})
		holder := slices.IndexFunc(p.voters, func(v Peer) bool { return v.Address == node.Address })
		switch {
		case p.Failed[id] != "":
			p.wait("server %s could not join: %s", called, p.Failed[id])
		case !registered:
			p.wait("server %s is not registered with the cluster", called)
		case !node.Ready:
			p.wait("server %s is not heard of", called)
		case holder >= 0:
			p.wait("server %s has the address %s of server %s, which has not been removed yet", called, node.Address, p.name(p.voters[holder]))
		case len(p.voters) > 1 && !majority(p.ready, len(p.voters)+1): // as etcd itself sees it
			p.wait("server %s joins when more servers are heard of: now %d of %d", called, p.ready, len(p.voters))
		default:
			return Action{Kind: Add, Node: id, Address: node.Address}, true
		}
	}
	return Action{}, false
}

// unwanted removes voters that are not wanted, as far as there are more voters
// than there should be: the others hold the place of those that have not come.
func (p *planner) unwanted() (Action, bool) {
	if len(p.voters) <= len(p.wanted) {
		return Action{}, false
	}
	var self *Peer
	for _, v := range p.voters {
		switch {
		case p.isWanted(v.Node) || !p.isReady(v.Node):
		case !majority(p.ready-1, len(p.voters)-1):
			p.wait("server %s leaves when more of the other servers are heard of: now %d of %d", p.name(v), p.ready-1, len(p.voters)-1)
		case v.Node == p.Self:
			self = &v
		default:
			return remove(v), true
		}
	}
	if self != nil {
		return Action{Kind: Resign, Node: self.Node, Peer: self.ID, Address: self.Address}, true
	}
	return Action{}, false
}

func remove(p Peer) Action {
	return Action{Kind: Remove, Node: p.Node, Peer: p.ID, Address: p.Address}
}

// name is what people call the owner of a member.
func (p *planner) name(of Peer) string {
	return cmp.Or(p.Nodes[of.Node].Name, string(of.Node), of.Address)
}
