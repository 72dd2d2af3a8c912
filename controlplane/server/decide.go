package server

import (
	"crypto/rand"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/overlay"
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
	// placed and refused count replicas that get a node, and that hear why they
	// don't.
	placed, refused int
	// scaled is what has come of what the autoscaler says, by service.
	scaled map[string]resources.ScaleDecision
	// state is as it will be after the changes.
	state *store.State
}

func (d *decision) change(c ...store.Change) {
	d.changes = append(d.changes, c...)
	d.state = d.state.With(c...)
}

// wakeBy makes the next decision come at the time at the latest; zero is never.
func (d *decision) wakeBy(at time.Time) {
	if d.wake.IsZero() || !at.IsZero() && at.Before(d.wake) {
		d.wake = at
	}
}

// decide turns what the planners say of a view into changes of the store.
func decide(v *view) *decision {
	d := &decision{state: v.state}
	// Nothing is left of a replica whose node was removed.
	for _, r := range sortedReplicas(d.state) {
		if _, found := d.state.Nodes[r.Node]; r.Node != "" && !found {
			d.change(store.DeleteReplica(r.ID))
		}
	}
	d.scale(v)
	for _, name := range slices.Sorted(maps.Keys(d.state.Services)) {
		d.rollOut(v, d.state.Services[name])
	}
	addresses := overlay.NewAllocator(clusterOf(d.state))
	d.place(v, addresses)
	d.rebalance(v)
	d.tellDrains(v)
	d.connect(addresses)
	d.prune()
	d.changes = lastOfEachKey(d.changes)
	return d
}

// rollOut takes a service as far as it can go now.
func (d *decision) rollOut(v *view, service resources.ServiceRecord) {
	name, slots := service.Service.Name, v.slots(d.state, service)
	plan := rollout.Plan(slots.service, slots.replicas, v.rollout(d.state))
	d.wakeBy(plan.Wake)
	var changes []store.Change
	for _, a := range plan.Actions {
		switch a.Do {
		case rollout.Create:
			r := newReplica(name, slots.number(a.Slot), a.Revision, v.now)
			r.Only = slots.only(a.Slot)
			changes = append(changes, store.PutReplica(r))
		case rollout.Stop:
			r := d.state.Replicas.Get(a.Replica)
			r.Wanted = false
			changes = append(changes, store.PutReplica(r))
		case rollout.Forget:
			changes = append(changes, store.DeleteReplica(a.Replica))
		case rollout.Finish:
			changes = append(changes, store.DeleteService(name))
		case rollout.Note, rollout.Pause, rollout.RollBack, rollout.Complete:
			a.Record.Service.Replicas = service.Service.Replicas
			changes = append(changes, store.PutService(a.Record))
			d.tell(service, a)
		}
	}
	d.change(changes...)
}

