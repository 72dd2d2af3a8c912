package links

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/skerry-io/skerry/resources"
)

// What a tunnel adds to each packet, in bytes, over IPv4: WireGuard an IP header
// (20), UDP's (8) and its own header and tag (16 + 16), as in section 5.4.6 of
// its paper; VXLAN IP, UDP, its own header (8) and the Ethernet header of the
// packet within (14), as in section 5 of RFC 7348.
const (
	wireguardOverhead = 20 + 8 + 16 + 16
	vxlanOverhead     = 20 + 8 + 8 + 14
)

// mtuOf is the largest packet of a network, where the ways between the nodes
// carry packets of a size: the user's, where he knows better.
func mtuOf(n resources.MappedNetwork, carried int) int {
	if n.MTU > 0 {
		return n.MTU
	}
	if n.Encryption == resources.EncryptionNone {
		return carried - vxlanOverhead
	}
	return carried - wireguardOverhead
}

// mtuFor is the largest packet that a replica on all these networks can send.
func mtuFor(networks []resources.MappedNetwork, carried int) int {
	least := carried
	for _, n := range networks {
		least = min(least, mtuOf(n, carried))
	}
	return least
}

// carries gives the largest packet that the ways to all peers carry: the least
// MTU of the interfaces that they begin with. Without peers it is that of the
// node's own address, so that the first peer changes nothing.
func carries(underlay netip.Addr, peers []resources.Peer) (int, error) {
	least, err := mtuOfAddress(underlay)
	if err != nil {
		return 0, err
	}
	for _, p := range peers {
		routes, err := netlink.RouteGet(p.Address.AsSlice())
		if err != nil {
			continue // it is not reached at present
		}
		for _, r := range routes {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				continue
			}
			if mtu := link.Attrs().MTU; mtu > 0 {
				least = min(least, mtu)
			}
		}
	}
	return least, nil
}

// ethernetMTU is that of an interface which nobody has set otherwise.
const ethernetMTU = 1500

func mtuOfAddress(underlay netip.Addr) (int, error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, a := range addresses {
		if own, _ := netip.AddrFromSlice(a.IP.To4()); own != underlay {
			continue
		}
		link, err := netlink.LinkByIndex(a.LinkIndex)
		if err != nil {
			return 0, fmt.Errorf("find the interface of %s: %w", underlay, err)
		}
		return link.Attrs().MTU, nil
	}
	return ethernetMTU, nil
}
