package rollout_test

import (
	"fmt"
	"testing"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/resources"
)

// The plan of a service in the middle of a rollout.
func BenchmarkPlan(b *testing.B) {
	for _, replicas := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			w := newToy(resources.Service{Replicas: replicas}, 0, 0)
			for _, a := range rollout.Plan(w.service, nil, w.view).Actions {
				w.carryOut(a)
			}
			for i := range w.replicas {
				w.replicas[i].Node = "n1"
				w.report(w.replicas[i].ID, resources.ReplicaRunning)
			}
			w.revise(func(t *resources.Template) { t.Image = "web:2" })
			for b.Loop() {
				rollout.Plan(w.service, w.replicas, w.view)
			}
		})
	}
}
