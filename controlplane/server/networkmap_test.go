package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// networkedInfo is a node that can be on networks.
func networkedInfo(name, address string) resources.NodeInfo {
	info := nodeInfo(name)
	info.Addresses, info.Overlay = []string{address}, &resources.NodeOverlay{PublicKey: "key of " + name}
	return info
}

// handNode is a node whose agent does what the test says.
type handNode struct {
	*testing.T
	*cluster
	id resources.NodeID
}

func (c *cluster) byHand(t *testing.T, info resources.NodeInfo) handNode {
	t.Helper()
	c.admit(t, info.ID)
	if err := c.PutNode(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	n := handNode{t, c, info.ID}
	n.report(0)
	return n
}

// report says of each replica what its agent would, and which map it has.
func (n handNode) report(applied int64) {
	n.Helper()
	statuses := []resources.ReplicaStatus{}
	for _, r := range n.assignment().Replicas {
		state := resources.ReplicaRunning
		if !r.Wanted && n.gone(r.ID) {
			state = resources.ReplicaGone
		}
		statuses = append(statuses, resources.ReplicaStatus{ID: r.ID, State: state, StartedAt: r.Created})
	}
	if err := n.PutStatus(n.Context(), n.id, statuses, applied); err != nil {
		n.Fatal(err)
	}
}

// gone is true for a replica that the agent may stop.
func (n handNode) gone(id resources.ReplicaID) bool {
	return !slices.Contains(n.assignment().Leaving, id)
}

func (n handNode) assignment() resources.Assignment {
	n.Helper()
	state, err := n.server.Store.Load(n.Context())
	if err != nil {
		n.Fatal(err)
	}
	return assignment(n.server.reports.view(state, time.Now()), n.id)
}

// until watches the node's map until it is as wanted.
func (n handNode) until(what string, wanted func(resources.NetworkMap) bool) resources.NetworkMap {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 20*time.Second)
	defer cancel()
	var last resources.NetworkMap
	found := false
	n.WatchNetwork(ctx, n.id, func(m resources.NetworkMap) { //nolint:errcheck // found tells
		if !found {
			last, found = m, wanted(m)
		}
		if found {
			cancel()
		}
	})
	if !found {
		n.Fatalf("%s: not %s; the map is %+v", n.id, what, last)
	}
	return last
}

// untilPlaced waits until a replica is placed on the node.
func (n handNode) untilPlaced() []resources.Replica {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 20*time.Second)
	defer cancel()
	var placed []resources.Replica
	n.WatchAssignment(ctx, n.id, func(a resources.Assignment) { //nolint:errcheck // placed tells
		if len(a.Replicas) == 1 {
			placed = a.Replicas
			cancel()
		}
	})
	if len(placed) != 1 {
		n.Fatalf("%s has %d replicas, want 1", n.id, len(placed))
	}
	return placed
}

func only(node string) *resources.Placement {
	return &resources.Placement{Constraints: []string{"node.name == " + node}}
}

func readyReplicas(m resources.NetworkMap, service string) (ready int) {
	for _, s := range m.Services {
		for _, r := range s.Replicas {
			if s.Name == service && r.Ready {
				ready++
			}
		}
	}
	return ready
}

