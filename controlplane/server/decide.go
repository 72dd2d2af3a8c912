package server

import (
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// decision is what the planners say of a view.
type decision struct {
	changes []store.Change
	// told is what people hear of once the changes are made.
	told []resources.Event
	// wake is when to decide anew though nothing has changed; zero for never.
	wake time.Time
}

// decide turns what the planners say of a view into changes of the store.
func decide(v *view) decision {
	var d decision
	state := v.state
	change := func(c ...store.Change) {
		d.changes = append(d.changes, c...)
		state = state.With(c...)
	}
	// Nothing is left of a replica whose node was removed.
	for _, r := range sortedReplicas(state) {
		if _, found := state.Nodes[r.Node]; r.Node != "" && !found {
			change(store.DeleteReplica(r.ID))
		}
	}
	for _, leaving := range leaving(v, state) {
		r := state.Replicas.Get(leaving.Replica)
		r.Wanted = false
		change(store.PutReplica(r))
		d.told = append(d.told, resources.Event{Object: "replica/" + string(r.ID), Reason: "Moved", Message: "it leaves, since " + leaving.Reason})
	}
	for _, name := range slices.Sorted(maps.Keys(v.state.Services)) {
		service := state.Services[name]
		plan := rollout.Plan(service, state.ReplicasOf(name), v.rollout(state))
		for _, action := range plan.Actions {
			change(carryOut(state, service, action, v.now))
			if text := tell(service, action); text != "" {
				d.told = append(d.told, resources.Event{Object: "service/" + name, Reason: reasons[action.Do], Message: text})
			}
		}
		if d.wake.IsZero() || !plan.Wake.IsZero() && plan.Wake.Before(d.wake) {
			d.wake = plan.Wake
		}
	}
	change(place(v, state)...)
	d.changes = lastOfEachKey(d.changes)
	return d
}

// leaving chooses the replicas that leave their nodes now, of those that may not
// stay: one of each service at a time, so that the service goes on meanwhile.
func leaving(v *view, state *store.State) []schedule.Misplacement {
	cluster, _ := v.cluster(state)
	misplaced := cluster.Misplaced()
	if len(misplaced) == 0 {
		return nil
	}
	moving := map[string]bool{}
	for _, r := range sortedReplicas(state) {
		seen := v.seen[r.ID]
		// What fails where it is holds nobody up.
		if !r.Wanted || !rollout.Ready(seen) && seen.State != resources.ReplicaExited && seen.Failures == 0 {
			moving[r.Service] = true
		}
	}
	return slices.DeleteFunc(misplaced, func(m schedule.Misplacement) bool {
		r := state.Replicas.Get(m.Replica)
		wait := moving[r.Service] && rollout.Ready(v.seen[r.ID])
		moving[r.Service] = true
		return wait
	})
}

// carryOut gives the change that a planned action makes.
func carryOut(state *store.State, service resources.ServiceRecord, action rollout.Action, now time.Time) store.Change {
	switch action.Do {
	case rollout.Create:
		return store.PutReplica(newReplica(service.Service.Name, action.Slot, action.Revision, now))
	case rollout.Stop:
		r := state.Replicas.Get(action.Replica)
		r.Wanted = false
		return store.PutReplica(r)
	case rollout.Forget:
		return store.DeleteReplica(action.Replica)
	case rollout.Finish:
		return store.DeleteService(service.Service.Name)
	default:
		return store.PutService(action.Record)
	}
}

// reasons name what people hear of.
var reasons = map[rollout.Verb]string{rollout.Pause: "RolloutPaused", rollout.RollBack: "RolledBack", rollout.Complete: "RolledOut"}

// tell says in a line what a person hears of an action: how a rollout ended, or
// what keeps it from going on.
func tell(service resources.ServiceRecord, action rollout.Action) string {
	next := action.Record
	switch action.Do {
	case rollout.Pause:
		return fmt.Sprintf("the rollout of revision %d does not go on: %s", next.Revision, firstLine(next.Rollout.Paused))
	case rollout.RollBack:
		return fmt.Sprintf("revision %d goes back to what ran as revision %d: %s", next.Revision, service.Stable.Number, firstLine(next.Rollout.Reason))
	case rollout.Complete:
		return fmt.Sprintf("revision %d runs", next.Revision)
	default:
		return ""
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
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

func newReplica(service string, slot int, revision resources.Revision, now time.Time) resources.Replica {
	suffix := strings.ToLower(rand.Text()[:6])
	return resources.Replica{
		ID:      resources.ReplicaID(fmt.Sprintf("%s-%d-%s", service, slot, suffix)),
		Service: service, Slot: slot, Revision: revision.Number, Wanted: true,
		ImageDigest: revision.ImageDigest, Template: revision.Template, Created: now.UTC(),
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
