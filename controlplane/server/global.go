package server

import (
	"slices"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// slots is a service as rollouts see it: so many slots, numbered from 0, and
// replicas in them. For a global service, which has a slot for each node that
// fits, they are numbered anew each time; a slot beyond the last is one whose
// node fits no more. So they are for an autoscaled one, whose slots have gaps
// where it has shrunk.
type slots struct {
	service  resources.ServiceRecord
	replicas []resources.Replica
	// nodes are those of a global service's slots.
	nodes []resources.NodeID
	taken map[int]bool
	// numbers are those of an autoscaled service's slots.
	numbers []int
}

func (v *view) slots(state *store.State, service resources.ServiceRecord) slots {
	s := slots{service: service, replicas: state.ReplicasOf(service.Service.Name)}
	if service.Service.Autoscale != nil && service.Scaled != nil {
		s.scale(service.Scaled.Slots)
		return s
	}
	if service.Service.Mode != resources.ModeGlobal {
		return s
	}
	s.nodes, s.taken = v.globalNodes(state, service, s.replicas), map[int]bool{}
	for _, r := range s.replicas {
		s.taken[r.Slot] = true
	}
	s.renumber(len(s.nodes), func(r resources.Replica) int { return slices.Index(s.nodes, r.Only) })
	return s
}

// scale numbers the slots of an autoscaled service.
func (s *slots) scale(numbers []int) {
	s.numbers = numbers
	s.renumber(len(numbers), func(r resources.Replica) int { return slices.Index(numbers, r.Slot) })
}

// renumber gives the service so many slots, and the replicas theirs: the one that
// at gives, or, where that is -1, one beyond the last. Replicas in one slot beyond
// stay in one.
func (s *slots) renumber(n int, at func(resources.Replica) int) {
	s.service.Service.Replicas = n
	beyond := map[int]int{}
	for i := range s.replicas {
		r := &s.replicas[i]
		slot := at(*r)
		if slot < 0 {
			if _, known := beyond[r.Slot]; !known {
				beyond[r.Slot] = n + len(beyond)
			}
			slot = beyond[r.Slot]
		}
		r.Slot = slot
	}
}

// globalNodes lists the nodes that run a replica of a global service.
func (v *view) globalNodes(state *store.State, service resources.ServiceRecord, replicas []resources.Replica) []resources.NodeID {
	demand := schedule.DemandOf(resources.Replica{Service: service.Service.Name, Template: service.Service.Template}, service.Service.Placement)
	var placed []schedule.Replica
	for _, r := range replicas {
		placed = append(placed, schedule.Replica{ID: r.ID, Demand: demand, Node: r.Node, Stopping: !r.Wanted})
	}
	return schedule.New(v.nodes(state), placed).GlobalNodes(demand)
}

// number gives the number that a new replica in one of the slots is stored
// with: for a global service, one that no other replica has.
func (s slots) number(slot int) int {
	if s.numbers != nil {
		return s.numbers[slot]
	}
	if s.service.Service.Mode != resources.ModeGlobal {
		return slot
	}
	number := 0
	for s.taken[number] {
		number++
	}
	s.taken[number] = true
	return number
}

// only gives the node of a global service's slot, and else none.
func (s slots) only(slot int) resources.NodeID {
	if s.service.Service.Mode != resources.ModeGlobal {
		return ""
	}
	return s.nodes[slot]
}
