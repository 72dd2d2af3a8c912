// Package membership decides the next step by which the members of the store
// come to be the servers that are wanted. It is pure: what is wanted, what is
// there and which nodes are well in, one action out. The leader carries it out,
// and asks again.
//
// A server joins as a learner, which follows and doesn't vote, and is promoted
// once it has caught up; so a server that never comes up costs the others
// nothing, and is taken out again. Servers are added before others are removed,
// one at a time, and none is removed whose going would leave the rest without a
// majority that is well. The leader removes itself last: it resigns, and the
// next leader removes it.
package membership

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Peer is a member of the store.
type Peer struct {
	ID      uint64
	Node    resources.NodeID
	Learner bool
}

// Input is what a step is decided from.
type Input struct {
	// Wanted are the nodes that are to be servers.
	Wanted []resources.NodeID
	// Peers are the members of the store.
	Peers []Peer
	// Recorded are the nodes that are told to run a server.
	Recorded map[resources.NodeID]bool
	// Ready holds each node that has registered, and whether it is heard.
	Ready map[resources.NodeID]bool
	// Self is the node that leads.
	Self resources.NodeID
	// Failed are nodes whose joining was given up, with the reason.
	Failed map[resources.NodeID]string
}

// Verb is what a step does.
type Verb int

// The verbs.
const (
	// None is nothing for now.
	None Verb = iota
	// Record tells a node to run a server, which the store has as a member.
	Record
	// Forget tells a node to run a server no more.
	Forget
	// Add adds a node to the store, as a learner.
	Add
	// Promote makes a learner vote.
	Promote
	// Remove removes a member from the store.
	Remove
	// Resign lets another server lead.
	Resign
)

func (v Verb) String() string {
	return [...]string{"none", "record", "forget", "add", "promote", "remove", "resign"}[v]
}

// Action is one step.
type Action struct {
	Do   Verb
	Node resources.NodeID
	// Peer of a promotion or a removal.
	Peer uint64
}

// Plan returns the next step, and in words what is waited for; both are empty
// once the members are those that are wanted.
func Plan(in Input) (Action, string) {
	peers := map[resources.NodeID]Peer{}
	for _, p := range in.Peers {
		peers[p.Node] = p
	}
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		if !in.Recorded[id] {
			return Action{Do: Record, Node: id}, fmt.Sprintf("node %s is told to run a server", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(in.Recorded)) {
		if _, found := peers[id]; !found {
			return Action{Do: Forget, Node: id}, fmt.Sprintf("node %s is told to run no server", id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		p := peers[id]
		_, failed := in.Failed[id]
		switch {
		case !p.Learner:
		case slices.Contains(in.Wanted, id) && !failed:
			return Action{Do: Promote, Node: id, Peer: p.ID}, fmt.Sprintf("the server on node %s catches up with the others", id)
		default:
			return Action{Do: Remove, Node: id, Peer: p.ID}, fmt.Sprintf("the server on node %s is taken out", id)
		}
	}
	action, waiting := add(in, peers)
	if action.Do != None {
		return action, waiting
	}
	action, removing := remove(in, peers, waiting != "")
	if action.Do != None || waiting == "" {
		return action, removing
	}
	return action, waiting
}

// add adds the first node that is missing and well.
func add(in Input, peers map[resources.NodeID]Peer) (Action, string) {
	waiting := ""
	for _, id := range slices.Sorted(slices.Values(in.Wanted)) {
		if _, found := peers[id]; found {
			continue
		}
		reason, failed := in.Failed[id]
		ready, registered := in.Ready[id]
		switch {
		case failed:
			waiting = reason
		case !registered:
			waiting = fmt.Sprintf("node %s, which is to be a server, has not registered yet", id)
		case !ready:
			waiting = fmt.Sprintf("node %s, which is to be a server, is silent", id)
		default:
			return Action{Do: Add, Node: id}, fmt.Sprintf("the server on node %s joins the others", id)
		}
	}
	return Action{}, waiting
}

// remove removes a server that is not wanted. While others are missing, only one
// that is silent: it is of no use.
func remove(in Input, peers map[resources.NodeID]Peer, missing bool) (Action, string) {
	var surplus []Peer
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		if !slices.Contains(in.Wanted, id) {
			surplus = append(surplus, peers[id])
		}
	}
	// The silent ones first, and the leader last.
	slices.SortStableFunc(surplus, func(a, b Peer) int { return in.rank(a.Node) - in.rank(b.Node) })
	for _, p := range surplus {
		switch {
		case missing && in.well(p.Node):
			continue
		case p.Node == in.Self:
			return Action{Do: Resign, Node: p.Node}, fmt.Sprintf("another server than node %s is to lead", p.Node)
		case !in.majorityWithout(p.Node):
			return Action{}, fmt.Sprintf("the server on node %s can't be removed: too few of the others are well for a majority", p.Node)
		}
		return Action{Do: Remove, Node: p.Node, Peer: p.ID}, fmt.Sprintf("the server on node %s is removed", p.Node)
	}
	return Action{}, ""
}

func (in Input) rank(id resources.NodeID) int {
	switch {
	case id == in.Self:
		return 2
	case in.well(id):
		return 1
	}
	return 0
}

func (in Input) well(id resources.NodeID) bool { return id == in.Self || in.Ready[id] }

// majorityWithout tells whether those that vote without the node have a
// majority that is well.
func (in Input) majorityWithout(id resources.NodeID) bool {
	voters, well := 0, 0
	for _, p := range in.Peers {
		if p.Learner || p.Node == id {
			continue
		}
		voters++
		if in.well(p.Node) {
			well++
		}
	}
	return 2*well > voters
}
