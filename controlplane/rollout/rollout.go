// Package rollout decides which replicas of a service are made, stopped and
// forgotten, so that the service comes to run what its record says. It is pure:
// what is stored and what was seen in, actions out. Each call says only what
// can be done now; the leader calls it again when something has changed.
//
// A slot is a place in the service, numbered from 0. It has at most one replica
// that is not gone, so that a new one finds the old one's ports and mounts
// free. A new revision takes over one slot after the other, and waits for each
// replica to run, so that one that can't run stops the rollout at its first
// slot.
package rollout

import (
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Action is one thing that the leader does for a service.
type Action struct {
	Do Verb
	// Slot of a replica that is created.
	Slot int
	// Replica that is stopped or forgotten.
	Replica resources.ReplicaID
}

// Verb is what an action does.
type Verb int

// The verbs.
const (
	// Create makes a replica of the present revision in a slot.
	Create Verb = iota
	// Stop asks the replica's node to end it.
	Stop
	// Forget removes the record of a replica of which nothing is left.
	Forget
	// Finish removes the record of a service that is deleted.
	Finish
)

func (v Verb) String() string { return [...]string{"create", "stop", "forget", "finish"}[v] }

// Seen is what agents reported, by replica. What is absent was not heard of.
type Seen map[resources.ReplicaID]resources.ReplicaStatus

// Plan returns what can be done for the service now. replicas are all those of
// the service.
func Plan(service resources.ServiceRecord, replicas []resources.Replica, seen Seen) []Action {
	var actions []Action
	var left []resources.Replica
	for _, r := range ordered(replicas) {
		if !r.Wanted && (r.Node == "" || seen[r.ID].State == resources.ReplicaGone) {
			actions = append(actions, Action{Do: Forget, Replica: r.ID})
			continue
		}
		left = append(left, r)
	}
	if service.Deleting {
		for _, r := range left {
			if r.Wanted {
				actions = append(actions, Action{Do: Stop, Replica: r.ID})
			}
		}
		if len(left) == 0 {
			actions = append(actions, Action{Do: Finish})
		}
		return actions
	}
	return append(actions, fillSlots(service, left, seen)...)
}

func fillSlots(service resources.ServiceRecord, replicas []resources.Replica, seen Seen) []Action {
	var actions []Action
	bySlot := map[int][]resources.Replica{}
	moving := false
	for _, r := range replicas {
		bySlot[r.Slot] = append(bySlot[r.Slot], r)
		if r.Slot >= service.Service.Replicas {
			if r.Wanted {
				actions = append(actions, Action{Do: Stop, Replica: r.ID})
			}
			continue
		}
		moving = moving || !r.Wanted || r.Revision == service.Revision && !settled(seen[r.ID])
	}
	for slot := range service.Service.Replicas {
		inSlot := bySlot[slot]
		if len(inSlot) == 0 {
			actions = append(actions, Action{Do: Create, Slot: slot})
			moving = true
			continue
		}
		for i, r := range inSlot {
			switch {
			case !r.Wanted:
			case i > 0:
				actions = append(actions, Action{Do: Stop, Replica: r.ID})
			case r.Revision != service.Revision && (!moving || !settled(seen[r.ID])):
				actions = append(actions, Action{Do: Stop, Replica: r.ID})
				moving = true
			}
		}
	}
	return actions
}

// settled is true where a replica does what it is there for: it runs, or has
// ended well and is not started again.
func settled(s resources.ReplicaStatus) bool {
	return s.State == resources.ReplicaRunning || finished(s)
}

func finished(s resources.ReplicaStatus) bool {
	return s.State == resources.ReplicaExited && s.ExitCode != nil && *s.ExitCode == 0
}

// ordered sorts replicas by slot, newest revision first, and then by ID.
func ordered(replicas []resources.Replica) []resources.Replica {
	all := slices.Clone(replicas)
	slices.SortFunc(all, func(a, b resources.Replica) int {
		switch {
		case a.Slot != b.Slot:
			return a.Slot - b.Slot
		case a.Revision != b.Revision:
			return b.Revision - a.Revision
		default:
			return strings.Compare(string(a.ID), string(b.ID))
		}
	})
	return all
}
