package links

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// linkPrefix begins the names of the node's ends of veths, and inside is the name
// of the other end.
const (
	linkPrefix = "skr-"
	inside     = "eth0"
)

// linkName is the name of the node's end of a replica's veth: names have at most
// 15 characters.
func linkName(id resources.ReplicaID) string {
	sum := sha256.Sum256([]byte(id))
	return linkPrefix + hex.EncodeToString(sum[:5])
}

// hardwareAddress is a locally administered one, the same each time.
func hardwareAddress(of string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(of))
	return append(net.HardwareAddr{0x02}, sum[:5]...)
}

// insideAddress and outsideAddress are those of a veth's ends.
func insideAddress(id resources.ReplicaID) net.HardwareAddr {
	return hardwareAddress("replica/" + string(id))
}

func outsideAddress(id resources.ReplicaID) net.HardwareAddr {
	return hardwareAddress("node/" + string(id))
}

// attachment is what a namespace was made to be.
type attachment struct {
	link     int // index of the node's end
	mtu      int
	networks []resources.MappedNetwork
}

// replicaLinks gives the indexes of the node's ends of all veths, by name.
func replicaLinks() (map[string]int, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the network interfaces: %w", err)
	}
	found := map[string]int{}
	for _, link := range all {
		if a := link.Attrs(); strings.HasPrefix(a.Name, linkPrefix) {
			found[a.Name] = a.Index
		}
	}
	return found, nil
}

// attach joins a replica's namespace to the node, and makes it if need be. link
// is the index of the node's end; zero where there is none. carried is what the
// ways between nodes carry.
func (l *Links) attach(r resources.LocalReplica, networks []resources.MappedNetwork, carried, link int) error {
	joins := joined(r, networks)
	want := attachment{link: link, mtu: mtuFor(joins, carried), networks: joins}
	path := l.path(r.ID)
	if link != 0 && reflect.DeepEqual(l.attached[r.ID], want) {
		is, err := isNamespace(path)
		if is || err != nil {
			return err
		}
	}
	delete(l.attached, r.ID)
	if err := ensureNamespace(path); err != nil {
		return err
	}
	err := within(path, func(namespace int, h *netlink.Handle) error {
		if err := ensureVeth(r.ID, namespace, h, want.mtu); err != nil {
			return err
		}
		return configure(r, h, joins, want.mtu)
	})
	if err != nil {
		return err
	}
	outer, err := netlink.LinkByName(linkName(r.ID))
	if err != nil {
		return fmt.Errorf("find its interface on the node: %w", err)
	}
	want.link = outer.Attrs().Index
	if err := errors.Join(setInterface(linkName(r.ID)), raise(nil, outer, want.mtu)); err != nil {
		return err
	}
	l.attached[r.ID] = want
	return nil
}

// joined are the networks that a replica has an address on, in its own order.
func joined(r resources.LocalReplica, networks []resources.MappedNetwork) []resources.MappedNetwork {
	var all []resources.MappedNetwork
	for _, a := range r.Addresses {
		for _, n := range networks {
			if n.Name == a.Network {
				all = append(all, n)
			}
		}
	}
	return all
}

// ensureVeth joins the node and the namespace, unless they are. A veth whose
// other end is elsewhere, as in the namespace of a container that was removed, is
// made anew.
func ensureVeth(id resources.ReplicaID, namespace int, h *netlink.Handle, mtu int) error {
	_, err := h.LinkByName(inside)
	there := err == nil
	if err != nil && !isNoLink(err) {
		return fmt.Errorf("look for its interface: %w", err)
	}
	if _, err := netlink.LinkByName(linkName(id)); err == nil && there {
		return nil
	}
	if err := removeLink(linkName(id)); err != nil {
		return err
	}
	if there {
		return fmt.Errorf("its namespace has an interface %s that leads nowhere", inside)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = linkName(id), mtu, outsideAddress(id)
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: inside, PeerHardwareAddr: insideAddress(id), PeerNamespace: netlink.NsFd(namespace)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make its interface %s: %w", attrs.Name, err)
	}
	return nil
}

// configure gives a namespace its addresses and routes.
func configure(r resources.LocalReplica, h *netlink.Handle, joins []resources.MappedNetwork, mtu int) error {
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find its loopback interface: %w", err)
	}
	link, err := h.LinkByName(inside)
	if err != nil {
		return fmt.Errorf("find its interface: %w", err)
	}
	if err := errors.Join(raise(h, lo, 0), raise(h, link, mtu)); err != nil {
		return err
	}
	for _, a := range r.Addresses {
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: single(a.Address)}); err != nil {
			return fmt.Errorf("give it address %s: %w", a.Address, err)
		}
	}
	// Nobody has to be asked where the node is.
	neighbour := &netlink.Neigh{
		LinkIndex: link.Attrs().Index, IP: resources.NodeResolver.AsSlice(), HardwareAddr: outsideAddress(r.ID),
		State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4,
	}
	if err := h.NeighSet(neighbour); err != nil {
		return fmt.Errorf("tell it where the node is: %w", err)
	}
	for _, route := range routesInside(r, joins) {
		route.LinkIndex = link.Attrs().Index
		if err := h.RouteReplace(&route); err != nil {
			return fmt.Errorf("give it the route %s: %w", route, err)
		}
	}
	return nil
}

// routesInside are a replica's: each network from its address there, and all else
// from the first that has a way out.
func routesInside(r resources.LocalReplica, joins []resources.MappedNetwork) []netlink.Route {
	var all []netlink.Route
	route := func(to *net.IPNet, from netip.Addr) {
		all = append(all, netlink.Route{
			Dst: to, Gw: resources.NodeResolver.AsSlice(), Src: from.AsSlice(), Flags: int(netlink.FLAG_ONLINK), Protocol: protocol,
		})
	}
	out := false
	for _, n := range joins {
		address := resources.AddressOn(n.Name, r.Addresses)
		route(ipNet(n.CIDR), address)
		if !n.Internal && !out {
			route(ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), address)
			out = true
		}
	}
	if !out && len(r.Addresses) > 0 {
		// Names are the node's to answer whatever a replica may reach.
		route(single(resources.NodeResolver), r.Addresses[0].Address)
	}
	return all
}

// raise sets an interface up, with an MTU unless that is zero. h is nil for the
// node's own.
func raise(h *netlink.Handle, link netlink.Link, mtu int) error {
	setUp, setMTU := netlink.LinkSetUp, netlink.LinkSetMTU
	if h != nil {
		setUp, setMTU = h.LinkSetUp, h.LinkSetMTU
	}
	a := link.Attrs()
	if mtu > 0 && a.MTU != mtu {
		if err := setMTU(link, mtu); err != nil {
			return fmt.Errorf("set the MTU of %s to %d: %w", a.Name, mtu, err)
		}
	}
	if a.Flags&net.FlagUp == 0 {
		if err := setUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", a.Name, err)
		}
	}
	return nil
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !isNoLink(err) {
		return fmt.Errorf("remove network interface %s: %w", name, err)
	}
	return nil
}

func isNoLink(err error) bool {
	missing := netlink.LinkNotFoundError{}
	return errors.As(err, &missing) || errors.Is(err, unix.ENODEV)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func single(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, a.BitLen())) }
