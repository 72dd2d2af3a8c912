package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/resources"
)

// Server is the API of a cluster. Errors for which IsUnreachable is true mean
// that no server answered; those for which api.IsNotFound is true, that the
// thing is definitely not there.
type Server struct{ *connection }

// Server returns the API of the cluster whose servers have these endpoints.
func (d *Dialer) Server(endpoints ...resources.Endpoint) *Server {
	return &Server{d.connection(endpoints)}
}

// Cluster tells what the server serves.
func (s *Server) Cluster(ctx context.Context) (resources.ClusterStatus, error) {
	var cluster resources.ClusterStatus
	err := s.call(ctx, http.MethodGet, "/v1/cluster", nil, &cluster)
	return cluster, wrap(err, "ask the control plane at %s", nodeOf(s.endpoints))
}

// WatchCluster calls see with each status of the cluster until see returns
// false.
func (s *Server) WatchCluster(ctx context.Context, see func(resources.ClusterStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, "/v1/cluster", see)
}

// Snapshot writes all that the control plane holds, in etcd's own form. That it
// is whole, its sum tells.
func (s *Server) Snapshot(ctx context.Context, w io.Writer) error {
	response, err := s.send(ctx, usual, http.MethodGet, "/v1/snapshot", nil)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = api.ReadAnswer(response, nil)
	}
	if err == nil {
		defer response.Body.Close() //nolint:errcheck // it was read
		_, err = io.Copy(w, response.Body)
	}
	return wrap(err, "take a snapshot of the control plane")
}

// PutServers says which nodes, all of them in the cluster, are to run the
// control plane. WatchCluster tells how it gets there.
func (s *Server) PutServers(ctx context.Context, wanted []resources.NodeID) error {
	return wrap(s.call(ctx, http.MethodPut, "/v1/cluster/servers", wanted, nil), "change the servers")
}

// SignCertificate lets a node into the cluster, or renews its certificate.
func (s *Server) SignCertificate(ctx context.Context, id resources.NodeID, request resources.CertificateRequest) (resources.Join, error) {
	var join resources.Join
	err := s.call(ctx, http.MethodPost, nodePath(id)+"/certificate", request, &join)
	return join, wrap(err, "sign the certificate of node %s", id)
}

// PutAvailability says what the control plane does with a node.
func (s *Server) PutAvailability(ctx context.Context, id resources.NodeID, a resources.Availability) error {
	return wrap(s.call(ctx, http.MethodPut, nodePath(id)+"/availability", a, nil), "change the availability of node %s", id)
}

// WatchNode calls see with each status of the node until see returns false. It
// returns api.ErrGone once the node is gone.
func (s *Server) WatchNode(ctx context.Context, id resources.NodeID, see func(resources.NodeStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, nodePath(id), see)
}

// Nodes lists the nodes of the cluster.
func (s *Server) Nodes(ctx context.Context) ([]resources.NodeStatus, error) {
	var nodes []resources.NodeStatus
	err := s.call(ctx, http.MethodGet, "/v1/nodes", nil, &nodes)
	return nodes, wrap(err, "list the nodes")
}

// Services lists the services of the cluster.
func (s *Server) Services(ctx context.Context) ([]resources.ServiceStatus, error) {
	var services []resources.ServiceStatus
	err := s.call(ctx, http.MethodGet, "/v1/services", nil, &services)
	return services, wrap(err, "list the services")
}

// Events lists what happened, the oldest first.
func (s *Server) Events(ctx context.Context) ([]resources.Event, error) {
	var events []resources.Event
	err := s.call(ctx, http.MethodGet, "/v1/events", nil, &events)
	return events, wrap(err, "list the events")
}

// WatchEvents calls see with all that happened, again whenever something has,
// until see returns false.
func (s *Server) WatchEvents(ctx context.Context, see func([]resources.Event) (more bool, err error)) error {
	return watch(ctx, s.connection, "/v1/events", see)
}

// Rebalance proposes moves of replicas to where they would be placed today, and
// begins them unless it is only asked: of each service one that is not on the
// move yet.
func (s *Server) Rebalance(ctx context.Context, onlyAsk bool) (resources.Rebalance, error) {
	var said resources.Rebalance
	path := "/v1/rebalance"
	if onlyAsk {
		path += "?dry"
	}
	err := s.call(ctx, http.MethodPost, path, nil, &said)
	return said, wrap(err, "rebalance the cluster")
}

