package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skerry-io/skerry/controlplane/api"
	"github.com/skerry-io/skerry/controlplane/client"
	"github.com/skerry-io/skerry/provider/definition"
	"github.com/skerry-io/skerry/resources"
)

// Network is skerry_network.
type Network struct {
	// Endpoint of the cluster that the network spans: `endpoint` of a skerry_cluster.
	Cluster string `json:"cluster"`
	resources.Network
}

var network = definition.Resource[*Connections, Network]{
	Name:     "network",
	Doc:      "A network that spans the nodes of a cluster, on which replicas find and reach each other.",
	ImportID: "The ID is `NAME@ENDPOINT`, with the endpoint of the cluster.",
	Timeouts: definition.Timeouts{Create: 5 * time.Minute, Read: time.Minute, Update: 5 * time.Minute, Delete: 5 * time.Minute},
	Check: func(n *Network) resources.Problems {
		p := n.Validate()
		checkCluster(&p, n.Cluster)
		return p
	},
	Plan: func(_ context.Context, _ *Connections, p *definition.Planning[Network]) resources.Problems {
		if p.Prior != nil && p.Known("cluster") && otherCluster(p.Prior.Cluster, p.Planned.Cluster) {
			p.Replace("cluster")
		}
		return nil
	},
	Create: putNetwork,
	Read:   readNetwork,
	Update: func(ctx context.Context, c *Connections, _, n *Network) error { return putNetwork(ctx, c, n) },
	Delete: deleteNetwork,
	Import: importNetwork,
}

func (n *Network) fill(status resources.NetworkStatus) {
	n.Network = status.Network
	n.CIDR = status.CIDR.String()
}

func putNetwork(ctx context.Context, c *Connections, n *Network) error {
	server, _, err := c.server(n.Cluster)
	if err != nil {
		return err
	}
	status, err := server.PutNetwork(ctx, n.Network)
	if err != nil {
		return err
	}
	n.fill(status)
	return nil
}

func readNetwork(ctx context.Context, c *Connections, n *Network) (definition.Reading, error) {
	server, _, err := c.server(n.Cluster)
	if err != nil {
		return definition.Reading{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := server.Network(ctx, n.Name)
	switch {
	case api.IsNotFound(err):
		return definition.Reading{Gone: true}, nil
	case err != nil:
		return definition.Reading{Warnings: []string{fmt.Sprintf("the state of network %s stays as it was: %v", n.Name, err)}}, nil
	}
	n.fill(status)
	return definition.Reading{}, nil
}

// emptyPatience is how long the removal of a network waits for its services:
// those that are removed by the same destroy, and don't name the network, go at
// the same time.
const emptyPatience = 30 * time.Second

func deleteNetwork(ctx context.Context, c *Connections, n *Network) ([]string, error) {
	server, endpoints, err := c.server(n.Cluster)
	if err != nil {
		return nil, err
	}
	warning, err := c.untilGone(ctx, endpoints, func(ctx context.Context) error { return removeNetwork(ctx, server, n.Name) })
	if err != nil || warning == "" {
		return nil, err
	}
	return []string{fmt.Sprintf("network %s: %s", n.Name, warning)}, nil
}

func removeNetwork(ctx context.Context, server *client.Server, name string) error {
	refused := server.DeleteNetwork(ctx, name)
	if !api.IsConflict(refused) {
		return refused
	}
	waiting, cancel := context.WithTimeout(ctx, emptyPatience)
	defer cancel()
	err := server.WatchNetworkStatus(waiting, name, func(status resources.NetworkStatus) (bool, error) { return len(status.Services) > 0, nil })
	switch {
	case errors.Is(err, api.ErrGone) || api.IsNotFound(err):
		return nil
	case err != nil:
		return refused
	}
	return server.DeleteNetwork(ctx, name)
}

// importNetwork finds `NAME@ENDPOINT`, with the endpoint of the cluster.
func importNetwork(ctx context.Context, c *Connections, id string) (*Network, error) {
	name, endpoint, found := strings.Cut(id, "@")
	if !found {
		return nil, errors.New("import: the ID is NAME@ENDPOINT, with the endpoint of the cluster")
	}
	server, _, err := c.server(endpoint)
	if err != nil {
		return nil, err
	}
	status, err := server.Network(ctx, name)
	if err != nil {
		return nil, err
	}
	n := &Network{Cluster: endpoint}
	n.fill(status)
	return n, nil
}
