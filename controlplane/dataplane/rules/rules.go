// Package rules makes the packet filter of a node: the nftables table `inet
// skerry`, which balances virtual IPs and published ports over the replicas that
// are ready, keeps networks apart, and gives replicas their way out.
//
// Build is pure: values of resources.NodeNetwork in, a Table out, whose text
// nft reads. The fixed half, skerry.nft, is the story of a packet and changes only
// with the version of skerry; it looks into sets and maps, which hold what the
// cluster's networks are, and one small chain for each virtual IP and published
// port. So a change of one replica is a change of one chain.
//
// Firewall carries tables out. Each is one transaction, so that no packet ever
// meets half of one, and names only what differs from the table that is there: the
// one it applied last, or what the kernel lists. An empty chain, named after the
// hash of the whole text, proves in the same transaction that the kernel still has
// that one. Connections are the kernel's (conntrack): they go on whatever changes
// here. Only UDP has no end that conntrack sees, so its entries that lead to replicas
// out of the rotation are deleted; see rotation.
//
// Nothing here touches packets that are not of replicas, of the tunnels between
// nodes, of the networks' addresses or of published ports.
package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/skerry-io/skerry/resources"
)

// Build makes the table of a node. What a network map can't mean (a service
// without a virtual IP, a port that is published twice) is left out, so that the
// rest of the node's networks works.
func Build(n resources.NodeNetwork) *Table {
	t := parse(fixed)
	t.addNetworks(n.Map)
	t.addReplicas(n)
	t.addServices(n.Map)
	for _, a := range n.Map.Nodes {
		if a = a.Unmap(); a.Is4() {
			t.add("nodes", a.String(), "")
		}
	}
	t.seal()
	return &t
}

func (t *Table) addNetworks(m resources.NetworkMap) {
	tunnels := map[string]string{}
	for _, n := range m.Networks {
		if !n.CIDR.IsValid() || !n.Subnet.IsValid() {
			continue
		}
		cidr := n.CIDR.String()
		t.add("networks", cidr, "")
		t.add("virtual", resources.VirtualIPs(n.CIDR).String(), "")
		t.add("same-network", cidr+" . "+cidr, "")
		t.add("gateways", cidr, n.Gateway().String())
		if n.Internal {
			t.add("internal", cidr, "")
		}
		tunnels[n.Name] = "wireguard-peers"
		if n.Encryption == resources.EncryptionNone {
			tunnels[n.Name] = "vxlan-peers"
		}
	}
	for _, cidr := range m.Others {
		if cidr.IsValid() {
			t.add("others", cidr.String(), "")
		}
	}
	for _, p := range m.Peers {
		for _, s := range p.Subnets {
			if peers := tunnels[s.Network]; peers != "" && s.Subnet.IsValid() {
				t.add(peers, s.Subnet.String(), "")
			}
		}
	}
}

// addReplicas adds what is known of the replicas on the node itself.
func (t *Table) addReplicas(n resources.NodeNetwork) {
	for _, r := range n.Replicas {
		for _, from := range r.Addresses {
			for _, to := range r.Addresses {
				t.add("same-replica", from.Address.String()+" . "+to.Address.String(), "")
			}
		}
		for _, p := range r.Ports {
			t.addPort(p, string(r.ID), hostAddress(r, n.Map), "")
		}
	}
}

func (t *Table) addServices(m resources.NetworkMap) {
	for _, s := range m.Services {
		ready := ready(s)
		name := s.Name + "." + s.Network
		if s.VirtualIP.IsValid() && len(ready) > 0 {
			to := "virtual-ip." + s.VirtualIP.String()
			if t.add("virtual-ips", s.VirtualIP.String(), "goto "+to) {
				t.addChain(to, "dnat ip to %s comment %q", pick(ready, s.Affinity), name)
			}
		}
		for _, p := range s.Ports {
			if !t.add("cluster-ports", portKey(p), "") {
				continue
			}
			t.addPort(p, name, ready, s.Affinity)
		}
	}
}

// addPort publishes a port: whose is what the text says of it.
func (t *Table) addPort(p resources.Port, whose string, to []netip.Addr, affinity string) {
	key := portKey(p)
	protocol, published := published(p)
	name := fmt.Sprintf("port.%s.%d", protocol, published)
	if len(to) > 0 && t.add("ports", key, "goto "+name) {
		t.addChain(name, "meta l4proto %s dnat ip to %s:%d comment %q", protocol, pick(to, affinity), p.Target, whose)
	}
}

// addChain adds a chain of one rule.
func (t *Table) addChain(name, format string, args ...any) {
	t.chains = append(t.chains, chain{name: name, rules: []string{fmt.Sprintf(format, args...)}})
}

// portKey is a published port as the sets have it.
func portKey(p resources.Port) string {
	protocol, port := published(p)
	return fmt.Sprintf("%s . %d", protocol, port)
}

// published are the protocol and the number of the port that is the node's.
func published(p resources.Port) (string, int) {
	return cmp.Or(p.Protocol, "tcp"), cmp.Or(p.Published, p.Target)
}

// ready are the addresses of the replicas in the rotation.
func ready(s resources.MappedService) []netip.Addr {
	var all []netip.Addr
	for _, r := range s.Replicas {
		if r.Ready && r.Address.IsValid() {
			all = append(all, r.Address)
		}
	}
	return all
}

// hostAddress is where the ports lead that a node publishes for one replica: to its
// address on a network with a way out, if it has one, as that one needs no other
// source than the client's; none where it has no address.
func hostAddress(r resources.LocalReplica, m resources.NetworkMap) []netip.Addr {
	if len(r.Addresses) == 0 {
		return nil
	}
	i := slices.IndexFunc(r.Addresses, func(a resources.NetworkAddress) bool {
		return slices.ContainsFunc(m.Networks, func(n resources.MappedNetwork) bool { return n.Name == a.Network && !n.Internal })
	})
	return []netip.Addr{r.Addresses[max(0, i)].Address}
}
