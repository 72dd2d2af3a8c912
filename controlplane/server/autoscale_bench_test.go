package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// What the leader does each period for 5,000 services with 100,000 replicas, from
// samples to decisions.
func BenchmarkScaler(b *testing.B) {
	const services, each, nodes = 5000, 20, 1000
	now := time.Unix(1e9, 0)
	v := &view{now: now, seen: rollout.Seen{}, ready: map[resources.NodeID]bool{}}
	s := newScaler()
	var changes []store.Change
	samples := map[resources.NodeID][]resources.Sample{}
	for i := range nodes {
		id := resources.NodeID(fmt.Sprint("n", i))
		v.ready[id] = true
		changes = append(changes, store.PutNode(resources.NodeInfo{ID: id, Name: string(id)}))
	}
	for i := range services {
		name := fmt.Sprint("s", i)
		service := scaledWeb(each, 1, 100)
		service.Name = name
		service.SetDefaults()
		scaled := resources.Scaled{}.To(each)
		changes = append(changes, store.PutService(resources.ServiceRecord{Service: service, Revision: 1, Scaled: &scaled}))
		for k := range each {
			r := resources.Replica{ID: resources.ReplicaID(fmt.Sprint(name, "-", k)), Service: name, Slot: k, Revision: 1, Wanted: true, Node: resources.NodeID(fmt.Sprint("n", (i+k)%nodes))}
			changes = append(changes, store.PutReplica(r))
			v.seen[r.ID] = resources.ReplicaStatus{ID: r.ID, State: resources.ReplicaRunning, StartedAt: now.Add(-time.Hour), ReadySince: now.Add(-time.Hour)}
			samples[r.Node] = append(samples[r.Node], resources.Sample{Replica: r.ID, Values: map[string]float64{resources.SampleCPU: float64(i+k) / 50}})
		}
	}
	v.state = (&store.State{}).With(changes...)
	for node, all := range samples {
		s.put(node, all, now)
	}
	v.state.ReplicasOf("s0") // the index that every decision shares
	for b.Loop() {
		due, _ := s.plan(v)
		if len(due) != services {
			b.Fatalf("%d decisions", len(due))
		}
	}
}
