package server

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// askAgent leads a call that is about a replica to the agent of its node.
func (s *Server) askAgent(w http.ResponseWriter, r *http.Request) {
	node, err := s.nodeOf(r)
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
