// Package schedule decides which node runs a replica. It is pure: nodes and a
// replica in, a node or a refusal out. A refusal says how many nodes there are,
// why each can't take the replica, and how much was missing.
package schedule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Node is a node with what is placed on it already.
type Node struct {
	resources.NodeInfo
	// Ready is true while the node's agent is heard.
	Ready bool
	// Replicas that are placed here, and not gone yet.
	Replicas []resources.Replica
}

// Reserved is what the node has promised to its replicas.
func (n Node) Reserved() resources.Capacity {
	var sum resources.Capacity
	for _, r := range n.Replicas {
		sum.CPU += r.Template.Resources.CPU
		sum.Memory += r.Template.Resources.Memory
	}
	return sum
}

// Place returns the node that runs a replica of the template: of those that can
// take it, the one with the smallest share of its resources promised, and by
// name where they are equal.
func Place(nodes []Node, template resources.Template) (resources.NodeID, *Refusal) {
	refusal := &Refusal{nodes: len(nodes)}
	var best *Node
	for i := range nodes {
		n := &nodes[i]
		if why := fits(n, template); why != nil {
			refusal.add(*why)
			continue
		}
		if best == nil || compare(n, best) < 0 {
			best = n
		}
	}
	if best == nil {
		return "", refusal
	}
	return best.ID, nil
}

// compare orders nodes by the share of their resources that is promised; the
// scarcer one of processor and memory counts.
func compare(a, b *Node) int {
	if x, y := load(a), load(b); x != y {
		if x < y {
			return -1
		}
		return 1
	}
	if a.Name != b.Name {
		return strings.Compare(a.Name, b.Name)
	}
	return strings.Compare(string(a.ID), string(b.ID))
}

func load(n *Node) float64 {
	reserved := n.Reserved()
	share := func(used, all int64) float64 {
		if all <= 0 {
			return 1
		}
		return float64(used) / float64(all)
	}
	return max(share(int64(reserved.CPU), int64(n.Allocatable.CPU)), share(int64(reserved.Memory), int64(n.Allocatable.Memory)))
}

// obstacle is why one node can't take a replica.
type obstacle struct {
	kind    string
	missing int64
	detail  string
}

const (
	notReady = "not ready"
	noCPU    = "cpu"
	noMemory = "memory"
	noPort   = "port"
)

func fits(n *Node, t resources.Template) *obstacle {
	if !n.Ready {
		return &obstacle{kind: notReady}
	}
	reserved := n.Reserved()
	if missing := t.Resources.CPU - (n.Allocatable.CPU - reserved.CPU); missing > 0 {
		return &obstacle{kind: noCPU, missing: int64(missing)}
	}
	if missing := t.Resources.Memory - (n.Allocatable.Memory - reserved.Memory); missing > 0 {
		return &obstacle{kind: noMemory, missing: int64(missing)}
	}
	for _, port := range t.Ports {
		for _, r := range n.Replicas {
			for _, taken := range r.Template.Ports {
				if taken.Node() == port.Node() && taken.Protocol == port.Protocol {
					return &obstacle{kind: noPort, detail: fmt.Sprintf("port %d/%s is taken by service %s", port.Node(), port.Protocol, r.Service)}
				}
			}
		}
	}
	return nil
}

// Refusal is why no node can run a replica.
type Refusal struct {
	nodes     int
	obstacles []obstacle
}

func (r *Refusal) add(o obstacle) { r.obstacles = append(r.obstacles, o) }

// Temporary is true where a node that is silent now could take the replica.
func (r *Refusal) Temporary() bool {
	return r.nodes == 0 || slices.ContainsFunc(r.obstacles, func(o obstacle) bool { return o.kind == notReady })
}

// String gives the refusal for people.
func (r *Refusal) String() string {
	if r.nodes == 0 {
		return "the cluster has no nodes"
	}
	var parts []string
	for _, kind := range []string{notReady, noCPU, noMemory, noPort} {
		of := slices.DeleteFunc(slices.Clone(r.obstacles), func(o obstacle) bool { return o.kind != kind })
		if len(of) == 0 {
			continue
		}
		least := slices.MinFunc(of, func(a, b obstacle) int { return int(a.missing - b.missing) })
		count := fmt.Sprintf("%d of %d", len(of), r.nodes)
		switch kind {
		case notReady:
			parts = append(parts, count+" not ready")
		case noCPU:
			parts = append(parts, fmt.Sprintf("%s short of cpu, by %s at least: lower resources.cpu, or add a node", count, resources.MilliCPU(least.missing)))
		case noMemory:
			parts = append(parts, fmt.Sprintf("%s short of memory, by %s at least: lower resources.memory, or add a node", count, resources.Bytes(least.missing)))
		case noPort:
			parts = append(parts, fmt.Sprintf("%s with %s: publish another one, or add a node", count, least.detail))
		}
	}
	return "no node can take the replica: " + strings.Join(parts, "; ")
}