func TestReplicasGetAddresses(t *testing.T) {
	c := start(t, &store.Memory{})
	one, two := c.byHand(t, networkedInfo("n1", "10.0.0.1")), c.byHand(t, networkedInfo("n2", "10.0.0.2"))
	plain := c.byHand(t, nodeInfo("n3"))
	for _, node := range []string{"n1", "n2", "n3"} {
		service := web(1)
		service.Name, service.Placement = "web-"+node, only(node)
		c.put(t, service)
	}
	first := one.untilPlaced()[0]
	two.untilPlaced()
	if got := plain.untilPlaced()[0]; len(got.Addresses) > 0 {
		t.Errorf("a replica on a node without networks has %v", got.Addresses)
	}
	if len(first.Addresses) != 1 || first.Addresses[0].Network != resources.DefaultNetwork {
		t.Fatalf("the replica has %v", first.Addresses)
	}
	for _, n := range []handNode{one, two, plain} {
		n.report(0)
	}
	m := two.until("shown n1's replica as ready", func(m resources.NetworkMap) bool { return readyReplicas(m, "web-n1") == 1 })
	if len(m.Networks) != 1 || len(m.Services) != 3 || len(m.Peers) != 1 || m.Peers[0].Node != "n1" || m.Peers[0].PublicKey != "key of n1" || len(m.Nodes) != 2 {
		t.Fatalf("the map is %+v", m)
	}
	if !m.Peers[0].Subnets[0].Subnet.Contains(first.Addresses[0].Address) || m.Revision == 0 {
		t.Errorf("the way to %v is %+v", first.Addresses, m.Peers)
	}
	services, err := c.Networks(t.Context())
	if err != nil || len(services) != 1 || services[0].Network.Name != "default" || len(services[0].Services) != 3 {
		t.Errorf("the networks are %+v, %v", services, err)
	}
	if m := plain.until("told", func(resources.NetworkMap) bool { return true }); len(m.Networks)+len(m.Services)+len(m.Peers) > 0 {
		t.Errorf("a node without networks is told %+v", m)
	}
}

// A node of a service that every node publishes is on its network without any
// replica.
func TestANodeThatOnlyPublishes(t *testing.T) {
	c := start(t, &store.Memory{})
	one, two := c.byHand(t, networkedInfo("n1", "10.0.0.1")), c.byHand(t, networkedInfo("n2", "10.0.0.2"))
	service := web(1)
	service.Placement, service.Ports = only("n1"), []resources.Port{{Target: 8080, Published: 80}}
	c.put(t, service)
	one.untilPlaced()
	one.report(0)
	m := two.until("led to the replica", func(m resources.NetworkMap) bool { return readyReplicas(m, "web") == 1 })
	if len(m.Networks) != 1 || !m.Networks[0].Subnet.IsValid() || len(m.Services[0].Ports) != 1 || m.Services[0].Ports[0].Node() != 80 {
		t.Errorf("the map is %+v", m)
	}
}

