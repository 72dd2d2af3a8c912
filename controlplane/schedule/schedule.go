// Package schedule decides which node runs a replica. It is pure: nodes and
// replicas in, decisions out; the same ones for the same values, in whatever
// order they come.
//
// A Cluster is the working copy of one planner: nodes with what is placed on
// them, which the caller keeps up to date. Place takes a batch of replicas that
// wait, and answers each with a node, or with a refusal that says of how many
// nodes what keeps it from them. What it places is reserved in the Cluster at
// once, so that a batch never promises anything twice.
//
// Replicas that ask for the same share a Demand, and are placed together. A
// node is first checked against the demand (obstacle.go): what keeps a replica
// from it is one thing, the one that is hardest to change. Nodes without an
// obstacle stand in a heap by their score (score.go), below a tree of domains
// where replicas are spread over labels (domain.go). The best one is taken, and
// only its own score is made anew, so that a replica costs the logarithm of the
// number of nodes. Whoever finds no place may take that of replicas with a
// lower priority (room.go).
//
// Beside that, Misplaced tells which replicas have to leave their nodes,
// GlobalNodes which nodes run a replica of a global service, and Rebalance
// which replicas would be better off elsewhere.
package schedule

import "github.com/skerry-io/skerry/resources"

// Node is a node, without what is placed on it.
type Node struct {
	resources.NodeInfo
	// Ready is true while the node's agent is heard.
	Ready bool
	// Cordoned is true where the node takes no new replicas.
	Cordoned bool
	// Draining is true where its replicas have to leave, too.
	Draining bool
	// DiskPressure is true where the node's disk is too full for more.
	DiskPressure bool
	// Images that are on the node, as Demand.Image names them. Those of its
	// replicas are known without.
	Images []string
}

// Demand is what a replica asks of its node. The replicas of one revision of a
// service share one, and it is not changed once it was given to a Cluster.
type Demand struct {
	Service   string
	Revision  int
	Resources resources.Reservation
	Ports     []resources.Port
	// Labels of the replicas, which others' affinities ask for.
	Labels map[string]string
	// Image that it runs: any name that is the same for the same image.
	Image     string
	Placement resources.Placement
	// Bound restricts the replicas to some nodes; nil does not.
	Bound *Bound
}

// Bound is a restriction to the nodes that have something, such as a volume.
type Bound struct {
	Nodes []resources.NodeID
	// To names what those nodes have, as in "volume data".
	To string
}

// DemandOf gives the demand of a service's replicas of a revision.
// placement may be nil.
func DemandOf(r resources.Replica, placement *resources.Placement) *Demand {
	d := &Demand{
		Service: r.Service, Revision: r.Revision, Resources: r.Template.Resources, Ports: r.Template.Ports,
		Labels: r.Template.Labels, Image: r.Template.Image,
	}
	if r.ImageDigest != "" {
		d.Image = r.ImageDigest
	}
	if placement != nil {
		d.Placement = *placement
	}
	return d
}

// Replica is a replica as the scheduler sees it.
type Replica struct {
	ID     resources.ReplicaID
	Demand *Demand
	// Node that it is placed on; empty where it waits.
	Node resources.NodeID
	// Only is the one node that it may be placed on, as each replica of a
	// global service has it; empty for any.
	Only resources.NodeID
	// Stopping is true where it was asked to stop. It needs what it has until
	// it is gone, and stands for nothing else any more.
	Stopping bool
}

// Decision is what Place says of one replica.
type Decision struct {
	Replica resources.ReplicaID
	// Node that it is placed on, or empty.
	Node resources.NodeID
	// Refusal is why there is none; nil where there is.
	Refusal *Refusal
	// Preempt are replicas of lower priority that have to stop so that this one
	// finds room where they were. It is placed once they are gone.
	Preempt []resources.ReplicaID
}
