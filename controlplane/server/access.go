package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/pki"
	"github.com/skerry-io/skerry/resources"
)

// NodeHandler serves the API to other nodes, whose certificates were verified.
// A server may do everything. Any other node may read and report what is its
// own, pull images, and see what the server measures: an agent that was broken
// into tells nothing of the others. A node that was removed or forgotten may do
// nothing, whatever its certificate says.
func (s *Server) NodeHandler() http.Handler {
	all := s.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.admit(r); err != nil {
			api.Handler(func(*http.Request) (any, error) { return nil, err }).ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}

func (s *Server) admit(r *http.Request) error {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return api.Errorf(http.StatusUnauthorized, "a node shows its certificate")
	}
	who, err := pki.IdentityOf(r.TLS.PeerCertificates[0])
	if err != nil {
		return api.Errorf(http.StatusUnauthorized, "%v", err)
	}
	if err := s.checkLetIn(r.Context(), who.Node); err != nil {
		return err
	}
	own := "/v1/nodes/" + string(who.Node)
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case who.Server,
		r.URL.Path == own, strings.HasPrefix(r.URL.Path, own+"/"),
		reads && (r.URL.Path == "/v1/cluster" || r.URL.Path == "/metrics"),
		reads && strings.HasPrefix(r.URL.Path, "/v2/"):
		return nil
	}
	return api.Errorf(http.StatusForbidden, "node %s may not do that: it is a worker, and this is not its own", who.Node)
}

// checkLetIn refuses a node that is not one of the cluster, or is no more. The board
// saves a look into the store.
func (s *Server) checkLetIn(ctx context.Context, id resources.NodeID) error {
	if v, _ := s.board.get(); slices.Contains(v.state.Cluster.Nodes, id) {
		return nil
	}
	state, err := s.Store.Load(ctx)
	if err == nil && !slices.Contains(state.Cluster.Nodes, id) {
		err = api.Errorf(http.StatusForbidden, "node %s is not one of the cluster: it was removed, or never let in", id)
	}
	return err
}
