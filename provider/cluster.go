package provider

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Cluster is skerry_cluster.
type Cluster struct {
	resources.Cluster
	// Version of skerry that the nodes run, as in `1.2.3`. Nodes are upgraded one at a time: workers, then servers, the leader last. A plugin carries the program of its own version, and only that can be asked for. Left out, nodes stay at the version that they have; the attribute tells the earliest of them.
	Version string `json:"version,omitempty" iac:"optional,computed"`
	// ID of the cluster.
	ID string `json:"id,omitempty" iac:"computed"`
	// Endpoint of the cluster, for `cluster` of what runs on it.
	Endpoint string `json:"endpoint,omitempty" iac:"computed"`
	// IDs of the nodes: those of `servers` and then those of `workers`, in their order.
	Nodes []string `json:"nodes,omitempty" iac:"computed"`
}

// patience is how long a read waits for a machine before it keeps the state.
const patience = 10 * time.Second

var cluster = definition.Resource[*Connections, Cluster]{
	Name:     "cluster",
	Doc:      "Nodes that run services together, under a control plane on one, three or five of them.",
	ImportID: "The ID is the endpoints of all nodes of the cluster, with a comma between.",
	Timeouts: definition.Timeouts{Create: 20 * time.Minute, Read: time.Minute, Update: time.Hour, Delete: 5 * time.Minute},
	Check:    func(c *Cluster) resources.Problems { return c.Validate() },
	Plan:     planCluster,
	Clash:    sameMachines,
	Create:   createCluster,
	Read:     readCluster,
	Update:   updateCluster,
	Delete:   deleteCluster,
	Import:   importCluster,
}

func planCluster(_ context.Context, c *Connections, p *definition.Planning[Cluster]) resources.Problems {
	var problems resources.Problems
	runs := ""
	if p.Prior != nil {
		runs = p.Prior.Version
	}
	// c is nil where the provider's own configuration is not known yet.
	if c != nil && p.Known("version") {
		if reason := checkVersion(p.Planned.Version, runs, c.version); reason != "" {
			problems.Addf("version", "%s", reason)
		}
	}
	if p.Prior == nil {
		return problems
	}
	broken := p.Prior.Endpoint == ""
	servers := broken || !p.Known("servers") || !slices.Equal(p.Prior.Servers, p.Planned.Servers)
	if servers {
		p.MayChange("endpoint")
	}
	if servers || !p.Known("workers") || !slices.Equal(p.Prior.Workers, p.Planned.Workers) {
		p.MayChange("nodes")
	}
	return problems
}

func createCluster(ctx context.Context, c *Connections, spec *Cluster) error {
	var id [8]byte
	rand.Read(id[:])
	spec.ID = hex.EncodeToString(id[:])
	machines, err := c.machinesOf(spec)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, machines); err != nil {
		return err
	}
	// A create that was killed has made a cluster that no state knows.
	for _, m := range machines {
		info, err := c.machines.Agent(m.Endpoint).Node(ctx)
		if err != nil {
			return err
		}
		if !info.Server {
			continue
		}
		there, err := c.machines.Server(serverEndpoint(m.Endpoint, info.Cluster)).Cluster(ctx)
		if err != nil {
			return err
		}
		if there.Name != spec.Name {
			return resources.Invalid(m.path, "node %s runs the control plane of cluster %s already: remove that first, or name another node", info.Name, there.Name)
		}
		c.log.Info("the node runs the control plane of this cluster already, and is taken over", "cluster", there.Name, "id", there.ID)
		spec.ID = string(there.ID)
		break
	}
	control, err := c.assemble(ctx, spec, machines)
	if err != nil {
		return err
	}
	return c.follow(ctx, control, spec, "", machines)
}

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

