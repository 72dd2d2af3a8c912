package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/resources"
)

// assemble makes the cluster what is wanted, whatever is there of it: every node
// is a member with a fresh certificate, and the control plane runs on the
// servers. It returns the way there when that is so, and every node is ready.
func (c *Connections) assemble(ctx context.Context, spec *Cluster, machines []machine) (*client.Server, error) {
	id := resources.ClusterID(spec.ID)
	control, err := c.founded(ctx, spec, machines)
	if err != nil {
		return nil, err
	}
	var wanted, nodes []resources.NodeID
	var servers []resources.Endpoint
	for i, m := range machines {
		node, err := c.enlist(ctx, control, m, resources.ClusterConfig{ID: id, Name: spec.Name})
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
		if i < len(spec.Servers) {
			wanted = append(wanted, node)
			servers = append(servers, serverEndpoint(m.Endpoint, id))
		}
	}
	if err := control.PutServers(ctx, wanted); err != nil {
		return nil, err
	}
	if err := awaitServers(ctx, control); err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if err := awaitReady(ctx, control, node); err != nil {
			return nil, err
		}
	}
	if err := putRegistries(ctx, control, spec); err != nil {
		return nil, err
	}
	spec.Endpoint = resources.FormatEndpoints(servers)
	spec.Nodes = nil
	for _, node := range nodes {
		spec.Nodes = append(spec.Nodes, string(node))
	}
	return c.machines.Server(servers...), nil
}

// putRegistries says how registries are reached. A control plane of an earlier
// version, which can't be told, is left alone where there is nothing to say.
func putRegistries(ctx context.Context, control *client.Server, spec *Cluster) error {
	err := control.PutRegistries(ctx, spec.Registries)
	if api.IsNotImplemented(err) && len(spec.Registries) == 0 {
		return nil
	}
	return err
}

// founded returns the control plane of the cluster: that of any node that runs
// it, or else a new one on the first server. A new one is begun only where every
// server says that it runs none.
func (c *Connections) founded(ctx context.Context, spec *Cluster, machines []machine) (*client.Server, error) {
	id := resources.ClusterID(spec.ID)
	var running []resources.Endpoint
	for _, m := range machines[:len(spec.Servers)] {
		info, err := c.machines.Agent(m.Endpoint).Node(ctx)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: %w", m.path, err)
		case info.Server && info.Cluster == id:
			running = append(running, serverEndpoint(m.Endpoint, id))
		case info.Cluster != "" && info.Cluster != id:
			return nil, resources.Invalid(m.path, "node %s is in another cluster (%s) already: remove it there first, or name another node", info.Name, info.Cluster)
		}
	}
	if len(running) > 0 {
		return c.machines.Server(running...), nil
	}
	// A server that is to leave may be all that is left of the cluster.
	if known, err := resources.ParseEndpoints(spec.Endpoint); err == nil && spec.Endpoint != "" {
		for _, e := range known {
			short, cancel := context.WithTimeout(ctx, patience)
			info, err := c.machines.Agent(agentEndpoint(e)).Node(short)
			cancel()
			if err == nil && info.Server && info.Cluster == id {
				return c.machines.Server(known...), nil
			}
		}
	}
	first := machines[0].Endpoint
	if err := c.machines.Agent(first).Join(ctx, resources.Join{Cluster: resources.ClusterConfig{ID: id, Name: spec.Name}}); err != nil {
		return nil, err
	}
	return c.machines.Server(serverEndpoint(first, id)), nil
}

// enlist makes a node a member of the cluster, or renews its certificate. The
// key of the node never leaves it: its request is carried to the control plane,
// and the certificate back.
func (c *Connections) enlist(ctx context.Context, control *client.Server, m machine, cluster resources.ClusterConfig) (resources.NodeID, error) {
	agent := c.machines.Agent(m.Endpoint)
	info, err := agent.Node(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.path, err)
	}
	if info.Cluster != "" && info.Cluster != cluster.ID {
		return "", resources.Invalid(m.path, "node %s is in another cluster (%s) already: remove it there first, or name another node", info.Name, info.Cluster)
	}
	if info.Alone {
		// A control plane under skerry dev has no other nodes.
		return info.ID, nil
	}
	request, err := agent.CertificateRequest(ctx)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.path, err)
	}
	join, err := control.SignCertificate(ctx, info.ID, request)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.path, err)
	}
	if err := agent.Join(ctx, join); err != nil {
		return "", fmt.Errorf("%s: %w", m.path, err)
	}
	return info.ID, nil
}

