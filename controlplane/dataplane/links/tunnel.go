package links

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// The interfaces that lead to other nodes.
const (
	wireguardName = "skerry-wg"
	vxlanName     = "skerry-vx"
)

// vxlanNumber tells skerry's VXLAN from others of the same machines; it is "SKY"
// in ASCII.
const vxlanNumber = 0x534b59

// tunnels are what the tunnels were made for last, so that they are not made
// again for nothing.
type tunnels struct {
	encrypted, plain []resources.Peer
	underlay         netip.Addr
}

// peersBy gives the peers with their subnets of networks of a kind; those that
// have none are left out.
func peersBy(n resources.NodeNetwork, encrypted bool) []resources.Peer {
	kind := map[string]bool{}
	for _, m := range n.Map.Networks {
		kind[m.Name] = (m.Encryption != resources.EncryptionNone) == encrypted
	}
	var all []resources.Peer
	for _, p := range n.Map.Peers {
		p.Subnets = slices.DeleteFunc(slices.Clone(p.Subnets), func(s resources.PeerSubnet) bool { return !kind[s.Network] })
		if len(p.Subnets) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// applyTunnels makes the ways to other nodes. A node without others to reach has
// none.
func (l *Links) applyTunnels(ctx context.Context, n resources.NodeNetwork, underlay netip.Addr, carried int) error {
	next := tunnels{peersBy(n, true), peersBy(n, false), underlay}
	if err := l.applyWireGuard(ctx, next.encrypted, carried); err != nil {
		return err
	}
	if err := l.applyVXLAN(next, carried); err != nil {
		return err
	}
	l.tunnels = next
	return nil
}

func (l *Links) applyWireGuard(ctx context.Context, peers []resources.Peer, carried int) error {
	link, err := netlink.LinkByName(wireguardName)
	switch {
	case len(peers) == 0 && isNoLink(err):
		return nil
	case len(peers) == 0:
		return l.Tunnel.Down(ctx)
	case err != nil || !reflect.DeepEqual(peers, l.tunnels.encrypted):
		if err := l.Tunnel.Up(ctx, peers); err != nil {
			return err
		}
		if link, err = netlink.LinkByName(wireguardName); err != nil {
			return fmt.Errorf("find network interface %s: %w", wireguardName, err)
		}
	}
	return errors.Join(setInterface(wireguardName), raise(nil, link, carried-wireguardOverhead))
}

// applyVXLAN makes the interface, and tells it where each peer is.
func (l *Links) applyVXLAN(next tunnels, carried int) error {
	if len(next.plain) == 0 {
		return removeLink(vxlanName)
	}
	link, err := netlink.LinkByName(vxlanName)
	if err == nil && !fits(link, next.underlay) {
		if err := removeLink(vxlanName); err != nil {
			return err
		}
		link, err = nil, netlink.LinkNotFoundError{}
	}
	if isNoLink(err) || link == nil {
		l.tunnels.plain = nil
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr, attrs.MTU = vxlanName, vxlanAddress(l.Node), carried-vxlanOverhead
		made := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: vxlanNumber, SrcAddr: next.underlay.AsSlice(), Port: resources.VXLANPort, Learning: false}
		if err := netlink.LinkAdd(made); err != nil {
			return fmt.Errorf("make network interface %s: %w", vxlanName, err)
		}
		link, err = netlink.LinkByName(vxlanName)
	}
	if err != nil {
		return fmt.Errorf("find network interface %s: %w", vxlanName, err)
	}
	if err := errors.Join(setInterface(vxlanName), raise(nil, link, carried-vxlanOverhead)); err != nil {
		return err
	}
	if reflect.DeepEqual(next.plain, l.tunnels.plain) {
		return nil
	}
	return setPeers(link.Attrs().Index, next.plain)
}

func fits(link netlink.Link, underlay netip.Addr) bool {
	v, is := link.(*netlink.Vxlan)
	return is && addressOf(v.SrcAddr) == underlay && v.VxlanId == vxlanNumber
}

// vxlanAddress is the hardware address of a node's VXLAN interface: who knows the
// node knows it.
func vxlanAddress(id resources.NodeID) net.HardwareAddr {
	return hardwareAddress("vxlan/" + string(id))
}

// setPeers tells the VXLAN interface of the peers: behind which hardware address
// each gateway is, and on which node that is. What it knew of others is removed.
func setPeers(link int, peers []resources.Peer) error {
	wanted := map[string]bool{}
	var errs []error
	set := func(n netlink.Neigh) {
		n.LinkIndex, n.State = link, netlink.NUD_PERMANENT
		wanted[key(n)] = true
		if err := netlink.NeighSet(&n); err != nil {
			errs = append(errs, fmt.Errorf("tell %s of %s: %w", vxlanName, n.IP, err))
		}
	}
	for _, p := range peers {
		mac := vxlanAddress(p.Node)
		set(netlink.Neigh{Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, IP: p.Address.AsSlice(), HardwareAddr: mac})
		for _, s := range p.Subnets {
			set(netlink.Neigh{Family: netlink.FAMILY_V4, IP: s.Subnet.Addr().Next().AsSlice(), HardwareAddr: mac})
		}
	}
	for _, family := range []int{unix.AF_BRIDGE, netlink.FAMILY_V4} {
		there, err := netlink.NeighList(link, family)
		if err != nil {
			errs = append(errs, fmt.Errorf("list what %s knows of its peers: %w", vxlanName, err))
		}
		for _, n := range there {
			n.Family = family
			if !wanted[key(n)] && n.State&netlink.NUD_PERMANENT != 0 {
				if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
					errs = append(errs, fmt.Errorf("forget a peer of %s: %w", vxlanName, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func key(n netlink.Neigh) string { return fmt.Sprint(n.Family, n.IP, n.HardwareAddr) }
