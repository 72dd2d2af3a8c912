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
	// ID of the cluster.
	ID string `json:"id,omitempty" iac:"computed"`
	// Endpoint of the cluster, for `cluster` of what runs on it.
	Endpoint string `json:"endpoint,omitempty" iac:"computed"`
}

// patience is how long a read waits for a machine before it keeps the state.
const patience = 10 * time.Second

var cluster = definition.Resource[*Connections, Cluster]{
	Name:     "cluster",
	Doc:      "The control plane, on given nodes.",
	ImportID: "The ID is the endpoint of the node that runs the control plane.",
	Timeouts: definition.Timeouts{Create: 10 * time.Minute, Read: time.Minute, Update: 10 * time.Minute, Delete: 5 * time.Minute},
	Check:    func(c *Cluster) resources.Problems { return c.Validate() },
	Plan:     planCluster,
	Create:   createCluster,
	Read:     readCluster,
	Update:   updateCluster,
	Delete:   deleteCluster,
	Import:   importCluster,
}

func planCluster(_ context.Context, _ *Connections, p *definition.Planning[Cluster]) resources.Problems {
	if p.Prior != nil && (p.Prior.Endpoint == "" || !p.Known("servers") || !slices.Equal(p.Prior.Servers, p.Planned.Servers)) {
		p.MayChange("endpoint")
	}
	return nil
}

func (c *Cluster) agents() ([]resources.Endpoint, error) {
	var all []resources.Endpoint
	for i, text := range c.Servers {
		e, err := resources.ParseEndpoint(text)
		if err != nil {
			return nil, fmt.Errorf("servers[%d]: %w", i, err)
		}
		all = append(all, agentEndpoint(e))
	}
	return all, nil
}

func createCluster(ctx context.Context, c *Connections, spec *Cluster) error {
	var id [8]byte
	rand.Read(id[:])
	spec.ID = hex.EncodeToString(id[:])
	agents, err := spec.agents()
	if err != nil {
		return err
	}
	// A create that was killed has made a cluster that no state knows.
	for _, e := range agents {
		info, err := c.machines.Agent(e).Node(ctx)
		if err != nil {
			return err
		}
		if info.Cluster != "" {
			there, err := c.machines.Server(serverEndpoint(e, info.Cluster)).Cluster(ctx)
			if err != nil {
				return err
			}
			if there.Name != spec.Name {
				return fmt.Errorf("servers: node %s runs the control plane of cluster %s already: remove that first, or name another node", info.Name, there.Name)
			}
			c.log.Info("the node runs the control plane of this cluster already, and is taken over", "cluster", there.Name, "id", there.ID)
			spec.ID = string(there.ID)
		}
	}
	return startCluster(ctx, c, spec)
}

// startCluster makes the control plane run on the servers, and returns when it
// answers and its nodes are ready.
func startCluster(ctx context.Context, c *Connections, spec *Cluster) error {
	agents, err := spec.agents()
	if err != nil {
		return err
	}
	config := resources.ClusterConfig{ID: resources.ClusterID(spec.ID), Name: spec.Name}
	servers := make([]resources.Endpoint, len(agents))
	for i, e := range agents {
		if err := c.machines.Agent(e).StartServer(ctx, config); err != nil {
			return err
		}
		servers[i] = serverEndpoint(e, config.ID)
	}
	spec.Endpoint = resources.FormatEndpoints(servers)
	return nil
}

func readCluster(ctx context.Context, c *Connections, spec *Cluster) (definition.Reading, error) {
	agents, err := spec.agents()
	if err != nil || len(agents) == 0 {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := c.machines.Agent(agents[0]).Node(ctx)
	if err != nil {
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of cluster %s stays as it was: %v", spec.Name, err)}}, nil
	}
	if string(info.Cluster) != spec.ID {
		// The machine is there and the control plane is not: an apply starts it.
		spec.Endpoint = ""
	}
	return definition.Reading{}, nil
}

func updateCluster(ctx context.Context, c *Connections, prior, spec *Cluster) error {
	if err := startCluster(ctx, c, spec); err != nil {
		return err
	}
	before, err := prior.agents()
	if err != nil {
		return err
	}
	now, err := spec.agents()
	if err != nil {
		return err
	}
	for _, e := range before {
		if slices.ContainsFunc(now, func(n resources.Endpoint) bool { return n.Node == e.Node }) {
			continue
		}
		short, cancel := context.WithTimeout(ctx, patience)
		err := c.machines.Agent(e).StopServer(short, resources.ClusterID(spec.ID))
		cancel()
		if err != nil && !client.IsUnreachable(err) {
			return err
		}
	}
	return nil
}

func deleteCluster(ctx context.Context, c *Connections, spec *Cluster) ([]string, error) {
	agents, err := spec.agents()
	if err != nil {
		return nil, err
	}
	var warnings []string
	for _, e := range agents {
		warning, err := c.untilGone(ctx, []resources.Endpoint{e}, func(ctx context.Context) error {
			return c.machines.Agent(e).StopServer(ctx, resources.ClusterID(spec.ID))
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

// importCluster finds the cluster whose control plane the nodes of the
// endpoints run.
func importCluster(ctx context.Context, c *Connections, id string) (*Cluster, error) {
	endpoints, err := resources.ParseEndpoints(id)
	if err != nil {
		return nil, fmt.Errorf("import: the ID is the endpoint of the node that runs the control plane: %w", err)
	}
	spec := &Cluster{}
	var servers []resources.Endpoint
	for _, e := range endpoints {
		agent := agentEndpoint(e)
		info, err := c.machines.Agent(agent).Node(ctx)
		if err != nil {
			return nil, err
		}
		if info.Cluster == "" {
			return nil, errors.New("import: the node runs no control plane")
		}
		there, err := c.machines.Server(serverEndpoint(agent, info.Cluster)).Cluster(ctx)
		if err != nil {
			return nil, err
		}
		agent.Cluster = ""
		spec.ID, spec.Name = string(there.ID), there.Name
		spec.Servers = append(spec.Servers, agent.String())
		servers = append(servers, serverEndpoint(agent, there.ID))
	}
	spec.Endpoint = resources.FormatEndpoints(servers)
	return spec, nil
}
