package rules

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// rotation is where the UDP packets of a node may go. A TCP connection has an end,
// and is left to it; an entry of UDP lasts for as long as its client sends, and would
// lead to a replica that is gone for ever.
type rotation struct {
	// networks and virtual are the prefixes of all networks, and of their virtual IPs.
	networks, virtual []netip.Prefix
	// services are the ready replicas of virtual IPs; their ports are zero, as
	// ports are kept.
	services map[netip.Addr][]netip.AddrPort
	// ports are those of published ports.
	ports map[uint16][]netip.AddrPort
}

// flow is an entry of UDP: what the client asked for, and who answers it. They are
// the same where the destination was not changed.
type flow struct{ asked, answers netip.AddrPort }

func newRotation(n resources.NodeNetwork) rotation {
	r := rotation{services: map[netip.Addr][]netip.AddrPort{}, ports: map[uint16][]netip.AddrPort{}}
	for _, m := range n.Map.Networks {
		r.networks = append(r.networks, m.CIDR)
		r.virtual = append(r.virtual, resources.VirtualIPs(m.CIDR))
	}
	for _, l := range n.Replicas {
		for _, p := range l.Ports {
			r.publish(p, hostAddress(l, n.Map))
		}
	}
	for _, s := range n.Map.Services {
		ready := ready(s)
		for _, a := range ready {
			r.services[s.VirtualIP] = append(r.services[s.VirtualIP], netip.AddrPortFrom(a, 0))
		}
		for _, p := range s.Ports {
			r.publish(p, ready)
		}
	}
	return r
}

func (r rotation) publish(p resources.Port, to []netip.Addr) {
	protocol, port := published(p)
	if protocol != "udp" {
		return
	}
	for _, a := range to {
		r.ports[uint16(port)] = append(r.ports[uint16(port)], netip.AddrPortFrom(a, uint16(p.Target)))
	}
}

// lost is true where entries may lead elsewhere than a rotation that has come after
// this one would have them: a replica is gone from it, or something is balanced that
// was not before.
func (r rotation) lost(next rotation) bool {
	return !slices.Equal(r.networks, next.networks) || lost(r.services, next.services) || lost(r.ports, next.ports)
}

func lost[K comparable](was, is map[K][]netip.AddrPort) bool {
	for key, replicas := range was {
		if slices.ContainsFunc(replicas, func(a netip.AddrPort) bool { return !slices.Contains(is[key], a) }) {
			return true
		}
	}
	for key := range is {
		if _, known := was[key]; !known {
			return true
		}
	}
	return false
}

// stale is true where an entry leads elsewhere than a new one would, on a node with
// these addresses.
func (r rotation) stale(f flow, node []netip.Addr) bool {
	asked, port := f.asked.Addr(), f.asked.Port()
	within := func(prefixes []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	switch {
	case asked == resources.NodeResolver:
		return false
	case within(r.virtual, asked):
		return !slices.Contains(r.services[asked], netip.AddrPortFrom(f.answers.Addr(), 0))
	case f.asked == f.answers:
		// What began before the port was published.
		_, published := r.ports[port]
		return published && slices.Contains(node, asked)
	default:
		return within(r.networks, f.answers.Addr()) && !slices.Contains(r.ports[port], f.answers)
	}
}

// sweep deletes the entries that are stale.
func (r rotation) sweep() error {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the node's addresses: %w", err)
	}
	var node []netip.Addr
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			node = append(node, prefix.Addr())
		}
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, staleFilter{r, node}); err != nil {
		return fmt.Errorf("delete UDP entries of conntrack: %w", err)
	}
	return nil
}

// staleFilter is netlink's view of stale.
type staleFilter struct {
	rotation rotation
	node     []netip.Addr
}

// MatchConntrackFlow is true where an entry is to be deleted.
func (s staleFilter) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	if c.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	asked, ok := netip.AddrFromSlice(c.Forward.DstIP)
	answers, ok2 := netip.AddrFromSlice(c.Reverse.SrcIP)
	return ok && ok2 && s.rotation.stale(flow{
		asked:   netip.AddrPortFrom(asked.Unmap(), c.Forward.DstPort),
		answers: netip.AddrPortFrom(answers.Unmap(), c.Reverse.SrcPort),
	}, s.node)
}
