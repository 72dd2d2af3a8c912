package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// world is a cluster without clocks and sockets: a store, and what agents saw.
type world struct {
	*rapid.T
	store store.Memory
	seen  rollout.Seen
	ready map[resources.NodeID]bool
}

func (w *world) load() *store.State {
	state, err := w.store.Load(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	return state
}

func (w *world) commit(from *store.State, changes ...store.Change) {
	if err := w.store.Commit(context.Background(), from, changes); err != nil {
		w.Fatal(err)
	}
}

func (w *world) view(state *store.State) *view {
	return &view{state: state, seen: maps.Clone(w.seen), ready: maps.Clone(w.ready), now: time.Unix(0, 0)}
}

// lead takes one step of the leader from a snapshot, and says whether there was
// anything to do.
func (w *world) lead(state *store.State) bool {
	changes := decide(w.view(state)).changes
	keys := map[string]bool{}
	for _, c := range changes {
		if keys[c.Key()] {
			w.Fatalf("%s is changed twice in one commit", c.Key())
		}
		keys[c.Key()] = true
	}
	if len(changes) > 0 {
		err := w.store.Commit(context.Background(), state, changes)
		if err != nil && !errors.Is(err, store.ErrStale) {
			w.Fatal(err)
		}
	}
	w.check(state)
	return len(changes) > 0
}

// check holds what is true at every moment. before is an earlier state.
func (w *world) check(before *store.State) {
	state := w.load()
	for id, n := range state.Nodes {
		w.checkNode(n, state.ReplicasOn(id))
	}
	w.checkAddresses(before, state)
	slots := map[string]resources.ReplicaID{}
	for id, r := range state.Replicas.All() {
		slot := fmt.Sprintf("%s/%d", r.Service, r.Slot)
		surges := updates[r.Service].Budget(10).Surge > 0
		if other, taken := slots[slot]; taken && !surges {
			w.Fatalf("%s and %s are in slot %s", other, id, slot)
		}
		slots[slot] = id
		if old, found := before.Replicas.Find(id); found {
			w.checkChange(old, *r)
		}
	}
}

// worldNode is a node that is on networks, unless it is n3.
func worldNode(id resources.NodeID) resources.NodeInfo {
	n := nodeInfo(string(id))
	if id != "n3" {
		n.Overlay = &resources.NodeOverlay{}
	}
	return n
}

func worldNetwork(name, cidr string) resources.NetworkRecord {
	return resources.NetworkRecord{Network: resources.Network{Name: name}, CIDR: netip.MustParsePrefix(cidr)}
}

// checkAddresses holds that nobody has what somebody else has, and that each
// replica has what its node has for it.
func (w *world) checkAddresses(before, state *store.State) {
	taken := map[resources.NetworkAddress]string{}
	take := func(who string, all []resources.NetworkAddress) {
		for _, has := range all {
			if taken[has] != "" {
				w.Fatalf("%s and %s have %v", taken[has], who, has)
			}
			taken[has] = who
		}
	}
	for id, r := range state.Replicas.All() {
		take(string(id), r.Addresses)
		if old := before.Replicas.Get(id); r.Node == "" || old.Node != "" {
			continue
		}
		node, found := state.Nodes[r.Node]
		if !found { // it left while the leader decided
			continue
		}
		if want := len(r.Template.Joins()); node.Overlay != nil && len(r.Addresses) != want || node.Overlay == nil && len(r.Addresses) > 0 {
			w.Fatalf("replica %s on %s has %v", id, r.Node, r.Addresses)
		}
		for _, has := range r.Addresses {
			if !state.Networks[has.Network].Subnets[r.Node].Contains(has.Address) {
				w.Fatalf("replica %s on %s has %v outside of %v", id, r.Node, has, state.Networks[has.Network].Subnets)
			}
		}
	}
	for name, s := range state.Services {
		take(name, s.VirtualIPs)
	}
}

// checkNode holds that a node promises what it has, and no port twice.
func (w *world) checkNode(n resources.NodeInfo, replicas []resources.Replica) {
	var cpu resources.MilliCPU
	ports := map[int]resources.ReplicaID{}
	for _, r := range replicas {
		cpu += r.Template.Resources.CPU
		for _, p := range r.Template.Ports {
			if n.Overlay != nil && p.Mode == resources.PortCluster {
				continue
			}
			if other, taken := ports[p.Node()]; taken {
				w.Fatalf("%s and %s publish port %d of node %s", other, r.ID, p.Node(), n.ID)
			}
			ports[p.Node()] = r.ID
		}
	}
	if cpu > n.Allocatable.CPU {
		w.Fatalf("node %s has %s, and has promised %s", n.ID, n.Allocatable.CPU, cpu)
	}
}

// checkChange holds that a replica finds its node once, and ends once.
func (w *world) checkChange(old, r resources.Replica) {
	if old.Node != "" && old.Node != r.Node || !old.Wanted && r.Wanted {
		w.Fatalf("replica %s has moved or is wanted again: %+v, before %+v", r.ID, r, old)
	}
	r.Node, r.Wanted, r.Waiting, r.MayWait = old.Node, old.Wanted, old.Waiting, old.MayWait
	if old.Node == "" {
		r.Addresses = old.Addresses
	}
	if diff := cmp.Diff(old, r, addressValues); diff != "" {
		w.Fatalf("replica %s has changed:\n%s", r.ID, diff)
	}
}

// step lets the agent report what became of a replica: it runs, or is gone.
func (w *world) step(r resources.Replica) {
	state := resources.ReplicaRunning
	if !r.Wanted {
		state = resources.ReplicaGone
	}
	w.seen[r.ID] = resources.ReplicaStatus{ID: r.ID, State: state}
}

// updates are how the services of a churn change.
var updates = map[string]resources.Update{
	"a": {OnFailure: resources.OnFailureRollback},
	"b": {Order: resources.StartFirst, MaxUnavailable: resources.Share{Amount: 1, Given: true}},
	"c": {MaxSurge: resources.Share{Amount: 50, Percent: true, Given: true}, OnFailure: resources.OnFailureRollback},
}

func (w *world) churn() {
	state := w.load()
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.T, "service")
	node := resources.NodeID(rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(w.T, "node"))
	service, found := state.Services[name]
	switch rapid.SampledFrom([]string{"put", "scale", "delete", "join", "leave", "silence", "agent", "agent", "crash"}).Draw(w.T, "event") {
	case "put":
		next := resources.Service{Name: name, Replicas: rapid.IntRange(0, 3).Draw(w.T, "replicas"), Update: updates[name]}
		next.Resources.CPU = resources.MilliCPU(100 * rapid.IntRange(1, 9).Draw(w.T, "cpu"))
		if rapid.Bool().Draw(w.T, "a port") {
			next.Ports = []resources.Port{{Target: 80, Protocol: "tcp", Mode: rapid.SampledFrom([]string{"", resources.PortCluster}).Draw(w.T, "mode")}}
		}
		next.Networks = rapid.SampledFrom([][]string{nil, {"blue"}, {"blue", "default"}}).Draw(w.T, "networks")
		record, err := revise(service, next, nil, func() (string, error) { return "", nil })
		if err != nil {
			w.Fatal(err)
		}
		w.commit(state, store.PutService(record))
	case "scale":
		if found {
			service.Service.Replicas = rapid.IntRange(0, 4).Draw(w.T, "replicas")
			w.commit(state, store.PutService(service))
		}
	case "delete":
		if found {
			service.Deleting = true
			w.commit(state, store.PutService(service))
		}
	case "join":
		n := worldNode(node)
		n.Allocatable.CPU = 1000
		w.commit(state, store.PutNode(n))
		w.ready[node] = true
	case "leave":
		w.commit(state, store.DeleteNode(node))
	case "silence":
		w.ready[node] = !w.ready[node]
	case "agent", "crash":
		if state.Replicas.Len() == 0 {
			return
		}
		r := sortedReplicas(state)[rapid.IntRange(0, state.Replicas.Len()-1).Draw(w.T, "replica")]
		if _, there := state.Nodes[r.Node]; there {
			w.step(r)
			if r.Wanted && rapid.Bool().Draw(w.T, "crashes") {
				w.seen[r.ID] = resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaBackoff, Failures: rapid.SampledFrom([]int{1, rollout.FailuresToReport}).Draw(w.T, "failures"), Reason: resources.ReasonCrashed}
			}
		}
	}
}