// awaitServers returns when the control plane runs where it is wanted.
func awaitServers(ctx context.Context, control *client.Server) error {
	var last resources.ClusterStatus
	err := control.WatchCluster(ctx, func(s resources.ClusterStatus) (bool, error) {
		last = s
		if s.Failed {
			return false, errors.New(s.Waiting)
		}
		return !slices.Equal(s.Wanted, s.Members) || s.Waiting != "", nil
	})
	if err != nil && last.Waiting != "" && !last.Failed {
		return fmt.Errorf("wait until the control plane runs on the servers: %s: %w", last.Waiting, err)
	}
	if err != nil {
		return fmt.Errorf("wait until the control plane runs on the servers: %w", err)
	}
	return nil
}

// awaitReady returns when the control plane hears the node.
func awaitReady(ctx context.Context, control *client.Server, id resources.NodeID) error {
	for {
		err := control.WatchNode(ctx, id, func(s resources.NodeStatus) (bool, error) { return !s.Ready, nil })
		if err == nil {
			return nil
		}
		if !api.IsNotFound(err) && !errors.Is(err, api.ErrGone) {
			return fmt.Errorf("wait until node %s is ready: %w", id, err)
		}
		// It has not registered yet.
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until node %s registers: %w", id, context.Cause(ctx))
		case <-time.After(registerStep):
		}
	}
}

// registerStep is how often a node that is to register is looked for.
const registerStep = 250 * time.Millisecond

// conditions says what is wrong with the nodes themselves, and what to do.
func conditions(nodes []resources.NodeStatus) []string {
	var all []string
	for _, n := range nodes {
		for _, c := range n.Conditions {
			all = append(all, fmt.Sprintf("node %s: %s: %s", n.Name, c.Type, c.Message))
		}
	}
	return all
}

// anyUnknown is true where the control plane does not know one of the machines: it
// was forgotten (skerry node forget), and is wanted nevertheless.
func anyUnknown(machines []machine, nodes []resources.NodeStatus) bool {
	return slices.ContainsFunc(machines, func(m machine) bool {
		return m.Node != "" && !slices.ContainsFunc(nodes, func(n resources.NodeStatus) bool { return n.ID == m.Node })
	})
}

// takesPart tells whether a machine does for the cluster what it should. It is an
// error where that is not known.
func (c *Connections) takesPart(ctx context.Context, m machine, id resources.ClusterID, server bool) (bool, error) {
	info, err := c.machines.Agent(m.Endpoint).Node(ctx)
	if err == nil {
		return info.Cluster == id && (info.Server || !server), nil
	}
	if m.given {
		// One that was installed anew has nothing of skerry's.
		if there, e := c.present(ctx, m.Endpoint); e == nil && !there {
			return false, nil
		}
	}
	return false, err
}

// releasePatience is how long a machine that was there before skerry may take to
// be as it was. One that does not answer is given up long before.
const releasePatience = time.Minute

// dismiss removes a node from the cluster: its replicas move elsewhere first.
// One that is silent, or gone, has none to move. stays is true where the machine
// is another node of the cluster now.
func (c *Connections) dismiss(ctx context.Context, control *client.Server, id resources.ClusterID, m machine, stays bool) error {
	if m.Node == "" {
		if err := c.identify(ctx, &m); err != nil {
			return err
		}
	}
	err := control.PutAvailability(ctx, m.Node, resources.NodeDrained)
	if err == nil {
		err = control.WatchNode(ctx, m.Node, func(s resources.NodeStatus) (bool, error) { return s.Ready && s.Replicas > 0, nil })
	}
	if err != nil && !api.IsNotFound(err) && !errors.Is(err, api.ErrGone) {
		return fmt.Errorf("move the replicas of node %s elsewhere: %w", m.Node, err)
	}
	if !stays {
		limit := patience
		if m.given {
			limit = releasePatience
		}
		short, cancel := context.WithTimeout(ctx, limit)
		err = c.release(short, m, id)
		cancel()
		if err != nil && !client.IsUnreachable(err) {
			return err
		}
		if err != nil && m.given {
			c.log.Warn("the machine does not answer, and keeps what skerry has there; `skerry abandon --force` on it removes that", "machine", m.Host, "err", err)
		}
	}
	return control.DeleteNode(ctx, m.Node)
}

// anyExpired is true where a node is silent because its certificate has ended:
// it was off for too long to have it renewed.
func (c *Connections) anyExpired(ctx context.Context, machines []machine, nodes []resources.NodeStatus) bool {
	for _, n := range nodes {
		i := slices.IndexFunc(machines, func(m machine) bool { return m.Node == n.ID })
		if n.Ready || i < 0 {
			continue
		}
		info, err := c.machines.Agent(machines[i].Endpoint).Node(ctx)
		if err == nil && !info.CertificateEnds.IsZero() && time.Now().After(info.CertificateEnds) {
			return true
		}
	}
	return false
}
