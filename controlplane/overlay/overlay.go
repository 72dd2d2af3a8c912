// Package overlay lays out the cluster's networks: which addresses a network
// has, which part of them each node, and which one each replica and service. It
// is pure: what is stored in, addresses out. It draws the map that each node
// makes its own network from, too.
//
// The first eighth of a network is for the virtual IPs of services; the rest is
// cut into subnets, one for each node that needs one. The first address of each
// part stays free, and the second one of a node's subnet is the node's own, see
// resources.MappedNetwork.Gateway. So the address of a replica tells its node,
// and nodes have one route per node and network.
//
// Nodes, replicas and services get their part by a hash of their name, or the
// next free one. So what has just become free is seldom given out again at once,
// while somebody still remembers whose it was, and a service or node that comes
// back finds what it had.
package overlay

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Cluster is what is stored of a cluster.
type Cluster struct {
	// Revision of the store.
	Revision int64
	Nodes    map[resources.NodeID]resources.NodeInfo
	Networks map[string]resources.NetworkRecord
	Services map[string]resources.ServiceRecord
	// Replicas are all of them, in any order.
	Replicas iter.Seq2[resources.ReplicaID, *resources.Replica]
}

// pools are where networks come from that the user gives no CIDR, each of
// poolBits. Those who meet them are few: 192.168.0.0/16 is that of homes, and of
// libvirt; 172.16.0.0/12 is Docker's; 100.64.0.0/10 is Tailscale's, whose rules
// drop it elsewhere; and of 10.0.0.0/8, the low end is that of companies and
// VPNs, 10.42 and 10.43 are k3s's, 10.88.0.0/16 and what follows are Podman's,
// 10.96.0.0/12 are the services of Kubernetes, and 10.128.0.0/9 is Google's cloud
// and OpenShift. 10.112.0.0/12 and 10.64.0.0/12 are between them.
var pools = []netip.Prefix{netip.MustParsePrefix("10.112.0.0/12"), netip.MustParsePrefix("10.64.0.0/12")}

// poolBits is the prefix length of such a network: room for 224 nodes with 254
// replicas each, and for 8190 services.
const poolBits = 16

// FreeCIDR gives addresses for a network that nothing else in the cluster has.
func FreeCIDR(networks map[string]resources.NetworkRecord, nodes map[resources.NodeID]resources.NodeInfo) (netip.Prefix, error) {
	tried := 0
	for _, pool := range pools {
		for i := range 1 << (poolBits - pool.Bits()) {
			tried++
			cidr := part(pool, poolBits, i)
			if len(Clashes("", cidr, networks, nodes)) == 0 {
				return cidr, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("all %d networks of %v are taken by other networks, or by nodes; give the network a `cidr` of its own", tried, pools)
}

// Clashes says what of the cluster has addresses within the CIDR of the network
// of that name: other networks and nodes, as in "network blue, 10.40.0.0/16".
func Clashes(name string, cidr netip.Prefix, networks map[string]resources.NetworkRecord, nodes map[resources.NodeID]resources.NodeInfo) []string {
	var all []string
	for _, other := range slices.Sorted(maps.Keys(networks)) {
		if other != name && networks[other].CIDR.Overlaps(cidr) {
			all = append(all, fmt.Sprintf("network %s, %s", other, networks[other].CIDR))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		for _, address := range addressesOf(nodes[id]) {
			if cidr.Contains(address) {
				all = append(all, fmt.Sprintf("node %s, %s", nodes[id].Name, address))
			}
		}
	}
	return all
}

// addressesOf gives the addresses of a node that can be read.
func addressesOf(node resources.NodeInfo) []netip.Addr {
	var all []netip.Addr
	for _, text := range node.Addresses {
		if address, err := netip.ParseAddr(text); err == nil {
			all = append(all, address.Unmap())
		}
	}
	return all
}

// subnetBits is the prefix length of a node's subnet: room for 254 replicas, or
// for 14 where the network is so small that otherwise few nodes would fit.
func subnetBits(cidr netip.Prefix) int { return min(max(cidr.Bits()+8, 24), 28) }

// subnets gives which parts of subnetBits are for nodes: those from first on, n
// of them.
func subnets(cidr netip.Prefix) (first, n int) {
	bits := subnetBits(cidr) - cidr.Bits()
	first = 1 << (bits - resources.VirtualIPBits)
	return first, 1<<bits - first
}

// unused is how many addresses at the beginning of a range nobody gets.
const unused = 2

// room is how many addresses of a range are given out.
func room(of netip.Prefix) int { return 1<<(32-of.Bits()) - unused }

// part is the i-th part of a prefix, of a longer prefix length.
func part(of netip.Prefix, bits, i int) netip.Prefix {
	return netip.PrefixFrom(plus(of.Addr(), i<<(32-bits)), bits)
}

func plus(address netip.Addr, n int) netip.Addr {
	four := address.As4()
	binary.BigEndian.PutUint32(four[:], binary.BigEndian.Uint32(four[:])+uint32(n))
	return netip.AddrFrom4(four)
}

// choose gives the first of n places that is free, from that on which the name
// leads to, or -1.
func choose(name string, n int, free func(i int) bool) int {
	h := fnv.New64a()
	h.Write([]byte(name))
	start := int(h.Sum64() % uint64(n))
	for i := range n {
		if at := (start + i) % n; free(at) {
			return at
		}
	}
	return -1
}