// No map empties a rotation because its leader has just begun.
func TestALeaderThatHasNotHeardAllSaysNothing(t *testing.T) {
	s := &store.Memory{}
	before := start(t, s)
	for name, address := range map[string]string{"n1": "10.0.0.1", "n2": "10.0.0.2"} {
		before.byHand(t, networkedInfo(name, address))
	}
	c := start(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex // guards told
	told := 0
	var watching sync.WaitGroup
	watching.Go(func() {
		c.WatchNetwork(ctx, "n1", func(resources.NetworkMap) { //nolint:errcheck // it ends with the test
			mu.Lock()
			defer mu.Unlock()
			told++
			cancel()
		})
	})
	if err := c.PutStatus(t.Context(), "n1", nil, 0); err != nil {
		t.Fatal(err)
	}
	state, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v := c.server.reports.view(state, time.Now()); v.complete {
		t.Error("it has heard of all nodes")
	}
	mu.Lock()
	if told > 0 {
		t.Error("a map was told before all nodes were heard")
	}
	mu.Unlock()
	if err := c.PutStatus(t.Context(), "n2", nil, 0); err != nil {
		t.Fatal(err)
	}
	watching.Wait()
	if told == 0 {
		t.Error("no map was told")
	}
}

func TestAReplicaLeavesTheRotationBeforeItStops(t *testing.T) {
	c := start(t, &store.Memory{})
	one, two := c.byHand(t, networkedInfo("n1", "10.0.0.1")), c.byHand(t, networkedInfo("n2", "10.0.0.2"))
	elsewhere := c.byHand(t, networkedInfo("n3", "10.0.0.3"))
	service, other := web(1), web(1)
	service.Placement = only("n1")
	other.Name, other.Placement = "client", only("n2")
	c.put(t, service)
	c.put(t, other)
	one.untilPlaced()
	two.untilPlaced()
	one.report(0)
	two.report(0)
	m := two.until("led to the replica", func(m resources.NetworkMap) bool { return readyReplicas(m, "web") == 1 })
	old := m.Revision
	one.report(old)
	two.report(old)
	elsewhere.report(0) // it is on no network, and holds nobody up

	service.Replicas = 0
	c.put(t, service)
	m = two.until("without the replica", func(m resources.NetworkMap) bool { return readyReplicas(m, "web") == 0 })
	if leaving := one.assignment().Leaving; len(leaving) != 1 {
		t.Fatalf("nobody leaves: %v", leaving)
	}
	one.report(m.Revision)
	if leaving := one.assignment().Leaving; len(leaving) != 1 {
		t.Fatalf("the other node was not waited for: %v", leaving)
	}
	// An agent that waits is told when the last node has the map, and no later.
	ctx, cancel := context.WithTimeout(t.Context(), NodeTimeout/2)
	defer cancel()
	var watching sync.WaitGroup
	told := false
	watching.Go(func() {
		c.WatchAssignment(ctx, "n1", func(a resources.Assignment) { //nolint:errcheck // told tells
			if len(a.Replicas) == 1 && len(a.Leaving) == 0 {
				told = true
				cancel()
			}
		})
	})
	two.report(m.Revision)
	watching.Wait()
	if !told {
		t.Error("the agent was not told that the replica may stop")
	}
}

// What is silent holds nobody up, and what an old agent reports neither.
func TestWhoIsWaitedFor(t *testing.T) {
	replica := resources.Replica{ID: "web-0-x", Service: "web", Node: "n1", Wanted: true}
	on := []resources.NetworkAddress{{Network: "blue"}}
	client := resources.Replica{ID: "client-0-x", Service: "client", Node: "n2", Wanted: true, Addresses: on}
	replica.Addresses = on
	c := &scene{t: t, seen: map[resources.ReplicaID]resources.ReplicaStatus{"web-0-x": {State: resources.ReplicaRunning}}}
	c.commit(store.PutNode(networkedInfo("n1", "10.0.0.1")), store.PutNode(networkedInfo("n2", "10.0.0.2")), store.PutReplica(client), store.PutReplica(replica))
	before := c.state().Revision
	replica.Wanted = false
	c.commit(store.PutReplica(replica))
	after := c.state().Revision
	look := func(change func(*view)) bool {
		v := c.view()
		v.complete, v.applied = true, map[resources.NodeID]int64{"n1": after, "n2": after}
		change(v)
		return len(v.leaving("n1")) > 0
	}
	for name, c := range map[string]struct {
		change func(*view)
		want   bool
	}{
		"all have it":                  {func(*view) {}, false},
		"one has an older one":         {func(v *view) { v.applied["n2"] = before }, true},
		"one has none":                 {func(v *view) { delete(v.applied, "n2") }, true},
		"its own node has an older":    {func(v *view) { v.applied["n1"] = before }, true},
		"the one that lags is silent":  {func(v *view) { v.applied["n2"], v.ready["n2"] = before, false }, false},
		"not all are heard":            {func(v *view) { v.complete = false }, true},
		"it is said to be stopping":    {func(v *view) { v.applied["n2"], v.seen = before, seenAs("web-0-x", resources.ReplicaStopping) }, true},
		"it is gone already":           {func(v *view) { v.complete, v.seen = false, seenAs("web-0-x", resources.ReplicaGone) }, false},
		"one that runs on has a later": {func(v *view) { v.applied["n2"] = after + 9 }, false},
	} {
		if got := look(c.change); got != c.want {
			t.Errorf("%s: it leaves: %v", name, got)
		}
	}
}

func seenAs(id resources.ReplicaID, state resources.ReplicaState) map[resources.ReplicaID]resources.ReplicaStatus {
	return map[resources.ReplicaID]resources.ReplicaStatus{id: {ID: id, State: state}}
}

func TestTheMapOfANodeThatIsGone(t *testing.T) {
	c := start(t, &store.Memory{})
	c.byHand(t, networkedInfo("n1", "10.0.0.1"))
	if err := c.DeleteNode(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	err := c.WatchNetwork(t.Context(), "n1", func(resources.NetworkMap) {})
	if !errors.Is(err, api.ErrGone) && !api.IsNotFound(err) {
		t.Errorf("the watch ended with %v", err)
	}
}
