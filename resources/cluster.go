package resources

import (
	"fmt"
	"net"
	"slices"
)

// ClusterID names a cluster for ever. It is 16 lower-case hexadecimal digits.
type ClusterID string

// Cluster is the control plane on given nodes.
type Cluster struct {
	// Name of the cluster.
	Name string `json:"name" iac:"replace"`
	// Endpoints of the nodes that run the control plane: 1, 3 or 5 of them. With 3 the cluster survives the loss of one, with 5 of two. A Debian machine that is there already has the endpoint `ssh://user@host[:port]`, with `?hostkey=SHA256:...` where your known_hosts lacks its key; skerry is put on it.
	Servers []string `json:"servers"`
	// Endpoints of the nodes that run containers only, of either kind. Servers run containers too.
	Workers []string `json:"workers,omitempty" iac:"optional"`
	// How registries are reached that images of services come from, by host, such as `docker.io` or `registry.lan:5000`.
	Registries map[string]RegistryAccess `json:"registries,omitempty" iac:"optional"`
}

// Validate returns every problem with what the user wrote.
func (c *Cluster) Validate() Problems {
	var p Problems
	checkName(&p, "name", c.Name)
	if !slices.Contains([]int{1, 3, 5}, len(c.Servers)) {
		p.Addf("servers", "has %d endpoints; a control plane has 1, 3 or 5 servers, so that a majority of them is left when some fail", len(c.Servers))
	}
	seen := map[string]string{}
	check := func(list string, endpoints []string) {
		for i, text := range endpoints {
			path := fmt.Sprintf("%s[%d]", list, i)
			e, err := ParseEndpoint(text)
			if err != nil {
				p.Addf(path, "%v", err)
				continue
			}
			node := string(e.Node)
			if node == "" {
				node = e.Place()
			}
			if first, found := seen[node]; found {
				p.Addf(path, "is the same node as %s: name each node once", first)
			}
			seen[node] = path
		}
	}
	check("servers", c.Servers)
	check("workers", c.Workers)
	validateRegistries(&p, c.Registries)
	return p
}

// ClusterConfig tells a node which cluster it belongs to, and how.
type ClusterConfig struct {
	ID   ClusterID `json:"id"`
	Name string    `json:"name"`
	// Servers are the ways to the control plane, from other machines.
	Servers []ServerAddress `json:"servers,omitempty"`
	// Server is how the node takes part in the control plane; nil where it is a
	// worker.
	Server *ServerConfig `json:"server,omitempty"`
}

// ServerConfig is how a node takes part in the control plane.
type ServerConfig struct {
	// Join holds the addresses of the store's members by node, this one's
	// included, for a server that joins others. It is empty for the first.
	Join map[NodeID]string `json:"join,omitempty"`
}

// ServerAddress is where a server of a cluster answers its nodes.
type ServerAddress struct {
	Node NodeID `json:"node"`
	// Host is an IP address.
	Host string `json:"host"`
}

// The TCP ports of a node. All of them speak mutual TLS.
const (
	// ServerPort is for agents and for other servers.
	ServerPort = "5056"
	// PeerPort is for the store's other members.
	PeerPort = "5057"
	// AgentPort is every agent's, for the servers.
	AgentPort = "5058"
)

// API is where the server's API answers nodes, as host:port.
func (a ServerAddress) API() string { return net.JoinHostPort(a.Host, ServerPort) }

// Peer is where the server's store answers its other members, as host:port.
func (a ServerAddress) Peer() string { return net.JoinHostPort(a.Host, PeerPort) }

// Join makes a node a member of a cluster.
type Join struct {
	Cluster ClusterConfig `json:"cluster"`
	// Certificate answers the node's request, and Authority is the certificate
	// of who signed it, as PEM. Both are empty for the first server of a
	// cluster, which makes the authority.
	Certificate []byte `json:"certificate,omitempty"`
	Authority   []byte `json:"authority,omitempty"`
}

// CertificateRequest is a node's request for a certificate, as PEM.
type CertificateRequest struct {
	Request []byte `json:"request"`
}

// Assignment is what a node has to do.
type Assignment struct {
	// Replicas that the node runs, and those that it still has to stop.
	Replicas []Replica `json:"replicas"`
	// Leaving are those that have to stop and may still be sent connections by
	// some node: they get their stop signal once they are not listed any more.
	Leaving []ReplicaID `json:"leaving,omitempty"`
	// Volumes that the node's replicas mount, and those whose data it has, by name.
	Volumes []AssignedVolume `json:"volumes,omitempty"`
	// Contents of the secrets and configs of the node's replicas, and the passwords for
	// their images, by version.
	Contents []Content `json:"contents,omitempty"`
	// Samples are what the agent measures of autoscaled services, by name.
	Samples []SampleOrder `json:"samples,omitempty"`
	// Registries are how those are reached that images come from, and Logins who pulls
	// the images of services.
	Registries []AssignedRegistry `json:"registries,omitempty"`
	Logins     []AssignedLogin    `json:"logins,omitempty"`
	// Servers are the ways to the control plane from now on.
	Servers []ServerAddress `json:"servers"`
	// Server is how the node takes part in the control plane; nil where it
	// doesn't, or not any more.
	Server *ServerConfig `json:"server,omitempty"`
	// Remembered is true for what a node knows from before its agent began, until a
	// server has said it again.
	Remembered bool `json:"-"`
}

// ImageRecord is an image that the cluster's registry holds.
type ImageRecord struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// Key names the image, as NAME@DIGEST.
func (i ImageRecord) Key() string { return i.Name + "@" + i.Digest }

// ClusterRecord is what the store keeps of a cluster as a whole.
type ClusterRecord struct {
	// Servers are the nodes that are to run the control plane.
	Servers []NodeID `json:"servers"`
	// Away are those of them that run none until they come back: their machines
	// were about to go.
	Away []NodeID `json:"away,omitempty"`
	// Nodes may be in the cluster: those that were let in, and not removed.
	Nodes []NodeID `json:"nodes"`
	// Rebalance is how many moves are left to make of a rebalancing that was asked for.
	Rebalance int `json:"rebalance,omitempty"`
}

// Wanted are the nodes that are to run the control plane now, sorted.
func (c ClusterRecord) Wanted() []NodeID {
	all := slices.DeleteFunc(slices.Clone(c.Servers), func(id NodeID) bool { return slices.Contains(c.Away, id) })
	slices.Sort(all)
	return all
}

// ClusterStatus is a cluster for people and plugins.
type ClusterStatus struct {
	ClusterConfig
	// Leader is the node that decides now, or empty.
	Leader NodeID `json:"leader,omitempty"`
	// Wanted are the nodes that are to run the control plane, and Members those
	// that do, both sorted.
	Wanted  []NodeID `json:"wanted"`
	Members []NodeID `json:"members"`
	// Waiting says why Members are not Wanted yet.
	Waiting string `json:"waiting,omitempty"`
	// Failed is true where that does not change by itself.
	Failed bool `json:"failed,omitempty"`
	// Rebalance is how many moves are left to make of a rebalancing that was asked
	// for, at most; zero once it is over.
	Rebalance int `json:"rebalance,omitempty"`
}