// Whatever happens, in whatever order, while the leader decides too: no node is overcommitted, no slot of a
// service without surge has two replicas, no replica moves. And once all is quiet, the cluster comes to rest
// with what was asked for.
func TestDecideConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{T: t, seen: rollout.Seen{}, ready: map[resources.NodeID]bool{}}
		w.commit(w.load(), store.PutNetwork(worldNetwork("default", "10.1.0.0/16")), store.PutNetwork(worldNetwork("blue", "10.2.0.0/24")))
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			snapshot := w.load()
			w.churn()
			switch rapid.IntRange(0, 2).Draw(t, "leader") {
			case 0:
				w.lead(w.load())
			case 1: // the event came while it was deciding
				w.lead(snapshot)
			}
		}
		big := worldNode("n1")
		big.Allocatable.CPU = 1_000_000
		w.commit(w.load(), store.PutNode(big))
		for _, id := range []resources.NodeID{"n1", "n2", "n3"} {
			w.ready[id] = true
		}
		w.settle()
		w.checkRest()
	})
}

// settle lets leader and agents work until neither has anything to do.
func (w *world) settle() {
	for range 200 {
		state := w.load()
		if !w.lead(state) && w.quiet(state) {
			return
		}
		for _, r := range sortedReplicas(w.load()) {
			if r.Node != "" {
				w.step(r)
			}
		}
	}
	w.Fatal("the cluster does not come to rest")
}

