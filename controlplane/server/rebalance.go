package server

import (
	"net/http"
	"time"

	"github.com/skerry-io/skerry/controlplane/schedule"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// maxMoves bounds the moves that one rebalancing proposes.
const maxMoves = 100

// rebalance proposes moves, and begins those that can begin now, unless it is
// asked with ?dry. What it stops is placed anew like any other replica; the
// scheduler finds the place that it has proposed, unless something has changed.
func (s *Server) rebalance(r *http.Request) (any, error) {
	dry := r.URL.Query().Has("dry")
	var said resources.Rebalance
	var told []resources.Event
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		v := s.reports.view(state, time.Now())
		cluster, _ := v.cluster(state)
		moves := cluster.Rebalance(maxMoves)
		said = resources.Rebalance{Moves: []resources.Move{}, Begun: []resources.ReplicaID{}}
		var misplaced []schedule.Misplacement
		for _, m := range moves {
			// Each node has a replica of a global service: none is better elsewhere.
			if state.Replicas.Get(m.Replica).Only != "" {
				continue
			}
			said.Moves = append(said.Moves, resources.Move{
				Replica: m.Replica, From: state.Nodes[m.From].Name, To: state.Nodes[m.To].Name, Reason: m.Reason,
			})
			misplaced = append(misplaced, schedule.Misplacement{Replica: m.Replica, Reason: m.Reason})
		}
		if dry {
			return nil, nil
		}
		d := &decision{state: state}
		d.leave(v, misplaced)
		told = d.told
		for _, m := range said.Moves {
			if !d.state.Replicas.Get(m.Replica).Wanted {
				said.Begun = append(said.Begun, m.Replica)
			}
		}
		return d.changes, nil
	})
	if err != nil {
		return nil, err
	}
	for _, e := range told {
		s.events.add(e.Object, e.Reason, e.Message, time.Now())
	}
	return said, nil
}
