// Package dns answers the names of services to the replicas of one node, and asks
// other name servers for all the rest.
//
// A Zone is all that the node knows, at one moment: it is pure, and never
// changes. The server answers from the latest one, which replaces the one before
// as a whole (serve.go); what is nobody's here goes to the name servers of the
// machine (forward.go). Run follows the file that the agent writes (run.go): it
// is a process of its own, so that names are answered while the agent is away.
//
// What a name stands for depends on who asks. A replica is known by its address,
// and sees the networks that it is on; a name that leaves the network out means
// the first of them, in the order of the replica, that has it. Who is no
// replica, as the node itself, sees all networks of the node.
package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/skerry-io/skerry/resources"
)

// ready is what stands before a service's name for all its replicas that are
// ready. A number stands for the replica of a slot.
const ready = "replicas"

// Zone is what a node knows of names.
type Zone struct {
	clients  map[netip.Addr]client
	all      client // who is no replica
	services map[string]map[string]*service
	pointers map[netip.Addr]pointer
	cidrs    []netip.Prefix
}

// client is who may ask what.
type client struct {
	networks []string
	// closed is true where none of its networks has a way out.
	closed bool
}

type service struct {
	virtual netip.Addr
	slots   map[int]netip.Addr // of replicas that are ready
	ready   []netip.Addr
}

// pointer is what an address is called.
type pointer struct{ network, name string }

// NewZone makes a Zone of what the agent has told.
func NewZone(n resources.NodeNetwork) *Zone {
	z := &Zone{clients: map[netip.Addr]client{}, services: map[string]map[string]*service{}, pointers: map[netip.Addr]pointer{}}
	open := map[string]bool{}
	for _, m := range n.Map.Networks {
		z.all.networks = append(z.all.networks, m.Name)
		z.cidrs = append(z.cidrs, m.CIDR)
		z.services[m.Name] = map[string]*service{}
		open[m.Name] = !m.Internal
	}
	for _, s := range n.Map.Services {
		if z.services[s.Network] != nil {
			z.add(s)
		}
	}
	for _, r := range n.Replicas {
		c := client{closed: true}
		for _, a := range r.Addresses {
			c.networks = append(c.networks, a.Network)
			c.closed = c.closed && !open[a.Network]
		}
		for _, a := range r.Addresses {
			z.clients[a.Address] = c
		}
	}
	return z
}

func (z *Zone) add(s resources.MappedService) {
	one := &service{virtual: s.VirtualIP, slots: map[int]netip.Addr{}}
	z.services[s.Network][s.Name] = one
	z.pointers[s.VirtualIP] = pointer{s.Network, s.Name + "." + s.Network}
	for _, r := range s.Replicas {
		z.pointers[r.Address] = pointer{s.Network, fmt.Sprintf("%d.%s.%s", r.Slot, s.Name, s.Network)}
		if r.Ready {
			one.slots[r.Slot] = r.Address
			one.ready = append(one.ready, r.Address)
		}
	}
}

// Verdict is what becomes of a question.
type Verdict int

// The verdicts.
const (
	Found   Verdict = iota // the name is there; it may have nothing of the type that was asked for
	Missing                // there is no such name
	Foreign                // others know
	Refused                // others know, and this client may not ask them
)

func (v Verdict) String() string { return [...]string{"found", "missing", "foreign", "refused"}[v] }

// Answer is what a Zone says to a question.
type Answer struct {
	Verdict   Verdict
	Addresses []netip.Addr // of a question for A
	Name      string       // of a question for PTR, without the last dot
}

// Lookup answers a question of a client for a name, in any case and with or
// without a last dot, and a type.
func (z *Zone) Lookup(from netip.Addr, name string, kind uint16) Answer {
	who, isReplica := z.clients[from]
	if !isReplica {
		who = z.all
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if address, is := reversed(name); is {
		return z.reverse(who, address, kind)
	}
	addresses, verdict := z.forward(who, name)
	if verdict == Foreign && who.closed {
		verdict = Refused
	}
	if kind != dns.TypeA {
		addresses = nil
	}
	return Answer{Verdict: verdict, Addresses: addresses}
}

// forward finds a name: [SELECTOR.]SERVICE[.NETWORK[.skerry.internal]].
func (z *Zone) forward(who client, name string) ([]netip.Addr, Verdict) {
	rest, full := strings.CutSuffix(name, "."+resources.DomainName)
	labels := strings.Split(rest, ".")
	switch name {
	case resources.DomainName:
		return nil, Found
	case "":
		return nil, Foreign
	}
	selector := ""
	if len(labels) > 1 && isSelector(labels[0]) {
		selector, labels = labels[0], labels[1:]
	}
	networks := who.networks
	switch {
	case len(labels) == 2 && slices.Contains(networks, labels[1]):
		networks = labels[1:]
	case full:
		return nil, Missing
	case len(labels) > 1:
		return nil, Foreign
	}
	for _, network := range networks {
		if s := z.services[network][labels[0]]; s != nil {
			return s.choose(selector)
		}
	}
	if selector != "" && len(labels) == 1 {
		return nil, Foreign
	}
	return nil, Missing
}

func isSelector(label string) bool {
	_, err := strconv.ParseUint(label, 10, 31)
	return label == ready || err == nil
}

func (s *service) choose(selector string) ([]netip.Addr, Verdict) {
	switch selector {
	case "":
		return []netip.Addr{s.virtual}, Found
	case ready:
		return s.ready, Found
	}
	slot, err := strconv.Atoi(selector)
	address, found := s.slots[slot]
	if err != nil || !found {
		return nil, Missing
	}
	return []netip.Addr{address}, Found
}

// reverse finds what an address of the networks is called. Addresses within them
// are nobody else's business.
func (z *Zone) reverse(who client, address netip.Addr, kind uint16) Answer {
	p, found := z.pointers[address]
	switch {
	case found && slices.Contains(who.networks, p.network):
		a := Answer{Verdict: Found}
		if kind == dns.TypePTR {
			a.Name = p.name + "." + resources.DomainName
		}
		return a
	case address == resources.NodeResolver || slices.ContainsFunc(z.cidrs, func(c netip.Prefix) bool { return c.Contains(address) }):
		return Answer{Verdict: Missing}
	case who.closed:
		return Answer{Verdict: Refused}
	}
	return Answer{Verdict: Foreign}
}

// reversed reads the address of a name like 4.3.2.1.in-addr.arpa.
func reversed(name string) (netip.Addr, bool) {
	text, is := strings.CutSuffix(name, ".in-addr.arpa")
	if !is {
		return netip.Addr{}, false
	}
	labels := strings.Split(text, ".")
	slices.Reverse(labels)
	address, err := netip.ParseAddr(strings.Join(labels, "."))
	return address, err == nil && address.Is4()
}
