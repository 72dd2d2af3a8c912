package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skerry-io/skerry/controlplane/rollout"
	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// scale gives services the number of replicas that the autoscaler says, as far as
// there is room for them.
func (d *decision) scale(v *view) {
	if v.scaling == nil {
		return
	}
	d.scaled = make(map[string]resources.ScaleDecision, len(v.scaling))
	var room *room
	var changes []store.Change
	for _, name := range slices.Sorted(maps.Keys(v.scaling)) {
		said, record := v.scaling[name], d.state.Services[name]
		if record.Scaled == nil {
			continue
		}
		now := *record.Scaled
		if said.To != said.From {
			if room == nil {
				room = newRoom(v, d.state)
			}
			if said.To > said.From {
				said = room.grow(said, record)
				now = now.To(said.To)
			} else {
				now = room.shrink(now, record, said.To)
			}
		}
		d.scaled[name] = said
		if said.To == said.From {
			continue
		}
		record.Scaled = &now
		changes = append(changes, store.PutService(record))
		d.told = append(d.told, resources.Event{
			Object: "service/" + name, Reason: "Scaled", Message: fmt.Sprintf("from %d to %d replicas: %s", said.From, said.To, wordsOf(said)),
		})
	}
	d.change(changes...)
}

// room is what the cluster has left while services grow and shrink, one after
// the other.
type room struct {
	view    *view
	state   *store.State
	cluster *schedule.Cluster
}

func newRoom(v *view, state *store.State) *room {
	cluster, pending := v.cluster(state)
	// What waits for a place comes first.
	cluster.Place(pending)
	return &room{v, state, cluster}
}

// grow bounds a decision by what finds a place: replicas that would only wait
// help nobody, and would keep the service from counting as running.
func (m *room) grow(d resources.ScaleDecision, service resources.ServiceRecord) resources.ScaleDecision {
	demand := m.demand(resources.Replica{
		Service: service.Service.Name, Revision: service.Revision, Template: service.Service.Template, ImageDigest: service.ImageDigest,
	}, service)
	more := make([]schedule.Replica, d.To-d.From)
	for i := range more {
		more[i] = schedule.Replica{ID: resources.ReplicaID(fmt.Sprintf("%s-more-%06d", service.Service.Name, i)), Demand: demand}
	}
	fit := 0
	var refusal *schedule.Refusal
	for _, placed := range m.cluster.Place(more) {
		if placed.Node != "" || placed.Refusal.Room != "" {
			fit++
		} else if refusal == nil {
			refusal = placed.Refusal
		}
	}
	if refusal == nil {
		return d
	}
	wanted := d.To
	d.To = max(d.From+fit, min(d.Floor, d.To))
	d.NoRoom = fmt.Sprintf("the cluster has room for %d more of %d: %s", fit, wanted-d.From, refusal)
	d.Reasons = append(slices.Clone(d.Reasons), d.NoRoom)
	return d
}

func (m *room) demand(r resources.Replica, service resources.ServiceRecord) *schedule.Demand {
	return bind(schedule.DemandOf(r, service.Service.Placement), m.state, &r.Template)
}

// shrink removes slots until so many are left: first those that are of no use,
// and then those whose replicas are missed least where they are.
func (m *room) shrink(now resources.Scaled, service resources.ServiceRecord, to int) resources.Scaled {
	inSlot := map[int]resources.Replica{}
	for _, r := range m.state.ReplicasOf(service.Service.Name) {
		if old, found := inSlot[r.Slot]; r.Wanted && (!found || m.use(r) > m.use(old)) {
			inSlot[r.Slot] = r
		}
	}
	demands := map[int]*schedule.Demand{}
	for _, r := range inSlot {
		if demands[r.Revision] == nil {
			demands[r.Revision] = m.demand(r, service)
		}
	}
	for len(now.Slots) > to {
		least := slices.MinFunc(now.Slots, func(a, b int) int { return m.useOf(inSlot, a) - m.useOf(inSlot, b) })
		var numbers []int
		var some []schedule.Replica
		for _, n := range now.Slots {
			if m.useOf(inSlot, n) == m.useOf(inSlot, least) {
				r := inSlot[n]
				numbers = append(numbers, n)
				some = append(some, schedule.Replica{ID: r.ID, Demand: demands[r.Revision], Node: r.Node})
			}
		}
		i := m.cluster.Spare(some)
		m.cluster.Remove(some[i].Node, some[i].ID)
		now = now.Without(numbers[i])
	}
	return now
}

// useOf is the use of what is in a slot.
func (m *room) useOf(inSlot map[int]resources.Replica, slot int) int {
	r, found := inSlot[slot]
	if !found {
		return 0
	}
	return m.use(r)
}

// use orders replicas by what is lost with them: one that waits for a node, one
// that does not do its work, and one that does.
func (m *room) use(r resources.Replica) int {
	switch {
	case r.Node == "" || m.view.lost[r.Node]:
		return 1
	case !m.view.ready[r.Node] || !rollout.Ready(m.view.seen[r.ID]):
		return 2
	}
	return 3
}
