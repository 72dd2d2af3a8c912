package provider

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

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
