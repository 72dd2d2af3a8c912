package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/skerry-io/skerry/resources"
)

func address(text string) netip.Addr { return netip.MustParseAddr(text) }

// testNetwork is a node with two networks, of which back has no way out: web is on
// front with a replica that is not ready, both is on both, and db on back.
func testNetwork() resources.NodeNetwork {
	replica := func(id string, slot int, at string, ready bool) resources.MappedReplica {
		return resources.MappedReplica{ID: resources.ReplicaID(id), Slot: slot, Address: address(at), Ready: ready}
	}
	return resources.NodeNetwork{
		Map: resources.NetworkMap{
			Networks: []resources.MappedNetwork{
				{Name: "back", CIDR: netip.MustParsePrefix("10.2.0.0/16"), Internal: true},
				{Name: "front", CIDR: netip.MustParsePrefix("10.1.0.0/16")},
			},
			Services: []resources.MappedService{
				{Name: "both", Network: "back", VirtualIP: address("10.2.0.1"), Replicas: []resources.MappedReplica{replica("both-0-a", 0, "10.2.32.2", true)}},
				{Name: "both", Network: "front", VirtualIP: address("10.1.0.1"), Replicas: []resources.MappedReplica{replica("both-0-a", 0, "10.1.32.2", true)}},
				{Name: "db", Network: "back", VirtualIP: address("10.2.0.2"), Replicas: []resources.MappedReplica{replica("db-0-a", 0, "10.2.32.3", true)}},
				{Name: "web", Network: "front", VirtualIP: address("10.1.0.2"), Replicas: []resources.MappedReplica{
					replica("web-0-a", 0, "10.1.32.3", true), replica("web-1-a", 1, "10.1.33.2", true), replica("web-2-a", 2, "10.1.33.3", false),
				}},
			},
		},
		Replicas: []resources.LocalReplica{
			{ID: "both-0-a", Addresses: []resources.NetworkAddress{{Network: "back", Address: address("10.2.32.2")}, {Network: "front", Address: address("10.1.32.2")}}},
			{ID: "db-0-a", Addresses: []resources.NetworkAddress{{Network: "back", Address: address("10.2.32.3")}}},
			{ID: "web-0-a", Addresses: []resources.NetworkAddress{{Network: "front", Address: address("10.1.32.3")}}},
		},
	}
}

func TestLookup(t *testing.T) {
	z := NewZone(testNetwork())
	clients := map[string]netip.Addr{"web": address("10.1.32.3"), "db": address("10.2.32.3"), "both": address("10.1.32.2"), "node": address("192.168.1.5")}
	for _, c := range []struct{ from, name, want string }{
		{"web", "web", "found [10.1.0.2]"},
		{"web", "WEB.", "found [10.1.0.2]"},
		{"web", "web.front", "found [10.1.0.2]"},
		{"web", "web.front.skerry.internal", "found [10.1.0.2]"},
		{"web", "replicas.web", "found [10.1.32.3 10.1.33.2]"},
		{"web", "replicas.web.front", "found [10.1.32.3 10.1.33.2]"},
		{"web", "replicas.web.front.skerry.internal.", "found [10.1.32.3 10.1.33.2]"},
		{"web", "1.web", "found [10.1.33.2]"},
		{"web", "1.web.front.skerry.internal", "found [10.1.33.2]"},
		{"web", "2.web", "missing []"}, // not ready
		{"web", "9.web", "missing []"},
		// Networks of others are not there; what may be somebody else's is asked elsewhere.
		{"web", "db", "missing []"},
		{"web", "db.back", "foreign []"},
		{"web", "db.back.skerry.internal", "missing []"},
		{"web", "replicas.db.back.skerry.internal", "missing []"},
		{"web", "none.front", "missing []"},
		{"web", "none.front.skerry.internal", "missing []"},
		{"web", "web.skerry.internal", "missing []"},
		{"web", "skerry.internal", "found []"},
		{"web", "example.com", "foreign []"},
		{"web", "0.example.com", "foreign []"},
		{"web", "web.front.example.com", "foreign []"},
		{"web", ".", "foreign []"},
		// A name that leaves the network out means the replica's first network.
		{"both", "both", "found [10.2.0.1]"},
		{"both", "both.front", "found [10.1.0.1]"},
		{"both", "web", "found [10.1.0.2]"},
		{"both", "db", "found [10.2.0.2]"},
		{"both", "example.com", "foreign []"},
		// Names can carry data out.
		{"db", "db", "found [10.2.0.2]"},
		{"db", "web", "missing []"},
		{"db", "example.com", "refused []"},
		{"db", "web.front", "refused []"},
		{"node", "web.front.skerry.internal", "found [10.1.0.2]"},
		{"node", "db.back.skerry.internal", "found [10.2.0.2]"},
	} {
		a := z.Lookup(clients[c.from], c.name, dns.TypeA)
		if got := fmt.Sprint(a.Verdict, " ", a.Addresses); got != c.want {
			t.Errorf("%s asks for %s: %s, want %s", c.from, c.name, got, c.want)
		}
		if a := z.Lookup(clients[c.from], c.name, dns.TypeAAAA); fmt.Sprint(a.Verdict) != strings.Fields(c.want)[0] || len(a.Addresses) > 0 {
			t.Errorf("%s asks for the IPv6 address of %s: %+v", c.from, c.name, a)
		}
	}
}

