package server

import (
	"net/http"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// stranded tells which replicas of a node would find no other one, if it were
// drained now.
func (s *Server) stranded(r *http.Request) (any, error) {
	state, err := s.Store.Load(r.Context())
	if err != nil {
		return nil, err
	}
	id := resources.NodeID(r.PathValue("id"))
	node, found := state.Nodes[id]
	if !found {
		return nil, api.Errorf(http.StatusNotFound, "node %s is not in the cluster", id)
	}
	node.Availability = resources.NodeDrained
	state = state.With(store.PutNode(node))
	moved := map[resources.ReplicaID]bool{}
	for _, replica := range state.ReplicasOn(id) {
		// A global service has one there, and none elsewhere in its place.
		if replica.Wanted && replica.Only == "" {
			moved[replica.ID] = true
			replica.Node = ""
			state = state.With(store.PutReplica(replica))
		}
	}
	cluster, pending := s.reports.view(state, time.Now()).cluster(state)
	all := []resources.Stranded{}
	for _, d := range cluster.Place(pending) {
		if moved[d.Replica] && d.Refusal != nil {
			all = append(all, resources.Stranded{Replica: d.Replica, Service: state.Replicas.Get(d.Replica).Service, Reason: d.Refusal.String()})
		}
	}
	return all, nil
}
