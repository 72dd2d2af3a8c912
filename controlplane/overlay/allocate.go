package overlay

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Allocator gives out subnets and addresses, and remembers what it has given
// out. It belongs to one goroutine, and changes nothing of the Cluster that it
// was made of.
type Allocator struct {
	cluster  Cluster
	networks map[string]*network
}

// network is a network with what is given out of it.
type network struct {
	resources.NetworkRecord
	changed bool
	// taken is by replicas, wanted or not, and services; nil until it is needed.
	taken map[netip.Addr]bool
}

// NewAllocator begins with what is given out in the cluster. Subnets of nodes
// that are in it no more are free again.
func NewAllocator(c Cluster) *Allocator {
	a := &Allocator{cluster: c, networks: map[string]*network{}}
	for name, record := range c.Networks {
		n := &network{NetworkRecord: record}
		for id := range record.Subnets {
			if _, found := c.Nodes[id]; !found {
				n.own()
				delete(n.Subnets, id)
			}
		}
		a.networks[name] = n
	}
	return a
}

// own makes the subnets the allocator's own.
func (n *network) own() {
	if !n.changed {
		n.changed, n.Subnets = true, maps.Clone(n.Subnets)
	}
	if n.Subnets == nil {
		n.Subnets = map[resources.NodeID]netip.Prefix{}
	}
}

// Changed gives the records of the networks that differ from those of the
// cluster, by name.
func (a *Allocator) Changed() []resources.NetworkRecord {
	var all []resources.NetworkRecord
	for _, name := range slices.Sorted(maps.Keys(a.networks)) {
		if n := a.networks[name]; n.changed {
			all = append(all, n.NetworkRecord)
		}
	}
	return all
}

// Subnet gives the node its subnet of a network, where it has none yet.
func (a *Allocator) Subnet(name string, id resources.NodeID) (netip.Prefix, error) {
	n := a.networks[name]
	if n == nil {
		return netip.Prefix{}, fmt.Errorf("there is no network %s", name)
	}
	if subnet, found := n.Subnets[id]; found {
		return subnet, nil
	}
	taken := make(map[netip.Prefix]bool, len(n.Subnets))
	for _, subnet := range n.Subnets {
		taken[subnet] = true
	}
	first, count := subnets(n.CIDR)
	bits := subnetBits(n.CIDR)
	i := choose(string(id), count, func(i int) bool { return !taken[part(n.CIDR, bits, first+i)] })
	if i < 0 {
		return netip.Prefix{}, fmt.Errorf("network %s is full: %s has room for %d nodes, and all of them have joined; a network with a shorter prefix has more", name, n.CIDR, count)
	}
	n.own()
	n.Subnets[id] = part(n.CIDR, bits, first+i)
	return n.Subnets[id], nil
}

// Addresses gives a replica that is placed on a node an address on each network
// that it joins, in their order; none where the node is on no network. Where one
// has no address left, none is given out on the others either.
func (a *Allocator) Addresses(r resources.Replica) ([]resources.NetworkAddress, error) {
	node := a.cluster.Nodes[r.Node]
	if node.Overlay == nil {
		return nil, nil
	}
	var all []resources.NetworkAddress
	for _, name := range r.Template.Joins() {
		subnet, err := a.Subnet(name, r.Node)
		if err != nil {
			return nil, err
		}
		address, found := a.free(name, subnet, string(r.ID))
		if !found {
			return nil, fmt.Errorf("network %s is full on node %s: replicas have all %d addresses of %s; other nodes have more, or a network with a shorter prefix", name, node.Name, room(subnet), subnet)
		}
		all = append(all, resources.NetworkAddress{Network: name, Address: address})
	}
	a.take(all)
	return all, nil
}

// VirtualIPs gives the service a virtual IP on each of its networks, in their
// order. It keeps those that it has, also on a network that it has left, as long
// as one of its replicas is there; those are asked for only then.
func (a *Allocator) VirtualIPs(service resources.ServiceRecord, replicas func() []resources.Replica) ([]resources.NetworkAddress, error) {
	var all []resources.NetworkAddress
	joins := service.Service.Joins()
	for _, name := range joins {
		if has := resources.AddressOn(name, service.VirtualIPs); has.IsValid() {
			all = append(all, resources.NetworkAddress{Network: name, Address: has})
			continue
		}
		n := a.networks[name]
		if n == nil {
			return nil, fmt.Errorf("there is no network %s", name)
		}
		address, found := a.free(name, resources.VirtualIPs(n.CIDR), service.Service.Name)
		if !found {
			return nil, fmt.Errorf("network %s is full: services have all %d virtual IPs of %s; a network with a shorter prefix has more", name, room(resources.VirtualIPs(n.CIDR)), n.CIDR)
		}
		all = append(all, resources.NetworkAddress{Network: name, Address: address})
	}
	for _, has := range service.VirtualIPs {
		there := func(r resources.Replica) bool { return resources.AddressOn(has.Network, r.Addresses).IsValid() }
		if !slices.Contains(joins, has.Network) && slices.ContainsFunc(replicas(), there) {
			all = append(all, has)
		}
	}
	a.take(all)
	return all, nil
}

// free finds an address of a range of the network.
func (a *Allocator) free(name string, within netip.Prefix, who string) (netip.Addr, bool) {
	n := a.networks[name]
	if n.taken == nil {
		a.count()
	}
	i := choose(who, room(within), func(i int) bool { return !n.taken[plus(within.Addr(), unused+i)] })
	if i < 0 {
		return netip.Addr{}, false
	}
	return plus(within.Addr(), unused+i), true
}

func (a *Allocator) take(all []resources.NetworkAddress) {
	for _, given := range all {
		if n := a.networks[given.Network]; n != nil && n.taken != nil {
			n.taken[given.Address] = true
		}
	}
}

// count finds out which addresses are taken.
func (a *Allocator) count() {
	for _, n := range a.networks {
		n.taken = map[netip.Addr]bool{}
	}
	for _, r := range a.cluster.Replicas {
		a.take(r.Addresses)
	}
	for _, service := range a.cluster.Services {
		a.take(service.VirtualIPs)
	}
}