// tell says in a line what a person hears of a rollout: how it ended, or what
// keeps it from going on.
func (d *decision) tell(service resources.ServiceRecord, a rollout.Action) {
	event := resources.Event{Object: "service/" + service.Service.Name}
	switch next := a.Record; a.Do {
	case rollout.Pause:
		event.Reason = "RolloutPaused"
		event.Message = fmt.Sprintf("the rollout of revision %d does not go on: %s", next.Revision, firstLine(next.Rollout.Paused))
	case rollout.RollBack:
		event.Reason = "RolledBack"
		event.Message = fmt.Sprintf("revision %d goes back to what ran as revision %d: %s", next.Revision, service.Stable.Number, firstLine(next.Rollout.Reason))
	case rollout.Complete:
		event.Reason = "RolledOut"
		event.Message = fmt.Sprintf("revision %d runs", next.Revision)
	case rollout.Create, rollout.Stop, rollout.Forget, rollout.Finish, rollout.Note:
		return
	}
	d.told = append(d.told, event)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// place finds nodes for all replicas that wait for one, and lets those leave that
// may not stay where they are.
func (d *decision) place(v *view, addresses *overlay.Allocator) {
	cluster, pending := v.cluster(d.state)
	d.leave(v, cluster.Misplaced(), math.MaxInt)
	pending = d.mount(pending)
	var changes []store.Change
	for _, decision := range cluster.Place(pending) {
		old := d.state.Replicas.Get(decision.Replica)
		r := old
		r.Node, r.Waiting, r.MayWait = decision.Node, "", false
		if decision.Refusal != nil {
			r.Waiting, r.MayWait = decision.Refusal.String(), decision.Refusal.Temporary()
		} else if given, err := addresses.Addresses(r); err != nil {
			r.Node, r.Waiting = "", err.Error()
		} else {
			r.Addresses = given
		}
		if r.Node != old.Node || r.Waiting != old.Waiting || r.MayWait != old.MayWait {
			if r.Node != "" {
				d.placed++
				changes = append(changes, settle(d.state, r)...)
			} else {
				d.refused++
			}
			changes = append(changes, store.PutReplica(r))
		}
		for _, id := range decision.Preempt {
			victim := d.state.Replicas.Get(id)
			victim.Wanted = false
			changes = append(changes, store.PutReplica(victim))
		}
	}
	d.change(changes...)
}

// mount gives those of the replicas that wait for a node which may mount their
// volumes now; the others hear what they wait for.
func (d *decision) mount(pending []schedule.Replica) []schedule.Replica {
	if len(d.state.Volumes) == 0 {
		return pending
	}
	var free []schedule.Replica
	changes := volumesLeft(d.state)
	mounts := mountsOf(d.state)
	for _, p := range pending {
		r := d.state.Replicas.Get(p.ID)
		waiting := mounts.claim(&r)
		if waiting == "" {
			free = append(free, p)
			continue
		}
		if r.Waiting != waiting || !r.MayWait {
			r.Waiting, r.MayWait = waiting, true
			d.refused++
			changes = append(changes, store.PutReplica(r))
		}
	}
	d.change(changes...)
	return free
}

// connect stores what the networks have given out: to replicas, to services, and
// to nodes for the ports that they publish.
func (d *decision) connect(addresses *overlay.Allocator) {
	if networked(d.state) {
		d.serve(addresses)
	}
	// A subnet is stored before what lies in it.
	var first []store.Change
	for _, record := range addresses.Changed() {
		first = append(first, store.PutNetwork(record))
	}
	d.changes, d.state = append(first, d.changes...), d.state.With(first...)
}

// serve gives services their virtual IPs, and nodes the subnets that they need for
// the ports that they publish.
func (d *decision) serve(addresses *overlay.Allocator) {
	var changes []store.Change
	nodes := slices.Sorted(maps.Keys(d.state.Nodes))
	for _, name := range slices.Sorted(maps.Keys(d.state.Services)) {
		service := d.state.Services[name]
		// A network that is full leaves the service as it was.
		ips, err := addresses.VirtualIPs(service, func() []resources.Replica { return d.state.ReplicasOf(name) })
		if err == nil && !slices.Equal(ips, service.VirtualIPs) {
			service.VirtualIPs = ips
			changes = append(changes, store.PutService(service))
		}
		if network, publishes := overlay.Publishes(service); publishes {
			for _, id := range nodes {
				if d.state.Nodes[id].Overlay != nil {
					// A node that finds the network full does not publish.
					addresses.Subnet(network, id) //nolint:errcheck // see above
				}
			}
		}
	}
	d.change(changes...)
}

// leave stops replicas that may not stay where they are: of each service one,
// and the next one once its new replica has come up. What fails holds nobody up:
// its node may be drained because of it. One that finds no place does, so that
// the others go on where they are. It stops no more than most, and says how many.
func (d *decision) leave(v *view, misplaced []schedule.Misplacement, most int) (stopped int) {
	if len(misplaced) == 0 {
		return 0
	}
	moving := map[string]bool{}
	for _, r := range sortedReplicas(d.state) {
		seen := v.seen[r.ID]
		settled := rollout.Ready(seen) || seen.State == resources.ReplicaExited || seen.Failures > 0
		if !r.Wanted || !settled {
			moving[r.Service] = true
		}
	}
	for _, m := range misplaced {
		r := d.state.Replicas.Get(m.Replica)
		if moving[r.Service] && rollout.Ready(v.seen[r.ID]) || stopped >= most {
			continue
		}
		stopped++
		moving[r.Service] = true
		r.Wanted = false
		d.change(store.PutReplica(r))
		d.told = append(d.told, resources.Event{Object: "replica/" + string(r.ID), Reason: "Moved", Message: "it leaves, since " + m.Reason})
	}
	return stopped
}

func newReplica(service string, slot int, revision resources.Revision, now time.Time) resources.Replica {
	suffix := strings.ToLower(rand.Text()[:6])
	return resources.Replica{
		ID:      resources.ReplicaID(fmt.Sprintf("%s-%d-%s", service, slot, suffix)),
		Service: service, Slot: slot, Revision: revision.Number, Wanted: true,
		ImageDigest: revision.ImageDigest, Template: revision.Template, Contents: revision.Contents, Created: now.UTC(),
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