// PutService makes the service what is wanted, or creates it.
func (s *Server) PutService(ctx context.Context, service resources.Service) (resources.ServiceStatus, error) {
	var status resources.ServiceStatus
	err := s.call(ctx, http.MethodPut, servicePath(service.Name), service, &status)
	return status, wrap(err, "put service %s", service.Name)
}

// Service tells where a service stands.
func (s *Server) Service(ctx context.Context, name string) (resources.ServiceStatus, error) {
	var status resources.ServiceStatus
	err := s.call(ctx, http.MethodGet, servicePath(name), nil, &status)
	return status, wrap(err, "read service %s", name)
}

// WatchService calls see with each status of the service until see returns
// false. It returns api.ErrGone once the service is gone.
func (s *Server) WatchService(ctx context.Context, name string, see func(resources.ServiceStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, servicePath(name), see)
}

// DeleteService removes a service, and returns when nothing of it is left.
func (s *Server) DeleteService(ctx context.Context, name string) error {
	if err := s.call(ctx, http.MethodDelete, servicePath(name), nil, nil); err != nil {
		return wrap(err, "delete service %s", name)
	}
	err := s.WatchService(ctx, name, func(resources.ServiceStatus) (bool, error) { return true, nil })
	if errors.Is(err, api.ErrGone) || api.IsNotFound(err) {
		return nil
	}
	return wrap(err, "wait until the replicas of service %s have stopped", name)
}

// HasImage tells whether the cluster's registry holds the image.
func (s *Server) HasImage(ctx context.Context, name, digest string) (bool, error) {
	err := s.call(ctx, http.MethodGet, imagePath(name, digest), nil, nil)
	if api.IsNotFound(err) {
		return false, nil
	}
	return err == nil, wrap(err, "look for image %s", name)
}

// DeleteImage removes an image from the cluster's registry.
func (s *Server) DeleteImage(ctx context.Context, name, digest string) error {
	return wrap(s.call(ctx, http.MethodDelete, imagePath(name, digest), nil, nil), "delete image %s", name)
}

// Registry carries the calls of a registry client to the cluster's registry,
// whatever their host.
func (s *Server) Registry() http.RoundTripper { return s.transport }

// PutNode registers the node of an agent.
func (s *Server) PutNode(ctx context.Context, node resources.NodeInfo) error {
	return wrap(s.call(ctx, http.MethodPut, nodePath(node.ID), node, nil), "register node %s", node.Name)
}

// DeleteNode removes a node from the cluster. Its certificate is good for
// nothing then.
func (s *Server) DeleteNode(ctx context.Context, id resources.NodeID) error {
	return wrap(s.call(ctx, http.MethodDelete, nodePath(id), nil, nil), "remove node %s", id)
}

// LeaveServers takes a node out of the control plane until it comes back.
// WatchCluster tells when it is out. The last server can't go: api.IsConflict.
func (s *Server) LeaveServers(ctx context.Context, id resources.NodeID) error {
	return wrap(s.call(ctx, http.MethodDelete, nodePath(id)+"/server", nil, nil), "take node %s out of the servers", id)
}

// LeaveNode takes a node out of the cluster for now: it may come back.
func (s *Server) LeaveNode(ctx context.Context, id resources.NodeID) error {
	return wrap(s.call(ctx, http.MethodDelete, nodePath(id)+"?returns", nil, nil), "take node %s out of the cluster", id)
}

// PutStatus reports what the agent of a node sees. It is the heartbeat as well,
// and is not sent twice: the next one follows.
func (s *Server) PutStatus(ctx context.Context, id resources.NodeID, statuses []resources.ReplicaStatus) error {
	return wrap(s.callWith(ctx, once, http.MethodPut, nodePath(id)+"/status", statuses, nil), "report the status")
}

// WatchAssignment calls see with what the node has to do, each time whole.
func (s *Server) WatchAssignment(ctx context.Context, id resources.NodeID, see func(resources.Assignment)) error {
	return watch(ctx, s.connection, nodePath(id)+"/assignment", func(a resources.Assignment) (bool, error) {
		see(a)
		return true, nil
	})
}

func servicePath(name string) string { return "/v1/services/" + url.PathEscape(name) }

func nodePath(id resources.NodeID) string { return "/v1/nodes/" + url.PathEscape(string(id)) }

func imagePath(name, digest string) string {
	return "/v1/images/" + name + "?digest=" + url.QueryEscape(digest)
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
