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

// Rebalance proposes moves of replicas to where they would be placed today. The
// leader makes them unless it is only asked, of each service one at a time; see
// ClusterStatus.Rebalance.
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

// Stranded tells which replicas of a node would find no other one, if it went now.
func (s *Server) Stranded(ctx context.Context, id resources.NodeID) ([]resources.Stranded, error) {
	var all []resources.Stranded
	err := s.call(ctx, http.MethodGet, nodePath(id)+"/stranded", nil, &all)
	return all, wrap(err, "ask where the replicas of node %s would go", id)
}

// LeaveNode takes a node out of the cluster for now: it may come back.
func (s *Server) LeaveNode(ctx context.Context, id resources.NodeID) error {
	return wrap(s.call(ctx, http.MethodDelete, nodePath(id)+"?returns", nil, nil), "take node %s out of the cluster", id)
}

// PutStatus reports what the agent of a node sees, and the revision of the network
// map that the node has applied, zero for none. It is the heartbeat as well, and is
// not sent twice: the next one follows.
func (s *Server) PutStatus(ctx context.Context, id resources.NodeID, statuses []resources.ReplicaStatus, applied int64) error {
	return wrap(s.callWith(ctx, once, http.MethodPut, api.WithApplied(nodePath(id)+"/status", applied), statuses, nil), "report the status")
}

// Pulse tells that the agent of a node is back, and that what it reported last
// holds until it has looked. A server of an earlier version can't hear it:
// api.IsNotImplemented.
func (s *Server) Pulse(ctx context.Context, id resources.NodeID) error {
	return wrap(s.callWith(ctx, once, http.MethodPost, nodePath(id)+"/pulse", nil, nil), "tell that the agent is back")
}

// PutSamples reports what the replicas of a node use. It is not sent twice: the
// next one follows. A server of an earlier version can't hear it:
// api.IsNotImplemented.
func (s *Server) PutSamples(ctx context.Context, id resources.NodeID, samples []resources.Sample) error {
	return wrap(s.callWith(ctx, once, http.MethodPut, nodePath(id)+"/samples", samples, nil), "report what replicas use")
}

// Autoscale tells how a service is scaled, and why.
func (s *Server) Autoscale(ctx context.Context, name string) (resources.AutoscaleStatus, error) {
	var status resources.AutoscaleStatus
	err := s.call(ctx, http.MethodGet, servicePath(name)+"/autoscale", nil, &status)
	return status, wrap(err, "ask how service %s is scaled", name)
}

// WatchNetwork calls see with all that the node has to know of the cluster's
// networks, each time whole. A leader that has just begun says nothing until it
// has heard of all nodes.
func (s *Server) WatchNetwork(ctx context.Context, id resources.NodeID, see func(resources.NetworkMap)) error {
	return watch(ctx, s.connection, nodePath(id)+"/network", func(m resources.NetworkMap) (bool, error) {
		see(m)
		return true, nil
	})
}

// WatchAssignment calls see with what the node has to do, each time whole.
func (s *Server) WatchAssignment(ctx context.Context, id resources.NodeID, see func(resources.Assignment)) error {
	return watch(ctx, s.connection, nodePath(id)+"/assignment", func(a resources.Assignment) (bool, error) {
		see(a)
		return true, nil
	})
}

// Networks lists the networks of the cluster.
func (s *Server) Networks(ctx context.Context) ([]resources.NetworkStatus, error) {
	var networks []resources.NetworkStatus
	err := s.call(ctx, http.MethodGet, "/v1/networks", nil, &networks)
	return networks, wrap(err, "list the networks")
}

// PutNetwork makes the network what is wanted, or creates it. Its addresses can't
// change while services are on it: api.IsConflict.
func (s *Server) PutNetwork(ctx context.Context, network resources.Network) (resources.NetworkStatus, error) {
	var status resources.NetworkStatus
	err := s.call(ctx, http.MethodPut, networkPath(network.Name), network, &status)
	return status, wrap(err, "put network %s", network.Name)
}

