package resources

import (
	"net/netip"
	"slices"
)

// Network is a subnet that spans nodes, on which replicas find each other by
// name.
type Network struct {
	// Name of the network. Services join the network `default` unless they name others.
	Name string `json:"name" iac:"replace"`
	// Addresses of the network, as an IPv4 prefix such as `10.40.0.0/16`. One that nothing else in the cluster has unless given. It can't change while services are on the network.
	CIDR string `json:"cidr,omitempty" iac:"optional,computed"`
	// Let replicas reach only each other, and nothing beyond the cluster.
	Internal bool `json:"internal,omitempty" iac:"default=false"`
	// Largest packet on the network, in bytes. What the ways between the nodes carry unless given.
	MTU int `json:"mtu,omitempty" iac:"optional"`
	// How packets travel between nodes: `wireguard`, or `none` for VXLAN in the clear, between nodes whose network nobody else is on.
	Encryption string `json:"encryption,omitempty" iac:"default=wireguard"`
}

// DefaultNetwork is the network of services that name none. It is there without
// being asked for.
const DefaultNetwork = "default"

// The values of Encryption.
const (
	EncryptionWireGuard = "wireguard"
	EncryptionNone      = "none"
)

// The bounds of a network's prefix length: the smallest has room for 14 virtual
// IPs and for 7 nodes with 14 replicas each, and the largest is one of the private
// ranges of RFC 1918.
const (
	MinNetworkBits = 8
	MaxNetworkBits = 25
)

// The bounds of an MTU: what every host has to take (RFC 791), and what a packet
// can be.
const (
	MinMTU = 576
	MaxMTU = 65535
)

// DomainName is what full names end with, as in web.default.skerry.internal.
// ICANN keeps .internal free for such use.
const DomainName = "skerry.internal"

// SetDefaults fills what was left out.
func (n *Network) SetDefaults() { setDefault(&n.Encryption, EncryptionWireGuard) }

// Validate returns every problem with what the user wrote.
func (n *Network) Validate() Problems {
	var p Problems
	checkName(&p, "name", n.Name)
	if n.CIDR != "" {
		switch prefix, err := netip.ParsePrefix(n.CIDR); {
		case err != nil || !prefix.Addr().Is4():
			p.Addf("cidr", "%q is not an IPv4 prefix, like 10.40.0.0/16", n.CIDR)
		case prefix != prefix.Masked():
			p.Addf("cidr", "%s has an address within the network; did you mean %s?", n.CIDR, prefix.Masked())
		case prefix.Bits() < MinNetworkBits || prefix.Bits() > MaxNetworkBits:
			p.Addf("cidr", "%s has a prefix length of %d; give one from %d to %d", n.CIDR, prefix.Bits(), MinNetworkBits, MaxNetworkBits)
		case !prefix.Addr().IsPrivate() && !sharedSpace.Overlaps(prefix):
			p.Addf("cidr", "%s is not a private range; take one within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10", n.CIDR)
		}
	}
	if n.MTU != 0 && (n.MTU < MinMTU || n.MTU > MaxMTU) {
		p.Addf("mtu", "is %d; give one from %d to %d, or leave it out", n.MTU, MinMTU, MaxMTU)
	}
	oneOf(&p, "encryption", n.Encryption, EncryptionWireGuard, EncryptionNone)
	return p
}

// sharedSpace is RFC 6598's.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// NetworkRecord is a network as the control plane stores it.
type NetworkRecord struct {
	// Network as the user wrote it.
	Network Network `json:"network"`
	// CIDR that the network has: the user's, or an allocated one.
	CIDR netip.Prefix `json:"cidr"`
	// Subnets of the nodes.
	Subnets map[NodeID]netip.Prefix `json:"subnets,omitempty"`
}

// NetworkStatus is a network for people and plugins.
type NetworkStatus struct {
	Network Network      `json:"network"`
	CIDR    netip.Prefix `json:"cidr"`
	// Nodes counts those that have a subnet of it.
	Nodes int `json:"nodes"`
	// Services on the network, sorted.
	Services []string `json:"services"`
}

// NetworkAddress is an address on a network.
type NetworkAddress struct {
	Network string     `json:"network"`
	Address netip.Addr `json:"address"`
}

// AddressOn finds the address on a network; the zero Addr where there is none.
func AddressOn(network string, all []NetworkAddress) netip.Addr {
	i := slices.IndexFunc(all, func(a NetworkAddress) bool { return a.Network == network })
	if i < 0 {
		return netip.Addr{}
	}
	return all[i].Address
}

