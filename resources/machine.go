package resources

import "time"

// Capacity is what a machine has, or what replicas may use of it.
type Capacity struct {
	CPU    MilliCPU `json:"cpu"`
	Memory Bytes    `json:"memory"`
	Disk   Bytes    `json:"disk,omitempty"`
}

// NodeInfo is what an agent says of its machine.
type NodeInfo struct {
	ID   NodeID `json:"id"`
	Name string `json:"name"`
	// Version of skerry on the node.
	Version   string            `json:"version"`
	Podman    string            `json:"podman"`
	Addresses []string          `json:"addresses"`
	Labels    map[string]string `json:"labels,omitempty"`
	Taints    []string          `json:"taints,omitempty"`
	Capacity  Capacity          `json:"capacity"`
	// Allocatable is Capacity without what the machine itself needs.
	Allocatable Capacity `json:"allocatable"`
	// Cluster that the node belongs to, or empty.
	Cluster ClusterID `json:"cluster,omitempty"`
	// Server is true where the node runs the control plane.
	Server bool `json:"server,omitempty"`
	// Alone is true where no other node can join, as under skerry dev.
	Alone bool `json:"alone,omitempty"`
	// Retained names what on the data disk must outlive the VM, as in
	// "the store of cluster home".
	Retained []string `json:"retained,omitempty"`
	// Volumes are the local ones whose data is on the node, by name, as they were
	// when the node last heard of them.
	Volumes []Volume `json:"volumes,omitempty"`
	// AuthorizedKeys that may log in, as the node has them.
	AuthorizedKeys []string `json:"authorized_keys,omitempty"`
	// CertificateEnds is when the certificate ends by which the node is known to
	// its cluster; zero where it has none.
	CertificateEnds time.Time `json:"certificate_ends,omitzero"`
	// Overlay is what the node is on the cluster's networks; nil where it can't be.
	Overlay *NodeOverlay `json:"overlay,omitempty"`
	// Conditions that hold now, by type.
	Conditions []NodeCondition `json:"conditions,omitempty"`
	// Availability is the control plane's to say; an agent leaves it empty.
	Availability Availability `json:"availability,omitempty"`
}

