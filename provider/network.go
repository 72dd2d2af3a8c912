package provider

import (
	"context"
	"time"

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

// networks are those of clusters.
var networks = inside[Network, resources.NetworkStatus]{
	kind:  "network",
	where: func(n *Network) (*string, string) { return &n.Cluster, n.Name },
	find:  (*client.Server).Network,
	fill:  (*Network).fill,
	remove: func(ctx context.Context, server *client.Server, name string) ([]string, error) {
		used := func(s resources.NetworkStatus) bool { return len(s.Services) > 0 }
		return nil, removeUnused(ctx, name, server.DeleteNetwork, server.WatchNetworkStatus, used)
	},
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
	Plan:   networks.plan,
	Create: putNetwork,
	Read:   networks.read,
	Update: func(ctx context.Context, c *Connections, _, n *Network) error { return putNetwork(ctx, c, n) },
	Delete: networks.delete,
	Import: networks.importer,
}

func (n *Network) fill(status resources.NetworkStatus) []string {
	n.Network = status.Network
	n.CIDR = status.CIDR.String()
	return nil
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