func readCluster(ctx context.Context, c *Connections, spec *Cluster) (definition.Reading, error) {
	machines, err := c.machinesOf(spec)
	if err != nil || len(machines) == 0 {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var silent error
	for i, m := range machines {
		server := i < len(spec.Servers)
		if !server && !m.given {
			continue
		}
		there, err := c.takesPart(ctx, m, resources.ClusterID(spec.ID), server)
		switch {
		case err != nil:
			silent = err
		case !there:
			// The machine is there and skerry is not: an apply starts it.
			spec.Endpoint = ""
			return definition.Reading{}, nil
		}
	}
	if silent != nil {
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of cluster %s stays as it was: %v", spec.Name, silent)}}, nil
	}
	var reading definition.Reading
	if endpoints, err := resources.ParseEndpoints(spec.Endpoint); err == nil {
		m := &members{Connections: c, control: c.machines.Server(endpoints...), machines: machines}
		if _, nodes, err := m.look(ctx); err == nil && len(nodes) > 0 {
			spec.Version = runs(nodes)
			reading.Warnings = conditions(nodes)
			if c.anyExpired(ctx, machines, nodes) || anyUnknown(machines, nodes) {
				spec.Endpoint = "" // an apply gives the node a new certificate
			}
		}
	}
	return reading, nil
}

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

func updateCluster(ctx context.Context, c *Connections, prior, spec *Cluster) error {
	before, err := c.machinesOf(prior)
	if err != nil {
		return err
	}
	if spec.Endpoint == "" {
		spec.Endpoint = prior.Endpoint
	}
	now, err := c.machinesOf(spec)
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, now); err != nil {
		return err
	}
	control, err := c.assemble(ctx, spec, now)
	if err != nil {
		return err
	}
	for _, m := range before {
		if slices.ContainsFunc(now, func(n machine) bool { return n.Node == m.Node }) {
			continue
		}
		// A machine that was installed anew is another node.
		stays := slices.ContainsFunc(now, func(n machine) bool { return n.Place() == m.Place() })
		if err := c.dismiss(ctx, control, resources.ClusterID(spec.ID), m, stays); err != nil {
			return err
		}
	}
	return c.follow(ctx, control, spec, prior.Version, now)
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

func deleteCluster(ctx context.Context, c *Connections, spec *Cluster) ([]string, error) {
	machines, err := c.machinesOf(spec)
	if err != nil {
		return nil, err
	}
	var warnings []string
	// The workers first: while a server runs they are told what is going on.
	slices.Reverse(machines)
	for _, m := range machines {
		warning, err := c.untilGone(ctx, []resources.Endpoint{m.Endpoint}, func(ctx context.Context) error {
			return c.release(ctx, m, resources.ClusterID(spec.ID))
		})
		if err != nil {
			return warnings, err
		}
		if warning != "" {
			warnings = append(warnings, fmt.Sprintf("cluster %s: %s", spec.Name, warning))
		}
	}
	return warnings, nil
}

// untilGone repeats a removal until it succeeds, the machine turns out to be
// gone, or ctx ends.
func (c *Connections) untilGone(ctx context.Context, endpoints []resources.Endpoint, remove func(context.Context) error) (warning string, err error) {
	for {
		err := remove(ctx)
		if err == nil || !client.IsUnreachable(err) {
			return "", err
		}
		if gone, warning := c.vanished(endpoints); gone {
			return warning, nil
		}
		select {
		case <-ctx.Done():
			return "", unreachable(err)
		case <-time.After(time.Second):
		}
	}
}

// importCluster finds the cluster that the nodes of the endpoints are in.
func importCluster(ctx context.Context, c *Connections, id string) (*Cluster, error) {
	endpoints, err := resources.ParseEndpoints(id)
	if err != nil {
		return nil, fmt.Errorf("import: the ID is the endpoints of all nodes of the cluster, with a comma between: %w", err)
	}
	spec := &Cluster{}
	var servers []resources.Endpoint
	for _, e := range endpoints {
		agent := agentEndpoint(e)
		info, err := c.machines.Agent(agent).Node(ctx)
		if err != nil {
			return nil, err
		}
		agent.Cluster = ""
		switch {
		case info.Cluster == "":
			return nil, fmt.Errorf("import: node %s is in no cluster", info.Name)
		case spec.ID != "" && spec.ID != string(info.Cluster):
			return nil, fmt.Errorf("import: node %s is in cluster %s, and those before it in %s", info.Name, info.Cluster, spec.ID)
		case info.Server:
			spec.Servers = append(spec.Servers, agent.String())
			servers = append(servers, serverEndpoint(agent, info.Cluster))
		default:
			spec.Workers = append(spec.Workers, agent.String())
		}
		spec.ID = string(info.Cluster)
	}
	if len(servers) == 0 {
		return nil, errors.New("import: none of the nodes runs the control plane; name its servers too")
	}
	there, err := c.machines.Server(servers...).Cluster(ctx)
	if err != nil {
		return nil, err
	}
	spec.Name, spec.Endpoint = there.Name, resources.FormatEndpoints(servers)
	nodes, err := c.machines.Server(servers...).Nodes(ctx)
	spec.Version = runs(nodes)
	return spec, err
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
