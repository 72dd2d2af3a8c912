package server

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

func (s *Server) listNodes(r *http.Request) (any, error) {
	v, err := s.look(r.Context())
	if err != nil {
		return nil, err
	}
	all := []resources.NodeStatus{}
	for _, id := range slices.Sorted(maps.Keys(v.state.Nodes)) {
		all = append(all, v.node(id))
	}
	return all, nil
}

func (v *view) node(id resources.NodeID) resources.NodeStatus {
	status := resources.NodeStatus{NodeInfo: v.state.Nodes[id], Ready: v.ready[id]}
	for _, r := range v.state.ReplicasOn(id) {
		status.Replicas++
		status.Reserved.CPU += r.Template.Resources.CPU
		status.Reserved.Memory += r.Template.Resources.Memory
	}
	return status
}

func (s *Server) getNode(w http.ResponseWriter, r *http.Request) {
	id := resources.NodeID(r.PathValue("id"))
	s.watch(w, r, func(v *view) any {
		if !hasNode(v.state, id) {
			return nil
		}
		return v.node(id)
	})
}

func (s *Server) putNode(r *http.Request) (any, error) {
	node, err := api.Body[resources.NodeInfo](r)
	if err != nil {
		return nil, err
	}
	if string(node.ID) != r.PathValue("id") || node.ID == "" {
		return nil, api.Errorf(http.StatusBadRequest, "the node says that it is %q", node.ID)
	}
	joined := false
	var before []resources.NodeCondition
	err = s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		if !slices.Contains(state.Cluster.Nodes, node.ID) {
			return nil, api.Errorf(http.StatusForbidden, "node %s is not one of the cluster: it was removed, or never let in", node.Name)
		}
		old, found := state.Nodes[node.ID]
		joined, before = !found, old.Conditions
		node.Availability = old.Availability
		if found && same(old, node) {
			return nil, nil
		}
		changes := []store.Change{store.PutNode(node)}
		if record := state.Cluster; joined && slices.Contains(record.Away, node.ID) {
			record.Away = slices.DeleteFunc(slices.Clone(record.Away), func(id resources.NodeID) bool { return id == node.ID })
			changes = append(changes, store.PutCluster(record))
		}
		return changes, nil
	})
	if err != nil {
		return nil, err
	}
	if joined {
		s.events.add("node/"+node.Name, "Joined", "the node joined the cluster", time.Now())
	}
	for _, e := range conditionEvents(node.Name, before, node.Conditions) {
		s.events.add(e.Object, e.Reason, e.Message, time.Now())
	}
	return nil, nil
}

func (s *Server) deleteNode(r *http.Request) (any, error) {
	id := resources.NodeID(r.PathValue("id"))
	// A node that may come back stays one of the cluster.
	returns := r.URL.Query().Has("returns")
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		changes := []store.Change{store.DeleteNode(id)}
		if returns || !slices.Contains(state.Cluster.Nodes, id) {
			return changes, nil
		}
		if slices.Contains(state.Cluster.Servers, id) {
			return nil, api.Errorf(http.StatusConflict, "node %s is a server of the cluster: take it out of the servers first", id)
		}
		record := state.Cluster
		record.Nodes = slices.DeleteFunc(slices.Clone(record.Nodes), func(n resources.NodeID) bool { return n == id })
		return append(changes, store.PutCluster(record)), nil
	})
	if err == nil {
		s.reports.forget(id)
	}
	return nil, err
}

func (s *Server) getAssignment(w http.ResponseWriter, r *http.Request) {
	id := resources.NodeID(r.PathValue("id"))
	s.watch(w, r, func(v *view) any {
		// An agent that is not registered yet has nothing to do, and nothing
		// to clean up either.
		if !hasNode(v.state, id) {
			return nil
		}
		a := assignment(v, id)
		a.Contents = s.contentsFor(v, id, a)
		return a
	})
}

func (s *Server) putStatus(r *http.Request) (any, error) {
	statuses, err := api.Body[[]resources.ReplicaStatus](r)
	if err != nil {
		return nil, err
	}
	id := resources.NodeID(r.PathValue("id"))
	if err := s.checkMember(r.Context(), id); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, status := range s.reports.put(id, statuses, now) {
		s.events.add("replica/"+string(status.ID), string(status.Reason), status.Message, now)
	}
	s.applied(id, api.Applied(r), now)
	return nil, nil
}

func (s *Server) postPulse(r *http.Request) (any, error) {
	s.reports.pulse(resources.NodeID(r.PathValue("id")), time.Now())
	return nil, nil
}

// checkMember refuses a node that is not registered, which makes its agent
// register it. The board saves a look into the store for each heartbeat.
func (s *Server) checkMember(ctx context.Context, id resources.NodeID) error {
	if v, _ := s.board.get(); hasNode(v.state, id) {
		return nil
	}
	state, err := s.Store.Load(ctx)
	if err == nil && !hasNode(state, id) {
		err = api.Errorf(http.StatusNotFound, "node %s is not in the cluster", id)
	}
	return err
}

func hasNode(state *store.State, id resources.NodeID) bool {
	_, found := state.Nodes[id]
	return found
}
