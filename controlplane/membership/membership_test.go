package membership

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/skerry-io/skerry/resources"
)

var everybody = nodes{"a", "b", "c", "d", "e", "f"}

type (
	nodes = []resources.NodeID
	fails = map[resources.NodeID]string
)

// registered are the nodes a to f, without those that are not heard of.
func registered(silent ...resources.NodeID) map[resources.NodeID]Node {
	all := map[resources.NodeID]Node{}
	for _, id := range everybody {
		all[id] = Node{Name: string(id), Address: string(id) + ":2380", Ready: true}
	}
	for _, id := range silent {
		all[id] = Node{Name: string(id), Address: string(id) + ":2380"}
	}
	return all
}

// peers are members by their nodes' names; their IDs count from 1. "+a" is a
// learner, and "?a" one that has not started yet.
func peers(names ...string) []Peer {
	var all []Peer
	for i, name := range names {
		p := Peer{ID: uint64(i + 1), Node: resources.NodeID(name)}
		switch name[0] {
		case '+':
			p.Node, p.Learner = p.Node[1:], true
		case '?':
			p.Node, p.Learner = p.Node[1:], true
		}
		p.Address = string(p.Node) + ":2380"
		if name[0] == '?' {
			p.Node = ""
		}
		all = append(all, p)
	}
	return all
}

func TestPlan(t *testing.T) {
	for _, test := range []struct {
		name string
		in   Input
		want string // kind, node, and what people are told
	}{
		{"what is wanted is there", Input{Wanted: nodes{"c", "a", "b"}, Peers: peers("a", "b", "c"), Nodes: registered()}, "wait"},
		{"nothing is known of what is wanted", Input{Peers: peers("a"), Nodes: registered()}, "wait"},
		{"the first of two comes", Input{Wanted: nodes{"c", "a", "b"}, Peers: peers("a"), Nodes: registered()}, "add b"},
		{"a learner gets its vote first", Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a", "+b"), Nodes: registered()}, "promote b"},
		{"a learner that has not started is known by its address", Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a", "?b"), Nodes: registered()}, "promote b"},
		{"a learner that is silent is waited for", Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a", "+b"), Nodes: registered("b")}, "wait: server b joins, and is not heard of"},
		{"a learner that failed goes", Input{Wanted: nodes{"a", "b"}, Peers: peers("a", "+b"), Nodes: registered(), Failed: fails{"b": "no disk"}}, "remove b"},
		{"a learner that is not wanted any more goes", Input{Wanted: nodes{"a"}, Peers: peers("a", "+b"), Nodes: registered()}, "remove b"},
		{"a learner that nobody knows goes", Input{Wanted: nodes{"a"}, Peers: peers("a", "?x"), Nodes: registered()}, "remove "},
		{"who failed is not tried again", Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a"), Nodes: registered(), Failed: fails{"b": "no disk"}}, "add c: server b could not join: no disk"},
		{"who is silent or unknown is passed over", Input{Wanted: nodes{"a", "b", "x"}, Peers: peers("a"), Nodes: registered("b")}, "wait: server b is not heard of; server x is not registered with the cluster"},
		{"add before remove", Input{Wanted: nodes{"a", "b", "d"}, Peers: peers("a", "b", "c"), Nodes: registered()}, "add d"},
		{"who leaves holds the place of who can't come", Input{Wanted: nodes{"a", "b", "d"}, Peers: peers("a", "b", "c"), Nodes: registered("d")}, "wait: server d is not heard of"},
		{"but not beyond the number that is wanted", Input{Wanted: nodes{"a", "b", "d"}, Peers: peers("a", "b", "c", "e"), Nodes: registered("d")}, "remove c: server d is not heard of"},
		{"the dead go before others come", Input{Wanted: nodes{"a", "b", "d"}, Peers: peers("a", "b", "c"), Nodes: registered("c")}, "remove c"},
		{"a dead one that is wanted stays", Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a", "b", "c"), Nodes: registered("c")}, "wait"},
		{"nobody joins three of which one is dead", Input{Wanted: nodes{"a", "b", "c", "d", "e"}, Peers: peers("a", "b", "c"), Nodes: registered("c")}, "wait: server d joins when more servers are heard of: now 2 of 3; server e joins when more servers are heard of: now 2 of 3"},
		{"nobody leaves three of which another one is dead", Input{Wanted: nodes{"a", "b"}, Peers: peers("a", "b", "c"), Nodes: registered("b")}, "wait: server c leaves when more of the other servers are heard of: now 1 of 2"},
		{"the dead stay while another one is silent", Input{Wanted: nodes{"a", "b"}, Peers: peers("a", "b", "c"), Nodes: registered("b", "c")}, "wait: server c is removed when more of the other servers are heard of: now 1 of 2"},
		{"the leader goes last", Input{Wanted: nodes{"c"}, Peers: peers("a", "b", "c"), Nodes: registered()}, "remove b"},
		{"the leader resigns", Input{Wanted: nodes{"b"}, Peers: peers("a", "b"), Nodes: registered()}, "resign a"},
		{"the leader stays while its successor is dead", Input{Wanted: nodes{"b"}, Peers: peers("a", "b"), Nodes: registered("b")}, "wait: server a leaves when more of the other servers are heard of: now 0 of 1"},
		{"the last one stays for one that can't come", Input{Wanted: nodes{"x"}, Peers: peers("a"), Nodes: registered()}, "wait: server x is not registered with the cluster"},
		{"a new node at the address of a dead one", Input{Wanted: nodes{"a", "b", "y"}, Peers: peers("a", "b", "c"), Nodes: with(registered("c"), "y", "c:2380")}, "remove c"},
		{"a new node at the address of a live one", Input{Wanted: nodes{"a", "b", "y"}, Peers: peers("a", "b", "c"), Nodes: with(registered(), "y", "c:2380")}, "wait: server y has the address c:2380 of server c, which has not been removed yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Self = "a"
			action, why := Plan(test.in)
			got := action.Kind.String()
			if action.Kind != Wait {
				got += " " + string(action.Node)
			}
			if why != "" {
				got += ": " + why
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func with(all map[resources.NodeID]Node, id resources.NodeID, address string) map[resources.NodeID]Node {
	all[id] = Node{Name: string(id), Address: address, Ready: true}
	return all
}

// The peer and the address of an action are those of whom it is about.
func TestPlanNamesThePeer(t *testing.T) {
	action, _ := Plan(Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a", "b", "?c"), Nodes: registered(), Self: "a"})
	if diff := cmp.Diff(Action{Kind: Promote, Node: "c", Peer: 3, Address: "c:2380"}, action); diff != "" {
		t.Error(diff)
	}
	action, _ = Plan(Input{Wanted: nodes{"a", "b", "c"}, Peers: peers("a", "b"), Nodes: registered(), Self: "a"})
	if diff := cmp.Diff(Action{Kind: Add, Node: "c", Address: "c:2380"}, action); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprint(Wait, Add, Promote, Remove, Resign); got != "wait add promote remove resign" {
		t.Error(got)
	}
}
