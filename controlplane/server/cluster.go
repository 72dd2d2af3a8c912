package server

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// getCluster tells which cluster this is, even where nobody leads it. A watch
// needs the leader, who knows how its servers get on.
func (s *Server) getCluster(w http.ResponseWriter, r *http.Request) {
	_, leader, _ := s.leadership.get()
	if api.Wanted(r) || leader.Node != "" || s.Election == nil {
		s.led(http.HandlerFunc(s.watchCluster)).ServeHTTP(w, r)
		return
	}
	api.Handler(func(*http.Request) (any, error) {
		return resources.ClusterStatus{ClusterConfig: s.Cluster, Waiting: errNoLeader.Error()}, nil
	}).ServeHTTP(w, r)
}

func (s *Server) watchCluster(w http.ResponseWriter, r *http.Request) {
	s.watch(w, r, func(v *view) any { return s.clusterStatus(v.state) })
}

func (s *Server) clusterStatus(state *store.State) resources.ClusterStatus {
	status := resources.ClusterStatus{
		ClusterConfig: s.Cluster, Leader: s.Self.Node,
		Wanted: state.Cluster.Wanted(), Members: slices.Sorted(maps.Keys(state.Servers)), Rebalance: state.Cluster.Rebalance,
	}
	status.Servers, status.Server = addressesOf(state), nil
	status.Waiting, status.Failed = s.walk.get()
	return status
}

// getSnapshot answers with all that the store holds, in etcd's own form, which
// ends with a sum: whoever reads it finds out where it broke off.
func (s *Server) getSnapshot(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.Snapshot(r.Context(), w); err != nil && r.Context().Err() == nil {
		s.Log.Error("a snapshot broke off", "err", err)
	}
}

// addressesOf gives the ways to the servers, sorted by node.
func addressesOf(state *store.State) []resources.ServerAddress {
	all := []resources.ServerAddress{}
	for _, id := range slices.Sorted(maps.Keys(state.Servers)) {
		all = append(all, state.Servers[id])
	}
	return all
}

// assignment is what a node has to do.
func assignment(v *view, id resources.NodeID) resources.Assignment {
	state := v.state
	a := resources.Assignment{
		Replicas: append([]resources.Replica{}, state.ReplicasOn(id)...), Leaving: v.leaving(id), Volumes: volumesFor(state, id), Servers: addressesOf(state),
		Samples: samplesOf(state, id),
	}
	a.Registries, a.Logins = registriesFor(state, id)
	if _, found := state.Servers[id]; found {
		a.Server = &resources.ServerConfig{Join: map[resources.NodeID]string{}}
		for _, server := range a.Servers {
			a.Server.Join[server.Node] = server.Peer()
		}
	}
	return a
}

// putServers says which nodes are to run the control plane. The leader walks
// there, one server at a time.
func (s *Server) putServers(r *http.Request) (any, error) {
	wanted, err := api.Body[[]resources.NodeID](r)
	if err != nil {
		return nil, err
	}
	var state *store.State
	err = s.update(r.Context(), func(now *store.State) ([]store.Change, error) {
		state = now
		var problems resources.Problems
		if len(wanted) == 0 {
			problems.Addf("servers", "is empty: a cluster has a server at least")
		}
		for _, id := range wanted {
			if !slices.Contains(now.Cluster.Nodes, id) {
				problems.Addf("servers", "names node %s, which is not one of the cluster: let it join first", id)
			}
		}
		if len(problems) > 0 {
			return nil, api.Invalid(problems)
		}
		record := now.Cluster
		record.Servers, record.Away = wanted, nil
		change := store.PutCluster(record)
		state = now.With(change)
		return []store.Change{change}, nil
	})
	if err != nil {
		return nil, err
	}
	s.walk.again()
	return s.clusterStatus(state), nil
}

// leaveServers takes a server whose machine is about to go out of the control
// plane, so that it is missed by nobody, until it comes back. The last one
// stays.
func (s *Server) leaveServers(r *http.Request) (any, error) {
	id := resources.NodeID(r.PathValue("id"))
	err := s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		record := state.Cluster
		if !slices.Contains(record.Wanted(), id) {
			return nil, nil
		}
		record.Away = append(slices.Clone(record.Away), id)
		if len(record.Wanted()) == 0 {
			return nil, api.Errorf(http.StatusConflict, "node %s is the last server of the cluster", id)
		}
		return []store.Change{store.PutCluster(record)}, nil
	})
	if err != nil {
		return nil, err
	}
	s.walk.again()
	return nil, nil
}

// signCertificate lets a node in, or renews its certificate. Only those who may
// let nodes in can ask for a node that is not one of the cluster: a node can't
// ask for itself before it has a certificate.
func (s *Server) signCertificate(r *http.Request) (any, error) {
	asked, err := api.Body[resources.CertificateRequest](r)
	if err != nil {
		return nil, err
	}
	if s.Authority == nil {
		return nil, api.Errorf(http.StatusConflict, "the control plane runs under skerry dev, for one machine: no other node can join it")
	}
	id := resources.NodeID(r.PathValue("id"))
	var state *store.State
	err = s.update(r.Context(), func(now *store.State) ([]store.Change, error) {
		state = now
		if slices.Contains(now.Cluster.Nodes, id) {
			return nil, nil
		}
		if r.TLS != nil {
			return nil, api.Errorf(http.StatusForbidden, "node %s was removed from the cluster: let it join again", id)
		}
		record := now.Cluster
		record.Nodes = append(slices.Clone(record.Nodes), id)
		return []store.Change{store.PutCluster(record)}, nil
	})
	if err != nil {
		return nil, err
	}
	_, server := state.Servers[id]
	certificate, err := s.Authority.Sign(asked.Request, id, server, time.Now())
	if err != nil {
		return nil, api.Errorf(http.StatusBadRequest, "%v", err)
	}
	return resources.Join{
		Cluster:     resources.ClusterConfig{ID: s.Cluster.ID, Name: s.Cluster.Name, Servers: addressesOf(state)},
		Certificate: certificate, Authority: s.Authority.Certificate(),
	}, nil
}

func (s *Server) putAvailability(r *http.Request) (any, error) {
	wanted, err := api.Body[resources.Availability](r)
	if err != nil {
		return nil, err
	}
	id := resources.NodeID(r.PathValue("id"))
	if !slices.Contains([]resources.Availability{resources.NodeActive, resources.NodeCordoned, resources.NodeDrained}, wanted) {
		var problems resources.Problems
		problems.Addf("availability", "is %q: it is %q, %q, or empty for a node that gets replicas", wanted, resources.NodeCordoned, resources.NodeDrained)
		return nil, api.Invalid(problems)
	}
	var node resources.NodeInfo
	err = s.update(r.Context(), func(state *store.State) ([]store.Change, error) {
		var found bool
		if node, found = state.Nodes[id]; !found {
			return nil, api.Errorf(http.StatusNotFound, "node %s is not in the cluster", id)
		}
		if node.Availability == wanted {
			return nil, nil
		}
		node.Availability = wanted
		return []store.Change{store.PutNode(node)}, nil
	})
	if err == nil {
		s.events.add("node/"+node.Name, "Availability", "the node is "+string(availabilityWord(wanted)), time.Now())
	}
	return nil, err
}

func availabilityWord(a resources.Availability) resources.Availability {
	if a == resources.NodeActive {
		return "active"
	}
	return a
}