// Neighbour is another node, which one tries to reach.
type Neighbour struct {
	Node    NodeID `json:"node"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// Problem says why it is not reached.
	Problem string `json:"problem,omitempty"`
}

// Availability is what the control plane does with a node.
type Availability string

// The values of Availability.
const (
	NodeActive   Availability = ""         // it gets replicas
	NodeCordoned Availability = "cordoned" // it keeps its replicas, and gets no more
	NodeDrained  Availability = "drained"  // its replicas move elsewhere
)

// NodeSettings is what may change on a node while it runs.
type NodeSettings struct {
	Labels         map[string]string `json:"labels"`
	Taints         []string          `json:"taints,omitempty"`
	AuthorizedKeys []string          `json:"authorized_keys"`
}

// ServiceState is where a service stands, for people and plugins.
type ServiceState string

// The states of a service.
const (
	ServiceRolling ServiceState = "rolling" // replicas of the revision are on their way
	ServiceRunning ServiceState = "running" // all replicas of the revision run
	ServiceWaiting ServiceState = "waiting" // the revision has run whole, and replicas of it find no node now; Message says why
	ServiceFailed  ServiceState = "failed"  // the revision can't run; Message says why
)

// ServiceStatus is what runs of a service.
type ServiceStatus struct {
	Service Service `json:"service"`
	// Revision of the template, from 1 on.
	Revision int `json:"revision"`
	// ImageDigest of the revision, once it is known.
	ImageDigest string       `json:"image_digest,omitempty"`
	State       ServiceState `json:"state"`
	// Ready counts the replicas of the revision that run.
	Ready int `json:"ready"`
	// Count is how many replicas there are to be now: `replicas`, or what the
	// autoscaler says, or the nodes of a global service.
	Count int `json:"count"`
	// RolledBack is the revision that failed, where the present one is its
	// rollback; zero where it is none.
	RolledBack int `json:"rolled_back,omitempty"`
	// Stable is the last revision that ran whole; zero before any did.
	Stable int `json:"stable,omitempty"`
	// VirtualIPs of the service, on each of its networks; none before any node is on
	// a network.
	VirtualIPs []NetworkAddress `json:"virtual_ips,omitempty"`
	// Message says, for a failed or waiting service, what is wrong: the reason,
	// the exit code and the last log lines. For one that was rolled back, it
	// says what was wrong with the revision that failed.
	Message  string           `json:"message,omitempty"`
	Replicas []ReplicaSummary `json:"replicas"`
}

// ReplicaSummary is one replica in a service's status.
type ReplicaSummary struct {
	ID       ReplicaID     `json:"id"`
	Revision int           `json:"revision"`
	Node     NodeID        `json:"node,omitempty"`
	NodeName string        `json:"node_name,omitempty"`
	Wanted   bool          `json:"wanted"`
	Status   ReplicaStatus `json:"status"`
	// Addresses of the replica on its networks.
	Addresses []NetworkAddress `json:"addresses,omitempty"`
	// Published lists the addresses of its published ports, as host:port.
	Published []string `json:"published,omitempty"`
}

// Stranded is a replica that would find no other node if its own went.
type Stranded struct {
	Replica ReplicaID `json:"replica"`
	Service string    `json:"service"`
	// Reason is why, as Replica.Waiting says it.
	Reason string `json:"reason"`
}

// Rebalance is what a rebalancing of the cluster comes to.
type Rebalance struct {
	// Moves are all that would make it better. The leader makes them, unless it is
	// only asked.
	Moves []Move `json:"moves"`
}

// Move is a replica that would be better off on another node.
type Move struct {
	Replica ReplicaID `json:"replica"`
	From    string    `json:"from"` // the nodes' names
	To      string    `json:"to"`
	Reason  string    `json:"reason"`
}

// Event is something that happened, for people.
type Event struct {
	Time    time.Time `json:"time"`
	Object  string    `json:"object"` // as in "service/web", "replica/web-0-k3f9qz", "node/n1"
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int       `json:"count"`
}

// NodeStatus is a node as the leader sees it.
type NodeStatus struct {
	NodeInfo
	// Ready is true while the node's agent is heard.
	Ready bool `json:"ready"`
	// Replicas that are placed on the node.
	Replicas int `json:"replicas"`
	// Reserved is promised to those replicas.
	Reserved Capacity `json:"reserved"`
}

// ServiceRecord is a service as the control plane stores it.
type ServiceRecord struct {
	Service Service `json:"service"`
	// Revision of the template, from 1 on.
	Revision int `json:"revision"`
	// ImageDigest is what the revision's image came to (`sha256:HEX`), or empty
	// where only the node knows the image.
	ImageDigest string `json:"image_digest,omitempty"`
	// Contents are those of the revision's secrets and configs.
	Contents ContentNumbers `json:"contents,omitempty"`
	// Login is the number of the present password of Service.RegistryAuth, by which its
	// content is found. The service has it not.
	Login int `json:"login,omitempty"`
	// VirtualIPs of the service, on each of its networks.
	VirtualIPs []NetworkAddress `json:"virtual_ips,omitempty"`
	// Scaled is what the autoscaler has decided; nil for a service that has none.
	Scaled *Scaled `json:"scaled,omitempty"`
	// Deleting is true from the removal until the last container is gone.
	Deleting bool `json:"deleting,omitempty"`
	// Stable is the last revision that ran whole, which a rollback goes back
	// to; nil before any did.
	Stable *Revision `json:"stable,omitempty"`
	// Rollout is how far the present revision has come.
	Rollout Rollout `json:"rollout,omitzero"`
}

// Revision is one version of a service's template.
type Revision struct {
	Number      int      `json:"number"`
	Template    Template `json:"template"`
	ImageDigest string   `json:"image_digest,omitempty"`
	// Contents are those of its secrets and configs.
	Contents ContentNumbers `json:"contents,omitempty"`
}

// Rollout is what the leader remembers of the change to a revision.
type Rollout struct {
	// Began is when the leader first saw the revision; zero before.
	Began time.Time `json:"began,omitzero"`
	// Progress is when it last came forward, and Done how many replicas of the
	// revision had proven themselves then.
	Progress time.Time `json:"progress,omitzero"`
	Done     int       `json:"done,omitempty"`
	// Paused says what keeps it from going on; empty while nothing does.
	Paused string `json:"paused,omitempty"`
	// RolledBack is the revision that failed, where this one is its rollback,
	// and Reason what was wrong with it.
	RolledBack int    `json:"rolled_back,omitempty"`
	Reason     string `json:"reason,omitempty"`
}