// Network tells where a network stands.
func (s *Server) Network(ctx context.Context, name string) (resources.NetworkStatus, error) {
	var status resources.NetworkStatus
	err := s.call(ctx, http.MethodGet, networkPath(name), nil, &status)
	return status, wrap(err, "read network %s", name)
}

// WatchNetworkStatus calls see with each status of the network until see returns
// false. It returns api.ErrGone once the network is gone.
func (s *Server) WatchNetworkStatus(ctx context.Context, name string, see func(resources.NetworkStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, networkPath(name), see)
}

// DeleteNetwork removes a network. It is an error, for which api.IsConflict is
// true, where services are on it.
func (s *Server) DeleteNetwork(ctx context.Context, name string) error {
	return wrap(s.call(ctx, http.MethodDelete, networkPath(name), nil, nil), "delete network %s", name)
}

// VolumeRemoved tells that nothing is left on a node of a volume that it was to
// remove.
func (s *Server) VolumeRemoved(ctx context.Context, id resources.NodeID, name string) error {
	return wrap(s.call(ctx, http.MethodDelete, nodePath(id)+"/volumes/"+url.PathEscape(name), nil, nil), "tell that volume %s is removed", name)
}

// Volumes lists the volumes of the cluster.
func (s *Server) Volumes(ctx context.Context) ([]resources.VolumeStatus, error) {
	var volumes []resources.VolumeStatus
	err := s.call(ctx, http.MethodGet, "/v1/volumes", nil, &volumes)
	return volumes, wrap(err, "list the volumes")
}

// PutVolume makes the volume what is wanted, or creates it. api.IsConflict is true
// of the error where services that mount it are in the way, or data of an earlier
// volume of the name.
func (s *Server) PutVolume(ctx context.Context, volume resources.Volume) (resources.VolumeStatus, error) {
	var status resources.VolumeStatus
	err := s.call(ctx, http.MethodPut, volumePath(volume.Name), volume, &status)
	return status, wrap(err, "put volume %s", volume.Name)
}

// AdoptVolume makes a volume again of the data that a node has kept, or gives the
// one that is there.
func (s *Server) AdoptVolume(ctx context.Context, name string) (resources.VolumeStatus, error) {
	var status resources.VolumeStatus
	err := s.call(ctx, http.MethodPost, volumePath(name)+"/adoption", nil, &status)
	return status, wrap(err, "adopt volume %s", name)
}

// Volume tells where a volume stands.
func (s *Server) Volume(ctx context.Context, name string) (resources.VolumeStatus, error) {
	var status resources.VolumeStatus
	err := s.call(ctx, http.MethodGet, volumePath(name), nil, &status)
	return status, wrap(err, "read volume %s", name)
}

// WatchVolume calls see with each status of the volume until see returns false.
// It returns api.ErrGone once the volume is gone.
func (s *Server) WatchVolume(ctx context.Context, name string, see func(resources.VolumeStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, volumePath(name), see)
}

// DeleteVolume removes a volume, and returns when its data is gone, unless that is
// kept. It is an error, for which api.IsConflict is true, where services mount it.
func (s *Server) DeleteVolume(ctx context.Context, name string) error {
	if err := s.call(ctx, http.MethodDelete, volumePath(name), nil, nil); err != nil {
		return wrap(err, "delete volume %s", name)
	}
	err := s.WatchVolume(ctx, name, func(resources.VolumeStatus) (bool, error) { return true, nil })
	if errors.Is(err, api.ErrGone) || api.IsNotFound(err) {
		return nil
	}
	return wrap(err, "wait until the data of volume %s is gone", name)
}

// Secrets lists the secrets of the cluster, without their values.
func (s *Server) Secrets(ctx context.Context) ([]resources.SecretStatus, error) {
	var secrets []resources.SecretStatus
	err := s.call(ctx, http.MethodGet, "/v1/secrets", nil, &secrets)
	return secrets, wrap(err, "list the secrets")
}

// PutSecret makes the secret what is wanted, or creates it. Services that use it
// get new revisions where its value is a new one: they are in the status.
func (s *Server) PutSecret(ctx context.Context, secret resources.Secret) (resources.SecretStatus, error) {
	var status resources.SecretStatus
	err := s.call(ctx, http.MethodPut, secretPath(secret.Name), secret, &status)
	return status, wrap(err, "put secret %s", secret.Name)
}

