// Package rollout decides which replicas of a service are made, stopped and
// forgotten, so that the service comes to run what its record says. It is pure:
// what is stored and what was seen in, actions out. Each call says only what
// can be done now; the leader calls it again when something has changed, or at
// the time that the plan names.
//
// A slot is a place in the service, numbered from 0. A rollout takes the slots
// from the old revision to the present one. Where the old replica goes first,
// the slot is empty before it is filled, so that the new one finds ports and
// mounts free; where the new one goes first, both are in the slot for a while.
// Two budgets hold at each step, whatever else fails meanwhile: a replica that
// is up is stopped only while at least `replicas - max_unavailable` others are,
// and none is made beyond `replicas + max_surge`. So a revision that can't run
// stops at its first replicas, where the rollout pauses or goes back to the
// last revision that ran whole.
//
// What a rollout has to remember (when it last came forward, what to go back
// to) stands in the service's record, and is written by actions of the plan.
package rollout

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/skerry-io/skerry/resources"
)

// Action is one thing that the leader does for a service.
type Action struct {
	Do Verb
	// Slot of a replica that is created, and the Revision that it runs.
	Slot     int
	Revision resources.Revision
	// Replica that is stopped or forgotten.
	Replica resources.ReplicaID
	// Record of the service from now on, for the verbs that write it.
	Record resources.ServiceRecord
}

// Verb is what an action does.
type Verb int

// The verbs. Those from Note on write the service's record.
const (
	// Create makes a replica in a slot.
	Create Verb = iota
	// Stop asks the replica's node to end it.
	Stop
	// Forget removes the record of a replica of which nothing is left.
	Forget
	// Finish removes the record of a service that is deleted.
	Finish
	// Note remembers that a rollout has begun, has come forward, or goes on.
	Note
	// Pause remembers what keeps a rollout from going on.
	Pause
	// RollBack makes a new revision of the template that ran whole last.
	RollBack
	// Complete remembers that the present revision runs whole.
	Complete
)

func (v Verb) String() string {
	return [...]string{"create", "stop", "forget", "finish", "note", "pause", "roll back", "complete"}[v]
}

// Writes is true for a verb that writes the service's record.
func (v Verb) Writes() bool { return v >= Note }

// Seen is what agents reported, by replica. What is absent was not heard of.
type Seen map[resources.ReplicaID]resources.ReplicaStatus

// View is what the leader knows at one moment.
type View struct {
	Now time.Time
	// Since is when the leader began to look: what did not come forward before
	// that may have done so unseen.
	Since time.Time
	Seen  Seen
	Nodes map[resources.NodeID]resources.NodeInfo
	// Silent nodes are not heard now: what runs on them is not known.
	Silent map[resources.NodeID]bool
	// Lost nodes are given up: their replicas are replaced. Of one that comes
	// back, what is still needed is kept.
	Lost map[resources.NodeID]bool
}

// Decision is what can be done for a service now.
type Decision struct {
	Actions []Action
	// Wake is when to look again though nothing has changed; zero for never.
	Wake time.Time
}

// Plan decides for one service. replicas are all those of the service.
func Plan(service resources.ServiceRecord, replicas []resources.Replica, v View) Decision {
	var d Decision
	var left []*resources.Replica
	for _, r := range ordered(replicas) {
		if !r.Wanted && (r.Node == "" || v.Seen[r.ID].State == resources.ReplicaGone) {
			d.Actions = append(d.Actions, Action{Do: Forget, Replica: r.ID})
			continue
		}
		left = append(left, r)
	}
	if service.Deleting {
		d.Actions = append(d.Actions, end(left)...)
		return d
	}
	s := look(service, left, v, len(d.Actions) > 0)
	d.Actions = append(d.Actions, s.steps()...)
	return s.remember(d)
}

// end takes a service that is deleted down.
func end(left []*resources.Replica) []Action {
	var actions []Action
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

// ordered sorts replicas by slot, newest revision first, and then by ID.
func ordered(replicas []resources.Replica) []*resources.Replica {
	all := make([]*resources.Replica, len(replicas))
	for i := range replicas {
		all[i] = &replicas[i]
	}
	slices.SortFunc(all, func(a, b *resources.Replica) int {
		return cmp.Or(a.Slot-b.Slot, b.Revision-a.Revision, strings.Compare(string(a.ID), string(b.ID)))
	})
	return all
}
