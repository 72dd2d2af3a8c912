package overlay

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/skerry-io/skerry/resources"
)

// Atlas is what the maps of all nodes are made from. It is never changed, and
// the maps share parts of it.
type Atlas struct {
	cluster Cluster
	// on tells which networks the replicas on a node have joined.
	on    map[resources.NodeID]map[string]bool
	nodes []netip.Addr
	// services are those on each network, by name, and published those of them
	// that have ports which every node publishes.
	services, published map[string][]resources.MappedService
}

// NewAtlas draws the cluster. ready tells which of the replicas that are to run
// do their work.
func NewAtlas(c Cluster, ready func(*resources.Replica) bool) *Atlas {
	a := &Atlas{
		cluster: c, on: map[resources.NodeID]map[string]bool{},
		services: map[string][]resources.MappedService{}, published: map[string][]resources.MappedService{},
	}
	replicas := a.place(ready)
	for _, name := range slices.Sorted(maps.Keys(c.Services)) {
		record := c.Services[name]
		for _, has := range record.VirtualIPs {
			s := resources.MappedService{
				Name: name, Network: has.Network, VirtualIP: has.Address, Affinity: record.Service.SessionAffinity,
				Replicas: append([]resources.MappedReplica{}, replicas[place{name, has.Network}]...),
			}
			if network, publishes := Publishes(record); publishes && network == has.Network {
				s.Ports = clusterPorts(record)
			}
			a.services[has.Network] = append(a.services[has.Network], s)
			if len(s.Ports) > 0 {
				a.published[has.Network] = append(a.published[has.Network], s)
			}
		}
	}
	for _, node := range c.Nodes {
		a.nodes = append(a.nodes, addressesOf(node)...)
	}
	slices.SortFunc(a.nodes, netip.Addr.Compare)
	a.nodes = slices.Compact(a.nodes)
	return a
}

// place is a service on a network.
type place struct{ service, network string }

// place notes which networks are on which nodes, and gives the replicas that are to
// run, sorted by slot and ID.
func (a *Atlas) place(ready func(*resources.Replica) bool) map[place][]resources.MappedReplica {
	replicas := map[place][]resources.MappedReplica{}
	for _, r := range a.cluster.Replicas {
		for _, has := range r.Addresses {
			if a.on[r.Node] == nil {
				a.on[r.Node] = map[string]bool{}
			}
			a.on[r.Node][has.Network] = true
			if r.Wanted {
				at := place{r.Service, has.Network}
				replicas[at] = append(replicas[at], resources.MappedReplica{ID: r.ID, Slot: r.Slot, Node: r.Node, Address: has.Address, Ready: ready(r)})
			}
		}
	}
	for _, all := range replicas {
		slices.SortFunc(all, func(a, b resources.MappedReplica) int {
			return cmp.Or(a.Slot-b.Slot, strings.Compare(string(a.ID), string(b.ID)))
		})
	}
	return replicas
}

// Publishes gives the network that carries what comes in by the ports of the
// service that every node publishes, where it has any. One that is deleted leaves
// them to others.
func Publishes(service resources.ServiceRecord) (network string, publishes bool) {
	return service.Service.Joins()[0], !service.Deleting && len(clusterPorts(service)) > 0
}

func clusterPorts(service resources.ServiceRecord) []resources.Port {
	var ports []resources.Port
	for _, p := range service.Service.Ports {
		if p.Mode == resources.PortCluster {
			ports = append(ports, p)
		}
	}
	return ports
}

// Shows is true where the map of the node shows the replica's service, on any
// network: what runs there, or comes in there, may be led to the replica.
func (a *Atlas) Shows(id resources.NodeID, r *resources.Replica) bool {
	if a.cluster.Nodes[id].Overlay == nil {
		return false
	}
	network, publishes := Publishes(a.cluster.Services[r.Service])
	return slices.ContainsFunc(r.Addresses, func(has resources.NetworkAddress) bool {
		return a.on[id][has.Network] || publishes && network == has.Network
	})
}

// Map gives the map of a node. It is empty for a node that is on no network.
func (a *Atlas) Map(id resources.NodeID) resources.NetworkMap {
	m := resources.NetworkMap{
		Revision: a.cluster.Revision, Nodes: append([]netip.Addr{}, a.nodes...),
		Networks: []resources.MappedNetwork{}, Peers: []resources.Peer{}, Services: []resources.MappedService{},
	}
	if a.cluster.Nodes[id].Overlay == nil {
		return m
	}
	for _, name := range slices.Sorted(maps.Keys(a.cluster.Networks)) {
		record := a.cluster.Networks[name]
		subnet, found := record.Subnets[id]
		if !found || !a.on[id][name] && len(a.published[name]) == 0 {
			if record.CIDR.IsValid() {
				m.Others = append(m.Others, record.CIDR)
			}
			continue
		}
		m.Networks = append(m.Networks, resources.MappedNetwork{
			Name: name, CIDR: record.CIDR, Subnet: subnet, Internal: record.Network.Internal,
			MTU: record.Network.MTU, Encryption: record.Network.Encryption,
		})
		services := a.published[name]
		if a.on[id][name] {
			services = a.services[name]
		}
		m.Services = append(m.Services, services...)
	}
	slices.SortFunc(m.Services, func(a, b resources.MappedService) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Network, b.Network))
	})
	m.Peers = append(m.Peers, a.peers(id, m.Networks)...)
	return m
}

// peers gives the other nodes of the networks.
func (a *Atlas) peers(self resources.NodeID, networks []resources.MappedNetwork) []resources.Peer {
	var peers []resources.Peer
	for _, id := range slices.Sorted(maps.Keys(a.cluster.Nodes)) {
		node := a.cluster.Nodes[id]
		addresses := addressesOf(node)
		if id == self || node.Overlay == nil || len(addresses) == 0 {
			continue
		}
		peer := resources.Peer{Node: id, Address: addresses[0], PublicKey: node.Overlay.PublicKey}
		for _, n := range networks {
			if subnet, found := a.cluster.Networks[n.Name].Subnets[id]; found {
				peer.Subnets = append(peer.Subnets, resources.PeerSubnet{Network: n.Name, Subnet: subnet})
			}
		}
		if len(peer.Subnets) > 0 {
			peers = append(peers, peer)
		}
	}
	return peers
}