// Secret tells where a secret stands. Nobody is told its value.
func (s *Server) Secret(ctx context.Context, name string) (resources.SecretStatus, error) {
	var status resources.SecretStatus
	err := s.call(ctx, http.MethodGet, secretPath(name), nil, &status)
	return status, wrap(err, "read secret %s", name)
}

// WatchSecret calls see with each status of the secret until see returns false.
func (s *Server) WatchSecret(ctx context.Context, name string, see func(resources.SecretStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, secretPath(name), see)
}

// DeleteSecret removes a secret. It is an error, for which api.IsConflict is true,
// where services use it.
func (s *Server) DeleteSecret(ctx context.Context, name string) error {
	return wrap(s.call(ctx, http.MethodDelete, secretPath(name), nil, nil), "delete secret %s", name)
}

// Configs lists the configs of the cluster, without their contents.
func (s *Server) Configs(ctx context.Context) ([]resources.ConfigStatus, error) {
	var configs []resources.ConfigStatus
	err := s.call(ctx, http.MethodGet, "/v1/configs", nil, &configs)
	return configs, wrap(err, "list the configs")
}

// PutConfig is PutSecret for a config.
func (s *Server) PutConfig(ctx context.Context, config resources.ConfigFile) (resources.ConfigStatus, error) {
	var status resources.ConfigStatus
	err := s.call(ctx, http.MethodPut, configPath(config.Name), config, &status)
	return status, wrap(err, "put config %s", config.Name)
}

// Config tells where a config stands, and what is in it.
func (s *Server) Config(ctx context.Context, name string) (resources.ConfigStatus, error) {
	var status resources.ConfigStatus
	err := s.call(ctx, http.MethodGet, configPath(name), nil, &status)
	return status, wrap(err, "read config %s", name)
}

// WatchConfig calls see with each status of the config until see returns false.
func (s *Server) WatchConfig(ctx context.Context, name string, see func(resources.ConfigStatus) (more bool, err error)) error {
	return watch(ctx, s.connection, configPath(name), see)
}

// DeleteConfig is DeleteSecret for a config.
func (s *Server) DeleteConfig(ctx context.Context, name string) error {
	return wrap(s.call(ctx, http.MethodDelete, configPath(name), nil, nil), "delete config %s", name)
}

// PutRegistries says how the registries of all images are reached.
func (s *Server) PutRegistries(ctx context.Context, registries map[string]resources.RegistryAccess) error {
	return wrap(s.call(ctx, http.MethodPut, "/v1/cluster/registries", registries, nil), "say how registries are reached")
}

// Registries tells that, without the passwords.
func (s *Server) Registries(ctx context.Context) (map[string]resources.RegistryAccess, error) {
	var registries map[string]resources.RegistryAccess
	err := s.call(ctx, http.MethodGet, "/v1/cluster/registries", nil, &registries)
	return registries, wrap(err, "ask how registries are reached")
}

// Keys gives the keys that secrets are sealed with: to servers, and to who may
// read their files anyway.
func (s *Server) Keys(ctx context.Context) (resources.Keyring, error) {
	var keys resources.Keyring
	err := s.call(ctx, http.MethodGet, "/v1/cluster/keys", nil, &keys)
	return keys, wrap(err, "fetch the sealing keys")
}

// RotateKey seals everything with a new key.
func (s *Server) RotateKey(ctx context.Context) (resources.Rotation, error) {
	var rotation resources.Rotation
	err := s.call(ctx, http.MethodPost, "/v1/cluster/keys/rotation", nil, &rotation)
	return rotation, wrap(err, "rotate the sealing key")
}

func secretPath(name string) string { return "/v1/secrets/" + url.PathEscape(name) }

func configPath(name string) string { return "/v1/configs/" + url.PathEscape(name) }

func volumePath(name string) string { return "/v1/volumes/" + url.PathEscape(name) }

func networkPath(name string) string { return "/v1/networks/" + url.PathEscape(name) }

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
