package server

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/store"
	"github.com/skerry-io/skerry/resources"
)

// askReplica leads a call that is about a replica to the agent of its node.
func (s *Server) askReplica(w http.ResponseWriter, r *http.Request) {
	node, err := s.nodeOf(r)
	s.askAgent(w, r, node, err)
}

// askVolume leads a call that is about a volume to the agent of its node.
func (s *Server) askVolume(w http.ResponseWriter, r *http.Request) {
	node, err := s.nodeOfVolume(r)
	s.askAgent(w, r, node, err)
}

// askAgent leads a call to the agent of a node, unless that was not found.
func (s *Server) askAgent(w http.ResponseWriter, r *http.Request, node resources.NodeInfo, err error) {
	if err != nil {
		api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", string(node.ID)
		},
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return s.DialAgent(ctx, node) },
			DisableKeepAlives: true,
		},
		FlushInterval: -1, // a line is told at once
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			api.Handler(func(*http.Request) (any, error) {
				return nil, api.Errorf(http.StatusServiceUnavailable, "the agent of node %s does not answer: %v", node.Name, err)
			}).ServeHTTP(w, r)
		},
	}
	proxy.ServeHTTP(w, r)
}

// nodeOf finds the node of the replica that a call is about.
func (s *Server) nodeOf(r *http.Request) (resources.NodeInfo, error) {
	id := resources.ReplicaID(r.PathValue("id"))
	state, err := s.Store.Load(r.Context())
	if err != nil {
		return resources.NodeInfo{}, err
	}
	replica := state.Replicas.Get(id)
	node, found := state.Nodes[replica.Node]
	switch {
	case replica.ID == "":
		return node, api.Errorf(http.StatusNotFound, "there is no replica %s", id)
	case !found:
		return node, api.Errorf(http.StatusConflict, "replica %s is on no node: %s", id, replica.Waiting)
	}
	return node, nil
}

// nodeOfVolume finds the node that has the data of the volume that a call is about,
// or mounts it.
func (s *Server) nodeOfVolume(r *http.Request) (resources.NodeInfo, error) {
	name := r.PathValue("name")
	how, err := api.HeaderValue[resources.VolumeTransfer](r, api.CommandHeader)
	if err != nil {
		return resources.NodeInfo{}, err
	}
	state, err := s.Store.Load(r.Context())
	if err != nil {
		return resources.NodeInfo{}, err
	}
	record, known := state.Volumes[name]
	node, found := state.Nodes[record.Node]
	switch {
	case !known:
		return node, api.Errorf(http.StatusNotFound, "there is no volume %s", name)
	case record.Deleting:
		return node, api.Errorf(http.StatusConflict, "volume %s is being removed", name)
	case !record.Volume.Local():
		return mountingNode(state, record.Volume, how.Pause)
	case record.Node == "":
		return node, api.Errorf(http.StatusConflict, "volume %s is on no node yet: the first replica that mounts it chooses one", name)
	case !found:
		return node, api.Errorf(http.StatusConflict, "volume %s is on node %s, which is not in the cluster any more", name, record.Node)
	}
	return node, nil
}

// mountingNode gives a node with a replica that mounts a volume whose data is on
// none. Nobody else may have it mounted while its writer does; and replicas on
// several nodes can't be paused from one.
func mountingNode(state *store.State, volume resources.Volume, pause bool) (resources.NodeInfo, error) {
	var on []resources.NodeID
	for _, r := range state.Replicas.All() {
		if _, found := state.Nodes[r.Node]; found && slices.Contains(r.Template.VolumeNames(), volume.Name) {
			on = append(on, r.Node)
		}
	}
	slices.Sort(on)
	on = slices.Compact(on)
	switch {
	case len(on) == 0:
		return resources.NodeInfo{}, api.Errorf(http.StatusConflict, "no replica mounts volume %s now: the data of a volume of the driver %s is reached through one; let a service that mounts it run", volume.Name, volume.Driver)
	case pause && len(on) > 1:
		return resources.NodeInfo{}, api.Errorf(http.StatusConflict, "volume %s is mounted on several nodes: %s; let the services that mount it run on one of them", volume.Name, nodeNames(state, on))
	}
	return state.Nodes[on[0]], nil
}
