package membership

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

// world is a cluster that carries plans out, on the quickest path: no clock, no
// network, and whatever may go wrong is drawn.
type world struct {
	wanted []resources.NodeID
	peers  []Peer
	alive  map[resources.NodeID]bool
	failed map[resources.NodeID]string
	leader resources.NodeID
	nextID uint64
}

func (w *world) input() Input {
	all := map[resources.NodeID]Node{}
	for _, id := range everybody {
		all[id] = Node{Address: string(id) + ":2380", Ready: w.alive[id]}
	}
	return Input{Wanted: w.wanted, Peers: slices.Clone(w.peers), Nodes: all, Self: w.leader, Failed: maps.Clone(w.failed)}
}

func (w *world) voters() (alive, all int) {
	for _, p := range w.peers {
		if p.Learner {
			continue
		}
		all++
		if w.alive[p.Node] {
			alive++
		}
	}
	return alive, all
}

func (w *world) quorum() bool {
	alive, all := w.voters()
	return majority(alive, all)
}

// elect gives the cluster a leader, where there is a quorum for one.
func (w *world) elect(t *rapid.T, but resources.NodeID) bool {
	if !w.quorum() {
		return false
	}
	var candidates []resources.NodeID
	for _, p := range w.peers {
		if !p.Learner && w.alive[p.Node] && p.Node != but {
			candidates = append(candidates, p.Node)
		}
	}
	if len(candidates) == 0 {
		t.Fatal("the only voter resigned")
	}
	w.leader = rapid.SampledFrom(candidates).Draw(t, "leader")
	return true
}

// step plans and acts, and says what was done. fault lets a join fail.
func (w *world) step(t *rapid.T, fault bool) Kind {
	in := w.input()
	action, why := Plan(in)
	if diff := cmp.Diff(w.input(), in); diff != "" {
		t.Fatalf("the plan has changed its input:\n%s", diff)
	}
	if twice, again := Plan(in); twice != action || again != why {
		t.Fatalf("two plans of one input: %v %q, %v %q", action, why, twice, again)
	}
	index := slices.IndexFunc(w.peers, func(p Peer) bool { return p.ID == action.Peer })
	_, before := w.voters()
	switch action.Kind {
	case Add:
		if fault && rapid.Bool().Draw(t, "the join fails") {
			w.failed[action.Node] = "drawn"
		}
		w.nextID++
		started := rapid.SampledFrom([]resources.NodeID{"", action.Node}).Draw(t, "started")
		w.peers = append(w.peers, Peer{ID: w.nextID, Node: started, Address: action.Address, Learner: true})
	case Promote:
		if w.peers[index].Node == "" || fault && rapid.Bool().Draw(t, "it has not caught up") {
			w.peers[index].Node = action.Node
			break
		}
		w.peers[index].Learner = false
	case Remove:
		if w.peers[index].Node == w.leader {
			t.Fatalf("the leader removes itself: %+v", action)
		}
		if !w.peers[index].Learner && w.alive[w.peers[index].Node] && before <= len(slices.Compact(slices.Sorted(slices.Values(w.wanted)))) {
			t.Fatalf("%d voters, %v wanted, and a live one goes: %+v", before, w.wanted, action)
		}
		w.peers = slices.Delete(w.peers, index, index+1)
	case Resign:
		w.elect(t, w.leader)
	case Wait:
	}
	if !w.quorum() {
		t.Fatalf("%+v has cost the quorum: %+v, alive %v", action, w.peers, w.alive)
	}
	return action.Kind
}

// Whatever is wanted and whoever dies meanwhile, no step costs the quorum; once
// all are well the members become the servers that are wanted.
func TestPlanConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{alive: map[resources.NodeID]bool{}, failed: map[resources.NodeID]string{}, leader: "a", nextID: 1}
		w.peers = []Peer{{ID: 1, Node: "a", Address: "a:2380"}}
		for _, id := range everybody {
			w.alive[id] = true
		}
		want := func() {
			w.wanted = rapid.Permutation(everybody).Draw(t, "wanted")[:rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "servers")]
			clear(w.failed)
		}
		want()
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0:
				want()
			case 1, 2:
				id := rapid.SampledFrom(everybody).Draw(t, "node")
				w.alive[id] = !w.alive[id]
				if w.elect(t, "") {
					break
				}
				w.alive[id] = true // no quorum, no leader: nothing is planned until it is back
				w.elect(t, "")
			default:
				w.step(t, true)
			}
		}
		clear(w.failed)
		for _, id := range everybody {
			w.alive[id] = true
		}
		// Each of at most six members takes an addition, a start, a promotion and
		// a removal, and each of them may lead and resign.
		for range 40 * len(everybody) {
			if w.step(t, false) == Wait {
				break
			}
		}
		var members []resources.NodeID
		for _, p := range w.peers {
			if p.Learner {
				t.Fatalf("a learner is left: %+v", w.peers)
			}
			members = append(members, p.Node)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(w.wanted)), slices.Sorted(slices.Values(members))); diff != "" {
			t.Fatalf("members at the end (-want +got):\n%s", diff)
		}
		if _, why := Plan(w.input()); why != "" {
			t.Fatalf("all is done, and people are told: %s", why)
		}
	})
}
