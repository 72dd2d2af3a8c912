package server

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// decide turns what the planners say of a view into changes of the store.
func decide(v *view, now time.Time) []store.Change {
	var changes []store.Change
	state := v.state
	change := func(c ...store.Change) { changes = append(changes, c...) }
	// Nothing is left of a replica whose node was removed.
	for _, r := range sortedReplicas(state) {
		if _, found := state.Nodes[r.Node]; r.Node != "" && !found {
			change(store.DeleteReplica(r.ID))
		}
	}
	state = state.With(changes...)
	for _, name := range slices.Sorted(maps.Keys(state.Services)) {
		service := state.Services[name]
		for _, action := range rollout.Plan(service, state.ReplicasOf(name), v.seen) {
			switch action.Do {
			case rollout.Create:
				change(store.PutReplica(newReplica(service, action.Slot, now)))
			case rollout.Stop:
				r := state.Replicas.Get(action.Replica)
				r.Wanted = false
				change(store.PutReplica(r))
			case rollout.Forget:
				change(store.DeleteReplica(action.Replica))
			case rollout.Finish:
				change(store.DeleteService(name))
			}
		}
	}
	change(place(v, state.With(changes...))...)
	return lastOfEachKey(changes)
}

// place finds nodes for all replicas that wait for one.
func place(v *view, state *store.State) []store.Change {
	var changes []store.Change
	cluster, pending := v.cluster(state)
	for _, decision := range cluster.Place(pending) {
		old := state.Replicas.Get(decision.Replica)
		r := old
		r.Node, r.Waiting, r.MayWait = decision.Node, "", false
		if decision.Refusal != nil {
			r.Waiting, r.MayWait = decision.Refusal.String(), decision.Refusal.Temporary()
		}
		if r.Node != old.Node || r.Waiting != old.Waiting || r.MayWait != old.MayWait {
			changes = append(changes, store.PutReplica(r))
		}
		for _, id := range decision.Preempt {
			victim := state.Replicas.Get(id)
			victim.Wanted = false
			changes = append(changes, store.PutReplica(victim))
		}
	}
	return changes
}

func newReplica(service resources.ServiceRecord, slot int, now time.Time) resources.Replica {
	name := service.Service.Name
	suffix := strings.ToLower(rand.Text()[:6])
	return resources.Replica{
		ID:      resources.ReplicaID(fmt.Sprintf("%s-%d-%s", name, slot, suffix)),
		Service: name, Slot: slot, Revision: service.Revision, Wanted: true,
		ImageDigest: service.ImageDigest, Template: service.Service.Template, Created: now.UTC(),
	}
}

// lastOfEachKey drops changes that a later one overrules: the store takes one
// change of a key in a batch.
func lastOfEachKey(changes []store.Change) []store.Change {
	last := map[string]int{}
	for i, c := range changes {
		last[c.Key()] = i
	}
	var kept []store.Change
	for i, c := range changes {
		if last[c.Key()] == i {
			kept = append(kept, c)
		}
	}
	return kept
}

func sortedReplicas(state *store.State) []resources.Replica {
	all := make([]resources.Replica, 0, state.Replicas.Len())
	for _, r := range state.Replicas.All() {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b resources.Replica) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all
}
