package server

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// maxMoves bounds the moves that one rebalancing proposes.
const maxMoves = 100

// rebalance proposes moves and, unless it is asked with ?dry, notes how many there
// are: the leader makes them, whoever leads then.
func (s *Server) rebalance(r *http.Request) (any, error) {
	said := resources.Rebalance{Moves: []resources.Move{}}
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		said.Moves = said.Moves[:0]
		for _, m := range moves(s.reports.view(state, time.Now()), state) {
			said.Moves = append(said.Moves, resources.Move{
				Replica: m.Replica, From: state.Nodes[m.From].Name, To: state.Nodes[m.To].Name, Reason: m.Reason,
			})
		}
		record := state.Cluster
		if r.URL.Query().Has("dry") || record.Rebalance == len(said.Moves) {
			return nil, nil
		}
		record.Rebalance = len(said.Moves)
		return []store.Change{store.PutCluster(record)}, nil
	})
	if err != nil {
		return nil, err
	}
	return said, nil
}

// moves are those that would make the cluster better. Each node has a replica of a
// global service: none is better elsewhere.
func moves(v *view, state *store.State) []schedule.Move {
	cluster, _ := v.cluster(state)
	var all []schedule.Move
	for _, m := range cluster.Rebalance(maxMoves) {
		if state.Replicas.Get(m.Replica).Only == "" {
			all = append(all, m)
		}
	}
	return all
}

// rebalance begins the moves of a rebalancing that can begin now. A replica that
// is stopped is placed anew like any other; the scheduler finds the place that
// it has proposed, unless something has changed. So that it ends whatever changes,
// there are no more moves than were proposed at first.
func (d *decision) rebalance(v *view) {
	record := d.state.Cluster
	if record.Rebalance == 0 {
		return
	}
	var misplaced []schedule.Misplacement
	for _, m := range moves(v, d.state) {
		misplaced = append(misplaced, schedule.Misplacement{Replica: m.Replica, Node: m.From, Reason: m.Reason})
	}
	if len(misplaced) == 0 && d.stopping() == 0 {
		record.Rebalance = 0
	}
	record.Rebalance = max(0, record.Rebalance-d.leave(v, misplaced, record.Rebalance))
	if record.Rebalance != d.state.Cluster.Rebalance {
		d.change(store.PutCluster(record))
	}
}

// stopping counts the replicas that are on their way out.
func (d *decision) stopping() int {
	count := 0
	for _, r := range d.state.Replicas.All() {
		if !r.Wanted {
			count++
		}
	}
	return count
}

// tellDrains tells how a drain gets on: each time that a replica has left.
func (d *decision) tellDrains(v *view) {
	for _, id := range slices.Sorted(maps.Keys(v.state.Nodes)) {
		node := v.state.Nodes[id]
		if node.Availability != resources.NodeDrained {
			continue
		}
		event := resources.Event{Object: "node/" + node.Name, Reason: "Draining"}
		before, left := len(v.state.ReplicasOn(id)), len(d.state.ReplicasOn(id))
		if event.Message = fmt.Sprintf("replicas that are left on it: %d", left); left == 0 {
			event.Reason, event.Message = "Drained", "no replica is left on it"
		}
		if left < before {
			d.told = append(d.told, event)
		}
	}
}