// quiet is true where agents have nothing to say that they have not said.
func (w *world) quiet(state *store.State) bool {
	return !slices.ContainsFunc(sortedReplicas(state), func(r resources.Replica) bool {
		return r.Node != "" && (!r.Wanted || w.seen[r.ID].State != resources.ReplicaRunning)
	})
}

func (w *world) checkRest() {
	state := w.load()
	for name, s := range state.Services {
		if s.Deleting {
			w.Fatalf("service %s is still being deleted", name)
		}
		replicas := state.ReplicasOf(name)
		waits := slices.ContainsFunc(replicas, func(r resources.Replica) bool { return r.Node == "" })
		surplus := len(replicas) - s.Service.Replicas
		if surplus != 0 && (!waits || surplus > s.Service.Update.Budget(s.Service.Replicas).Surge) {
			w.Fatalf("service %s has %d replicas, want %d: %+v", name, len(replicas), s.Service.Replicas, replicas)
		}
		for _, r := range replicas {
			// Published ports are what one big node may lack.
			if r.Node == "" && len(r.Template.Ports) > 0 && r.Waiting != "" {
				continue
			}
			if r.Node == "" || !r.Wanted || !same(r.Template, s.Service.Template) && !waits {
				w.Fatalf("service %s at revision %d rests with %+v", name, s.Revision, r)
			}
		}
		// A network that it has left stays while a replica is there, whose successor
		// waits for a place.
		for _, has := range s.VirtualIPs {
			there := func(r resources.Replica) bool { return resources.AddressOn(has.Network, r.Addresses).IsValid() }
			if !slices.Contains(s.Service.Joins(), has.Network) && !slices.ContainsFunc(replicas, there) {
				w.Fatalf("service %s has left %s, and has %v there", name, has.Network, has.Address)
			}
		}
		if slices.ContainsFunc(s.Service.Joins(), func(n string) bool { return !resources.AddressOn(n, s.VirtualIPs).IsValid() }) {
			w.Fatalf("service %s on %v rests with %v", name, s.Service.Joins(), s.VirtualIPs)
		}
	}
	for id, r := range state.Replicas.All() {
		if _, found := state.Services[r.Service]; !found {
			w.Fatalf("replica %s is left of a service that is gone", id)
		}
	}
}