// NodeOverlay is what a node has to be on the cluster's networks. A node without
// one, as under skerry dev without root, runs its replicas on Podman's own
// network, where only their published ports are reached.
type NodeOverlay struct {
	// PublicKey is WireGuard's, in base64. The private key never leaves the node.
	PublicKey string `json:"public_key"`
}

// The UDP ports of a node.
const (
	// WireGuardPort is for packets between nodes.
	WireGuardPort = 5059
	// VXLANPort is for those of networks without encryption; it is IANA's.
	VXLANPort = 4789
)

// NetworkMap is all that one node has to know of the cluster's networks: those
// that replicas on it have joined, and those that a port which it publishes leads
// to. Every list is sorted by name, ID or address.
type NetworkMap struct {
	// Revision of the store that the map was made from.
	Revision int64           `json:"revision"`
	Networks []MappedNetwork `json:"networks"`
	// Others are the ranges of the cluster's networks that are not in Networks.
	Others   []netip.Prefix  `json:"others,omitempty"`
	Peers    []Peer          `json:"peers"`
	Services []MappedService `json:"services"`
	// Nodes are the addresses of all nodes of the cluster, this one's included:
	// replicas may reach their published ports only.
	Nodes []netip.Addr `json:"nodes"`
}

// MappedNetwork is a network as a node sees it.
type MappedNetwork struct {
	Name string       `json:"name"`
	CIDR netip.Prefix `json:"cidr"`
	// Subnet of the node. Its first address, see Gateway, is the node's own.
	Subnet   netip.Prefix `json:"subnet"`
	Internal bool         `json:"internal,omitempty"`
	// MTU that the user wants; zero for what the way carries.
	MTU        int    `json:"mtu,omitempty"`
	Encryption string `json:"encryption"`
}

// Gateway is the node's own address on the network: its subnet's first. What
// comes in by a published port and goes to another node has it as its source.
func (n MappedNetwork) Gateway() netip.Addr { return n.Subnet.Addr().Next() }

// VirtualIPBits is how much longer the prefix of the virtual IPs is than that of
// their network: they have an eighth of it.
const VirtualIPBits = 3

// VirtualIPs is the part of a network that virtual IPs are taken from, its
// beginning. The rest is the nodes'.
func VirtualIPs(cidr netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(cidr.Addr(), cidr.Bits()+VirtualIPBits)
}

// Peer is another node of the networks.
type Peer struct {
	Node NodeID `json:"node"`
	// Address that other nodes reach it by.
	Address netip.Addr `json:"address"`
	// PublicKey is WireGuard's, in base64.
	PublicKey string `json:"public_key"`
	// Subnets of the peer by network.
	Subnets []PeerSubnet `json:"subnets"`
}

// PeerSubnet is another node's part of a network.
type PeerSubnet struct {
	Network string       `json:"network"`
	Subnet  netip.Prefix `json:"subnet"`
}

// MappedService is a service on one network: one that is on two stands there
// twice.
type MappedService struct {
	Name      string     `json:"name"`
	Network   string     `json:"network"`
	VirtualIP netip.Addr `json:"virtual_ip"`
	// Affinity is SessionAffinity.
	Affinity string `json:"affinity,omitempty"`
	// Replicas that are to run, ready or not, sorted by slot and ID.
	Replicas []MappedReplica `json:"replicas"`
	// Ports that every node publishes, on the first of the service's networks.
	Ports []Port `json:"ports,omitempty"`
}

// MappedReplica is one replica of a service.
type MappedReplica struct {
	ID      ReplicaID  `json:"id"`
	Slot    int        `json:"slot"`
	Node    NodeID     `json:"node"`
	Address netip.Addr `json:"address"`
	// Ready is true where the replica does its work and stays: it gets
	// connections.
	Ready bool `json:"ready,omitempty"`
}

// NodeNetwork is what the network of a node is made from: the cluster's map, and
// the replicas on the node.
type NodeNetwork struct {
	Map NetworkMap `json:"map"`
	// Replicas that run on the node or are about to, sorted by ID.
	Replicas []LocalReplica `json:"replicas"`
}

// LocalReplica is a replica on the node itself.
type LocalReplica struct {
	ID        ReplicaID        `json:"id"`
	Addresses []NetworkAddress `json:"addresses"`
	// Ports that the node publishes for this replica: those of mode PortHost.
	Ports []Port `json:"ports,omitempty"`
}

// NodeResolver is the address at which every node answers its replicas' DNS
// queries: link-local (RFC 3927), so that no network has it.
var NodeResolver = netip.MustParseAddr("169.254.53.53")