func TestReverse(t *testing.T) {
	z := NewZone(testNetwork())
	for _, c := range []struct{ from, address, want string }{
		{"10.1.32.3", "10.1.0.2", "found web.front.skerry.internal"},
		{"10.1.32.3", "10.1.33.3", "found 2.web.front.skerry.internal"},
		{"10.1.32.3", "10.2.0.2", "missing "}, // a network of others
		{"10.1.32.3", "10.1.40.4", "missing "},
		{"10.1.32.3", "169.254.53.53", "missing "},
		{"10.1.32.3", "9.9.9.9", "foreign "},
		{"10.2.32.3", "9.9.9.9", "refused "},
	} {
		name, err := dns.ReverseAddr(c.address)
		if err != nil {
			t.Fatal(err)
		}
		a := z.Lookup(address(c.from), name, dns.TypePTR)
		if got := fmt.Sprint(a.Verdict, " ", a.Name); got != c.want {
			t.Errorf("%s asks who is %s: %q, want %q", c.from, c.address, got, c.want)
		}
	}
}

// A zone that was never told of anything has nothing, and fails nobody.
func TestEmptyZone(t *testing.T) {
	z := NewZone(resources.NodeNetwork{})
	for name, want := range map[string]Verdict{"web": Missing, "web.front.skerry.internal": Missing, "example.com": Foreign} {
		if a := z.Lookup(address("10.1.1.1"), name, dns.TypeA); a.Verdict != want {
			t.Errorf("%s: %s, want %s", name, a.Verdict, want)
		}
	}
}

// Every client finds exactly the ready replicas of the services on its networks.
func TestEveryClientFindsWhatItMay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := drawNetwork(t)
		z := NewZone(n)
		for _, client := range n.Replicas {
			for _, s := range n.Map.Services {
				var want []netip.Addr
				joins := resources.AddressOn(s.Network, client.Addresses).IsValid()
				for _, r := range s.Replicas {
					if joins && r.Ready {
						want = append(want, r.Address)
					}
				}
				from := client.Addresses[0].Address
				for _, name := range []string{"replicas.%s.%s.skerry.internal", "replicas.%s.%s"} {
					a := z.Lookup(from, fmt.Sprintf(name, s.Name, s.Network), dns.TypeA)
					if diff := cmp.Diff(want, a.Addresses, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
						t.Fatalf("%s finds at "+name+" (-want +got):\n%s", client.ID, s.Name, s.Network, diff)
					}
				}
				virtual := z.Lookup(from, s.Name+"."+s.Network+".skerry.internal", dns.TypeA)
				if joins != (len(virtual.Addresses) == 1 && virtual.Addresses[0] == s.VirtualIP) {
					t.Fatalf("%s finds %s of %s at %v", client.ID, s.Name, s.Network, virtual.Addresses)
				}
			}
		}
	})
}

// drawNetwork draws networks, services on them, and the replicas as clients.
func drawNetwork(t *rapid.T) resources.NodeNetwork {
	var n resources.NodeNetwork
	networks := []string{"a", "b", "c"}
	for i, name := range networks {
		n.Map.Networks = append(n.Map.Networks, resources.MappedNetwork{
			Name: name, CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16), Internal: rapid.Bool().Draw(t, "internal"),
		})
	}
	next := [3]byte{}
	for s := range rapid.IntRange(0, 5).Draw(t, "services") {
		name := fmt.Sprintf("s%d", s)
		joins := rapid.SliceOfNDistinct(rapid.IntRange(0, 2), 1, 3, rapid.ID[int]).Draw(t, "joins")
		count := rapid.IntRange(0, 4).Draw(t, "replicas")
		services := map[int]*resources.MappedService{}
		for _, i := range joins {
			services[i] = &resources.MappedService{Name: name, Network: networks[i], VirtualIP: netip.AddrFrom4([4]byte{10, byte(i), 0, byte(s + 1)})}
		}
		for slot := range count {
			id, isReady := resources.ReplicaID(fmt.Sprintf("%s-%d-x", name, slot)), rapid.Bool().Draw(t, "ready")
			local := resources.LocalReplica{ID: id}
			for _, i := range joins {
				next[i]++
				at := netip.AddrFrom4([4]byte{10, byte(i), 32, next[i]})
				local.Addresses = append(local.Addresses, resources.NetworkAddress{Network: networks[i], Address: at})
				services[i].Replicas = append(services[i].Replicas, resources.MappedReplica{ID: id, Slot: slot, Address: at, Ready: isReady})
			}
			n.Replicas = append(n.Replicas, local)
		}
		slices.Sort(joins)
		for _, i := range joins {
			n.Map.Services = append(n.Map.Services, *services[i])
		}
	}
	return n
}
