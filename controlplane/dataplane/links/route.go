package links

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// protocol marks the routes that are skerry's. The kernel leaves numbers from 4 on
// to who writes routes; see rtnetlink(7) and iproute2's rt_protos, which does not
// have this one.
const protocol = 158

// way is a route on the node, comparable. A link of zero is none: what is sent
// there is refused.
type way struct {
	to   netip.Prefix
	link int
	via  netip.Addr
	from netip.Addr
}

func (w way) route() *netlink.Route {
	r := &netlink.Route{Dst: ipNet(w.to), LinkIndex: w.link, Protocol: protocol, Table: unix.RT_TABLE_MAIN, Scope: netlink.SCOPE_LINK}
	if w.link == 0 {
		r.Type, r.Scope = unix.RTN_UNREACHABLE, netlink.SCOPE_UNIVERSE
		return r
	}
	if w.from.IsValid() {
		r.Src = w.from.AsSlice()
	}
	if w.via.IsValid() {
		r.Gw, r.Flags, r.Scope = w.via.AsSlice(), int(netlink.FLAG_ONLINK), netlink.SCOPE_UNIVERSE
	}
	return r
}

func wayOf(r netlink.Route) way {
	w := way{link: r.LinkIndex}
	if r.Type == unix.RTN_UNREACHABLE {
		w.link = 0 // the kernel tells that of the loopback interface
	}
	if r.Dst != nil {
		address, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		w.to = netip.PrefixFrom(address, bits)
	}
	w.via, w.from = addressOf(r.Gw), addressOf(r.Src)
	return w
}

func addressOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

// ways are the routes that the node is to have. links are the interfaces, by
// name.
func ways(n resources.NodeNetwork, links map[string]int) []way {
	var all []way
	gateways := map[string]netip.Addr{}
	encrypted := map[string]bool{}
	for _, m := range n.Map.Networks {
		gateways[m.Name], encrypted[m.Name] = m.Gateway(), m.Encryption != resources.EncryptionNone
		// What nobody has is refused; virtual IPs only have to have a way, on which
		// they are led elsewhere.
		all = append(all, way{to: m.CIDR}, way{to: resources.VirtualIPs(m.CIDR), link: links["lo"], from: m.Gateway()})
	}
	for _, r := range n.Replicas {
		for _, a := range r.Addresses {
			if link := links[linkName(r.ID)]; link != 0 && gateways[a.Network].IsValid() {
				all = append(all, way{to: netip.PrefixFrom(a.Address, a.Address.BitLen()), link: link, from: gateways[a.Network]})
			}
		}
	}
	for _, p := range n.Map.Peers {
		for _, s := range p.Subnets {
			w := way{to: s.Subnet, from: gateways[s.Network], link: links[wireguardName]}
			if !encrypted[s.Network] {
				w.link, w.via = links[vxlanName], s.Subnet.Addr().Next()
			}
			if w.link != 0 && w.from.IsValid() {
				all = append(all, w)
			}
		}
	}
	return all
}

// applyRoutes makes the node's routes what they are to be.
func (l *Links) applyRoutes(n resources.NodeNetwork) error {
	all, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the network interfaces: %w", err)
	}
	links := map[string]int{}
	for _, link := range all {
		links[link.Attrs().Name] = link.Attrs().Index
	}
	there, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list the routes: %w", err)
	}
	has := map[way]bool{}
	for _, r := range there {
		has[wayOf(r)] = true
	}
	var errs []error
	wanted, destinations := map[way]bool{}, map[netip.Prefix]bool{}
	for _, w := range ways(n, links) {
		wanted[w], destinations[w.to] = true, true
		if !has[w] {
			if err := netlink.RouteReplace(w.route()); err != nil {
				errs = append(errs, fmt.Errorf("make the route to %s: %w", w.to, err))
			}
		}
	}
	for _, r := range there {
		// One to the same destination has been replaced.
		if w := wayOf(r); !wanted[w] && !destinations[w.to] {
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("remove the route to %s: %w", w.to, err))
			}
		}
	}
	return errors.Join(append(errs, neighbours(n, links))...)
}

// neighbours tells the node the hardware addresses of its replicas.
func neighbours(n resources.NodeNetwork, links map[string]int) error {
	var errs []error
	for _, r := range n.Replicas {
		link := links[linkName(r.ID)]
		if link == 0 {
			continue
		}
		for _, a := range r.Addresses {
			err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link, IP: a.Address.AsSlice(), HardwareAddr: insideAddress(r.ID), State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4,
			})
			if err != nil {
				errs = append(errs, fmt.Errorf("tell the node where %s is: %w", a.Address, err))
			}
		}
	}
	return errors.Join(errs...)
}

// label marks the addresses on the loopback interface that are skerry's.
const label = "lo:skerry"

// applyAddresses gives the node the addresses that are its own on the networks,
// and that of its names.
func (l *Links) applyAddresses(n resources.NodeNetwork) error {
	wanted := map[netip.Addr]bool{resources.NodeResolver: true}
	for _, m := range n.Map.Networks {
		wanted[m.Gateway()] = true
	}
	return setAddresses(wanted)
}

func (l *Links) removeAddresses() error { return setAddresses(nil) }

func setAddresses(wanted map[netip.Addr]bool) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the loopback interface: %w", err)
	}
	there, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the addresses of the loopback interface: %w", err)
	}
	var errs []error
	has := map[netip.Addr]bool{}
	for _, a := range there {
		address := addressOf(a.IP)
		has[address] = true
		if a.Label == label && !wanted[address] {
			errs = append(errs, netlink.AddrDel(lo, &a))
		}
	}
	for address := range wanted {
		if !has[address] {
			errs = append(errs, netlink.AddrAdd(lo, &netlink.Addr{IPNet: single(address), Label: label}))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("set the node's addresses on its networks: %w", err)
	}
	return raise(nil, lo, 0)
}
