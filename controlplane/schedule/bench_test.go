package schedule_test

import (
	"fmt"
	"testing"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/resources"
)

// BenchmarkPlace places one service on an empty cluster. What `make bench`
// measures goes through the store too.
func BenchmarkPlace(b *testing.B) {
	for _, c := range []struct {
		nodes, replicas int
		spread          bool
	}{{1000, 10_000, false}, {1000, 10_000, true}, {5000, 10_000, false}, {1000, 100_000, false}, {1000, 100_000, true}, {6100, 2_000_000, false}} {
		b.Run(fmt.Sprintf("nodes=%d/replicas=%d/spread=%t", c.nodes, c.replicas, c.spread), func(b *testing.B) {
			d := &schedule.Demand{Service: "web", Resources: resources.Reservation{CPU: 50, Memory: 100 * resources.MiB}}
			if c.spread {
				d.Placement = resources.Placement{Spread: []string{"rack"}, Constraints: []string{"rack != 3"}}
			}
			nodes := make([]schedule.Node, c.nodes)
			for i := range nodes {
				nodes[i] = benchNode(i)
			}
			pending := make([]schedule.Replica, c.replicas)
			for i := range pending {
				pending[i] = schedule.Replica{ID: resources.ReplicaID(fmt.Sprintf("web-%07d-abcdef", i)), Demand: d}
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, decision := range schedule.New(nodes, nil).Place(pending) {
					if decision.Node == "" {
						b.Fatal(decision.Refusal)
					}
				}
			}
			b.ReportMetric(float64(c.replicas)*float64(b.N)/b.Elapsed().Seconds(), "replicas/s")
		})
	}
}

func benchNode(i int) schedule.Node {
	n := schedule.Node{Ready: true}
	n.ID, n.Name = resources.NodeID(fmt.Sprintf("%016x", i)), fmt.Sprintf("n%d", i)
	n.Labels = map[string]string{"rack": fmt.Sprint(i % 25)}
	n.Allocatable = resources.Capacity{CPU: 32_000, Memory: 64 * resources.GiB}
	return n
}
